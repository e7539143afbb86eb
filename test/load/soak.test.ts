/**
 * Thirty simulated hours of one process: backups that end well, fail and are cancelled, watchers that stay and leave,
 * polls and sweeps. Afterwards nothing is held that was not held in the second hour: timers, listeners, sockets, heap.
 *
 * The short form runs 6 machines an hour, the long one (XVAULT_TEST_LONG=1, `npm run test:long -- test/load`) 200, so that
 * every cache is full long before the end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupError } from '../../src/errors.ts';
import { NEVER } from '../../src/signals.ts';
import { createFleet, type Fleet, keys } from './fleet.ts';
import { type Held, holding, NOISE_BYTES } from './holding.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const HOURS = 30;
const MACHINES = LONG ? 200 : 6;
const HOUR_MS = 3_600_000;
const STEP_MS = 30_000;
/** A record of a job in the cache of those polled last (2,000 of them) takes so much. */
const CACHED_BYTES = 12 * 1024;
const CACHED_JOBS = 2000;
/** The same of a backup's record (5,000 of them). */
const CACHED_RECORD_BYTES = 2 * 1024;
const CACHED_RECORDS = 5000;

/** The bucket's rules: only what is newest stays. */
function expire({ store }: Fleet): void {
  const objects = store.objects as Map<string, unknown>;
  const old = (prefix: string) =>
    [...objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  for (const key of old(keys.jobsPrefix).slice(0, -MACHINES)) objects.delete(key);
  for (const prefix of [keys.backupsPrefix, 'xv/idempotency/']) {
    for (const key of old(prefix)) objects.delete(key);
  }
}

/** One hour: all machines, with every kind of end; what goes on beside it. */
async function hour(fleet: Fleet, number: number): Promise<Record<string, number>> {
  const { service, clock, pool } = fleet;
  let opened = 0;
  pool.onCall = (operation) => {
    if (operation !== 'openExport' || ++opened % 5 !== 0) return;
    throw new BackupError('source_failed', 'export machine: it ends early');
  };
  const ids: string[] = [];
  for (const { name } of fleet.vms) {
    const answer = await fleet.call('POST', `/v1/vms/${name}/backups`, {});
    assert.equal(answer.status, 202, await answer.clone().text());
    ids.push(((await answer.json()) as { id: string }).id);
  }
  const leaving = new AbortController();
  const watching = ids.slice(0, 4).map(async (id, at) => {
    // two stay to the end, two hang up
    const signal = at < 2 ? NEVER : leaving.signal;
    for await (const _ of service.watchJob(id, { signal }));
  });
  const waiting = ids
    .slice(-4)
    .map((id, at) =>
      service.waitJob(id, { timeoutMs: 55_000 }, { signal: at < 2 ? NEVER : leaving.signal }),
    );
  const ends = Promise.allSettled([...watching, ...waiting]);
  for (let spent = 0; spent < HOUR_MS; spent += STEP_MS) {
    await clock.advance(STEP_MS);
    if (spent === 0) {
      leaving.abort(new Error('hung up'));
      await service.cancelJob(ids[number % ids.length] ?? '', { signal: NEVER });
    }
    if (spent % 300_000 === 0) {
      for (const path of ['/v1/status', '/v1/jobs', '/v1/vms', '/metrics', '/readyz', '/']) {
        await (await fleet.call('GET', path)).arrayBuffer();
      }
    }
  }
  await ends;
  pool.calls.length = 0;
  assert.equal(service.running + service.waiting, 0, 'an hour is enough');
  const states: Record<string, number> = {};
  for (const id of ids) {
    const job = await service.getJob(id, { signal: NEVER });
    states[job?.status ?? 'lost'] = (states[job?.status ?? 'lost'] ?? 0) + 1;
  }
  expire(fleet);
  return states;
}

test(`${HOURS} hours of ${MACHINES} machines each hold no more at their end than after the second`, async (t) => {
  let turn = 0;
  const fleet = await createFleet({
    machines: MACHINES,
    exportMs: () => 15_000 + (turn++ % 4) * 15_000,
  });
  await fleet.service.start();
  let early: Held | undefined;
  let saturated: Held | undefined;
  const total: Record<string, number> = {};
  // the hour by which the caches of jobs are full, or the middle
  const fullAt = Math.min(HOURS / 2, Math.ceil(CACHED_JOBS / MACHINES) + 1);
  for (let number = 1; number <= HOURS; number++) {
    const states = await hour(fleet, number);
    for (const [state, count] of Object.entries(states)) total[state] = (total[state] ?? 0) + count;
    if (number === 2) early = await holding({ sleepers: fleet.clock.sleepers });
    if (number === fullAt) saturated = await holding({ sleepers: fleet.clock.sleepers });
  }
  const late = await holding({ sleepers: fleet.clock.sleepers });
  const { heapBytes: _, ...before } = early as Held;
  const { heapBytes, ...after } = late;
  assert.deepEqual(after, before);
  const grown = heapBytes - (saturated?.heapBytes ?? 0);
  const cached = (limit: number) =>
    Math.max(0, Math.min(limit, HOURS * MACHINES) - fullAt * MACHINES);
  const allowed =
    NOISE_BYTES + cached(CACHED_JOBS) * CACHED_BYTES + cached(CACHED_RECORDS) * CACHED_RECORD_BYTES;
  assert.ok(grown < allowed, `${grown} bytes more in ${HOURS - fullAt} hours, ${allowed} allowed`);
  assert.equal(total.lost, undefined);
  for (const state of ['succeeded', 'failed', 'cancelled'])
    assert.ok((total[state] ?? 0) > 0, state);
  assert.deepEqual(fleet.pool.snapshots, []);
  assert.equal(fleet.store.uploads.size, 0);
  const leases = [...fleet.store.objects.keys()].filter((key) => key.startsWith(keys.leasesPrefix));
  assert.deepEqual(leases, []);
  t.diagnostic(`${JSON.stringify(total)}, heap ${(grown / 1024).toFixed(0)} KiB more`);
  await fleet.service.drain({ drainMs: 0 });
  assert.equal(fleet.clock.sleepers, 0, 'a drained service waits for nothing');
});
