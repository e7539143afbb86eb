/**
 * Encryption at rest: what every request says about it, in one place that all requests of this adapter pass.
 *
 * It is a step of the SDK's own chain and not a field of each command, so that no call, also none written later, can
 * forget it. Three kinds: keys of the store (`AES256`), keys of a key service (`aws:kms`, one for each prefix), or a
 * key of ours that travels with every request and that the store forgets (SSE-C). What lies in the bucket from before
 * stays as it is: a read whose key is refused as not applicable is asked again without it. ETags are then no MD5s;
 * nothing here takes them for such. Source: Amazon S3 user guide, "Protecting data with encryption"; Ceph RGW 20 tried
 * in test/servers/checks/encryption.ts.
 */
import { createHash } from 'node:crypto';
import { GetBucketEncryptionCommand, type S3Client } from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { BucketEncryption, Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

export type EncryptionSettings =
  /** Keys of the store. */
  | { kind: 'AES256' }
  /** Of the prefixes that fit a key the longest names its key; none: the store's own choice. */
  | { kind: 'aws:kms'; keys: readonly { prefix: string; keyId: string }[] }
  /** 32 bytes in base64. */
  | { kind: 'customer'; key: Secret };

type Headers = Record<string, string>;

/** They make an object. */
const CREATES: ReadonlySet<string> = new Set([
  'PutObjectCommand',
  'CreateMultipartUploadCommand',
  'CopyObjectCommand',
]);
/** They take the customer's key, beside those that make an object. */
const USES_KEY: ReadonlySet<string> = new Set([
  'UploadPartCommand',
  'UploadPartCopyCommand',
  'CompleteMultipartUploadCommand',
  'ListPartsCommand',
  'GetObjectCommand',
  'HeadObjectCommand',
]);
/** What follows the creation of an upload. */
const PARTS: ReadonlySet<string> = new Set([
  'UploadPartCommand',
  'UploadPartCopyCommand',
  'CompleteMultipartUploadCommand',
]);
const COPIES: ReadonlySet<string> = new Set(['UploadPartCopyCommand', 'CopyObjectCommand']);
const READS: ReadonlySet<string> = new Set(['GetObjectCommand', 'HeadObjectCommand']);

const CUSTOMER = 'server-side-encryption-customer';
const OWN = `x-amz-${CUSTOMER}`;
const SOURCE = `x-amz-copy-source-${CUSTOMER}`;
/** AWS and Ceph for a key where none is wanted. HEAD has a status and no code. */
const NOT_APPLICABLE = 400;
const NO_RULE = 404;
const NOT_KNOWN: readonly number[] = [501, 405];

/**
 * Adds the headers of these settings to every request of the client that takes them. `onParts`: on parts, too, where a
 * policy of the bucket would else refuse them.
 */
export function encryptRequests(
  client: S3Client,
  settings: EncryptionSettings | undefined,
  { onParts }: { onParts: boolean },
): void {
  if (settings === undefined) return;
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const { headers } = args.request as { headers: Headers };
        const { Key: key = '' } = args.input as { Key?: string };
        Object.assign(headers, headersFor(settings, { command: commandName, key, onParts }));
        const given = READS.has(commandName) ? OWN : COPIES.has(commandName) ? SOURCE : undefined;
        if (settings.kind !== 'customer' || given === undefined) return await next(args);
        try {
          return await next(args);
        } catch (error) {
          if (statusOf(error) !== NOT_APPLICABLE) throw error;
          const plain = Object.entries(headers).filter(([name]) => !name.startsWith(given));
          const request = Object.assign(args.request as object, {
            headers: Object.fromEntries(plain),
          });
          // From before this key was set, it seems; if it is not that, the first answer says more.
          return await next({ ...args, request }).catch(() => {
            throw error;
          });
        }
      },
    { step: 'build', name: 'encryption' },
  );
}

/** What one request says; nothing for calls that are about no object. */
function headersFor(
  settings: EncryptionSettings,
  { command, key, onParts }: { command: string; key: string; onParts: boolean },
): Headers {
  if (settings.kind === 'customer') {
    if (!CREATES.has(command) && !USES_KEY.has(command)) return {};
    const bytes = Buffer.from(settings.key.reveal(), 'base64');
    return {
      ...customerHeaders(OWN, bytes),
      ...(COPIES.has(command) ? customerHeaders(SOURCE, bytes) : {}),
    };
  }
  if (!CREATES.has(command) && !(onParts && PARTS.has(command))) return {};
  const keyId = settings.kind === 'aws:kms' ? keyIdOf(settings.keys, key) : undefined;
  return {
    'x-amz-server-side-encryption': settings.kind,
    ...(keyId === undefined ? {} : { 'x-amz-server-side-encryption-aws-kms-key-id': keyId }),
  };
}

function customerHeaders(prefix: string, key: Buffer): Headers {
  return {
    [`${prefix}-algorithm`]: 'AES256',
    [`${prefix}-key`]: key.toString('base64'),
    [`${prefix}-key-md5`]: createHash('md5').update(key).digest('base64'),
  };
}

/** The key of the longest prefix that fits. */
export function keyIdOf(
  keys: readonly { prefix: string; keyId: string }[],
  key: string,
): string | undefined {
  const fitting = keys.filter(({ prefix }) => key.startsWith(prefix));
  return fitting.sort((a, b) => b.prefix.length - a.prefix.length)[0]?.keyId;
}

const statusOf = (error: unknown) =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;

/** Refuses a link to what is encrypted with the customer's key: it would be of use only with that key. */
export function refuseLink(settings: EncryptionSettings | undefined, key: string): void {
  if (settings?.kind !== 'customer') return;
  const text =
    'ask with direct=1: no link can be given to what is encrypted with a key of ours ' +
    '(XVAULT_SSE_C_KEY), since who follows it would need that key';
  // As if it could not be fetched: who only tries a link first goes the other way.
  const details = { key, fetch: true };
  throw new BackupError('invalid_request', `${text}, key=${key}`, { details });
}

/** What the bucket itself does to what is put into it. Errors: `store_*`, `store_credentials` without the right. */
export async function readBucketEncryption(
  { client, calls, bucket }: StoreContext,
  { signal }: Cancellable,
): Promise<BucketEncryption | undefined> {
  const command = () => new GetBucketEncryptionCommand({ Bucket: bucket });
  try {
    const send = 'GetBucketEncryption';
    const answer = await calls(send, (to) => client.send(command(), to), { signal });
    const [rule] = answer.ServerSideEncryptionConfiguration?.Rules ?? [];
    const byDefault = rule?.ApplyServerSideEncryptionByDefault;
    if (byDefault?.SSEAlgorithm === undefined) return { algorithm: 'none' };
    const keyId = byDefault.KMSMasterKeyID;
    return { algorithm: byDefault.SSEAlgorithm, ...(keyId === undefined ? {} : { keyId }) };
  } catch (error) {
    if (!isBackupError(error, 'store_refused')) throw error;
    if (storeStatus(error) === NO_RULE) return { algorithm: 'none' };
    if (NOT_KNOWN.includes(storeStatus(error))) return undefined;
    throw error;
  }
}
