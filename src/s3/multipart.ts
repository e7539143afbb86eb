/**
 * One multipart upload of S3: create, send or copy parts, complete with proof, abort.
 *
 * Proof is layered by what the store can do (proof.ts). With CRC32 (echoed when the upload is created) every part is
 * verified by the store as it arrives and the whole object's CRC, where the store gives it, is compared after completing
 * (RGW 20 gives none for an object of one part, which it has verified); without it the parts are listed and compared in
 * number, size and ETag before completing. The stored size is compared always. Providers differ in what a repeated
 * Complete answers (RGW 200, R2 404), so an unclear one is resolved by looking.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, StoredObject } from '../ports.ts';
import { type CallOptions, type SendOptions, storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';
import { encodeCrc32 } from './crc32.ts';
import {
  compareParts,
  compareStored,
  differs,
  type Expected,
  explainRefusal,
  isOurs,
  look,
  type SentPart,
  type UploadTarget,
} from './proof.ts';
import { errorFacts, TRANSFER_BUDGET } from './retry.ts';

export interface CopySource {
  key: string;
  offset: number;
  length: number;
  /** The range is all of the object. */
  whole: boolean;
  /** Of the range's bytes, if it is known. */
  crc?: number | undefined;
  /** Only if the source still has this ETag; given where the store honours it. */
  ifMatch?: string | undefined;
}

export interface PartReceipt extends SentPart {
  /** Ours; undefined where the store takes none, and for a copy of bytes that are not at hand. */
  crc: number | undefined;
  isCopy: boolean;
}

export interface Multipart {
  readonly key: string;
  readonly uploadId: string;
  /** The store verifies a CRC32 of each part, and gives one of the whole object. */
  readonly hasCrc: boolean;
  /** Sends (and sends again) one part; `body` must not change until this settles. */
  sendPart(
    part: { partNumber: number; body: Buffer; crc: number },
    options: Cancellable,
  ): Promise<PartReceipt>;
  /** Copies a range of another object of the bucket. */
  copyPart(part: CopySource & { partNumber: number }, options: Cancellable): Promise<PartReceipt>;
  /**
   * Completes and reads back. `parts` in order, `crc` of the whole object, if it is known.
   * Errors: `precondition_failed` when the key was taken, `data_corrupt` when anything differs.
   */
  complete(
    input: { parts: PartReceipt[]; crc: number | undefined; ifAbsent: boolean },
    options: Cancellable,
  ): Promise<StoredObject>;
  /** Gone already is success. */
  abort(options: Cancellable): Promise<void>;
}

/** Told of every try, for the upload's counters. */
export type Watch = Pick<CallOptions, 'onRequest' | 'onRetry'>;

interface Target extends UploadTarget {
  /** `full`: CRC of the whole object too; `parts`: of each part only. */
  checksum: 'full' | 'parts' | 'none';
}

/** Creates the upload, asking for a CRC32 of the whole object where the store may know it. */
export async function createMultipart(
  context: StoreContext,
  input: { key: string; contentType: string; watch: Watch },
  options: Cancellable,
): Promise<Multipart> {
  const { client, calls, bucket, quirks } = context;
  const { key, watch } = input;
  const budget = context.transferBudget ?? TRANSFER_BUDGET;
  const call = ({ signal }: Cancellable) => ({ signal, key, budget, ...watch });
  const create = { Bucket: bucket, Key: key, ContentType: input.contentType };
  const send = async (checksum: object) =>
    await calls(
      'CreateMultipartUpload',
      (to) => client.send(new CreateMultipartUploadCommand({ ...create, ...checksum }), to),
      call(options),
    );
  const wish = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;
  const answer =
    quirks.checksum === 'none'
      ? await send({})
      : await send(wish).catch(async (error) => {
          // A store that refuses the wish may take the upload without it.
          if (
            isBackupError(error, 'store_refused', 'configuration') &&
            [400, 501].includes(storeStatus(error))
          ) {
            return await send({});
          }
          throw error;
        });
  if (!answer.UploadId) throw incomplete('CreateMultipartUpload', key);
  const echoed = answer.ChecksumAlgorithm === 'CRC32';
  // RGW 20 echoes the algorithm but not the type, and then keeps the full-object value all the same.
  const full = echoed && answer.ChecksumType !== 'COMPOSITE';
  const target: Target = {
    context,
    upload: { Bucket: bucket, Key: key, UploadId: answer.UploadId },
    checksum: full ? 'full' : echoed ? 'parts' : 'none',
    call,
  };
  return {
    key,
    uploadId: answer.UploadId,
    hasCrc: echoed,
    sendPart: async (part, to) => await sendPart(target, part, to),
    copyPart: async (part, to) => await copyPart(target, part, to),
    complete: async (result, to) => await complete(target, result, to),
    abort: async (to) => await abort(target, to),
  };
}

async function sendPart(
  { context, upload, checksum, call }: Target,
  { partNumber, body, crc }: Parameters<Multipart['sendPart']>[0],
  options: Cancellable,
): Promise<PartReceipt> {
  const { client, calls } = context;
  const value = checksum === 'none' ? undefined : encodeCrc32(crc);
  const input = {
    ...upload,
    PartNumber: partNumber,
    Body: body,
    ContentLength: body.length,
    ...(value === undefined ? {} : { ChecksumCRC32: value }),
  };
  const answer = await calls(
    'UploadPart',
    (to) => client.send(new UploadPartCommand(input), to),
    call(options),
  );
  if (!answer.ETag) throw incomplete('UploadPart', upload.Key);
  if (value !== undefined && answer.ChecksumCRC32 && answer.ChecksumCRC32 !== value) {
    throw differs('part', { part: partNumber, sent: value, stored: answer.ChecksumCRC32 });
  }
  const known = value === undefined ? undefined : crc;
  const sizeBytes = body.length;
  return { partNumber, etag: answer.ETag, sizeBytes, crc: known, isCopy: false };
}

async function copyPart(
  { context, upload, checksum, call }: Target,
  { partNumber, key, offset, length, whole, crc, ifMatch }: Parameters<Multipart['copyPart']>[0],
  options: Cancellable,
): Promise<PartReceipt> {
  const { client, calls, bucket } = context;
  const input = {
    ...upload,
    PartNumber: partNumber,
    CopySource: `${bucket}/${key}`,
    ...(whole ? {} : { CopySourceRange: `bytes=${offset}-${offset + length - 1}` }),
    ...(ifMatch === undefined ? {} : { CopySourceIfMatch: ifMatch }),
  };
  const answer = await calls(
    'UploadPartCopy',
    (to) => client.send(new UploadPartCopyCommand(input), to),
    call(options),
  );
  const etag = answer.CopyPartResult?.ETag;
  if (!etag) throw incomplete('UploadPartCopy', upload.Key);
  const known = checksum === 'none' ? undefined : crc;
  const value = answer.CopyPartResult?.ChecksumCRC32;
  if (value && known !== undefined && value !== encodeCrc32(known)) {
    throw differs('copy', { part: partNumber, read: encodeCrc32(known), stored: value });
  }
  return { partNumber, etag, sizeBytes: length, crc: known, isCopy: true };
}

async function complete(
  target: Target,
  { parts, crc, ifAbsent }: Parameters<Multipart['complete']>[0],
  options: Cancellable,
): Promise<StoredObject> {
  const { context, upload, checksum, call } = target;
  const { client, calls } = context;
  const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
  if (checksum === 'none') await compareParts(target, parts, options);
  const whole = checksum === 'full' && crc !== undefined ? encodeCrc32(crc) : undefined;
  const command = () =>
    new CompleteMultipartUploadCommand({
      ...upload,
      MultipartUpload: {
        Parts: parts.map((part) => ({
          PartNumber: part.partNumber,
          ETag: part.etag,
          ...(part.crc === undefined || part.isCopy
            ? {}
            : { ChecksumCRC32: encodeCrc32(part.crc) }),
        })),
      },
      ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
      // AWS refuses to complete when these differ; others ignore them and are caught by looking afterwards.
      ...(whole === undefined
        ? {}
        : {
            ChecksumType: 'FULL_OBJECT' as const,
            ChecksumCRC32: whole,
            MpuObjectSize: sizeBytes,
          }),
    });
  const expected: Expected = { sizeBytes, parts: parts.length };
  if (whole !== undefined) expected.checksum = whole;
  let unclear = false;
  try {
    const send = (to: SendOptions) => client.send(command(), to).catch(refuseDigest(upload.Key));
    await calls('CompleteMultipartUpload', send, {
      ...call(options),
      onRetry: (failure) => {
        unclear ||= failure === 'unclear';
        call(options).onRetry?.(failure);
      },
    });
  } catch (error) {
    options.signal.throwIfAborted();
    if (isBackupError(error, 'store_refused') && storeStatus(error) === 400) {
      throw await explainRefusal(target, parts, error, options);
    }
    const mayBeDone = unclear || isBackupError(error, 'store_unavailable');
    if (!mayBeDone || !(await isOurs(target, expected, options))) throw error;
  }
  const stored = await look(target, options);
  if (stored === undefined) throw differs('object', { key: upload.Key, stored: 'nothing' });
  compareStored(upload.Key, stored, expected);
  return stored;
}

/** A wrong checksum of the whole object does not get right by asking again, unlike one of a part. */
function refuseDigest(key: string): (error: unknown) => never {
  return (error) => {
    const { code } = errorFacts(error);
    if (code === 'BadDigest') throw differs('object', { key, store_code: code }, error);
    throw error;
  };
}

async function abort({ context, upload, call }: Target, options: Cancellable): Promise<void> {
  const { client, calls } = context;
  await calls(
    'AbortMultipartUpload',
    (to) => client.send(new AbortMultipartUploadCommand(upload), to),
    call(options),
  ).catch((error) => {
    if (!(isBackupError(error) && storeStatus(error) === 404)) throw error;
  });
}

function incomplete(operation: string, key: string): BackupError {
  return new BackupError(
    'store_unavailable',
    `read the object store's answer, operation=${operation} key=${key}`,
    { details: { operation, key } },
  );
}
