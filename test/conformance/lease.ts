/**
 * What a lease must hold on any store with conditional writes: one winner, renewal, take-over, fencing of the former owner.
 *
 * Time is moved by the clock the leases are given; the store keeps its own.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { CLOCK_SKEW_MS, createLeases, LEASE_MS } from '../../src/catalog/lease.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { isBackupError } from '../../src/errors.ts';
import type { Clock, ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';

const options = { signal: NEVER };
const RACERS = 20;
const ROUNDS = 3;

export type GetStore = () => ObjectStore | { skipped: string };

/** Registers the suite under `name`. */
export function testLeases(name: string, get: GetStore): void {
  const check = (what: string, work: (world: LeaseWorld) => Promise<void>) =>
    test(`${name}: ${what}`, async (t: TestContext) => {
      const store = get();
      if ('skipped' in store) return t.skip(store.skipped);
      await work(createWorld(store));
    });

  check('of many that reach for a free machine exactly one gets it', async ({ race }) => {
    for (let round = 0; round < ROUNDS; round++)
      await race(`xv/lease-suite/free-${systemIds.uuid()}`);
  });

  check('of many that reach for an expired lease exactly one gets it', async (world) => {
    for (let round = 0; round < ROUNDS; round++) {
      const key = `xv/lease-suite/expired-${systemIds.uuid()}`;
      await world.of('dead').take({ key, jobId: 'job-0' }, options);
      world.advance(LEASE_MS + CLOCK_SKEW_MS + 1);
      await world.race(key);
    }
  });

  check(
    'renewing keeps it, and the former owner can neither renew nor release it',
    async (world) => {
      const key = `xv/lease-suite/kept-${systemIds.uuid()}`;
      const old = await world.of('a').take({ key, jobId: 'job-1' }, options);
      world.advance(LEASE_MS - 1000);
      await old.renew(options);
      world.advance(LEASE_MS - 1000);
      await assert.rejects(world.of('b').take({ key, jobId: 'job-2' }, options), isHeld);
      world.advance(1000 + CLOCK_SKEW_MS + 1);
      const taken = await world.of('b').take({ key, jobId: 'job-2' }, options);
      await assert.rejects(old.renew(options), (error) => isBackupError(error, 'lease_lost'));
      await old.release(options);
      assert.equal((await world.of('c').look(key, options))?.jobId, 'job-2');
      await taken.release(options);
      assert.equal(await world.of('c').look(key, options), undefined);
    },
  );
}

interface LeaseWorld {
  of(owner: string): ReturnType<typeof createLeases>;
  advance(ms: number): void;
  race(key: string): Promise<void>;
}

function createWorld(store: ObjectStore): LeaseWorld {
  let aheadMs = 0;
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const of = (owner: string) => createLeases({ store, clock, ids: systemIds }, { owner });
  return {
    of,
    advance: (ms) => {
      aheadMs += ms;
    },
    race: async (key) => {
      const tries = Array.from({ length: RACERS }, (_, i) =>
        of(`racer-${i}`).take({ key, jobId: `job-${i + 1}` }, options),
      );
      const results = await Promise.allSettled(tries);
      const losers = results.filter((r) => r.status === 'rejected');
      assert.equal(losers.length, RACERS - 1, 'one winner');
      for (const { reason } of losers) assert.ok(isHeld(reason), String(reason));
    },
  };
}

function isHeld(error: unknown): boolean {
  return isBackupError(error, 'lease_held');
}
