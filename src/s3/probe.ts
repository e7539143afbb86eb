/**
 * Finds out by trying whether this bucket honours conditional writes, since leases stand on them.
 *
 * Names and versions do not tell: RGW 16 and 18 ignore some conditions, RGW 20 honours them but not atomically on a
 * versioned bucket, Swift lets several writers win a race (measured November 2026). So: create twice, replace with
 * the right and with a stale ETag, a small race of each kind, and a conditional Complete over an existing key. A
 * race of RACERS writers cannot prove atomicity; it catches the stores known to lack it.
 */
import { randomUUID } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { Cancellable, StoreFacts } from '../ports.ts';
import type { StoreContext } from './context.ts';
import { deleteObject, putObject } from './write.ts';

const RACERS = 8;

type Findings = Pick<StoreFacts, 'conditionalWrites' | 'conditionalComplete'>;

/** Makes the probe; it writes and removes a few tiny objects under `<prefix>probe/`. */
export function createProbe(context: StoreContext, prefix: string) {
  return async (options: Cancellable): Promise<Findings> => {
    const { quirks, log } = context;
    if (quirks.conditionalWrites === 'no') {
      return { conditionalWrites: false, conditionalComplete: false };
    }
    if (quirks.conditionalWrites === 'yes' && quirks.conditionalComplete !== 'probe') {
      return { conditionalWrites: true, conditionalComplete: quirks.conditionalComplete === 'yes' };
    }
    const folder = `${prefix}probe/${randomUUID()}`;
    const keys = [`${folder}/a`, `${folder}/b`] as const;
    const conditionalWrites = await probeWrites(context, keys, options);
    const conditionalComplete =
      conditionalWrites &&
      quirks.conditionalComplete === 'probe' &&
      (await probeComplete(context, keys[0], options));
    log.debug('store was probed', { conditionalWrites, conditionalComplete });
    for (const key of keys) {
      // Without the right to delete a few bytes stay; everything else works.
      await deleteObject(context, key, options).catch((error: unknown) =>
        log.info('probe object stays', { key, error }),
      );
    }
    return { conditionalWrites, conditionalComplete };
  };
}

async function probeWrites(
  context: StoreContext,
  [first, second]: readonly [string, string],
  options: Cancellable,
): Promise<boolean> {
  const put = async (key: string, condition: { ifAbsent?: boolean; ifMatch?: string }) =>
    await won(putObject(context, key, randomUUID(), { signal: options.signal, ...condition }));
  const race = async (key: string, condition: { ifAbsent?: boolean; ifMatch?: string }) => {
    const results = await Promise.all(Array.from({ length: RACERS }, () => put(key, condition)));
    const winners = results.filter((etag) => etag !== undefined);
    return winners.length === 1 ? winners[0] : undefined;
  };
  const created = await put(first, { ifAbsent: true });
  if (created === undefined) return false;
  if ((await put(first, { ifAbsent: true })) !== undefined) return false;
  const replaced = await put(first, { ifMatch: created });
  if (replaced === undefined) return false;
  if ((await put(first, { ifMatch: created })) !== undefined) return false;
  const raced = await race(second, { ifAbsent: true });
  if (raced === undefined) return false;
  return (await race(second, { ifMatch: raced })) !== undefined;
}

/** The new ETag; undefined when the write lost or the store does not know conditions. */
async function won(writing: Promise<{ etag: string }>): Promise<string | undefined> {
  try {
    return (await writing).etag;
  } catch (error) {
    if (isBackupError(error, 'precondition_failed', 'store_refused')) return undefined;
    throw error;
  }
}

/** Completes an upload over the existing `key`, which must be refused. */
async function probeComplete(
  { client, calls, bucket, log }: StoreContext,
  key: string,
  options: Cancellable,
): Promise<boolean> {
  const target = { Bucket: bucket, Key: key };
  const call = { signal: options.signal, key };
  const { UploadId } = await calls(
    'CreateMultipartUpload',
    (to) => client.send(new CreateMultipartUploadCommand(target), to),
    call,
  );
  const upload = { ...target, UploadId };
  try {
    const { ETag } = await calls(
      'UploadPart',
      (to) =>
        client.send(
          new UploadPartCommand({ ...upload, PartNumber: 1, Body: Buffer.from('x') }),
          to,
        ),
      call,
    );
    const command = () =>
      new CompleteMultipartUploadCommand({
        ...upload,
        IfNoneMatch: '*',
        MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] },
      });
    await calls('CompleteMultipartUpload', (to) => client.send(command(), to), call);
    return false; // Accepted although something was there: the condition is ignored.
  } catch (error) {
    if (!isBackupError(error, 'precondition_failed', 'store_refused')) throw error;
    await calls(
      'AbortMultipartUpload',
      (to) => client.send(new AbortMultipartUploadCommand(upload), to),
      call,
    ).catch((abortError: unknown) =>
      log.info('probe upload stays until the bucket drops it', { key, error: abortError }),
    );
    return isBackupError(error, 'precondition_failed');
  }
}
