/** The program as a user starts it, against the simulated pool and the embedded S3 server. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createSparseDisk } from '../sim/disk.ts';
import { type MachineSpec, type SimPool, startSimPool } from '../sim/pool.ts';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const MIB = 1_048_576;
const MACHINES: MachineSpec[] = [
  {
    name: 'small',
    power: 'Running',
    disks: [
      {
        name: 'small disk',
        storage: 'nfs',
        bootable: true,
        open: () => {
          const disk = createSparseDisk(4 * MIB);
          disk.write(MIB, Buffer.alloc(MIB, 7));
          return disk;
        },
      },
    ],
  },
  { name: 'twin', disks: [] },
  { name: 'twin', disks: [] },
];

let pool: SimPool;
let s3: SimS3;
const children: ChildProcess[] = [];

before(async () => {
  pool = await startSimPool({ machines: MACHINES });
  s3 = await startSimS3({ buckets: ['vm-backups'] });
});

after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await pool.close();
  await s3.close();
});

function settings(): Record<string, string> {
  return {
    XVAULT_POOL_URL: pool.urls.join(','),
    XVAULT_POOL_USERNAME: pool.username,
    XVAULT_POOL_PASSWORD: pool.password,
    XVAULT_POOL_FINGERPRINT: pool.fingerprints.join(','),
    XVAULT_BUCKET: 'vm-backups',
    XVAULT_S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  };
}

function start(args: string[], env: Record<string, string> = {}) {
  const path = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' };
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...path, ...settings(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    text.out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    text.err += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...text }));
  return { child, text, ended };
}

async function run(args: string[], env?: Record<string, string>) {
  return await start(args, env).ended;
}

test('run backs up one machine, says so in JSON and leaves nothing on the pool', async () => {
  const { code, out, err } = await run(['run', '--vm', 'small', '--json']);
  assert.equal(code, 0, err);
  const job = JSON.parse(out);
  assert.equal(job.status, 'succeeded');
  assert.equal(job.result.disks.length, 1);
  assert.equal('checkpoint' in job, false);
  assert.deepEqual(await pool.auditWhenQuiet(), []);
  const list = await run(['list', 'small', '--json']);
  assert.equal(JSON.parse(list.out).backups[0].id, job.result.id);
  const index = await run(['index', job.result.id, '--json']);
  assert.equal(index.code, 0, index.err);
  assert.equal(JSON.parse(index.out).index.found, 'right');
  assert.match(
    index.err,
    /small: \d+ blocks? of backup .* are right \(.* read\); its index was right/,
  );
});

test('run backs up many machines, reports, and says by its exit code what became of them', async () => {
  const all = await run(['run', '--all', '--skip', 'twin', '--skip', 'nobody', '--deadline', '1h']);
  assert.equal(all.code, 0, all.err);
  assert.match(all.out, /^succeeded: 1 of 1 machine backed up, 2 left out\n/);
  assert.match(all.out, /twin \(default\): twin is in the skip list/);
  assert.match(all.err, /small: .* in \d+s\n/);
  const some = await run(['run', '--name', 'small', '--name', 'nobody', '--json']);
  assert.equal(some.code, 3, some.err);
  const { id, status, problems } = JSON.parse(some.out);
  assert.deepEqual([status, problems.length], ['partial', 1]);
  assert.deepEqual(await pool.auditWhenQuiet(), []);
  const report = await run(['runs', id]);
  assert.match(report.out, /problems:\n {2}find machine nobody: no machine of that uuid or name/);
});

test('an archive in a bucket is adopted, told what was changed, and verified', async () => {
  const made = await run(['run', '--vm', 'small', '--compression', 'zstd', '--json']);
  const { archive, vm } = JSON.parse(made.out).result;
  const adopted = await run(['adopt', `s3://vm-backups/${archive.key}`, '--json']);
  assert.equal(adopted.code, 0, adopted.err);
  const { result } = JSON.parse(adopted.out);
  assert.deepEqual([result.vm, result.adopted.compression], [vm, 'zstd']);
  assert.match(adopted.err, /changed: it was compressed by zstd, and is not compressed/);
  const verified = await run(['verify', result.id, '--percent', '50', '--json']);
  assert.equal(verified.code, 0, verified.err);
  assert.equal(JSON.parse(verified.out).verified.kind, 'sampled');
  assert.match(verified.err, /small: 50 % of backup .* are what was stored \(\d+ blocks? checked/);
  const refused = await run(['adopt', 'x.xva'], { XVAULT_URL: 'http://127.0.0.1:1' });
  assert.deepEqual([refused.code, /adopt without XVAULT_URL/.test(refused.err)], [2, true]);
});

test('exit codes tell a script what happened, and an error what, why and the mend', async () => {
  const [unknown, ambiguous, usage, check] = await Promise.all([
    run(['backup', 'nothere']),
    run(['backup', 'twin']),
    run(['run']),
    run(['check', '--vm', 'nothere']),
  ]);
  assert.equal(unknown.code, 10, unknown.err);
  // What, why and the mend.
  assert.match(
    unknown.err,
    /^xvault: find machine nothere: .* \(not_found\)\n {2}→ Check the name or id/,
  );
  assert.equal(ambiguous.code, 2, ambiguous.err);
  assert.equal((ambiguous.err.match(/twin {2}default/g) ?? []).length, 2);
  assert.equal(usage.code, 2);
  assert.equal(check.code, 2);
  assert.match(check.out, /^CRITICAL - nothere: no such machine/);
});

test('missing settings are all named at once, with exit code 2', async () => {
  const env = { XVAULT_POOL_URL: '', XVAULT_BUCKET: '', XVAULT_POOL_PASSWORD: '' };
  const { code, err } = await run(['serve'], env);
  assert.equal(code, 2);
  for (const name of Object.keys(env)) assert.match(err, new RegExp(`${name}: .*required`));
  assert.match(err, /^xvault: .* \(configuration\)\n/, 'the code stands in the first line');
});

test('doctor finds nothing wrong here, and names what is wrong elsewhere', async () => {
  const [good, bad] = await Promise.all([
    run(['doctor', '--json']),
    run(['doctor', '--json'], {
      XVAULT_POOL_FINGERPRINT: 'ab'.repeat(32),
      XVAULT_BUCKET: 'no-such-bucket',
    }),
  ]);
  assert.equal(good.code, 0, good.out);
  assert.ok(s3.inspect.keys('vm-backups').every((key) => !key.includes('doctor')));
  assert.equal(bad.code, 1);
  type Check = { state: string; code?: string; mend?: string };
  const { checks } = JSON.parse(bad.out) as { checks: Check[] };
  const failed = checks.filter(({ state }) => state === 'fail');
  assert.deepEqual(
    failed.map(({ code }) => code),
    ['pool_certificate', 'configuration'],
  );
  // The mend can be pasted: any member's pin will do.
  const pin = /XVAULT_POOL_FINGERPRINT=(\w+)$/.exec(failed[0]?.mend ?? '')?.[1] ?? '';
  assert.ok(pool.fingerprints.includes(pin), failed[0]?.mend);
});

test('a backup that nobody would do is refused: --no-wait without a service', async () => {
  const { code, err } = await run(['backup', 'small', '--no-wait']);
  assert.equal(code, 2);
  assert.match(err, /XVAULT_URL/);
  assert.equal((await pool.auditWhenQuiet()).length, 0);
});

test('serve does the work for others, drains on SIGTERM and ends with 0', async () => {
  const token = 'a-token-of-reasonable-length';
  const serving = start(['serve'], { XVAULT_LISTEN: '127.0.0.1:0', XVAULT_TOKEN: token });
  const url = await listening(serving);
  const remote = { XVAULT_URL: url, XVAULT_TOKEN: token };
  const refused = await run(['list'], { XVAULT_URL: url, XVAULT_TOKEN: 'another' });
  assert.equal(refused.code, 12, refused.err);
  const backup = await run(['backup', 'small', '--wait', '--json'], remote);
  assert.equal(backup.code, 0, backup.err);
  assert.equal(JSON.parse(backup.out).triggered_by, 'token');
  const check = await run(['check', '--vm', 'small'], remote);
  assert.match(check.out, /^OK - small: last backup .* \| age=\d+s;93600;180000;0\n$/);
  serving.child.kill('SIGTERM');
  const { code, out, err } = await serving.ended;
  assert.equal(code, 0, err);
  assert.ok(!`${out}${err}`.includes(token) && !out.includes(pool.password));
  const messages = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).msg);
  assert.deepEqual(messages.slice(-2), ['draining', 'stopped']);
  assert.deepEqual(await pool.auditWhenQuiet(), []);
});

/** Where it listens, as its log says; rejects when the program ends instead. */
async function listening({ child, text, ended }: ReturnType<typeof start>): Promise<string> {
  for (;;) {
    const whole = text.out.split('\n').slice(0, -1);
    const line = whole.find((one) => one.includes('"listening"'));
    if (line !== undefined) return (JSON.parse(line) as { url: string }).url;
    const gone = await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), ended]);
    if (!Array.isArray(gone)) throw new Error(`serve ended: ${gone.out}${gone.err}`);
  }
}
