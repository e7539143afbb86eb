/**
 * What goes wrong around secrets tells none of them: wrong logins, wrong keys, cancels, sweeps, the doctor, every setting.
 *
 * test/e2e/secrets.test.ts looks at good and bad backups; here are the refusals, and the net itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCli } from '../../src/commands/cli.ts';
import { SETTING_NAMES, settingMeta } from '../../src/settings-table.ts';
import { createTestTerminal } from '../commands/terminal.ts';
import { type HttpWorld, READ_TOKEN, startHttpWorld, TOKEN } from '../e2e/app.ts';
import { settingsFor } from '../e2e/program.ts';
import { SMALL_MACHINES } from '../e2e/small-machines.ts';
import { BUCKET, type WorldOptions } from '../e2e/world.ts';
import { findLeak, formsOf } from './leaks.ts';

/** Every form of them differs from the plain one. */
const PASSWORD = 'pä ss"w/ö+rd&<of>this\\test';
const WRONG_PASSWORD = 'wröng "pass/word+of&this<test>';
const SECRET_KEY = 'secret/access+key=of&this"test';
const IN_URL = 'password-in-a-url';
const WRONG_KEY = 'wrong/secret+key=of&this"test';

/** A world that keeps all it answers. */
async function startWatched(options: WorldOptions) {
  const world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES, password: PASSWORD },
    s3: { secretAccessKey: SECRET_KEY },
    ...options,
  });
  const produced: string[] = [];
  const sessions: Record<string, string> = {};
  world.sim.world.onChange(() => {
    for (const [ref] of world.sim.world.all('session')) sessions[`session ${ref}`] = ref;
  });
  const look: HttpWorld['call'] = async (...input) => {
    const answer = await world.call(...input);
    produced.push(answer.text, JSON.stringify([...answer.headers]));
    return answer;
  };
  const everything = (): string[] => [
    ...produced,
    ...world.log.lines,
    ...(world.s3?.inspect.keys(BUCKET) ?? [])
      .filter((key) => !key.endsWith('.xva'))
      .map((key) => `${key} ${world.s3?.inspect.read(BUCKET, key)?.toString('latin1')}`),
  ];
  return { world, look, everything, sessions, produced };
}

const TOKENS = { 'the token': TOKEN, 'the token for reading': READ_TOKEN };
const IN_PLAY = { password: PASSWORD, 'secret key': SECRET_KEY, ...TOKENS };
const PAGES = [
  '/v1/jobs',
  '/v1/vms',
  '/v1/backups',
  '/v1/status',
  '/metrics',
  '/',
  '/readyz?verbose',
];

test('the net finds a secret in every form', () => {
  const found = [...formsOf(PASSWORD)].map(([, text]) => findLeak([`x${text}y`], { p: PASSWORD }));
  for (const one of found) assert.match(String(one), /^p as /);
  for (const user of ['', 'a', 'ab', 'root:']) {
    for (const encoding of ['base64', 'base64url'] as const) {
      const text = Buffer.from(`${user}${PASSWORD}!`).toString(encoding);
      assert.match(String(findLeak([`Basic ${text}`], { p: PASSWORD })), /base64/);
    }
  }
  assert.equal(findLeak(['nothing of the kind'], { p: PASSWORD }), undefined);
});

test('a wrong password, a wrong secret key and a foreign token are told as such and not shown', async () => {
  const secrets = { ...IN_PLAY, 'wrong password': WRONG_PASSWORD, 'wrong key': WRONG_KEY };
  for (const options of [
    { poolSettings: { password: WRONG_PASSWORD } },
    {
      storeSettings: {
        credentials: { accessKeyId: 'simulated-key', secretAccessKey: WRONG_KEY },
      },
    },
  ] satisfies WorldOptions[]) {
    const { world, look, everything, sessions } = await startWatched(options);
    await using _ = world;
    const body = {};
    const token = 'token/of "nobody"+here';
    const refused = await look('POST', '/v1/vms/app/backups', { body });
    assert.ok(refused.status >= 400, refused.text);
    assert.match(refused.text, /credentials/);
    for (const path of PAGES) await look('GET', path);
    for (const path of [...PAGES, `/v1/jobs?access_token=${encodeURIComponent(TOKEN)}`]) {
      await look('GET', path, { token });
      await look('GET', path, {
        token: '',
        headers: { authorization: `Basic ${btoa(`me:${token}`)}` },
      });
    }
    await look('POST', '/v1/sweep', { body: { dry_run: true } });
    assert.equal(
      findLeak(everything(), { ...secrets, ...sessions, 'foreign token': token }),
      undefined,
    );
  }
});

test('a cancel, a sweep, a replayed request and a pool that quotes the password in errors tell nothing', async () => {
  const { world, look, everything, sessions } = await startWatched({});
  await using _ = world;
  const { faults } = world.sim;
  const headers = { 'idempotency-key': 'once', prefer: 'respond-async' };
  const begun = await look('POST', '/v1/vms/app/backups', { body: { note: 'x' }, headers });
  const { id } = begun.json<{ id: string }>();
  await look('POST', `/v1/jobs/${id}/cancel`, { headers: { prefer: 'wait=50' } });
  await look('POST', '/v1/vms/app/backups', { body: { note: 'x' }, headers });
  faults.set('snapshot-refused', { code: 'INTERNAL_ERROR', params: [PASSWORD, `a${PASSWORD}b`] });
  await look('POST', '/v1/vms/other/backups', { body: {}, headers: { prefer: 'wait=50' } });
  faults.clear();
  await look('POST', '/v1/sweep', { body: {} });
  await look('GET', `/v1/jobs/${id}/events`);
  for (const path of PAGES) await look('GET', path);
  assert.ok(Object.keys(sessions).length > 0);
  assert.match(everything().join('\n'), /"cancelled"/);
  assert.equal(findLeak(everything(), { ...IN_PLAY, ...sessions }), undefined);
});

test('what a guest keeps in its own record is in its archive and nowhere else', async () => {
  const GUEST = 'cloud-init "password"/of+a&guest<>';
  const machine = {
    name: 'guest',
    description: `its ${GUEST}`,
    power: 'Running' as const,
    disks: [],
    otherConfig: { 'cloud-init': GUEST },
  };
  const { world, look, everything } = await startWatched({ pool: { machines: [machine] } });
  await using _ = world;
  for (const afterBytes of [undefined, 2000]) {
    if (afterBytes !== undefined) world.sim.faults.set('export-error', { afterBytes });
    await look('POST', '/v1/vms/guest/backups', { body: {}, headers: { prefer: 'wait=50' } });
    world.sim.faults.clear();
  }
  for (const path of PAGES) await look('GET', path);
  assert.match(everything().join('\n'), /"succeeded"/);
  assert.equal(findLeak(everything(), { 'secret of the guest': GUEST }), undefined);
  const archive = world.s3?.inspect.keys(BUCKET).find((key) => key.endsWith('.xva')) ?? '';
  const bytes = world.s3?.inspect.read(BUCKET, archive)?.toString('utf8') ?? '';
  assert.match(String(findLeak([bytes], { 'secret of the guest': GUEST })), /XML/);
});

/** A value each secret setting takes. */
const VALUES: Record<string, string> = {
  XVAULT_HOOK_SECRET: `whsec_${Buffer.from('a secret of thirty-two bytes....').toString('base64')}`,
};

test('config and doctor show no secret setting, right or wrong, by value or by file', async () => {
  const { world, sessions } = await startWatched({});
  await using _ = world;
  assert.ok(world.s3);
  const names = SETTING_NAMES.filter((name) => settingMeta(name).secret === true);
  assert.ok(names.length >= 3);
  const given: Record<string, string> = Object.fromEntries(
    names.map((name) => [name, VALUES[name] ?? `secret/of ${name}+"&<x>`]),
  );
  const right = { ...settingsFor(world.sim, world.s3), XVAULT_TOKEN: TOKEN };
  const wrong = {
    ...right,
    ...given,
    XVAULT_HOOK_ALLOW: 'https://guest.example.com',
    AWS_SECRET_ACCESS_KEY: WRONG_KEY,
  };
  const broken = {
    ...wrong,
    XVAULT_HOOK_SECRET: 'whsec_no',
    XVAULT_POOL_URL: `https://u:${IN_URL}@h`,
  };
  const text: string[] = [];
  for (const env of [right, wrong, broken]) {
    for (const args of [['config'], ['config', '--json'], ['doctor'], ['doctor', '--json']]) {
      if (env === broken && args[0] === 'doctor' && args.length === 1) continue;
      text.push(await output(args, env));
    }
  }
  text.push(await output(['sweep', '--dry-run'], right), await output(['list'], wrong));
  const secrets = { ...IN_PLAY, ...given, ...sessions, 'wrong key': WRONG_KEY, 'in a URL': IN_URL };
  assert.equal(findLeak(text, secrets), undefined);
  assert.match(text.join(), /XVAULT_POOL_PASSWORD/);
});

async function output(args: string[], env: Record<string, string>): Promise<string> {
  const kept = { ...process.env };
  Object.assign(process.env, env);
  try {
    const terminal = createTestTerminal();
    const signal = new AbortController().signal;
    await runCli({ args, terminal, signal, version: '0' });
    return terminal.text.out + terminal.text.err;
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, kept);
  }
}
