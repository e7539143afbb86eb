import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LifecycleRule } from '../ports.ts';
import { adviseAbortRule } from './bucket-rules.ts';

const WANTED = { backupsPrefix: 'xv/backups/', provider: 'aws', bucket: 'vm-backups' };
const RULE: LifecycleRule = { id: 'r', enabled: true, prefix: '', narrowed: false, abortDays: 7 };

test('a rule for all keys, or for a prefix of ours, is enough', () => {
  assert.equal(adviseAbortRule([RULE], WANTED), undefined);
  assert.equal(adviseAbortRule([{ ...RULE, prefix: 'xv/' }], WANTED), undefined);
  assert.equal(adviseAbortRule([{ ...RULE, prefix: 'xv/backups/' }], WANTED), undefined);
});

test('without such a rule the advice names the bucket and the rule to add', () => {
  const { abortDays: _, ...only } = RULE;
  const useless: LifecycleRule[][] = [
    [],
    [{ ...only, expirationDays: 14 }],
    [{ ...RULE, enabled: false }],
    [{ ...RULE, narrowed: true }],
    [{ ...RULE, prefix: 'xv/backups/daily/' }],
    [{ ...RULE, prefix: 'other/' }],
  ];
  for (const rules of useless) {
    const advice = adviseAbortRule(rules, WANTED) ?? '';
    assert.match(advice, /vm-backups.*"Prefix":"xv\/backups\/".*"DaysAfterInitiation":7/);
  }
});

test('a store without rules, or one that drops such uploads by itself, gets no advice it cannot follow', () => {
  assert.equal(adviseAbortRule(undefined, WANTED), undefined);
  assert.equal(adviseAbortRule([], { ...WANTED, provider: 'minio' }), undefined);
});
