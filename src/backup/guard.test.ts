import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextId, sampleBackup, VM_UUID } from '../../test/records.ts';
import { createMemoryStore, type MemoryStore } from '../../test/sim/memory-store.ts';
import { createBackupCatalog } from '../catalog/backups.ts';
import { DAY_MS } from '../catalog/forecast.ts';
import { readHoldings } from '../catalog/holdings.ts';
import { createKeys } from '../catalog/keys.ts';
import { createLeases } from '../catalog/lease.ts';
import { PIN_FILE, type Pin } from '../catalog/pin.ts';
import { type Backup, backupSchema } from '../catalog/record.ts';
import { createVerifications } from '../catalog/verifications.ts';
import { BackupError } from '../errors.ts';
import type { Clock, LifecycleRule, Log } from '../ports.ts';
import { DEFAULT_ROTATION } from '../settings-rotation.ts';
import { NEVER } from '../signals.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { createGuard, type Guard } from './guard.ts';
import { pinCopy } from './pin-copy.ts';
import { createPinService } from './pin-service.ts';

const HOUR_MS = 3_600_000;
const options = { signal: NEVER };
const keys = createKeys('xv');
const quiet = () => undefined;
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => log };
const rule = (over: Partial<LifecycleRule>): LifecycleRule => ({
  id: 'r',
  enabled: true,
  prefix: 'xv/',
  narrowed: false,
  ...over,
});
const dailyRule = (expirationDays: number) =>
  rule({ id: 'daily', prefix: 'xv/backups/daily/', expirationDays });

const LEASE_OVER_MS = 120_000;
const SEEDS = process.env.XVAULT_TEST_LONG === undefined ? 100 : 2000;
/** Of a day and a half at most: more than a month. */
const STEPS = 40;

/** Time passes in jumps, and nobody is woken: leases are not renewed meanwhile. */
interface JumpClock extends Clock {
  jump(ms: number): void;
}

function createJumpClock(): JumpClock {
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

interface World {
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

function setUp(marginDays = 3): World {
  const clock = createJumpClock();
  const store = createMemoryStore(clock);
  store.rules = [dailyRule(14)];
  const engine = (owner: string): Engine =>
    ({
      store,
      keys,
      clock,
      log,
      ids: { uuid: nextId },
      meter: { count: quiet, observe: quiet },
      catalog: createBackupCatalog({ store, keys, clock }, { ttlMs: 0 }),
      verifications: createVerifications({ store, keys, clock, log }, { ttlMs: 0 }),
      leases: createLeases({ store, clock, ids: { uuid: nextId } }, { owner }),
      rotation: { ...DEFAULT_ROTATION, lastGoodDays: marginDays },
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

const WHOLE = ['backup.json', 'blocks.idx', PIN_FILE, 'web.xva'];

/** A UUIDv7 of this instant. */
function idAt(ms: number, count: number): string {
  const time = ms.toString(16).padStart(12, '0');
  const tail = count.toString(16).padStart(15, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${tail.slice(0, 3)}-8${tail.slice(3, 6)}-${tail.slice(6).padStart(12, '0')}`;
}

test('what lasts longer than the margin is left alone, with the day it ends', async () => {
  const { backUp, look, pinned, store } = setUp();
  const backup = await backUp();
  const puts = store.calls.get('put');
  const entry = await look();
  assert.equal(entry.guard, 'safe');
  assert.equal(entry.expires_at, '2026-01-20T00:00:00.000Z');
  assert.equal(entry.rule, 'daily');
  assert.deepEqual(pinned(backup), []);
  assert.equal(store.calls.get('put'), puts, 'not even a lease is written');
});

test('the newest good one is renewed within the margin, and released when a newer one lasts', async () => {
  const { backUp, look, pinned, clock, engine } = setUp();
  const old = await backUp();
  clock.jump(12 * DAY_MS);
  const entry = await look();
  assert.equal(entry.guard, 'renewed');
  assert.equal(entry.expires_at, undefined);
  assert.ok((entry.renewed_bytes ?? 0) > 0);
  assert.deepEqual(pinned(old), WHOLE);
  assert.equal((await look()).renewed_bytes, undefined, 'once is enough');
  const { catalog } = engine('b');
  assert.equal((await catalog.entries({})).length, 1, 'original and copy are one backup');
  await backUp();
  const after = await look();
  assert.deepEqual([after.guard, after.released], ['safe', [old.id]]);
  assert.deepEqual(pinned(old), []);
});

test('once the original is gone its copy is the backup, with keys of its own', async () => {
  const { backUp, look, clock, store, engine } = setUp();
  const backup = await backUp();
  clock.jump(12 * DAY_MS);
  await look();
  applyRules({ store, clock, delay: () => 0, at: clock.now() + 5 * DAY_MS });
  const { catalog } = engine('b');
  const [entry] = await catalog.entries({ retention: 'daily' });
  assert.ok(entry, 'its class is still known');
  const found = await catalog.record(entry, options);
  assert.equal(found?.id, backup.id);
  for (const key of [found?.archive.key, found?.index_key]) assert.ok(store.objects.has(key ?? ''));
  const stored = await store.head(found?.archive.key ?? '', options);
  assert.equal(found?.archive.etag, stored?.etag);
});

test('what is damaged, half or unreadable is not the last good one', async () => {
  const { backUp, look, clock, store, engine, pinned } = setUp();
  const good = await backUp();
  const damaged = await backUp();
  await backUp({ whole: false });
  const unreadable = await backUp();
  const parts = { retention: 'daily', pool: 'dc1', vmUuid: VM_UUID, backupId: unreadable.id };
  await store.put(keys.record(parts), '{', options);
  await engine('a').verifications.keep(
    damaged.id,
    {
      at: formatTime(clock.now()),
      kind: 'whole',
      percent: 100,
      ok: false,
      read_bytes: 1,
      checked_blocks: 0,
      job_id: nextId(),
      problem: { part: 'archive', code: 'data_corrupt', detail: 'block 1 is wrong' },
    },
    options,
  );
  clock.jump(12 * DAY_MS);
  const entry = await look();
  assert.deepEqual([entry.guard, entry.backup_id], ['renewed', good.id]);
  assert.deepEqual(pinned(good), WHOLE);
});

test('pins of people are never touched, and one that ends soon is made a renewal', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const backup = await backUp();
  const place = { pool: 'dc1', vmUuid: VM_UUID, backupId: backup.id };
  const pin = (fields: object) =>
    store.put(
      keys.pinned(place, PIN_FILE),
      JSON.stringify({
        version: 1,
        kind: 'pinned',
        backup_id: backup.id,
        reason: 'audit',
        by: 'me',
        at: formatTime(clock.now()),
        ...fields,
      }),
      options,
    );
  clock.jump(12 * DAY_MS);
  await look();
  await pin({ until: formatTime(clock.now() + 10 * DAY_MS) });
  assert.equal((await look()).guard, 'pinned');
  clock.jump(8 * DAY_MS);
  const ending = await look();
  assert.deepEqual([ending.guard, ending.renewed_bytes], ['renewed', 0], 'only its mark is new');
  await pin({});
  await backUp();
  assert.equal((await look()).guard, 'safe');
  assert.deepEqual(pinned(backup), WHOLE, 'a newer one does not end a wish');
});

test('what was released by name is not renewed again, nor is anything older', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const older = await backUp({ retention: 'weekly' });
  const backup = await backUp();
  const place = { pool: 'dc1', vmUuid: VM_UUID, backupId: backup.id };
  const released = {
    version: 1,
    kind: 'released',
    backup_id: backup.id,
    reason: 'gone for good',
    by: 'me',
    at: formatTime(clock.now()),
  };
  await store.put(keys.pinned(place, PIN_FILE), JSON.stringify(released), options);
  store.rules = [dailyRule(14), rule({ prefix: 'xv/backups/weekly/', expirationDays: 20 })];
  clock.jump(13 * DAY_MS);
  assert.equal((await look()).guard, 'released');
  applyRules({ store, clock, delay: () => 0, at: clock.now() + 3 * DAY_MS });
  clock.jump(5 * DAY_MS);
  assert.equal((await look()).guard, 'released');
  assert.deepEqual(pinned(older), []);
  const next = await backUp();
  await look(next);
  assert.deepEqual(pinned(backup), [], 'the mark goes when there is a newer one');
});

test('before a rule moves it where nothing can be copied, it is renewed', async () => {
  const { backUp, look, clock, store } = setUp();
  await backUp();
  const transitions = [{ days: 5, storageClass: 'DEEP_ARCHIVE' }];
  store.rules = [{ ...dailyRule(60), transitions }];
  clock.jump(1 * DAY_MS);
  assert.equal((await look()).guard, 'safe');
  clock.jump(2 * DAY_MS);
  assert.equal((await look()).guard, 'renewed');
});

test('a rule over the whole bucket deletes copies, too: they are made young again', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const backup = await backUp();
  store.rules = [rule({ expirationDays: 10 })];
  for (let day = 0; day < 60; day++) {
    clock.jump(DAY_MS);
    await look();
    applyRules({ store, clock, delay: () => 0 });
    assert.ok(pinned(backup).length === 4 || day < 7, `day ${day}: ${pinned(backup)}`);
  }
});

test('a rule over the whole bucket shorter than the margin: copied when half of the time is over, not at every look', async () => {
  const { backUp, look, clock, store, pinned } = setUp(3);
  const backup = await backUp();
  store.rules = [rule({ expirationDays: 2 })];
  let copies = 0;
  for (let hours = 0; hours < 20 * 24; hours += 6) {
    if ((await look()).renewed_bytes !== undefined) copies += 1;
    clock.jump(6 * HOUR_MS);
    applyRules({ store, clock, delay: () => 0 });
    assert.equal(pinned(backup).length, 4, `hour ${hours}`);
  }
  assert.ok(copies <= 21, `${copies} copies in 20 days`);
});

test('an archive in a cold class cannot be copied: that is told with the mend', async () => {
  const { backUp, guard, look, clock, store } = setUp();
  await backUp();
  clock.jump(12 * DAY_MS);
  store.onCall = (operation) => {
    if (operation !== 'copy') return;
    const details = { base: 'archived' };
    throw new BackupError('precondition_failed', 'copy', { details });
  };
  const { error } = await look();
  assert.equal(error?.code, 'store_refused');
  assert.match(error?.detail ?? '', /class that cannot be read/);
  assert.equal(guard.failures.size, 1);
});

test('two instances at once renew once; a failure is told and mended by the next look', async () => {
  const { backUp, guard, look, clock, store, engine, pinned } = setUp();
  const backup = await backUp();
  clock.jump(12 * DAY_MS);
  store.onCall = (operation) => {
    if (operation === 'copy') throw new BackupError('store_credentials', 'copy: not allowed');
  };
  assert.deepEqual((await look()).error?.code, 'store_credentials');
  assert.equal(guard.failures.get(`dc1/${VM_UUID}`)?.code, 'store_credentials');
  assert.deepEqual(pinned(backup), [PIN_FILE], 'half a copy is known by its mark');
  delete store.onCall;
  const settings = { marginMs: 3 * DAY_MS, retentionDays: {} };
  const other = createGuard(engine('b'), settings);
  const place = { pool: 'dc1', vmUuid: VM_UUID };
  const both = await Promise.all([look(), other.look(place, options)]);
  assert.deepEqual(pinned(backup), WHOLE);
  assert.equal(both.filter(({ renewed_bytes: bytes }) => bytes !== undefined).length, 1);
  assert.equal(guard.failures.size, 0);
});

test('looking dry changes nothing and tells what would be done, machines that are gone included', async () => {
  const { backUp, guard, clock, store } = setUp();
  await backUp();
  await backUp({ vmUuid: '00000000-0000-4000-8000-000000000002' });
  clock.jump(12 * DAY_MS);
  const before = [...store.objects.keys()];
  const report = await guard.all({ dryRun: true }, options);
  assert.deepEqual([...store.objects.keys()], before);
  assert.equal(report.counts.due, 2);
  assert.ok(report.vms.every((entry) => entry.would_renew));
  assert.equal((await guard.all({ dryRun: false }, options)).counts.renewed, 2);
});

// ------------------------------------------------------------------------------------------------ the property

/**
 * The bucket's rules at work on everything there is: by the midnight after, or, with `delay`, later, each object for itself;
 * `eager` acts as soon as the days are over.
 */
function applyRules(input: {
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

/** A small generator with a seed: mulberry32. */
function createDraw(seed: number) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    chance: (part: number) => next() < part,
    upTo: (limit: number) => Math.floor(next() * limit),
    of: <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T,
  };
}

function drawRules(draw: ReturnType<typeof createDraw>, nowMs: number): LifecycleRule[] {
  const rules = [dailyRule(1 + draw.upTo(14))];
  if (draw.chance(0.7)) {
    rules.push(rule({ prefix: 'xv/backups/weekly/', expirationDays: 2 + draw.upTo(30) }));
  }
  if (draw.chance(0.2)) {
    rules.push(
      rule({ narrowed: true, prefix: 'xv/backups/', largerThanBytes: 100, expirationDays: 4 }),
    );
  }
  if (draw.chance(0.15)) rules.push(rule({ expirationDays: 2 + draw.upTo(12) }));
  if (draw.chance(0.1)) {
    const expirationDate = nowMs + (5 + draw.upTo(20)) * DAY_MS;
    rules.push(rule({ prefix: 'xv/backups/', expirationDate }));
  }
  return rules;
}

/** Backups that can be restored, found without the code under test. */
function restorable(store: MemoryStore, vmUuid: string): string[] {
  const ids: string[] = [];
  for (const [key, { bytes }] of store.objects) {
    if (!key.endsWith('/backup.json') || !key.includes(vmUuid)) continue;
    const { id } = backupSchema.parse(JSON.parse(bytes.toString('utf8')));
    const archive = store.objects.get(key.replace('backup.json', 'web.xva'));
    if (archive?.bytes.toString() === `archive of ${id}`) ids.push(id);
  }
  return ids;
}

/** Somebody pins a backup, for ever or for days, or takes a pin away. True when the machine's last good one was given up. */
async function pinOrUnpin(
  world: World,
  { draw, vmUuid }: { draw: ReturnType<typeof createDraw>; vmUuid: string },
): Promise<boolean> {
  const { store, clock, guard } = world;
  const engine = world.engine('a');
  const ids = restorable(store, vmUuid);
  if (ids.length === 0) return false;
  const backupId = draw.of(ids);
  if (draw.chance(0.5)) {
    const retentionDays = { daily: 14 };
    const runner = { begin: () => assert.fail('unpinning is no job') };
    const service = createPinService(engine, { runner, guard, retentionDays });
    // rules that are late may act between any two requests
    store.onCall = (operation) => {
      if (operation === 'copy') applyRules({ store, clock, delay: () => 0 });
    };
    const outcome = await service.unpin({ backupId, by: 'anna' }, options);
    delete store.onCall;
    return outcome === 'released';
  }
  const [machine = []] = (await readHoldings(engine, { pool: 'dc1', vmUuid }, options)).values();
  const holding = machine.find((one) => one.backupId === backupId);
  assert.ok(holding);
  const until = formatTime(clock.now() + (1 + draw.upTo(9)) * DAY_MS);
  const pin: Pin = {
    version: 1,
    kind: 'pinned',
    backup_id: backupId,
    reason: 'audit',
    ...(draw.chance(0.5) ? { until } : {}),
    by: 'anna',
    at: formatTime(clock.now()),
  };
  await pinCopy({ holding, pin }, engine, options);
  return false;
}

/** What lies out of rotation because nobody but the guard wants it there. */
function renewedOf({ objects }: MemoryStore, vmUuid: string): string[] {
  return [...objects].flatMap(([key, { bytes }]) => {
    if (!key.startsWith(keys.pinnedVmPrefix('dc1', vmUuid)) || !key.endsWith(PIN_FILE)) return [];
    return JSON.parse(bytes.toString('utf8')).kind === 'renewed' ? [key] : [];
  });
}

async function playMonths(seed: number): Promise<void> {
  const draw = createDraw(seed);
  const marginDays = 1 + draw.upTo(4);
  const world = setUp(marginDays);
  const { clock, store, guard, engine } = world;
  const other = createGuard(engine('b'), { marginMs: marginDays * DAY_MS, retentionDays: {} });
  const vms = ['a', 'b', 'c'].slice(0, 1 + draw.upTo(3)).map((c) => VM_UUID.replace(/.$/, c));
  const eager = draw.chance(0.3);
  store.rules = drawRules(draw, clock.now());
  const everGood = new Set<string>();
  let guardedAt = clock.now();
  const guardAll = async () => {
    clock.jump(LEASE_OVER_MS); // a process that died half-way holds a lease
    const report = await (draw.chance(0.5) ? guard : other).all({ dryRun: false }, options);
    assert.equal(report.counts.failed, 0, JSON.stringify(report));
    guardedAt = clock.now();
  };
  for (let step = 0; step < STEPS; step++) {
    // once per margin, or as long as the shortest class keeps anything
    const days = store.rules.map(({ prefix, expirationDays = marginDays }) =>
      // of copies that are deleted, too, half their time
      prefix === 'xv/' ? expirationDays / 2 : expirationDays,
    );
    const everyMs = Math.min(marginDays, ...days) * DAY_MS;
    const stepMs = Math.min((1 + draw.upTo(36)) * HOUR_MS, everyMs - HOUR_MS);
    if (clock.now() + LEASE_OVER_MS + stepMs >= guardedAt + everyMs) await guardAll();
    clock.jump(stepMs);
    applyRules({ store, clock, eager, delay: () => draw.upTo(3) * 12 * HOUR_MS });
    if (draw.chance(0.05)) {
      // rules made shorter act at the next midnight: whoever changes them looks at once
      store.rules = drawRules(draw, clock.now());
      await guardAll();
    }
    if (draw.chance(0.2)) await guardAll();
    for (const vmUuid of vms) {
      if (draw.chance(0.05) && (await pinOrUnpin(world, { draw, vmUuid }))) everGood.delete(vmUuid);
      if (!draw.chance(0.3)) continue;
      const retention = draw.of(['daily', 'daily', 'weekly']);
      const whole = draw.chance(0.7);
      await world.backUp({ vmUuid, retention, whole });
      if (whole) everGood.add(vmUuid);
      // its job ends, and with it comes a look, unless the process dies, before or half-way; a date that is over deletes
      // whatever is stored, at once: there is nobody to lose a moment
      const mayDie = store.rules.every(({ expirationDate }) => expirationDate === undefined);
      if (mayDie && draw.chance(0.2)) continue;
      let calls = mayDie && draw.chance(0.3) ? draw.upTo(25) : Infinity;
      store.onCall = () => {
        if (--calls < 0) throw new BackupError('store_unavailable', 'reach the bucket');
      };
      await guard.look({ pool: 'dc1', vmUuid }, options);
      delete store.onCall;
    }
    for (const vmUuid of everGood) {
      assert.notDeepEqual(restorable(store, vmUuid), [], `seed ${seed} step ${step} vm ${vmUuid}`);
    }
  }
  await guardAll();
  for (const vmUuid of vms) {
    const kept = renewedOf(store, vmUuid);
    assert.ok(kept.length <= 1, `seed ${seed}: only the last good one is kept, ${kept}`);
  }
}

test('whatever succeeds or fails, whatever the rules: who ever had a good backup keeps one', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await playMonths(seed);
});
