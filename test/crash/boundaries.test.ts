/**
 * kill -9 between any two steps: another instance ends the job, exactly once, and nothing is left.
 *
 * The default suite kills at some boundaries; with XVAULT_TEST_LONG=1 at all of them, with a restart and with a second
 * instance at the same time, and at many random requests.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Cluster, type Instance, type Seen, startCluster } from './cluster.ts';
import { createRandom } from './random.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
/** Requests of one job, roughly: a random kill falls on one of them. */
const REQUESTS_OF_A_JOB = 130;
/** The default suite has those of instances.test.ts, and two hundred simulated ones in test/scenarios. */
const RANDOM_KILLS = LONG ? 60 : 0;

interface Boundary {
  title: string;
  /** In the default suite. */
  short?: boolean;
  /** How far the job was: one not begun is taken over without a second attempt, one that ended not at all. */
  job?: 'waiting' | 'ended';
  at(seen: Seen): boolean;
}

const before = (name: string) => (seen: Seen) => seen.name === name && !seen.done;
const after = (name: string) => (seen: Seen) => seen.name === name && seen.done;
const recorded = (phase: string) => (seen: Seen) =>
  seen.job?.phase === phase && seen.job.status === 'running';

const BOUNDARIES: Boundary[] = [
  {
    title: 'the job was recorded and not yet answered',
    at: ({ job }) => job?.status === 'queued',
    job: 'waiting',
  },
  { title: 'phase preparing was recorded', at: recorded('preparing') },
  { title: 'phase snapshotting was recorded', at: recorded('snapshotting') },
  { title: 'the snapshot is about to be asked for', at: before('Async.VM.snapshot') },
  { title: 'the snapshot is being made', at: after('Async.VM.snapshot'), short: true },
  { title: 'the snapshot is about to be marked', at: before('VM.add_to_other_config') },
  { title: 'the snapshot was marked', at: after('VM.add_to_other_config') },
  { title: 'phase exporting was recorded', at: recorded('exporting') },
  {
    title: 'the upload was begun and its id is not recorded',
    at: after('CreateMultipartUpload archive'),
    short: true,
  },
  {
    title: 'the id of the upload was recorded',
    at: ({ job }) => job?.checkpoint.upload_id !== undefined,
  },
  { title: 'the export begins', at: before('/export') },
  { title: 'the first part was stored', at: after('UploadPart archive') },
  { title: 'the export has ended', at: after('/export') },
  { title: 'the index was stored', at: after('PutObject index') },
  { title: 'the archive is about to be completed', at: before('CompleteMultipartUpload archive') },
  {
    title: 'the archive was completed and nobody knows',
    at: after('CompleteMultipartUpload archive'),
    short: true,
  },
  { title: 'phase finishing was recorded', at: recorded('finishing') },
  { title: 'the backup is about to be published', at: before('PutObject backup') },
  { title: 'the backup was published', at: after('PutObject backup'), short: true },
  { title: 'phase cleaning was recorded', at: recorded('cleaning') },
  { title: 'a snapshot disk is about to go', at: before('Async.VDI.destroy') },
  { title: 'a snapshot disk has gone, its machine record not', at: after('Async.VDI.destroy') },
  { title: 'the snapshot has gone', at: after('Async.VM.destroy') },
  { title: 'the lease is about to be given back', at: before('DeleteObject leases'), job: 'ended' },
  {
    title: 'the lease was given back',
    at: after('DeleteObject leases'),
    job: 'ended',
    short: true,
  },
];

/** Kills `victim` at the first request that fits. Resolves when it is dead; false when none came. */
function killAt(cluster: Cluster, victim: Instance, fits: (seen: Seen) => boolean): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const unwatch = cluster.watch((seen) => {
    if (!fits(seen)) return undefined;
    unwatch();
    victim.kill();
    void victim.program.ended.then(() => resolve());
    return 'cut';
  });
  return promise;
}

/** Kills one instance as `fits` says, lets others take over, and looks at everything afterwards. */
async function crash(boundary: Boundary, successors: readonly string[]): Promise<void> {
  await using cluster = await startCluster();
  const victim = await cluster.start('a');
  const killed = killAt(cluster, victim, boundary.at);
  const accepted = victim.backUp('m0');
  await killed;
  await accepted;
  await cluster.expireLeases();
  const others = await Promise.all(successors.map((name) => cluster.start(name)));
  const [job] = await cluster.until('the job', () => cluster.jobs().length > 0 && cluster.jobs());
  assert.ok(job);
  const ended = await cluster.ended(job.id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  const once = boundary.job === 'ended' ? 0 : 1;
  assert.equal(cluster.takeovers(job.id), once, 'taken over exactly once, unless it had ended');
  assert.equal(ended.attempt, boundary.job === undefined ? 2 : 1);
  const [asked] = others;
  assert.ok(asked);
  await cluster.check(asked);
}

describe('kill -9 at a boundary', { concurrency: LONG ? 2 : 4 }, () => {
  for (const boundary of BOUNDARIES.filter(({ short }) => LONG || short)) {
    const { title } = boundary;
    test(`killed when ${title}: the job is ended by a restart`, () => crash(boundary, ['a']));
    if (!LONG) continue;
    test(`killed when ${title}: of two others one ends the job`, () => crash(boundary, ['b', 'c']));
  }

  test('killed with the lease taken and no job recorded: the machine is free when it has run out', async () => {
    await using cluster = await startCluster();
    const long = { XVAULT_LEASE_SECONDS: '600' }; // stands however slowly the next process starts
    const victim = await cluster.start('a', long);
    const killed = killAt(cluster, victim, before('PutObject jobs'));
    await Promise.all([victim.backUp('m0'), killed]);
    const restarted = await cluster.start('a', long);
    assert.equal(await restarted.backUp('m0'), undefined, 'the lease still stands');
    await cluster.expireLeases();
    const id = (await restarted.backUp('m0')) ?? '';
    assert.equal((await cluster.ended(id)).status, 'succeeded');
    await cluster.check(restarted);
  });
});

test('a lease that nobody renews runs out by itself, and another running instance takes over', async () => {
  await using cluster = await startCluster();
  const lease = { XVAULT_LEASE_SECONDS: '6' };
  const [victim, other] = await Promise.all([cluster.start('a', lease), cluster.start('b', lease)]);
  const killed = killAt(cluster, victim, before('/export'));
  const [id] = await Promise.all([victim.backUp('m0'), killed]);
  assert.equal((await cluster.ended(id ?? '')).status, 'succeeded');
  assert.ok(cluster.takeovers(id ?? '') > 0);
  await cluster.check(other);
});

describe('kill -9 at a random request', { concurrency: LONG ? 2 : 3 }, () => {
  const random = createRandom();
  for (let round = 1; round <= RANDOM_KILLS; round++) {
    const count = random.between(1, REQUESTS_OF_A_JOB);
    test(`seed ${random.seed}, kill ${round}: at request ${count}`, () => crashAt(count));
  }
});

/** As `crash`, at the request of this number; a job that ended before it needs no successor. */
async function crashAt(count: number): Promise<void> {
  await using cluster = await startCluster();
  const victim = await cluster.start('a');
  let left = count;
  const unwatch = cluster.watch(() => {
    if (--left > 0) return undefined;
    unwatch();
    victim.kill();
    return 'cut';
  });
  const id = await victim.backUp('m0');
  await cluster.until('death or end', () => {
    const job = id === undefined ? undefined : cluster.job(id);
    return !victim.alive() || job?.status === 'succeeded';
  });
  victim.kill();
  await victim.program.ended;
  await cluster.expireLeases();
  const other = await cluster.start('b');
  for (const { id: found } of cluster.jobs()) {
    const ended = await cluster.ended(found);
    assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
    assert.ok(ended.attempt <= 2);
  }
  if (cluster.jobs().length === 0) {
    // it died before the job was recorded; its lease may stand until it runs out
    await cluster.ended(await other.backUpWhenFree('m0'));
  }
  await cluster.check(other);
}
