/** Grandfather, father, son: which class a backup gets by the calendar. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../test/crash/random.ts';
import { parseTime } from '../time.ts';
import { CALENDAR_CLASSES, chooseClass, createCalendar, type ListedClass } from './classes.ts';

const DAY_MS = 86_400_000;
const at = parseTime;
const ALL = [...CALENDAR_CLASSES];

function chosen(
  listed: ListedClass[],
  time: string,
  over: { timeZone?: string; classes?: string[] } = {},
) {
  const input = { listed, createdAtMs: at(time), timeZone: 'UTC', classes: ALL, ...over };
  return chooseClass(input)?.retention;
}

test('the weeks are those of ISO 8601, the days those of the time zone', () => {
  const weeks: [string, string][] = [
    ['2020-12-31T12:00:00Z', '2020-W53'],
    ['2021-01-03T12:00:00Z', '2020-W53'],
    ['2021-01-04T12:00:00Z', '2021-W01'],
    ['2024-12-29T12:00:00Z', '2024-W52'],
    ['2024-12-30T12:00:00Z', '2025-W01'],
    ['2026-11-23T12:00:00Z', '2026-W48'],
    ['2027-01-01T12:00:00Z', '2026-W53'],
    ['2028-02-29T12:00:00Z', '2028-W09'],
    ['2100-03-01T12:00:00Z', '2100-W09'],
  ];
  for (const [time, week] of weeks) assert.equal(createCalendar('UTC')(at(time)).weekly, week);
  const night = at('2026-10-31T23:30:00Z');
  assert.deepEqual(createCalendar('UTC')(night), {
    yearly: '2026',
    monthly: '2026-10',
    weekly: '2026-W44',
    daily: '2026-10-31',
  });
  assert.equal(createCalendar('Europe/Berlin')(night).monthly, '2026-11');
  assert.equal(createCalendar('America/New_York')(at('2026-01-01T04:30:00Z')).yearly, '2025');
});

test('the first good backup of a year, month and week stands for it', () => {
  const listed: ListedClass[] = [];
  const take = (time: string) => {
    const retention = chosen(listed, time) ?? '';
    listed.push({ retention, createdAtMs: at(time) });
    return retention;
  };
  // Wednesday: the first backup ever
  assert.equal(take('2026-11-25T02:00:00Z'), 'yearly');
  assert.equal(take('2026-11-26T02:00:00Z'), 'daily');
  // Monday
  assert.equal(take('2026-11-30T02:00:00Z'), 'weekly');
  assert.equal(take('2026-12-01T02:00:00Z'), 'monthly');
  assert.equal(take('2026-12-02T02:00:00Z'), 'daily');
  // the night of the 7th failed: Tuesday stands for the week
  assert.equal(take('2026-12-08T02:00:00Z'), 'weekly');
  assert.equal(take('2027-01-01T02:00:00Z'), 'yearly');
  assert.equal(take('2027-01-02T02:00:00Z'), 'daily');
});

test('what was asked for by name stands for its period, and what is gone does not', () => {
  const day = (retention: string, time: string) => ({ retention, createdAtMs: at(time) });
  const monthly = day('monthly', '2026-11-05T02:00:00Z');
  const yearly = day('yearly', '2026-03-01T02:00:00Z');
  const weekly = day('weekly', '2026-11-23T02:00:00Z');
  assert.equal(chosen([monthly, yearly, weekly], '2026-11-24T02:00:00Z'), 'daily');
  assert.equal(chosen([yearly, weekly], '2026-11-24T02:00:00Z'), 'monthly');
  assert.equal(chosen([monthly, weekly], '2026-11-24T02:00:00Z'), 'yearly');
  assert.equal(chosen([monthly, yearly], '2026-11-24T02:00:00Z'), 'weekly');
  const own = day('before-upgrade', '2026-11-24T01:00:00Z');
  assert.equal(chosen([monthly, yearly, own], '2026-11-24T02:00:00Z'), 'weekly');
});

test('classes that the settings do not name are passed over; without any there is no choice', () => {
  assert.equal(chosen([], '2026-11-24T02:00:00Z', { classes: ['daily', 'weekly'] }), 'weekly');
  assert.equal(chosen([], '2026-11-24T02:00:00Z', { classes: ['monthly'] }), 'monthly');
  assert.equal(chosen([], '2026-11-24T02:00:00Z', { classes: ['own'] }), undefined);
});

test('whatever fails, each period with a backup has exactly one that stands for it, and order says nothing', () => {
  for (let seed = 1; seed <= 9; seed++) {
    const draws = createRandom(seed);
    const random = () => draws.between(0, 999_999) / 1_000_000;
    const timeZone = ['UTC', 'Europe/Berlin', 'Pacific/Auckland'][seed % 3] ?? 'UTC';
    const classes = ALL.filter((name) => name === 'daily' || random() < 0.8);
    const calendar = createCalendar(timeZone);
    const listed: ListedClass[] = [];
    for (let day = 0; day < 120; day++) {
      if (random() < 0.3) continue;
      const createdAtMs = at('2026-10-10T00:00:00Z') + (day + random()) * DAY_MS;
      const input = { createdAtMs, timeZone, classes };
      const choice = chooseClass({ ...input, listed });
      const shuffled = listed.toSorted(() => random() - 0.5);
      assert.deepEqual(chooseClass({ ...input, listed: shuffled }), choice);
      listed.push({ retention: choice?.retention ?? '', createdAtMs });
    }
    for (const name of classes) {
      if (name === 'daily') continue;
      const rank = ALL.indexOf(name);
      const periods = Map.groupBy(listed, ({ createdAtMs }) => calendar(createdAtMs)[name]);
      for (const [period, backups] of periods) {
        const standing = backups.filter(({ retention }) => ALL.indexOf(retention as never) <= rank);
        assert.ok(standing.length >= 1, `seed=${seed} ${name} ${period}`);
        const own = backups.filter(({ retention }) => retention === name);
        assert.ok(own.length <= 1, `seed=${seed} ${name} ${period}`);
        assert.ok(standing.includes(backups[0] as ListedClass), `seed=${seed} ${name} ${period}`);
      }
    }
  }
});
