/**
 * A process that sleeps through its lease (SIGSTOP), whose job was taken over, and that wakes: it does no harm.
 *
 * What stops it is its next write of the job's record: written only over the version last read, it is refused (412),
 * and the record read instead names another owner. Nothing on the pool or under backups/ is touched before that write
 * has succeeded. Requests the sleeper had on the way are held and carried out late, as a network may do.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isEnded } from '../../src/catalog/record.ts';
import { type Cluster, type Instance, type Seen, startCluster } from './cluster.ts';
import { createRandom } from './random.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const RANDOM_PAUSES = LONG ? 20 : 1;
const REQUESTS_OF_A_JOB = 100;
const REFUSED = 'PutObject 412 PreconditionFailed';
const KEPT = 'DeleteObject 412 PreconditionFailed';

interface Held {
  /** Resolves when the request is there. */
  there: Promise<void>;
  release(): void;
}

/** Holds the first request that fits; `onHold` runs at that instant. */
function holdAt(cluster: Cluster, fits: (seen: Seen) => boolean, onHold = () => {}): Held {
  const there = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const unwatch = cluster.watch((seen) => {
    if (!fits(seen)) return undefined;
    unwatch();
    onHold();
    there.resolve();
    return released.promise;
  });
  return { there: there.promise, release: released.resolve };
}

interface Nap {
  cluster: Cluster;
  id: string;
  sleeper: Instance;
  other: Instance;
  held: Held;
}

/** A job whose owner sleeps since the request that fits, its lease run out, and another instance. */
async function fallAsleep(cluster: Cluster, fits: (seen: Seen) => boolean): Promise<Nap> {
  const sleeper = await cluster.start('sleeper');
  const held = holdAt(cluster, fits, sleeper.pause);
  const [id] = await Promise.all([sleeper.backUp('m0'), held.there]);
  assert.ok(id);
  await cluster.expireLeases();
  const other = await cluster.start('other');
  return { cluster, id, sleeper, other, held };
}

/** Wakes it and waits until it has given the job up. */
async function wake({ sleeper, held }: Nap): Promise<void> {
  held.release();
  sleeper.wake();
  const line = JSON.parse(await sleeper.program.saw('job given up'));
  assert.equal(line.code, 'lease_lost');
}

const before = (name: string) => (seen: Seen) => seen.name === name && !seen.done;
const after = (name: string) => (seen: Seen) => seen.name === name && seen.done;

const CASES: { title: string; at: (seen: Seen) => boolean; short?: boolean }[] = [
  {
    title: 'while its snapshot is asked for, which is then made late',
    at: before('Async.VM.snapshot'),
    short: true,
  },
  { title: 'in the middle of the export', at: after('UploadPart archive') },
  {
    title: 'with its upload about to be completed',
    at: before('CompleteMultipartUpload archive'),
  },
  { title: 'with its upload completed', at: after('CompleteMultipartUpload archive') },
  { title: 'while it publishes the backup', at: before('PutObject backup'), short: true },
  { title: 'while it removes the snapshot', at: before('Async.VDI.destroy') },
];

describe('a process that slept through its lease', { concurrency: LONG ? 2 : 4 }, () => {
  for (const { title, at } of CASES.filter(({ short }) => LONG || short)) {
    test(`${title}, wakes when another has ended the job: the result stands`, async () => {
      await using cluster = await startCluster();
      const nap = await fallAsleep(cluster, at);
      const ended = await cluster.ended(nap.id);
      assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
      const refusedBefore = cluster.s3.stats.answers[REFUSED] ?? 0;
      await wake(nap);
      assert.ok((cluster.s3.stats.answers[REFUSED] ?? 0) > refusedBefore, 'its write was refused');
      assert.deepEqual(cluster.job(nap.id), ended, 'the record is as it was');
      assert.equal(cluster.takeovers(nap.id), 1);
      await cluster.check(nap.other);
    });
  }

  test('in the middle of the export, wakes while another exports: the snapshot stays', async () => {
    await using cluster = await startCluster();
    const nap = await fallAsleep(cluster, after('UploadPart archive'));
    const { there, release } = holdAt(cluster, before('/export'));
    await there;
    await wake(nap);
    assert.equal(snapshots(cluster), 1);
    release();
    assert.equal((await cluster.ended(nap.id)).status, 'succeeded');
    await cluster.check(nap.other);
  });

  test('with a failed export to clean up after, wakes while another exports: the snapshot stays', async () => {
    await using cluster = await startCluster();
    cluster.sim.faults.set('export-ends-early', { afterBytes: 5_000_000 });
    let failed = false;
    // the record that says "cleaning": nothing may be removed before it is written
    const nap = await fallAsleep(cluster, (seen) => {
      if (after('/export')(seen)) failed = true;
      return failed && before('PutObject jobs')(seen);
    });
    const { there, release } = holdAt(cluster, before('/export'));
    await there;
    await wake(nap);
    assert.equal(snapshots(cluster), 1);
    release();
    const ended = await cluster.ended(nap.id);
    assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
    await cluster.check(nap.other);
  });
});

test('a process that sleeps while it gives its lease back does not take the next job’s away', async () => {
  await using cluster = await startCluster();
  const nap = await fallAsleep(cluster, before('DeleteObject leases'));
  assert.equal(cluster.job(nap.id)?.status, 'succeeded', 'its last record is written by then');
  const { there, release } = holdAt(cluster, before('/export'));
  const next = await nap.other.backUpWhenFree('m0');
  await there;
  nap.held.release();
  nap.sleeper.wake();
  await cluster.until('the late request', () => cluster.s3.stats.answers[KEPT]);
  release();
  assert.equal((await cluster.ended(next)).attempt, 1);
  assert.equal(cluster.job(next)?.status, 'succeeded');
  await cluster.check(nap.other);
});

describe('a process that sleeps at a random request', { concurrency: 2 }, () => {
  const random = createRandom();
  for (let round = 1; round <= RANDOM_PAUSES; round++) {
    const count = random.between(1, REQUESTS_OF_A_JOB);
    test(`seed ${random.seed}, pause ${round}: at request ${count}`, () => napAt(count));
  }
});

/** Sleeps at the request of this number, if the job has so many; jobs of two instances may follow each other. */
async function napAt(count: number): Promise<void> {
  await using cluster = await startCluster();
  const sleeper = await cluster.start('sleeper');
  let left = count;
  let asleep = false;
  const held = holdAt(
    cluster,
    () => --left === 0,
    () => {
      asleep = true;
      sleeper.pause();
    },
  );
  const accepted = sleeper.backUp('m0');
  await cluster.until('sleep or end', () => asleep || cluster.jobs().some(isEnded));
  await cluster.expireLeases();
  const other = await cluster.start('other');
  await cluster.ended(await other.backUpWhenFree('m0'));
  held.release();
  sleeper.wake();
  await accepted;
  await cluster.until('the end of all jobs', () => cluster.jobs().every(isEnded));
  sleeper.program.child.kill('SIGTERM');
  assert.equal(await sleeper.program.ended, 0);
  await cluster.check(other);
}

function snapshots({ sim }: Cluster): number {
  return sim.world.all('VM').filter(([, vm]) => vm.is_a_snapshot === true).length;
}
