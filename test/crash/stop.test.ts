/** Stopping on request with work under way: SIGTERM of a service, Ctrl-C of a command, and a second one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Program, settingsFor, startProgram } from '../e2e/program.ts';
import { assertExportEndsFirst } from '../export-order.ts';
import { type Cluster, type Instance, machines, type Seen, startCluster } from './cluster.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const before = (name: string) => (seen: Seen) => seen.name === name && !seen.done;
const after = (name: string) => (seen: Seen) => seen.name === name && seen.done;

/** Calls `act` at the first request that fits. */
function at(cluster: Cluster, fits: (seen: Seen) => boolean, act: () => void): void {
  const unwatch = cluster.watch((seen) => {
    if (!fits(seen)) return;
    unwatch();
    act();
  });
}

/** All requests from now on. */
function record(cluster: Cluster): Seen[] {
  const journal: Seen[] = [];
  cluster.watch((seen) => void journal.push(seen));
  return journal;
}

/** An export that does not end by itself: a fast one would be finished in spite of the wish. */
function holdExport({ sim }: Cluster): void {
  sim.faults.set('export-silent', { afterBytes: 5_000_000, silentMs: 600_000 });
}

const terminate = ({ program }: Instance) => program.child.kill('SIGTERM');

describe('SIGTERM', { concurrency: 3 }, () => {
  test('the drain time over, running and waiting jobs are left queued, and the next instance ends them', async () => {
    await using cluster = await startCluster(machines(2));
    const instance = await cluster.start('a', { XVAULT_CONCURRENCY: '1' });
    // the first one runs, and gets no further than its export until the second one waits
    const waits = Promise.withResolvers<void>();
    const unwatch = cluster.watch((seen) => (before('/export')(seen) ? waits.promise : undefined));
    const ids: (string | undefined)[] = [await instance.backUp('m0'), await instance.backUp('m1')];
    at(cluster, after('UploadPart archive'), () => terminate(instance));
    unwatch();
    waits.resolve();
    assert.equal(await instance.program.ended, 0);
    const [running, waiting] = ids.map((id) => cluster.job(id ?? ''));
    assert.equal(running?.status, 'queued');
    assert.equal(running.last_error?.code, 'draining');
    assert.equal(waiting?.status, 'queued');
    assert.equal(waiting.started_at, undefined);
    assert.deepEqual(
      cluster.sim.audit().filter((line) => line.startsWith('snapshot')),
      [],
    );
    const next = await cluster.start('b');
    for (const id of ids) assert.equal((await cluster.ended(id ?? '')).status, 'succeeded');
    await cluster.check(next);
  });

  test('the drain time over, a job that is to be tried once ends as draining: export first, then the snapshot', async () => {
    await using cluster = await startCluster();
    holdExport(cluster);
    const journal = record(cluster);
    const instance = await cluster.start('a', { XVAULT_JOB_ATTEMPTS: '1' });
    at(cluster, before('/export'), () => terminate(instance));
    const id = await instance.backUp('m0');
    assert.equal(await instance.program.ended, 0);
    assert.equal(assertExportEndsFirst(journal, true), 1);
    cluster.sim.faults.clear();
    const job = cluster.job(id ?? '');
    assert.equal(job?.status, 'failed');
    assert.equal(job?.error?.code, 'draining');
    await cluster.check(await cluster.start('b'));
  });

  test('a job that ends within the drain time succeeds', async () => {
    await using cluster = await startCluster();
    const instance = await cluster.start('a', { XVAULT_DRAIN_SECONDS: '120' });
    at(cluster, before('/export'), () => terminate(instance));
    const id = await instance.backUp('m0');
    assert.equal(await instance.program.ended, 0);
    assert.equal(cluster.job(id ?? '')?.status, 'succeeded');
    await cluster.check(await cluster.start('b'));
  });

  test('a second SIGTERM ends the process at once, and the next start ends the job', async () => {
    await using cluster = await startCluster();
    const instance = await cluster.start('a', { XVAULT_DRAIN_SECONDS: '120' });
    at(cluster, before('/export'), () => {
      terminate(instance);
      void instance.program.saw('draining').then(() => terminate(instance));
    });
    holdExport(cluster); // so that the second signal is not too late
    const id = await instance.backUp('m0');
    assert.equal(await instance.program.ended, 130);
    await cluster.expireLeases();
    const next = await cluster.start('b');
    assert.equal((await cluster.ended(id ?? '')).status, 'succeeded');
    await cluster.check(next);
  });
});

function run(cluster: Cluster): Program {
  const settings = { ...settingsFor(cluster.sim, cluster.s3), XVAULT_LEASE_SECONDS: '15' };
  return startProgram(['run', '--vm', 'm0', '--json'], settings);
}

describe('Ctrl-C in xvault run', { concurrency: 3 }, () => {
  const moments: { title: string; at: (seen: Seen) => boolean; short?: boolean }[] = [
    { title: 'before the lease is taken', at: before('PutObject leases') },
    { title: 'with the lease taken', at: after('PutObject leases') },
    { title: 'with the job recorded', at: ({ job }) => job?.status === 'queued', short: true },
    { title: 'while the snapshot is made', at: after('Async.VM.snapshot') },
    { title: 'in the middle of the export', at: before('/export'), short: true },
  ];
  for (const moment of moments.filter(({ short }) => LONG || short)) {
    test(`${moment.title}: cancelled, exit code 130, nothing is left`, async () => {
      await using cluster = await startCluster();
      holdExport(cluster);
      const journal = record(cluster);
      const program = run(cluster);
      at(cluster, moment.at, () => program.child.kill('SIGINT'));
      assert.equal(await program.ended, 130, program.output.err);
      const made = journal.some(after('Async.VM.snapshot'));
      assert.equal(assertExportEndsFirst(journal, true), made ? 1 : 0);
      for (const job of cluster.jobs()) assert.equal(job.status, 'cancelled');
      cluster.sim.faults.clear();
      await cluster.check(await cluster.start('b'));
    });
  }

  test('a second Ctrl-C leaves at once; the next instance cancels and cleans up', async () => {
    await using cluster = await startCluster();
    const program = run(cluster);
    cluster.sim.faults.set('call-hangs', { method: 'task.cancel', count: 10 });
    holdExport(cluster);
    at(cluster, before('/export'), () => program.child.kill('SIGINT'));
    at(
      cluster,
      ({ job }) => job?.cancel_requested === true,
      () => program.child.kill('SIGINT'),
    );
    assert.equal(await program.ended, 130);
    cluster.sim.faults.clear();
    await cluster.expireLeases();
    const next = await cluster.start('b');
    const [job] = cluster.jobs();
    assert.equal((await cluster.ended(job?.id ?? '')).status, 'cancelled');
    await cluster.check(next);
  });
});
