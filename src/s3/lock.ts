/**
 * Object lock: objects of some prefixes are locked as they are made, so that nobody, not even who holds our key, removes
 * or changes them before their time.
 *
 * A step of the SDK's chain, as encryption is. Archive, index and record carry the lock in the request that makes them:
 * there is no moment without it. A store takes such a request only with a checksum of its body; parts whose checksum the
 * upload does not have anyway get a Content-MD5. The time counts from the creation of the upload. Source: Amazon S3 user
 * guide, "Locking objects with Object Lock", and the API reference of PutObject and UploadPart.
 */
import { createHash } from 'node:crypto';
import { GetObjectLockConfigurationCommand, type S3Client } from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { BucketLock, Cancellable, Clock } from '../ports.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** Keys that begin with `prefix` are locked for so many days from their making on. */
export interface LockRule {
  prefix: string;
  mode: 'governance' | 'compliance';
  days: number;
}

type Headers = Record<string, string>;

const DAY_MS = 86_400_000;
const DAYS_PER_YEAR = 365;
const NO_LOCK = 404;
const NOT_KNOWN: readonly number[] = [501, 405, 400];

/** They make an object; parts only bring their bytes. */
const CREATES: ReadonlySet<string> = new Set([
  'PutObjectCommand',
  'CreateMultipartUploadCommand',
  'CopyObjectCommand',
]);
const SENDS_BODY: ReadonlySet<string> = new Set(['PutObjectCommand', 'UploadPartCommand']);

/** Adds locks to the requests that make objects under these rules. */
export function lockObjects(
  client: S3Client,
  { rules, clock }: { rules: readonly LockRule[]; clock: Pick<Clock, 'now'> },
): void {
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const { Key: key = '', Body: body } = args.input as { Key?: string; Body?: unknown };
        const { headers } = args.request as { headers: Headers };
        const rule = ruleOf(rules, key);
        if (rule !== undefined && CREATES.has(commandName)) {
          headers['x-amz-object-lock-mode'] = rule.mode.toUpperCase();
          const until = new Date(clock.now() + rule.days * DAY_MS).toISOString();
          headers['x-amz-object-lock-retain-until-date'] = until;
        }
        // A bucket may lock by itself what is put into it: then small objects need it without a rule of ours, too.
        const needsSum = commandName === 'PutObjectCommand' || rule !== undefined;
        if (needsSum && SENDS_BODY.has(commandName) && body instanceof Uint8Array) {
          if (!Object.keys(headers).some((name) => name.startsWith('x-amz-checksum-'))) {
            headers['content-md5'] = createHash('md5').update(body).digest('base64');
          }
        }
        return await next(args);
      },
    { step: 'build', name: 'objectLock' },
  );
}

/** The rule of the longest prefix that fits. */
export function ruleOf(rules: readonly LockRule[], key: string): LockRule | undefined {
  const fitting = rules.filter(({ prefix }) => key.startsWith(prefix));
  return fitting.sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

/**
 * What the bucket says about locks; undefined where the store has none of this. Errors: `store_*`, `store_credentials`
 * without the right.
 */
export async function readBucketLock(
  { client, calls, bucket }: StoreContext,
  { signal }: Cancellable,
): Promise<BucketLock | undefined> {
  const command = () => new GetObjectLockConfigurationCommand({ Bucket: bucket });
  try {
    const send = 'GetObjectLockConfiguration';
    const answer = await calls(send, (to) => client.send(command(), to), { signal });
    const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {};
    const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
    const days = Days ?? (Years === undefined ? undefined : Years * DAYS_PER_YEAR);
    return {
      enabled: ObjectLockEnabled === 'Enabled',
      ...(Mode === undefined || days === undefined
        ? {}
        : { byDefault: { mode: Mode === 'COMPLIANCE' ? 'compliance' : 'governance', days } }),
    };
  } catch (error) {
    if (!isBackupError(error, 'store_refused')) throw error;
    if (storeStatus(error) === NO_LOCK) return { enabled: false };
    if (NOT_KNOWN.includes(storeStatus(error))) return undefined;
    throw error;
  }
}
