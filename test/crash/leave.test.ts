/**
 * SIGTERM of `xvault run`: the process ends within its grace whatever hangs, and what it left is gone on with.
 *
 * As a scheduler does it: SIGTERM, and SIGKILL some time after. A process that needed the second is a failure.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Job } from '../../src/catalog/record.ts';
import type { Run } from '../../src/catalog/run.ts';
import { type Program, settingsFor, startProgram } from '../e2e/program.ts';
import { BUCKET } from '../e2e/world.ts';
import { type Cluster, machines, type Seen, startCluster } from './cluster.ts';

/** Every instant, with XVAULT_TEST_LONG=1; a second or two each. */
const LONG = process.env.XVAULT_TEST_LONG === '1';
/** A scheduler kills after its grace, 5 s here; the rest is for machines that are busy with other tests. */
const KILL_MS = 20_000;

const before = (name: string) => (seen: Seen) => seen.name === name && !seen.done;

function start(
  cluster: Cluster,
  args: readonly string[],
  env: Record<string, string> = {},
): Program {
  const { sim, s3 } = cluster;
  const settings = { ...settingsFor(sim, s3), XVAULT_LEASE_SECONDS: '15', ...env };
  return startProgram(['run', ...args, '--json'], settings);
}

/** SIGTERM at the first request that fits, and SIGKILL later; `then` comes with the first. */
function terminateAt(
  cluster: Cluster,
  program: Program,
  fits: (seen: Seen) => boolean,
  then: (seen: Seen) => unknown = () => undefined,
): void {
  const unwatch = cluster.watch((seen) => {
    if (!fits(seen)) return undefined;
    unwatch();
    program.child.kill('SIGTERM');
    const late = setTimeout(() => program.child.kill('SIGKILL'), KILL_MS);
    void program.ended.then(() => clearTimeout(late));
    return then(seen);
  });
}

/** Requests to it are carried out no more; the returned function lets them go. */
function hang(cluster: Cluster, side: 'pool' | 'bucket'): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  const isBucket = ({ name }: Seen) => / /.test(name);
  const unwatch = cluster.watch((seen) =>
    !seen.done && isBucket(seen) === (side === 'bucket') ? promise : undefined,
  );
  return () => {
    unwatch();
    resolve();
  };
}

const answerOf = <T>({ output }: Program) => JSON.parse(output.out) as T;

/** The same wish again: it ends well, with one backup in all. */
async function again(cluster: Cluster): Promise<void> {
  const program = start(cluster, ['--vm', 'm0']);
  assert.equal(await program.ended, 0, program.output.err);
  assert.equal(answerOf<Job>(program).status, 'succeeded');
  const done = cluster.jobs().filter(({ status }) => status === 'succeeded');
  assert.equal(done.length, 1, 'the same wish is answered by what was left');
  await cluster.check(await cluster.start('b'));
}

describe('SIGTERM in xvault run --vm', { concurrency: 3 }, () => {
  const moments: { title: string; at: (seen: Seen) => boolean }[] = [
    { title: 'the machine being looked at', at: before('SR.get_record') },
    { title: 'the job being recorded', at: before('PutObject jobs') },
    { title: 'the job waiting', at: ({ job }) => job?.status === 'queued' },
    { title: 'the snapshot being made', at: before('Async.VM.snapshot') },
    { title: 'the export beginning', at: before('/export') },
    { title: 'a part being sent', at: before('UploadPart archive') },
    { title: 'the archive being completed', at: before('CompleteMultipartUpload archive') },
    { title: 'the backup being published', at: before('PutObject backup') },
    { title: 'the snapshot being removed', at: before('VM.destroy') },
  ];
  for (const { title, at } of moments) {
    test(`${title}: it ends in time, and the next run goes on`, { skip: !LONG }, async () => {
      await using cluster = await startCluster();
      const program = start(cluster, ['--vm', 'm0']);
      terminateAt(cluster, program, at);
      const code = await program.ended;
      const [job] = cluster.jobs();
      assert.equal(code, job?.status === 'succeeded' ? 0 : 143, program.output.err);
      assert.notEqual(job?.status, 'cancelled');
      if (job !== undefined) assert.equal(answerOf<Job>(program).id, job.id);
      if (job?.status === 'succeeded') return await cluster.check(await cluster.start('b'));
      await again(cluster);
    });
  }

  for (const side of ['pool', 'bucket'] as const) {
    test(`the ${side} hanging from then on: it ends in time, and the next run cleans up`, async () => {
      await using cluster = await startCluster();
      const program = start(cluster, ['--vm', 'm0']);
      let release = () => {};
      terminateAt(cluster, program, before('UploadPart archive'), () => {
        release = hang(cluster, side);
      });
      const code = await program.ended;
      release();
      assert.equal(code, 143, program.output.err);
      const [job] = cluster.jobs();
      assert.equal(answerOf<Job>(program).id, job?.id);
      if (side === 'bucket') {
        await cluster.expireLeases();
        return await again(cluster);
      }
      // with a bucket that answers the lease is given back: whoever looks goes on at once
      const leases = cluster.s3.inspect.keys(BUCKET).filter((key) => key.includes('/leases/'));
      assert.deepEqual(leases, []);
      const next = await cluster.start('b');
      assert.equal((await cluster.ended(job?.id ?? '')).status, 'succeeded');
      await cluster.check(next);
    });
  }

  test('before anything answers: it ends in time', { skip: !LONG }, async () => {
    await using cluster = await startCluster();
    const program = start(cluster, ['--vm', 'm0', '--grace', '2s']);
    terminateAt(cluster, program, ({ done }) => !done);
    const release = hang(cluster, 'bucket');
    const code = await program.ended;
    release();
    assert.equal(code, 143, program.output.err);
    assert.equal(cluster.jobs().length, 0);
  });
});

test('SIGTERM in xvault run --all: the run is left, and the same wish goes on with it', async () => {
  await using cluster = await startCluster(machines(3));
  const one = { XVAULT_CONCURRENCY: '1' };
  const program = start(cluster, ['--all'], one);
  let exports = 0;
  terminateAt(cluster, program, (seen) => before('UploadPart archive')(seen) && ++exports === 3);
  assert.equal(await program.ended, 143, program.output.err);
  const left = answerOf<Run>(program);
  assert.equal(left.status, 'running');
  const next = start(cluster, ['--select', '{"all":true}'], one);
  assert.equal(await next.ended, 0, next.output.err);
  assert.match(next.output.err, /^going on with the run that an earlier one left/m);
  const ended = answerOf<Run>(next);
  assert.equal(ended.id, left.id);
  assert.deepEqual(
    ended.machines.map(({ status }) => status),
    ['succeeded', 'succeeded', 'succeeded'],
  );
  assert.equal(cluster.jobs().filter(({ status }) => status === 'succeeded').length, 3);
  await cluster.check(await cluster.start('b'));
});

test('SIGKILL in xvault run --all: the same wish watches the run until its lease is over, then goes on with it', {
  skip: !LONG,
}, async () => {
  await using cluster = await startCluster(machines(3));
  const one = { XVAULT_CONCURRENCY: '1' };
  const program = start(cluster, ['--all'], one);
  let exports = 0;
  const unwatch = cluster.watch((seen) => {
    if (!before('UploadPart archive')(seen) || ++exports !== 3) return;
    unwatch();
    program.child.kill('SIGKILL');
  });
  await program.ended;
  const next = start(cluster, ['--all'], one);
  const joined = Promise.withResolvers<void>();
  next.child.stderr?.on('data', () => {
    if (next.output.err.includes('is at this run')) joined.resolve();
  });
  await Promise.race([joined.promise, next.ended]);
  await cluster.expireLeases();
  assert.equal(await next.ended, 0, next.output.err);
  const ended = answerOf<Run>(next);
  assert.deepEqual(
    ended.machines.map(({ status }) => status),
    ['succeeded', 'succeeded', 'succeeded'],
  );
  const runs = cluster.s3.inspect.keys(BUCKET).filter((key) => key.startsWith('xv/runs/'));
  assert.equal(runs.length, 1, 'no second run');
  assert.equal(cluster.jobs().filter(({ status }) => status === 'succeeded').length, 3);
  await cluster.check(await cluster.start('b'));
});

test('SIGKILL in xvault run --vm: the same wish waits for the lease, then goes on with the job', {
  skip: !LONG,
}, async () => {
  await using cluster = await startCluster();
  const program = start(cluster, ['--vm', 'm0']);
  const unwatch = cluster.watch((seen) => {
    if (!before('UploadPart archive')(seen)) return;
    unwatch();
    program.child.kill('SIGKILL');
  });
  await program.ended;
  await again(cluster);
});
