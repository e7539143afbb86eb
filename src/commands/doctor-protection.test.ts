import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { systemClock } from '../clock.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { checkProtection, type ProtectionInput } from './doctor-protection.ts';

/** What is found: `check state: text → mend`. */
async function look(store: Partial<ObjectStore>, input: Partial<ProtectionInput> = {}) {
  const found: string[] = [];
  await checkProtection(
    {
      store: { ...createMemoryStore(systemClock), ...store },
      prefix: '',
      encryption: undefined,
      locks: {},
      state: false,
      ...input,
    },
    ({ check, state, text, mend = '' }) => found.push(`${check} ${state}: ${text} → ${mend}`),
    { signal: NEVER },
  );
  return found.join('\n');
}

const refuse = async () => {
  throw new BackupError('store_credentials', 'get the right');
};
const locked = async () => ({ enabled: true });
const LOCKS = { daily: { mode: 'compliance', days: 7 } } as const;

test('a bucket that nobody encrypts is warned of, with what is at stake', async () => {
  const plain = { bucketEncryption: async () => ({ algorithm: 'none' }) };
  assert.match(await look(plain), /encryption warn: neither .*virtual TPM.*Set XVAULT_SSE/);
  assert.match(await look(plain, { encryption: 'AES256' }), /encryption ok/);
  assert.match(await look(plain, { encryption: 'customer' }), /without it nothing can be read/);
  const byDefault = { bucketEncryption: async () => ({ algorithm: 'aws:kms' }) };
  assert.match(await look(byDefault), /encryption ok: the bucket encrypts by default, aws:kms/);
  assert.match(await look({}), /encryption unknown: this store does not say/);
  const text = await look({ bucketEncryption: refuse });
  assert.match(text, /encryption unknown: .*s3:GetEncryptionConfiguration/);
});

test('locks are held against the bucket and its rules', async () => {
  assert.doesNotMatch(await look({}), /object lock/);
  assert.match(await look({}, { locks: LOCKS }), /object lock fail: .*every backup will fail/);
  assert.match(await look({ bucketLock: locked }), /object lock ok: possible here/);
  const both = await look({ bucketLock: locked }, { locks: LOCKS, state: true });
  assert.match(both, /object lock warn: .*XVAULT_STATE_BUCKET/);
  const rule = { id: 'r', enabled: true, prefix: '', narrowed: false, expirationDays: 3 };
  const rules = { bucketLock: locked, lifecycle: async () => [rule] };
  assert.match(await look(rules, { locks: LOCKS }), /object lock warn: daily: locked for 7 days/);
  assert.match(
    await look({ bucketLock: refuse }, { locks: LOCKS }),
    /object lock unknown: .*s3:GetBucketObjectLockConfiguration/,
  );
});
