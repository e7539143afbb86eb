/** `doctor` on what protects the archives in their bucket: encryption at rest, and locks. Only asks, writes nothing. */
import { createKeys } from '../catalog/keys.ts';
import { adviseLocks } from '../catalog/lock-advice.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import type { LockSettings } from '../settings-protection.ts';
import type { Report } from './doctor-checks.ts';

export interface ProtectionInput {
  store: ObjectStore;
  prefix: string;
  /** What is asked for with every object; undefined: nothing. */
  encryption: 'AES256' | 'aws:kms' | 'customer' | undefined;
  locks: LockSettings;
  /** Leases and jobs lie in the same bucket. */
  state: boolean;
}

const IN_WORDS = {
  AES256: 'with keys of the store (XVAULT_SSE)',
  'aws:kms': 'with keys of a key service (XVAULT_SSE)',
  customer: 'with a key of ours (XVAULT_SSE_C_KEY): without it nothing can be read',
} as const;

const SECRETS =
  'Disks are readable for whoever gets at the storage, and so is ova.xml, which can hold keys of a virtual TPM.';

/** Looks at one bucket of archives. */
export async function checkProtection(
  input: ProtectionInput,
  report: Report,
  options: Cancellable,
): Promise<void> {
  await checkEncryption(input, report, options);
  await checkLocks(input, report, options);
}

async function checkEncryption(
  { store, encryption }: ProtectionInput,
  report: Report,
  options: Cancellable,
): Promise<void> {
  const check = 'encryption';
  if (encryption !== undefined) {
    return report({ check, state: 'ok', text: `asked for ${IN_WORDS[encryption]}` });
  }
  const { found, error } = await ask(() => store.bucketEncryption(options), options);
  if (error !== undefined) {
    const mend = 'Allow s3:GetEncryptionConfiguration, or set XVAULT_SSE.';
    return report({ check, state: 'unknown', text: `cannot be read: ${error}`, mend });
  }
  if (found === undefined) {
    const text = 'this store does not say whether it encrypts';
    return report({ check, state: 'unknown', text, mend: `${SECRETS} See docs/encryption.md.` });
  }
  if (found.algorithm !== 'none') {
    return report({
      check,
      state: 'ok',
      text: `the bucket encrypts by default, ${found.algorithm}`,
    });
  }
  const text = 'neither the bucket nor xvault encrypts';
  const mend = `${SECRETS} Set XVAULT_SSE, or encryption by default in the bucket.`;
  report({ check, state: 'warn', text, mend });
}

async function checkLocks(
  { store, prefix, locks, state }: ProtectionInput,
  report: Report,
  options: Cancellable,
): Promise<void> {
  const check = 'object lock';
  const wanted = Object.keys(locks).length > 0;
  const { found, error } = await ask(() => store.bucketLock(options), options);
  if (error !== undefined) {
    if (!wanted) return;
    const mend = 'Allow s3:GetBucketObjectLockConfiguration.';
    return report({ check, state: 'unknown', text: `cannot be read: ${error}`, mend });
  }
  if (found?.enabled !== true) {
    if (!wanted) return;
    const text = 'XVAULT_LOCK is set, and the bucket has no object lock: every backup will fail';
    const mend =
      'Make a bucket with object lock (on most stores only when it is made), or unset it.';
    return report({ check, state: 'fail', text, mend });
  }
  if (state) {
    const text = 'a bucket with object lock keeps every version of leases and jobs';
    report({ check, state: 'warn', text, mend: 'Set XVAULT_STATE_BUCKET to a plain bucket.' });
  }
  const rules = (await ask(() => store.lifecycle(options), options)).found;
  const advice = rules === undefined ? [] : adviseLocks(locks, rules, createKeys(prefix));
  for (const text of advice) report({ check, state: 'warn', text });
  if (advice.length > 0) return;
  const byDefault = found.byDefault;
  const text = byDefault
    ? `the bucket locks everything for ${byDefault.days} days (${byDefault.mode})`
    : wanted
      ? `locked as made: ${Object.keys(locks).join(', ')}`
      : 'possible here; XVAULT_LOCK is not set';
  report({ check, state: 'ok', text });
}

/** An answer, or why there is none. */
async function ask<T>(
  question: () => Promise<T>,
  { signal }: Cancellable,
): Promise<{ found?: T; error?: string }> {
  try {
    return { found: await question() };
  } catch (error) {
    signal.throwIfAborted();
    if (!isBackupError(error)) throw error;
    return { error: error.message };
  }
}
