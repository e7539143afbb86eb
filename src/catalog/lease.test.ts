import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { systemIds } from '../clock.ts';
import { type BackupError, isBackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { CLOCK_SKEW_MS, createLeases, isParked, LEASE_MS, leaseTiming } from './lease.ts';

const signal = NEVER;

function setUp() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const leasesOf = (owner: string) => createLeases({ store, clock, ids: systemIds }, { owner });
  return { clock, store, a: leasesOf('a'), b: leasesOf('b') };
}

test('a held lease is refused with the job and owner that hold it', async () => {
  const { a, b } = setUp();
  await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await assert.rejects(
    b.take({ key: 'leases/x', jobId: 'job-2' }, { signal }),
    (error: BackupError) => {
      assert.equal(error.code, 'lease_held');
      assert.equal(error.details.job_id, 'job-1');
      assert.equal(error.details.owner, 'a');
      return true;
    },
  );
});

test('a released lease can be taken at once', async () => {
  const { a, b, store } = setUp();
  const lease = await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await lease.release({ signal });
  assert.equal(store.objects.size, 0);
  await b.take({ key: 'leases/x', jobId: 'job-2' }, { signal });
});

test('a lease that is renewed in time stays, one that is not is taken over after the clocks may differ', async () => {
  const { a, b, clock } = setUp();
  const lease = await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await clock.advance(LEASE_MS - CLOCK_SKEW_MS - 1);
  assert.equal(lease.held(), true);
  await lease.renew({ signal });
  await clock.advance(LEASE_MS + CLOCK_SKEW_MS);
  await assert.rejects(b.take({ key: 'leases/x', jobId: 'job-2' }, { signal }), isHeld);
  assert.equal(lease.held(), false);
  await clock.advance(1);
  await b.take({ key: 'leases/x', jobId: 'job-2' }, { signal });
});

test('the former owner can neither renew nor release a lease that was taken over', async () => {
  const { a, b, clock } = setUp();
  const old = await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await clock.advance(LEASE_MS + CLOCK_SKEW_MS + 1);
  await b.take({ key: 'leases/x', jobId: 'job-2' }, { signal });
  await assert.rejects(old.renew({ signal }), (error) => isBackupError(error, 'lease_lost'));
  await old.release({ signal });
  assert.equal((await a.look('leases/x', { signal }))?.jobId, 'job-2');
});

test('of twenty that reach for an expired lease exactly one gets it', async () => {
  const { a, clock, store } = setUp();
  await a.take({ key: 'leases/x', jobId: 'job-0' }, { signal });
  await clock.advance(LEASE_MS + CLOCK_SKEW_MS + 1);
  const tries = Array.from({ length: 20 }, (_, i) =>
    createLeases({ store, clock, ids: systemIds }, { owner: `o${i}` }).take(
      { key: 'leases/x', jobId: `job-${i + 1}` },
      { signal },
    ),
  );
  const results = await Promise.allSettled(tries);
  assert.equal(results.filter((r) => r.status === 'fulfilled').length, 1);
  for (const r of results) if (r.status === 'rejected') assert.ok(isHeld(r.reason));
});

test('a renewal that was written but not answered does not lose the lease', async () => {
  const { a, store } = setUp();
  const lease = await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  const put = store.put;
  store.put = async (...args) => {
    await put(...args);
    throw new Error('answer lost');
  };
  await assert.rejects(lease.renew({ signal }), /answer lost/);
  store.put = put;
  await lease.renew({ signal });
  await lease.release({ signal });
  assert.equal(store.objects.size, 0);
});

test('a damaged lease is an error, never a free machine', async () => {
  const { a, store } = setUp();
  await store.put('leases/x', '{"half":', { signal });
  await assert.rejects(a.take({ key: 'leases/x', jobId: 'job-1' }, { signal }), (error) =>
    isBackupError(error, 'data_corrupt'),
  );
});

function isHeld(error: unknown): boolean {
  return isBackupError(error, 'lease_held');
}

test('the times of a lease fit each other however long it is', () => {
  for (const leaseMs of [3000, 30_000, LEASE_MS, 3_600_000]) {
    const { skewMs, renewEveryMs } = leaseTiming(leaseMs);
    assert.ok(2 * renewEveryMs < leaseMs - skewMs, 'two tries before the owner stops believing');
    assert.ok(skewMs <= CLOCK_SKEW_MS);
  }
  assert.deepEqual(leaseTiming(), { leaseMs: 90_000, skewMs: 15_000, renewEveryMs: 25_000 });
});

test('the expired lease of a job that has not ended is for that job alone', async () => {
  const { a, b, clock } = setUp();
  await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await clock.advance(LEASE_MS + CLOCK_SKEW_MS + 1);
  const ended = async (jobId: string) => jobId !== 'job-1';
  await assert.rejects(b.take({ key: 'leases/x', jobId: 'job-2', ended }, { signal }), isHeld);
  await b.take({ key: 'leases/x', jobId: 'job-1', ended }, { signal });
});

test('a parked lease is held by nobody, and still for its job alone as long as that has not ended', async () => {
  const { a, b } = setUp();
  const lease = await a.take({ key: 'leases/x', jobId: 'job-1' }, { signal });
  await lease.park({ signal });
  assert.equal(lease.held(), false);
  const holder = await b.look('leases/x', { signal });
  assert.equal(holder && isParked(holder), true);
  assert.equal(holder?.expired, true);
  const ended = async (jobId: string) => jobId !== 'job-1';
  await assert.rejects(b.take({ key: 'leases/x', jobId: 'job-2', ended }, { signal }), isHeld);
  const mine = await b.take({ key: 'leases/x', jobId: 'job-1', ended }, { signal });
  await assert.rejects(lease.park({ signal }), (error) => isBackupError(error, 'lease_lost'));
  assert.equal(mine.held(), true);
});
