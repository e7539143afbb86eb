/**
 * What the tests of the guard stand on: a bucket in memory with rules that act, a clock that jumps over weeks, and backups that
 * are stored as a job does.
 */
import type { Engine } from '../../src/backup/context.ts';
import { createGuard, type Guard } from '../../src/backup/guard.ts';
import { createBackupCatalog } from '../../src/catalog/backups.ts';
import { DAY_MS } from '../../src/catalog/forecast.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { createLeases } from '../../src/catalog/lease.ts';
import { PIN_FILE } from '../../src/catalog/pin.ts';
import type { Backup } from '../../src/catalog/record.ts';
import { createVerifications } from '../../src/catalog/verifications.ts';
import { SILENT_LOG } from '../../src/log.ts';
import type { Clock, LifecycleRule } from '../../src/ports.ts';
import { DEFAULT_ROTATION } from '../../src/settings-rotation.ts';
import { NEVER } from '../../src/signals.ts';
import { formatTime, parseTime } from '../../src/time.ts';
import { NO_TRACER } from '../../src/tracer.ts';
import { nextId, sampleBackup, VM_UUID } from '../records.ts';
import { createMemoryStore, type MemoryStore } from '../sim/memory-store.ts';

export const HOUR_MS = 3_600_000;
export const options = { signal: NEVER };
export const keys = createKeys('xv');
const ignore = () => undefined;
/** A rule over everything, that does nothing. */
export const rule = (over: Partial<LifecycleRule>): LifecycleRule => ({
  id: 'r',
  enabled: true,
  prefix: 'xv/',
  narrowed: false,
  ...over,
});
/** What is in the class `daily` goes after so many days. */
export const dailyRule = (expirationDays: number) =>
  rule({ id: 'daily', prefix: 'xv/backups/daily/', expirationDays });

/** After so long a lease that nobody renewed may be taken. */
export const LEASE_OVER_MS = 120_000;

/** Time passes in jumps, and nobody is woken: leases are not renewed meanwhile. */
export interface JumpClock extends Clock {
  jump(ms: number): void;
}

/** Stands still until it jumps. */
export function createJumpClock(): JumpClock {
  const startMs = parseTime('2026-01-05T01:00:00Z');
  let now = startMs;
  return {
    now: () => now,
    elapsed: () => now - startMs,
    sleep: (_ms, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.throwIfAborted();
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      }),
    jump: (ms) => {
      now += ms;
    },
  };
}

export interface World {
  clock: JumpClock;
  store: MemoryStore;
  engine(owner: string): Engine;
  guard: Guard;
  /** Stores a backup as a job does; `whole: false` leaves its record out. */
  backUp(over?: { vmUuid?: string; retention?: string; whole?: boolean }): Promise<Backup>;
  /** Names of all files below `pinned/`, by backup. */
  pinned(backup: Backup): string[];
  look(backup?: Backup): ReturnType<Guard['look']>;
}

/** An empty bucket with a rule of 14 days for `daily`, and a guard that keeps a last good backup for `marginDays`. */
export function setUp(marginDays = 3): World {
  const clock = createJumpClock();
  const store = createMemoryStore(clock);
  store.rules = [dailyRule(14)];
  const engine = (owner: string): Engine =>
    ({
      store,
      keys,
      clock,
      log: SILENT_LOG,
      ids: { uuid: nextId },
      meter: { count: ignore, observe: ignore },
      catalog: createBackupCatalog({ store, keys, clock }, { ttlMs: 0 }),
      verifications: createVerifications({ store, keys, clock, log: SILENT_LOG }, { ttlMs: 0 }),
      leases: createLeases({ store, clock, ids: { uuid: nextId } }, { owner }),
      rotation: { ...DEFAULT_ROTATION, lastGoodDays: marginDays },
      tracer: NO_TRACER,
    }) satisfies Partial<Engine> as unknown as Engine;
  const settings = { marginMs: marginDays * DAY_MS, retentionDays: { daily: 14 } };
  const guard = createGuard(engine('a'), settings);
  const { catalog } = engine('a');
  let made = 0;
  return {
    clock,
    store,
    engine,
    guard,
    backUp: async ({ vmUuid = VM_UUID, retention = 'daily', whole = true } = {}) => {
      const vm = { uuid: vmUuid, name: 'web', pool: 'dc1' };
      // ids go by the instant, as those of jobs do
      const id = idAt(clock.now(), ++made);
      const parts = { retention, pool: 'dc1', vmUuid, backupId: id };
      const bytes = `archive of ${id}`;
      const key = keys.archive(parts, 'web');
      const { etag } = await store.put(key, bytes, options);
      await store.put(keys.index(parts), `index of ${id}`, options);
      const archive = { key, size_bytes: bytes.length, etag, content_digest: '0' };
      const created_at = formatTime(clock.now());
      const backup = sampleBackup({ id, vm, retention, archive, created_at });
      if (whole) await catalog.publish({ ...backup, index_key: keys.index(parts) }, options);
      return backup;
    },
    pinned: ({ vm, id }) => {
      const prefix = keys.pinned({ pool: vm.pool, vmUuid: vm.uuid, backupId: id }, '');
      const found = [...store.objects.keys()].filter((key) => key.startsWith(prefix));
      return found.map((key) => key.slice(prefix.length)).sort();
    },
    look: (backup) => guard.look({ pool: 'dc1', vmUuid: backup?.vm.uuid ?? VM_UUID }, options),
  };
}

/** The files of a whole copy. */
export const WHOLE = ['backup.json', 'blocks.idx', PIN_FILE, 'web.xva'];

/** A UUIDv7 of this instant. */
export function idAt(ms: number, count: number): string {
  const time = ms.toString(16).padStart(12, '0');
  const tail = count.toString(16).padStart(15, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${tail.slice(0, 3)}-8${tail.slice(3, 6)}-${tail.slice(6).padStart(12, '0')}`;
}

/**
 * The bucket's rules at work on everything there is: by the midnight after, or, with `delay`, later, each object for itself;
 * `eager` acts as soon as the days are over.
 */
export function applyRules(input: {
  store: MemoryStore;
  clock: JumpClock;
  at?: number;
  eager?: boolean;
  delay(): number;
}): void {
  const { store, clock, at = clock.now(), eager = false, delay } = input;
  const objects = store.objects as Map<string, { bytes: Buffer; lastModified: number }>;
  for (const [key, { bytes, lastModified }] of [...objects]) {
    const isDue = (store.rules ?? []).some((one) => {
      const { largerThanBytes: least = -1, expirationDays: days, expirationDate: date } = one;
      if (!one.enabled || !key.startsWith(one.prefix) || bytes.length <= least) return false;
      if (date !== undefined && at >= date) return true;
      if (days === undefined) return false;
      const due = lastModified + days * DAY_MS;
      const acts = eager ? due : Math.ceil(due / DAY_MS) * DAY_MS;
      return at >= acts + delay();
    });
    if (isDue) objects.delete(key);
  }
}
