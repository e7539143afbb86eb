import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LifecycleRule } from '../ports.ts';
import { parseTime } from '../time.ts';
import {
  classesOf,
  DAY_MS,
  endOfCopy,
  endOfObject,
  type KeptObject,
  lastEnd,
  offlineAt,
  paidUntil,
} from './forecast.ts';

const NOON = parseTime('2026-01-05T12:00:00Z');
const MIDNIGHT = parseTime('2026-01-06T00:00:00Z');
const archive: KeptObject = { key: 'xv/backups/daily/a.xva', sizeBytes: 5e9, lastModified: NOON };
const record: KeptObject = {
  key: 'xv/backups/daily/backup.json',
  sizeBytes: 2000,
  lastModified: NOON,
};
const base: LifecycleRule = { id: 'r', enabled: true, prefix: 'xv/backups/', narrowed: false };

test('days end 24 hours each after it was stored, and stores act at the midnight after', () => {
  assert.deepEqual(endOfObject(archive, [{ ...base, expirationDays: 3 }]), {
    sureUntil: NOON + 3 * DAY_MS,
    expiresAt: MIDNIGHT + 3 * DAY_MS,
    ruleId: 'r',
  });
  const atMidnight = { ...archive, lastModified: MIDNIGHT };
  assert.equal(
    endOfObject(atMidnight, [{ ...base, expirationDays: 1 }]).expiresAt,
    MIDNIGHT + DAY_MS,
  );
});

test('the earliest rule that may meet an object counts; off, other keys, no expiry count nothing', () => {
  const rules: LifecycleRule[] = [
    { ...base, id: 'off', enabled: false, expirationDays: 1 },
    { ...base, id: 'other', prefix: 'xv/backups/weekly/', expirationDays: 1 },
    { ...base, id: 'uploads', abortDays: 1 },
    { ...base, id: 'long', expirationDays: 9 },
    { ...base, id: 'short', expirationDays: 7 },
  ];
  assert.equal(endOfObject(archive, rules).ruleId, 'short');
  assert.equal(endOfObject(archive, rules.slice(0, 3)).sureUntil, Infinity);
});

test('sizes are known, so a rule narrowed by them is certain; one by tags is only possible', () => {
  const large = { ...base, narrowed: true, tagged: false, largerThanBytes: 1e6, expirationDays: 2 };
  assert.equal(endOfObject(archive, [large]).onlyPossible, undefined);
  assert.equal(endOfObject(archive, [large]).ruleId, 'r');
  assert.equal(endOfObject(record, [large]).ruleId, undefined);
  const small = { ...base, narrowed: true, smallerThanBytes: 2000, expirationDays: 2 };
  assert.equal(endOfObject(record, [small]).ruleId, undefined);
  const tagged = { ...base, narrowed: true, expirationDays: 2 };
  assert.equal(endOfObject(archive, [tagged]).onlyPossible, true);
});

test('a date meets what is older at once that day, and all that comes later', () => {
  const date = NOON + 2 * DAY_MS;
  const rule = { ...base, expirationDate: date };
  assert.equal(endOfObject(archive, [rule]).sureUntil, date);
  const later = { ...archive, lastModified: date + 1 };
  assert.equal(endOfObject(later, [rule]).sureUntil, date + 1);
});

test('a copy ends with the first of archive and record, a backup with the last of its copies', () => {
  const rules = [
    {
      ...base,
      id: 'archives',
      largerThanBytes: 1e6,
      narrowed: true,
      tagged: false,
      expirationDays: 4,
    },
    { ...base, id: 'all', expirationDays: 6 },
  ];
  const late = { ...record, lastModified: NOON - 3 * DAY_MS };
  assert.equal(endOfCopy([archive, record], rules).ruleId, 'archives');
  assert.equal(endOfCopy([archive, late], rules).sureUntil, NOON + 3 * DAY_MS);
  const pinned = { ...archive, key: 'xv/pinned/a.xva' };
  const ends = [endOfCopy([archive], rules), endOfCopy([pinned], rules)];
  assert.equal(lastEnd(ends).sureUntil, Infinity);
  assert.equal(lastEnd([]).sureUntil, -Infinity);
});

test('moves to other classes are followed, and those to where nothing can be copied are told', () => {
  const transitions = [
    { days: 2, storageClass: 'STANDARD_IA' },
    { days: 5, storageClass: 'DEEP_ARCHIVE' },
  ];
  const rules = [{ ...base, transitions }];
  assert.equal(offlineAt(archive, rules), NOON + 5 * DAY_MS);
  assert.equal(offlineAt(archive, [{ ...base, transitions: transitions.slice(0, 1) }]), Infinity);
  assert.equal(offlineAt({ ...archive, storageClass: 'GLACIER' }, []), -Infinity);
  assert.deepEqual(classesOf(archive, rules), [
    { fromMs: -Infinity, storageClass: 'STANDARD' },
    { fromMs: MIDNIGHT + 2 * DAY_MS, storageClass: 'STANDARD_IA' },
    { fromMs: MIDNIGHT + 5 * DAY_MS, storageClass: 'DEEP_ARCHIVE' },
  ]);
});

test('hidden versions and locks are paid for after the end, and list nothing', () => {
  const rules = [{ ...base, expirationDays: 3, noncurrentDays: 2 }];
  assert.equal(paidUntil(archive, rules), MIDNIGHT + 5 * DAY_MS);
  const lockedUntil = NOON + 30 * DAY_MS;
  const locked = { ...archive, lockedUntil };
  assert.equal(paidUntil(locked, rules), lockedUntil);
  assert.equal(endOfObject(locked, rules).expiresAt, MIDNIGHT + 3 * DAY_MS);
});

test('what a versioned bucket hides is paid for until a rule for old versions takes it, for ever without one', () => {
  const expiring = { ...base, expirationDays: 3 };
  const old = { ...base, id: 'old', noncurrentDays: 2 };
  assert.equal(paidUntil(archive, [expiring], { versioned: true }), Infinity);
  assert.equal(paidUntil(archive, [expiring, old], { versioned: true }), MIDNIGHT + 5 * DAY_MS);
  const keepsOne = { ...old, newerNoncurrent: 1 };
  assert.equal(paidUntil(archive, [expiring, keepsOne], { versioned: true }), Infinity);
  assert.equal(paidUntil(archive, [expiring, old], { versioned: false }), MIDNIGHT + 3 * DAY_MS);
});
