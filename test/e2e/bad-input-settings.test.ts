/**
 * Wrong surroundings: credentials, certificates, addresses, rights, clocks and settings, each named with its mend.
 *
 * A wrong password is tried once: pools lock accounts and raise alarms.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock, systemIds } from '../../src/clock.ts';
import { checkBucket } from '../../src/commands/doctor-bucket.ts';
import type { Finding } from '../../src/commands/doctor-checks.ts';
import { NEVER } from '../../src/signals.ts';
import type { SimS3Options } from '../sim/s3/index.ts';
import { type HttpWorld, startHttpWorld } from './app.ts';
import { settingsFor, startProgram } from './program.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import type { WorldOptions } from './world.ts';

const HASTY = { attempts: 2, baseMs: 5, capMs: 10 };
const RETRIES = { calls: HASTY, transfers: HASTY };

function start(options: WorldOptions = {}): Promise<HttpWorld> {
  const { storeSettings, ...rest } = options;
  return startHttpWorld({
    pool: { machines: SMALL_MACHINES },
    storeSettings: { retries: RETRIES, ...storeSettings },
    ...rest,
  });
}

/** Nothing but the API is asked, as a user would. */
const post = (world: HttpWorld) => world.call('POST', '/v1/vms/app/backups', { body: {} });

describe('a pool', { concurrency: true }, () => {
  test('that refuses the password is asked once, however often backups are asked for', async () => {
    let refusals = 0;
    const BAD_LOGIN_MS = 51.5;
    const clock = {
      ...systemClock,
      sleep: async (ms: number, options: { signal: AbortSignal }) => {
        if (ms === BAD_LOGIN_MS) refusals += 1;
        await systemClock.sleep(ms, options);
      },
    };
    await using world = await start({
      pool: { machines: SMALL_MACHINES, clock, badLoginDelayMs: BAD_LOGIN_MS },
      poolSettings: { password: 'a-wrong-password' },
    });
    const answers = await Promise.all([post(world), post(world), post(world)]);
    answers.push(await post(world), await world.call('GET', '/v1/vms'));
    await world.call('GET', '/readyz?verbose=1');
    for (const answer of answers) {
      assert.equal(answer.status, 502, answer.text);
      assert.equal(answer.problem().code, 'pool_credentials');
      assert.match(answer.problem().detail, /user or password/);
      assert.equal(answer.text.includes('a-wrong-password'), false);
    }
    assert.equal(refusals, 1);
    assert.deepEqual(await world.audit(), []);
  });

  test('whose certificate is not the pinned one is not spoken to, and both are shown', async () => {
    const wrong = 'ab'.repeat(32);
    await using world = await start({
      poolSettings: { trust: { kind: 'fingerprint', sha256: [wrong] } },
    });
    const answer = await post(world);
    assert.equal(answer.status, 502, answer.text);
    const { code, details } = answer.problem();
    assert.equal(code, 'pool_certificate');
    assert.equal(details?.found_sha256, world.sim.fingerprints[0]);
    assert.deepEqual(details?.expected_sha256, [wrong]);
    assert.equal([...world.sim.world.all('session')].length, 0);
  });

  test('with a self-signed certificate is not trusted by the system CAs', async () => {
    await using world = await start({ poolSettings: { trust: { kind: 'system' } } });
    const { code, detail } = (await post(world)).problem();
    assert.equal(code, 'pool_certificate');
    assert.match(detail, /SELF_SIGNED/);
  });

  test('that is not there is a 503 with Retry-After, and what the bucket knows is still told', async () => {
    await using world = await start({ poolSettings: { urls: ['https://127.0.0.1:1'] } });
    const answer = await post(world);
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.problem().code, 'pool_unavailable');
    assert.match(answer.text, /ECONNREFUSED/);
    assert.ok(Number(answer.headers.get('retry-after')) > 0);
    const status = await world.call('GET', '/v1/status');
    assert.deepEqual(status.json().unreachable_pools, ['dc1']);
    assert.equal((await world.call('GET', '/v1/backups')).status, 200);
    assert.equal((await world.call('GET', '/readyz')).status, 200);
  });
});

describe('a bucket', { concurrency: true }, () => {
  async function refused(options: WorldOptions) {
    await using world = await start(options);
    const answer = await post(world);
    const problem = answer.problem();
    assert.equal((await world.call('GET', '/livez')).status, 200);
    assert.deepEqual(await world.sim.auditWhenQuiet({ ignore: /session|connections/ }), []);
    return problem;
  }

  test('that does not exist is named', async () => {
    const problem = await refused({ storeSettings: { bucket: 'no-such-bucket' } });
    assert.equal(problem.code, 'configuration');
    assert.match(problem.detail, /XVAULT_BUCKET.*no-such-bucket/);
  });

  test('whose credentials are wrong says which half', async () => {
    const secret = await refused({
      storeSettings: { credentials: { accessKeyId: 'simulated-key', secretAccessKey: 'wrong' } },
    });
    assert.equal(secret.code, 'store_credentials');
    assert.match(secret.detail, /secret access key/);
    const id = await refused({
      storeSettings: { credentials: { accessKeyId: 'nobody', secretAccessKey: 'wrong' } },
    });
    assert.match(id.detail, /access key id/);
  });

  test('whose clock is far from ours says both times', async () => {
    const signatureClock = { now: () => Date.now() + 3 * 3600_000 };
    let asked = 0;
    const moving = { now: () => signatureClock.now() + 3 * 3600_000 * asked++ };
    const problem = await refused({ s3: { signatureClock: moving } });
    assert.match(problem.detail, /clock/);
    assert.ok(problem.details?.own_time);
    assert.ok(problem.details?.store_time);
  });

  test('that does not answer is a 503', async () => {
    const problem = await refused({ storeSettings: { endpoint: 'http://127.0.0.1:1' } });
    assert.equal(problem.status, 503);
    assert.equal(problem.code, 'store_unavailable');
    assert.match(problem.detail, /127\.0\.0\.1:1/);
  });
});

const LONG = process.env.XVAULT_TEST_LONG === '1';

/** A right, and where it is missing; `short`: also in the default run. */
const RIGHTS: { right: string; below?: RegExp; doctorSays: RegExp; short?: true }[] = [
  { right: 's3:PutObject', doctorSays: /s3:PutObject/, short: true },
  { right: 's3:GetObject', doctorSays: /s3:GetObject/ },
  { right: 's3:ListBucket', doctorSays: /s3:ListBucket/, short: true },
  { right: 's3:DeleteObject', doctorSays: /s3:DeleteObject/ },
  { right: 's3:AbortMultipartUpload', doctorSays: /s3:AbortMultipartUpload/, short: true },
  { right: 's3:ListBucketMultipartUploads', doctorSays: /s3:ListBucketMultipartUploads/ },
];

describe('a missing right', { concurrency: true }, () => {
  for (const { right, doctorSays } of RIGHTS.filter(({ short }) => LONG || short)) {
    test(`${right} is named by the problem that meets it and by doctor`, async () => {
      let denied = false;
      const policy: SimS3Options['policy'] = (action) => !(denied && action === right);
      await using world = await start({ s3: { policy } });
      const before = await world.run('app');
      assert.equal(before.status, 'succeeded', JSON.stringify(before.error));
      denied = true;
      const findings = await doctor(world);
      const bad = findings.filter(({ state }) => state === 'fail' || state === 'warn');
      assert.ok(bad.length > 0, `doctor is content without ${right}`);
      assert.match(bad.map(({ text, mend }) => `${text} ${mend}`).join('\n'), doctorSays);
      const answer = await world.call('POST', '/v1/vms/app/backups', {
        body: {},
        headers: { prefer: 'wait=55' },
      });
      const problem =
        answer.status >= 300 ? answer.problem() : answer.json<{ error?: unknown }>().error;
      if (problem !== undefined) {
        assert.equal((problem as { code: string }).code, 'store_credentials', answer.text);
        assert.match((problem as { detail: string }).detail, doctorSays);
      }
      denied = false;
      assert.equal((await world.backupsOf(before.vm.uuid)).includes(before.result?.id ?? ''), true);
    });
  }
});

async function doctor(world: HttpWorld): Promise<Finding[]> {
  const findings: Finding[] = [];
  const { store } = world;
  const report = (finding: Omit<Finding, 'about'>) =>
    findings.push({ about: 'bucket', ...finding });
  await checkBucket(
    { store, prefix: 'xv/', archives: true, state: true },
    { report, clock: systemClock, ids: systemIds },
    { signal: NEVER },
  );
  return findings;
}

describe('the program', { concurrency: true }, () => {
  const REQUIRED = [
    'XVAULT_POOL_URL',
    'XVAULT_POOL_USERNAME',
    'XVAULT_POOL_PASSWORD',
    'XVAULT_BUCKET',
  ];

  test('without settings names all that are missing at once, each with an example', async () => {
    const serve = startProgram(['serve'], { XVAULT_LISTEN: '0.0.0.0:0' });
    const config = startProgram(['config'], { XVAULT_LISTEN: '0.0.0.0:0' });
    const run = startProgram(['run', '--vm', 'app', '--json'], {});
    assert.equal(await serve.ended, 2);
    assert.equal(await config.ended, 2);
    assert.equal(await run.ended, 2);
    for (const name of [...REQUIRED, 'XVAULT_TOKEN']) {
      assert.match(serve.output.err, new RegExp(`${name}: `));
      assert.match(config.output.err, new RegExp(`${name}: `));
    }
    assert.match(serve.output.err, /e\.g\. XVAULT_BUCKET=/);
    const { error } = JSON.parse(run.output.err);
    assert.equal(error.code, 'configuration');
    assert.equal(error.details.mistakes.length, REQUIRED.length);
  });

  test('with wrong values names each, shows no secret, and starts nothing', async () => {
    const env = {
      XVAULT_POOL_URL: 'http//10.0.0.11',
      XVAULT_POOL_USERNAME: 'xvault',
      XVAULT_POOL_PASSWORD: 'not-to-be-shown',
      XVAULT_POOL_FINGERPRINT: '12:34',
      XVAULT_BUCKET: 'vm-backups',
      XVAULT_MEMORY_MIB: 'much',
      XVAULT_TOKEN: 'token-not-to-be-shown',
      XVAULT_TOKENS_FILE: '/nowhere/tokens.json',
      XVAULT_CONCURENCY: '3',
    };
    const serve = startProgram(['serve'], env);
    const config = startProgram(['config'], env);
    assert.equal(await serve.ended, 2);
    assert.equal(await config.ended, 2);
    for (const name of ['POOL_URL', 'POOL_FINGERPRINT', 'MEMORY_MIB', 'TOKENS_FILE']) {
      assert.match(serve.output.err, new RegExp(`XVAULT_${name}: `), serve.output.err);
    }
    assert.match(config.output.err, /XVAULT_CONCURENCY.*XVAULT_CONCURRENCY/);
    for (const { output } of [serve, config]) {
      assert.doesNotMatch(output.out + output.err, /not-to-be-shown/);
    }
  });

  test('doctor fails with the mend of a wrong password and a wrong pin, and shows neither', async () => {
    await using world = await start();
    assert.ok(world.s3);
    const good = settingsFor(world.sim, world.s3);
    const fine = startProgram(['doctor', '--json'], good);
    const password = startProgram(['doctor'], { ...good, XVAULT_POOL_PASSWORD: 'a-wrong-one' });
    const pin = startProgram(['doctor'], { ...good, XVAULT_POOL_FINGERPRINT: 'ab'.repeat(32) });
    assert.equal(await fine.ended, 0, fine.output.out + fine.output.err);
    assert.equal(await password.ended, 1);
    assert.equal(await pin.ended, 1);
    assert.match(password.output.out, /✗ login: .*user or password/);
    assert.match(pin.output.out, /✗ login: .*fingerprints/);
    assert.doesNotMatch(password.output.out + password.output.err, /a-wrong-one/);
    assert.doesNotMatch(fine.output.out, new RegExp(world.sim.password));
    assert.deepEqual(await world.audit(), []);
  });
});
