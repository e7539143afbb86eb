/**
 * The settings that protect what lies in the bucket: encryption at rest, and locks.
 *
 * Classes are retention classes. In XVAULT_SSE_KMS_KEY `default` stands for everything else: classes not named, state,
 * pinned copies. The store adapter knows prefixes only; `rulesOf…` translate.
 */
import { z } from 'zod';
import type { Keys } from './catalog/keys.ts';
import { retentionSchema } from './catalog/record.ts';
import { isLoopback } from './loopback.ts';
import { createSecret, type Secret } from './secret.ts';
import type { SettingMeta } from './settings-table.ts';

const KEY_BYTES = 32;
/** AWS allows a hundred years. */
const MAX_LOCK_DAYS = 36_500;
/** Of XVAULT_SSE_KMS_KEY: every key that is of no class named there. */
const OTHERS = 'default';

const text = z.string().trim().min(1);

const readJson = (value: string): unknown => {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
};

const kmsKeySchema = text
  .transform((value): unknown => (value.startsWith('{') ? readJson(value) : { [OTHERS]: value }))
  .pipe(
    z.record(retentionSchema, z.string().min(1), {
      error: 'expected a key, or JSON: class → key',
    }),
  );

/** Base64 or hex, so that no shell or editor damages it. */
const customerKeySchema = text.transform((value, context): Secret => {
  const bytes = Buffer.from(value, /^[0-9a-f]{64}$/i.test(value) ? 'hex' : 'base64');
  if (bytes.length !== KEY_BYTES || !/^[A-Za-z0-9+/]+=?$/.test(value)) {
    context.addIssue({ code: 'custom', message: 'expected 32 bytes in base64 or hex' });
  }
  return createSecret(bytes.toString('base64'));
});

const lockSchema = text.transform(readJson).pipe(
  z.record(
    retentionSchema,
    z.strictObject({
      mode: z.enum(['governance', 'compliance']),
      days: z.int().min(1).max(MAX_LOCK_DAYS),
    }),
    { error: 'expected JSON: class → {"mode", "days"}' },
  ),
);

/** As parts of the settings object. */
export const protectionSettings = {
  XVAULT_SSE: z
    .enum(['none', 'AES256', 'aws:kms'])
    .default('none')
    .meta({
      group: 'Bucket',
      description:
        'Encryption at rest asked for with every object: `AES256` with keys of the store, `aws:kms` with keys of a key service, `none`: what the bucket does by itself. See docs/encryption.md.',
      example: 'aws:kms',
    } satisfies SettingMeta),
  XVAULT_SSE_KMS_KEY: kmsKeySchema.optional().meta({
    group: 'Bucket',
    description:
      'Key for `aws:kms`: one for everything, or JSON: retention class → key, and `default` for everything else.',
    example: '{"default":"alias/xvault","yearly":"alias/xvault-archive"}',
    defaultText: 'the key service’s own choice',
  } satisfies SettingMeta),
  XVAULT_SSE_C_KEY: customerKeySchema.optional().meta({
    group: 'Bucket',
    description:
      'Key of your own, 32 bytes in base64 or hex, sent with every request and kept by nobody: without it no backup can be read any more. `openssl rand -base64 32` makes one. Instead of XVAULT_SSE. See docs/encryption.md.',
    example: 'XVAULT_SSE_C_KEY_FILE=/run/secrets/object-key',
    secret: true,
  } satisfies SettingMeta),
  XVAULT_LOCK: lockSchema.optional().meta({
    group: 'Bucket',
    description:
      'JSON: retention class → `mode` (`governance`, `compliance`) and `days` of the object lock that its backups are made with. Needs a bucket with object lock. See docs/encryption.md#locks.',
    example: '{"monthly":{"mode":"governance","days":390}}',
    defaultText: 'none',
  } satisfies SettingMeta),
};

export type LockSettings = Readonly<
  Record<string, { mode: 'governance' | 'compliance'; days: number }>
>;

/** What the settings say of encryption, by classes. */
export type EncryptionWish =
  | { kind: 'AES256' }
  | { kind: 'aws:kms'; keyIds: Readonly<Record<string, string>> }
  | { kind: 'customer'; key: Secret };

interface Values {
  XVAULT_SSE: 'none' | 'AES256' | 'aws:kms';
  XVAULT_SSE_KMS_KEY?: Record<string, string> | undefined;
  XVAULT_SSE_C_KEY?: Secret | undefined;
  XVAULT_S3_ENDPOINT?: string | undefined;
}

/** The encryption wished for; undefined for none. Tells what does not fit together. */
export function readEncryption(
  values: Values,
  mistakes: { name: string; message: string }[],
): EncryptionWish | undefined {
  const { XVAULT_SSE: kind, XVAULT_SSE_KMS_KEY: keyIds, XVAULT_SSE_C_KEY: key } = values;
  const tell = (name: string, message: string) => void mistakes.push({ name, message });
  if (keyIds !== undefined && kind !== 'aws:kms') {
    tell('XVAULT_SSE_KMS_KEY', 'goes with XVAULT_SSE=aws:kms only');
  }
  if (key !== undefined) {
    if (kind !== 'none') tell('XVAULT_SSE_C_KEY', 'set it or XVAULT_SSE, not both');
    const endpoint = new URL(values.XVAULT_S3_ENDPOINT ?? 'https://aws');
    // The key would be readable on the way; stores refuse it, too.
    if (endpoint.protocol === 'http:' && !isLoopback(endpoint.hostname)) {
      tell('XVAULT_SSE_C_KEY', 'needs an https:// endpoint: the key travels with every request');
    }
    return { kind: 'customer', key };
  }
  if (kind === 'none') return undefined;
  return kind === 'AES256' ? { kind } : { kind, keyIds: keyIds ?? {} };
}

/** Tells classes that are named and are none: a slip there leaves backups unlocked, or under another key, in silence. */
export function checkClasses(
  values: {
    XVAULT_RETENTION_DAYS: object;
    XVAULT_LOCK?: object | undefined;
    XVAULT_SSE_KMS_KEY?: object | undefined;
    XVAULT_TRANSITIONS: object;
  },
  mistakes: { name: string; message: string }[],
): void {
  if (mistakes.some(({ name }) => name.startsWith('XVAULT_RETENTION_DAYS'))) return;
  for (const name of ['XVAULT_LOCK', 'XVAULT_SSE_KMS_KEY', 'XVAULT_TRANSITIONS'] as const) {
    const others = name === 'XVAULT_SSE_KMS_KEY' ? [OTHERS] : [];
    const classes = [...Object.keys(values.XVAULT_RETENTION_DAYS), ...others];
    const unknown = Object.keys(values[name] ?? {}).filter((one) => !classes.includes(one));
    if (unknown.length === 0) continue;
    const message = `no class of XVAULT_RETENTION_DAYS: ${unknown.join(', ')}`;
    mistakes.push({ name, message });
  }
}

/** The same by prefixes of keys, for the store adapter. */
export function encryptionByPrefix(wish: EncryptionWish, keys: Keys) {
  if (wish.kind !== 'aws:kms') return wish;
  const rules = Object.entries(wish.keyIds).map(([name, keyId]) => ({
    prefix: name === OTHERS ? '' : keys.classPrefix(name),
    keyId,
  }));
  return { kind: wish.kind, keys: rules };
}

/** Locks by prefixes of keys. */
export function locksByPrefix(locks: LockSettings, keys: Keys) {
  return Object.entries(locks).map(([name, lock]) => ({
    prefix: keys.classPrefix(name),
    ...lock,
  }));
}
