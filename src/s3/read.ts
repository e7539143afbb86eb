/** Small objects, ranges and facts read from the store; "not there" is an answer, not an error. */
import assert from 'node:assert/strict';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { ObjectFacts, ObjectStore } from '../ports.ts';
import { type CallOptions, isAnswerTo, notARange, storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** A whole object or a range of it; undefined when there is none. */
export async function getObject(
  { client, calls, bucket }: StoreContext,
  key: string,
  options: Parameters<ObjectStore['get']>[1] & CallOptions,
): ReturnType<ObjectStore['get']> {
  const { range } = options;
  assert(range === undefined || range.length > 0, 'an empty range cannot be asked for');
  const input = {
    Bucket: bucket,
    Key: key,
    ...(range && { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` }),
  };
  try {
    return await calls(
      'GetObject',
      async (to) => {
        const answer = await client.send(new GetObjectCommand(input), to);
        if (range && !isAnswerTo(range, answer)) {
          (answer.Body as Readable | undefined)?.destroy();
          throw notARange(key);
        }
        // A read cut short throws in Node; the length is compared all the same.
        const bytes = (await answer.Body?.transformToByteArray()) ?? new Uint8Array();
        if (answer.ContentLength !== undefined && answer.ContentLength !== bytes.length) {
          throw Object.assign(new Error('answer cut short'), {
            code: 'ERR_STREAM_PREMATURE_CLOSE',
          });
        }
        const lastModified = answer.LastModified?.getTime() ?? 0;
        return { bytes, etag: answer.ETag ?? '', lastModified };
      },
      callOf(key, options),
    );
  } catch (error) {
    if (isBackupError(error, 'store_refused') && storeStatus(error) === 404) return undefined;
    throw error;
  }
}

/** What lies at a key; undefined when there is nothing. */
export async function headObject(
  { client, calls, bucket }: StoreContext,
  key: string,
  options: CallOptions,
): Promise<ObjectFacts | undefined> {
  try {
    const answer = await calls(
      'HeadObject',
      (to) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), to),
      callOf(key, options),
    );
    // an object of INTELLIGENT_TIERING may have gone to its archive tiers
    const storageClass = answer.ArchiveStatus ?? answer.StorageClass;
    const lockedUntil = answer.ObjectLockRetainUntilDate?.getTime();
    return {
      key,
      sizeBytes: answer.ContentLength ?? 0,
      etag: answer.ETag ?? '',
      lastModified: answer.LastModified?.getTime() ?? 0,
      ...(storageClass && { storageClass }),
      ...(lockedUntil && { lockedUntil }),
    };
  } catch (error) {
    if (isBackupError(error, 'store_refused') && storeStatus(error) === 404) return undefined;
    throw error;
  }
}

/** One by one: a caller may give any object that has a signal. */
function callOf(key: string, { signal, budget, onRequest, onRetry }: CallOptions): CallOptions {
  return { key, signal, budget, onRequest, onRetry };
}
