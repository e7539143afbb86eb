/**
 * Nothing xvault writes or answers holds a secret: looked for in everything a backup produces, good and bad.
 *
 * Secrets are the password, every session reference the pool ever gave, the bearer tokens and the secret access key.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { createLog } from '../../src/log.ts';
import { startWebReceiver, type WebReceiver } from '../notify/receiver.ts';
import { findLeak } from '../security/leaks.ts';
import { createFastClock } from '../xapi/fast-clock.ts';
import { READ_TOKEN, startHttpWorld, TOKEN } from './app.ts';
import { startCollector } from './otlp.ts';
import { settingsFor, startProgram } from './program.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import { BUCKET } from './world.ts';

// every form of them differs from the plain one
const PASSWORD = 'pool "password"/of+this&<test>';
const SECRET_KEY = 'secret/access+key=of&this"test';
const HOOK_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const COLLECTOR_TOKEN = 'token-of-the-collector';
const HOOK_PATH = '/hooks/T0KEN-in-the-path';

test('log, answers, metrics, events and records hold no password, token, session or key', async () => {
  await using world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES, password: PASSWORD },
    s3: { secretAccessKey: SECRET_KEY },
    poolSettings: { callTimeoutMs: 1000 },
    poolClock: createFastClock(100),
  });
  const sessions = new Set<string>();
  const unwatch = world.sim.world.onChange(() => {
    for (const [ref] of world.sim.world.all('session')) sessions.add(ref);
  });
  const produced: string[] = [];
  const look = async (method: string, path: string, input = {}) => {
    const answer = await world.call(method, path, input);
    produced.push(answer.text, JSON.stringify([...answer.headers]));
    return answer;
  };
  const backUp = () =>
    look('POST', '/v1/vms/app/backups', {
      body: {},
      headers: { prefer: 'wait=55', 'idempotency-key': crypto.randomUUID() },
    });

  const { faults } = world.sim;
  const ids: string[] = [];
  const misfortunes: (() => void)[] = [
    () => {},
    () => faults.set('session-lost', { count: 9 }),
    () => faults.set('redirect-unreachable', {}),
    () => faults.set('export-no-response', {}),
    () => faults.set('answer-lost', { method: 'Async.VM.snapshot' }),
    () => faults.set('call-hangs', { method: 'task.create' }),
    () => faults.set('export-error', { afterBytes: 3_000_000 }),
    () => faults.set('snapshot-refused', { code: 'INTERNAL_ERROR', params: [PASSWORD] }),
  ];
  for (const arm of misfortunes) {
    arm();
    const answer = await backUp();
    faults.clear();
    const id = answer.json<{ id?: string }>().id;
    if (id !== undefined) ids.push(id);
  }
  for (const id of ids) {
    await look('GET', `/v1/jobs/${id}`);
    await look('GET', `/v1/jobs/${id}/events`);
  }
  const pages = ['/v1/jobs', '/v1/vms', '/v1/backups', '/v1/status', '/metrics', '/', '/docs'];
  for (const path of [...pages, '/openapi.json', '/readyz?verbose=1', '/livez'])
    await look('GET', path);
  await look('GET', '/v1/jobs', { token: 'not-a-token-anybody-has' });
  await look('GET', '/v1/jobs', { token: READ_TOKEN });

  unwatch();
  assert.ok(sessions.size > 1, 'sessions were made and lost');
  assert.ok(produced.join().includes('"succeeded"') && produced.join().includes('"failed"'));
  const inBucket = (world.s3?.inspect.keys(BUCKET) ?? [])
    .filter((key) => !key.endsWith('.xva'))
    .map((key) => `${key} ${world.s3?.inspect.read(BUCKET, key)?.toString('latin1')}`);
  assert.ok(inBucket.some((text) => text.includes('/idempotency/')));
  const everything = [...produced, ...world.log.lines, ...inBucket];
  const secrets = [PASSWORD, SECRET_KEY, TOKEN, READ_TOKEN, 'not-a-token-anybody-has', ...sessions];
  assert.equal(findLeak(everything, Object.fromEntries(secrets.entries())), undefined);
});

test('a link to an archive is signed, and carries neither the secret key nor anything of the pool', async () => {
  await using world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES, password: PASSWORD },
    s3: { secretAccessKey: SECRET_KEY },
  });
  const { result } = await world.run('app');
  const answer = await world.call('GET', `/v1/backups/${result?.id}/xva`);
  const link = answer.headers.get('location') ?? '';
  assert.equal(answer.status, 307);
  assert.match(link, /X-Amz-Signature=/);
  for (const secret of [PASSWORD, SECRET_KEY, TOKEN]) assert.equal(link.includes(secret), false);
  const read = await fetch(link, { headers: { range: 'bytes=0-7' } });
  assert.equal(await read.text(), 'ova.xml\0');
  assert.equal(
    world.log.lines.some((line) => line.includes('X-Amz-Signature')),
    false,
  );
});

/** Settings that tell this receiver of everything. */
async function notifyFile(t: TestContext, { origin, caPem }: WebReceiver): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'xvault-notify-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'notify.json');
  const ca_file = join(folder, 'ca.pem');
  const url = `${origin}${HOOK_PATH}`;
  const target = { name: 'hub', kind: 'webhook', url, secret: HOOK_SECRET, ca_file };
  await writeFile(ca_file, caPem);
  await writeFile(path, JSON.stringify([target]));
  return path;
}

test('the program with a debug log, every command and whom it tells get no secret', async (t) => {
  await using receiver = await startWebReceiver();
  await using world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES, password: PASSWORD },
    s3: { secretAccessKey: SECRET_KEY },
  });
  assert.ok(world.s3);
  const sessions = new Set<string>();
  world.sim.world.onChange(() => {
    for (const [ref] of world.sim.world.all('session')) sessions.add(ref);
  });
  const XVAULT_NOTIFY_FILE = await notifyFile(t, receiver);
  await using collector = await startCollector();
  const env = {
    ...settingsFor(world.sim, world.s3),
    XVAULT_TOKEN: TOKEN,
    XVAULT_NOTIFY_FILE,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${COLLECTOR_TOKEN}`,
  };
  const serve = startProgram(['serve'], env);
  const { url } = JSON.parse(await serve.saw('"listening"'));
  const client = { ...env, XVAULT_URL: url };
  const text: string[] = [];
  for (const [args, settings] of [
    [['config', '--json'], env],
    [['backup', 'app', '--json'], client],
    [['status', '--json'], client],
    [['backup', 'app'], { ...client, XVAULT_TOKEN: `${TOKEN}-no` }],
    [['jobs', '--json'], client],
    [['doctor', '--json'], env],
  ] as const) {
    const program = startProgram(args, settings);
    await program.ended;
    text.push(program.output.out, program.output.err);
  }
  serve.child.kill('SIGTERM');
  assert.equal(await serve.ended, 0);
  text.push(serve.output.out, serve.output.err);
  assert.match(serve.output.out, /"level":"debug"/);
  assert.match(text.join(), /"succeeded"/);
  assert.ok(sessions.size > 0);
  const told = receiver.posts.map(({ body, headers }) => {
    new Webhook(HOOK_SECRET).verify(body, headers as Record<string, string>);
    return JSON.parse(body).type;
  });
  assert.deepEqual(told.slice(-2), ['backup.started', 'backup.succeeded']);
  const inBucket = (world.s3.inspect.keys(BUCKET) ?? [])
    .filter((key) => key.endsWith('.json'))
    .map((key) => `${world.s3?.inspect.read(BUCKET, key)?.toString('latin1')}`);
  assert.match(inBucket.join(), /"event":"backup.succeeded","target":"hub","ok":true/);
  text.push(...inBucket, ...receiver.posts.map((post) => post.body));
  assert.ok(collector.spans.some(({ name }) => name === 'job backup'));
  text.push(...collector.requests.map(({ body }) => body.toString('utf8')));
  const secrets = [
    PASSWORD,
    SECRET_KEY,
    TOKEN,
    HOOK_SECRET,
    HOOK_PATH,
    COLLECTOR_TOKEN,
    ...sessions,
  ];
  assert.equal(findLeak(text, Object.fromEntries(secrets.entries())), undefined);
});

test('a secret handed to the log by mistake is masked by its field name', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'debug', write: (line) => lines.push(line) });
  const secret = 'do-not-show';
  log.child({ password: secret }).error('x', {
    sessionRef: secret,
    nested: { Authorization: secret, list: [{ session_token: secret }] },
    secretAccessKey: secret,
  });
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.includes(secret), false);
});
