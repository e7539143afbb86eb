/** Months of backups, failures, changed rules, pins and crashes: whoever ever had a good backup keeps one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  applyRules,
  dailyRule,
  HOUR_MS,
  keys,
  LEASE_OVER_MS,
  options,
  rule,
  setUp,
  type World,
} from '../../test/backup/guard-world.ts';
import { VM_UUID } from '../../test/records.ts';
import type { MemoryStore } from '../../test/sim/memory-store.ts';
import { DAY_MS } from '../catalog/forecast.ts';
import { readHoldings } from '../catalog/holdings.ts';
import { PIN_FILE, type Pin } from '../catalog/pin.ts';
import { backupSchema } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { LifecycleRule } from '../ports.ts';
import { formatTime } from '../time.ts';
import { createGuard } from './guard.ts';
import { pinCopy } from './pin-copy.ts';
import { createPinService } from './pin-service.ts';

const SEEDS = process.env.XVAULT_TEST_LONG === undefined ? 100 : 2000;
/** Of a day and a half at most: more than a month. */
const STEPS = 40;

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
