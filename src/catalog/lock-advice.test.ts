import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LifecycleRule } from '../ports.ts';
import { createKeys } from './keys.ts';
import { adviseLocks } from './lock-advice.ts';

const keys = createKeys('xv');
const rule = (prefix: string, expirationDays: number, more: object = {}): LifecycleRule => ({
  id: prefix,
  enabled: true,
  prefix,
  narrowed: false,
  expirationDays,
  ...more,
});
const lock = (days: number) => ({ daily: { mode: 'compliance', days } });

test('a lock as long as its rule is well; a shorter, a longer and one without a rule are told', () => {
  const rules = [rule('xv/backups/daily/', 14), rule('xv/backups/', 400)];
  assert.deepEqual(adviseLocks(lock(14), rules, keys), []);
  assert.deepEqual(adviseLocks(lock(7), rules, keys), [
    'daily: locked for 7 of the 14 days it lives',
  ]);
  assert.deepEqual(adviseLocks(lock(20), rules, keys), [
    'daily: locked for 20 days, hidden by its rule after 14: paid for 6 more',
  ]);
  const none = ['daily: locked for 20 days, and no rule removes it afterwards'];
  assert.deepEqual(adviseLocks(lock(20), [], keys), none);
  const others = [
    rule('xv/backups/daily/', 14, { enabled: false }),
    rule('xv/backups/daily/', 14, { narrowed: true }),
    rule('xv/backups/weekly/', 14),
  ];
  assert.deepEqual(adviseLocks(lock(20), others, keys), none);
});
