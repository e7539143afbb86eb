/** Which key and which lock a key of the bucket gets: pure parts of encryption.ts and lock.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSecret } from '../secret.ts';
import { keyIdOf, refuseLink } from './encryption.ts';
import { ruleOf } from './lock.ts';

const KEYS = [
  { prefix: 'xv/backups/yearly/', keyId: 'long' },
  { prefix: '', keyId: 'rest' },
];

test('the longest prefix names the key of the key service', () => {
  assert.equal(keyIdOf(KEYS, 'xv/backups/yearly/dc1/a/b/backup.json'), 'long');
  assert.equal(keyIdOf(KEYS, 'xv/backups/yearlyish/dc1/a/b/backup.json'), 'rest');
  assert.equal(keyIdOf(KEYS, 'xv/pinned/dc1/a/b/backup.json'), 'rest');
  assert.equal(keyIdOf(KEYS.slice(0, 1), 'xv/jobs/1.json'), undefined);
});

test('only what lies under the prefix of a rule is locked', () => {
  const rules = [{ prefix: 'backups/daily/', mode: 'compliance', days: 3 } as const];
  assert.equal(ruleOf(rules, 'backups/daily/dc1/a/b/web.xva')?.days, 3);
  for (const key of [
    'backups/weekly/x',
    'pinned/daily/x',
    'staging/1',
    'leases/dc1/a',
    'probe/a',
  ]) {
    assert.equal(ruleOf(rules, key), undefined, key);
  }
});

test('a link is refused only where its reader would need our key, and the way that works is said', () => {
  const key = createSecret('k');
  assert.throws(() => refuseLink({ kind: 'customer', key }, 'a'), {
    code: 'invalid_request',
    message: /direct=1/,
  });
  refuseLink({ kind: 'AES256' }, 'a');
  refuseLink({ kind: 'aws:kms', keys: [] }, 'a');
  refuseLink(undefined, 'a');
});
