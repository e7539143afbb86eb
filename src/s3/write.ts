/**
 * Conditional writes whose outcome is always known.
 *
 * A write that is answered by a time-out, a reset or a 5xx may have happened; repeated, it then loses against
 * itself (412). Such an answer is resolved by reading back: the bytes are ours, or somebody else's. Bodies that are
 * written under a condition therefore carry something unique (an owner id). Source: AWS "conditional writes": 412
 * for a failed condition, 409 for a race, 404 for If-Match on a missing key; all of them mean lost.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore, PutCondition } from '../ports.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';
import { TRANSFER_BUDGET } from './retry.ts';

type PutOptions = Parameters<ObjectStore['put']>[2];

/** Writes one small object; see ports.ts for what a condition guarantees. */
export async function putObject(
  context: StoreContext,
  key: string,
  body: Uint8Array | string,
  options: PutOptions,
): Promise<{ etag: string }> {
  const { client, calls, bucket } = context;
  const { signal, contentType, patient = false } = options;
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const input = {
    Bucket: bucket,
    Key: key,
    Body: bytes,
    ContentLength: bytes.length,
    ...(contentType === undefined ? {} : { ContentType: contentType }),
    ...conditionHeaders(options),
  };
  let unclear = false;
  try {
    const answer = await calls('PutObject', (to) => client.send(new PutObjectCommand(input), to), {
      signal,
      key,
      ...(patient ? { budget: context.transferBudget ?? TRANSFER_BUDGET } : {}),
      onRetry: (failure) => {
        unclear ||= failure === 'unclear';
      },
    });
    return { etag: answer.ETag ?? '' };
  } catch (error) {
    signal.throwIfAborted();
    if (!isBackupError(error) || !isConditional(options)) throw error;
    const lost = isLost(error, options);
    if (unclear || isBackupError(error, 'store_unavailable')) {
      const etag = await readBack(context, key, bytes, { signal }).catch((readError) => {
        // Neither the write nor the look at it got through: the write's own error says it best.
        if (isBackupError(readError, 'store_unavailable')) return undefined;
        throw readError;
      });
      if (etag !== undefined) return { etag };
    }
    throw lost ? asLost(error, key) : error;
  }
}

/** Deletes; gone already is success, also under a condition: what was to go is gone. */
export async function deleteObject(
  context: StoreContext,
  key: string,
  options: Cancellable & { ifMatch?: string },
): Promise<void> {
  const { client, calls, bucket } = context;
  const { signal, ifMatch } = options;
  const input = { Bucket: bucket, Key: key };
  if (ifMatch !== undefined) {
    // Older RGW and others delete without looking at the condition: look before as well, so that only a race of
    // milliseconds is left there.
    const found = await head(context, key, { signal });
    if (found === undefined) return;
    if (!sameEtag(found, ifMatch)) throw lostError(key);
  }
  const condition = ifMatch === undefined ? {} : { IfMatch: ifMatch };
  try {
    await calls(
      'DeleteObject',
      (to) => client.send(new DeleteObjectCommand({ ...input, ...condition }), to),
      { signal, key },
    );
  } catch (error) {
    signal.throwIfAborted();
    if (!isBackupError(error)) throw error;
    if (storeStatus(error) === 404) return;
    if (ifMatch === undefined || !isBackupError(error, 'precondition_failed')) throw error;
    // 412 on what an earlier, unanswered try has deleted.
    if ((await head(context, key, { signal })) === undefined) return;
    throw error;
  }
}

function conditionHeaders({ ifAbsent, ifMatch }: PutCondition) {
  if (ifMatch !== undefined) return { IfMatch: ifMatch };
  return ifAbsent ? { IfNoneMatch: '*' } : {};
}

const isConditional = ({ ifAbsent, ifMatch }: PutCondition) =>
  ifAbsent === true || ifMatch !== undefined;

function isLost(error: BackupError, { ifMatch }: PutCondition): boolean {
  if (error.code === 'precondition_failed') return true;
  return (
    ifMatch !== undefined && storeStatus(error) === 404 && error.details.store_code === 'NoSuchKey'
  );
}

function asLost(error: BackupError, key: string): BackupError {
  return error.code === 'precondition_failed' ? error : lostError(key, error);
}

function lostError(key: string, cause?: BackupError): BackupError {
  return new BackupError('precondition_failed', `find the object unchanged, key=${key}`, {
    details: { ...cause?.details, key },
    cause,
  });
}

/** The ETag of what lies there if it is exactly `bytes`. */
async function readBack(
  { client, calls, bucket }: StoreContext,
  key: string,
  bytes: Uint8Array,
  { signal }: Cancellable,
): Promise<string | undefined> {
  return await calls(
    'GetObject',
    async (to) => {
      const answer = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }), to);
      const found = (await answer.Body?.transformToByteArray()) ?? new Uint8Array();
      return Buffer.compare(found, bytes) === 0 ? (answer.ETag ?? '') : undefined;
    },
    { signal, key },
  ).catch((error) => {
    if (isBackupError(error) && storeStatus(error) === 404) return undefined;
    throw error;
  });
}

async function head(
  { client, calls, bucket }: StoreContext,
  key: string,
  { signal }: Cancellable,
): Promise<string | undefined> {
  return await calls(
    'HeadObject',
    (to) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), to),
    { signal, key },
  ).then(
    (answer) => answer.ETag ?? '',
    (error) => {
      if (isBackupError(error) && storeStatus(error) === 404) return undefined;
      throw error;
    },
  );
}

const sameEtag = (a: string, b: string) => a.replaceAll('"', '') === b.replaceAll('"', '');
