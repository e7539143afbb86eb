import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VM_UUID } from '../../test/records.ts';
import type { LifecycleRule, ObjectFacts } from '../ports.ts';
import { DEFAULT_PRICES } from '../prices.ts';
import { parseTime } from '../time.ts';
import { DAY_MS } from './forecast.ts';
import { type ForecastInput, forecastDays } from './forecast-days.ts';
import type { HeldCopy, Holding } from './holdings.ts';

const NOW = parseTime('2026-01-20T12:00:00Z');
const GIB = 1024 ** 3;

function copy(folder: string, agoDays: number, more: Partial<ObjectFacts> = {}): HeldCopy {
  const object = (name: string, sizeBytes: number): ObjectFacts => ({
    key: `xv/${folder}/${name}`,
    sizeBytes,
    etag: 'e',
    lastModified: NOW - agoDays * DAY_MS,
    ...more,
  });
  return { archive: object('web.xva', 10 * GIB), record: object('backup.json', 2000) };
}

function daily(agoDays: number, over: Partial<Holding> = {}): Holding {
  const backupId = `b${String(100 - agoDays).padStart(3, '0')}`;
  const original = copy('backups/daily', agoDays);
  const place = { pool: 'dc1', vmUuid: VM_UUID, backupId };
  return { ...place, retention: 'daily', original, pinned: {}, ...over };
}

const rule: LifecycleRule = {
  id: 'daily',
  enabled: true,
  prefix: 'xv/backups/daily/',
  narrowed: false,
  expirationDays: 14,
};

function forecast(over: Partial<ForecastInput>) {
  const base = { machines: [], rules: [rule], nowMs: NOW, days: 3, prices: DEFAULT_PRICES };
  return forecastDays({ ...base, ...over });
}

test('backups are there until the midnight their rule deletes them, day by day and class by class', () => {
  const machines = [[daily(1), daily(12), daily(13)]];
  const { days, vms } = forecast({ machines });
  assert.deepEqual(
    days.map(({ date, backups }) => [date, backups]),
    [
      ['2026-01-20', 3],
      ['2026-01-21', 3],
      ['2026-01-22', 2],
      ['2026-01-23', 1],
    ],
  );
  assert.equal(days[3]?.classes.daily?.stored_bytes, 10 * GIB + 2000);
  assert.deepEqual(
    vms[0]?.stored_bytes_by_day,
    days.map(({ stored_bytes: bytes }) => bytes),
  );
  assert.deepEqual(
    vms[0]?.deletions.map(({ backup_id: id, expires_at: at }) => [id, at.slice(0, 10)]),
    [
      ['b087', '2026-01-22'],
      ['b088', '2026-01-23'],
    ],
  );
});

test('a day costs what its bytes cost in their classes, by the table; without prices there is no cost', () => {
  const moving = { ...rule, transitions: [{ days: 2, storageClass: 'GLACIER_IR' }] };
  const { days } = forecast({ machines: [[daily(1)]], rules: [moving] });
  const cost = (perMonth: number) => Math.round(((10 * perMonth) / 30) * 1e4) / 1e4;
  assert.deepEqual(
    days.map((day) => day.cost),
    [cost(0.023), cost(0.023), cost(0.004), cost(0.004)],
  );
  const { stored_per_gb_month: _, ...prices } = DEFAULT_PRICES;
  const [today] = forecast({ machines: [[daily(1)]], prices }).days;
  assert.deepEqual(
    [today?.cost, today?.classes.daily?.cost, today?.expected_cost],
    [undefined, undefined, undefined],
  );
});

test('what is expected goes on as in the last two weeks, each as long as its rule lets it', () => {
  const machines = [Array.from({ length: 14 }, (_, i) => daily(i))];
  const { days } = forecast({ machines, days: 30 });
  const one = 10 * GIB + 2000;
  assert.equal(days[30]?.stored_bytes, 0);
  const inBalance = (days[30]?.expected_bytes ?? 0) / one;
  assert.ok(Math.abs(inBalance - 14.5) < 0.1, `one a day, 14 days and a half each: ${inBalance}`);
  const stopped = [[daily(20)]];
  assert.equal(forecast({ machines: stopped, rules: [] }).days[3]?.expected_bytes, one);
});

test('a copy out of rotation is a class of its own and counts once as a backup', () => {
  const machines = [[daily(13, { pinned: copy('pinned', 1) })]];
  const { days } = forecast({ machines });
  assert.equal(days[0]?.backups, 1);
  assert.equal(days[0]?.classes.pinned?.backups, 1);
  assert.equal(days[3]?.classes.daily, undefined);
  assert.equal(days[3]?.stored_bytes, 10 * GIB + 2000);
});

test('locked objects are paid for until their lock ends, though they are no backups any more', () => {
  const { days } = forecast({ machines: [[daily(14)]], lockDays: { daily: 16 } });
  assert.deepEqual(
    days.map(({ backups, stored_bytes: bytes }) => [backups, bytes > 0]),
    [
      [1, true],
      [0, true],
      [0, true],
      [0, false],
    ],
  );
});

test('what versioned buckets hide and locks keep counts in what is expected, too', () => {
  const machines = [Array.from({ length: 14 }, (_, i) => daily(i))];
  const one = 10 * GIB + 2000;
  const versioned = forecast({ machines, days: 30, versioned: true }).days[30];
  assert.equal(versioned?.stored_bytes, 14 * one, 'no rule frees a hidden version');
  assert.equal(versioned?.backups, 0);
  assert.equal(versioned?.expected_bytes, (14 + 30) * one);
  const locked = forecast({ machines, days: 30, lockDays: { daily: 30 } }).days[30];
  const byBucket = forecast({ machines, days: 30, bucketLockDays: 30 }).days[30];
  assert.equal(locked?.stored_bytes, one, 'of the youngest the lock holds still');
  assert.equal(locked?.expected_bytes, (1 + 30) * one);
  assert.deepEqual(byBucket, locked);
});

test('the last backup of a machine that is backed up no more is expected to stay', () => {
  const machines = [[daily(13), daily(14)]];
  const one = 10 * GIB + 2000;
  const expected = (over: Partial<ForecastInput>) =>
    forecast({
      nowMs: NOW + 15 * DAY_MS,
      machines,
      rules: [{ ...rule, expirationDays: 29 }],
      ...over,
    });
  assert.deepEqual(
    expected({ keepsLast: true }).days.map((day) => [day.stored_bytes, day.expected_bytes]),
    [
      [2 * one, 2 * one],
      [one, one],
      [0, one],
      [0, one],
    ],
  );
  assert.equal(expected({}).days[3]?.expected_bytes, 0);
});
