/**
 * Copies a whole object of any size to another key of the bucket; the store does it, no byte comes here.
 *
 * Where parts can be copied the copy is an upload of copied parts (UploadPartCopy): it appears whole or not at all, what is
 * cut off is an unfinished upload, and every piece is small enough to be tried again. Pieces have one size, but for the last:
 * R2 wants that. Where parts cannot be copied (GCS) it is one CopyObject. Proof: the source is looked at before and
 * after (base.ts), sizes are compared, and where the store gives a CRC32 of both, that too.
 */
import { CopyObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore, StoredObject, StoreFacts } from '../ports.ts';
import { type BaseGuard, createBaseGuard } from './base.ts';
import { type CallOptions, storeStatus } from './calls.ts';
import { abandon } from './cleanup.ts';
import type { StoreContext } from './context.ts';
import { decodeCrc32 } from './crc32.ts';
import { createMultipart, type Multipart, type PartReceipt } from './multipart.ts';
import { differs } from './proof.ts';
import { TRANSFER_BUDGET } from './retry.ts';
import { createSender } from './sender.ts';

/** A copy of it takes a store seconds, and 10,000 of them are 2.4 TiB; larger objects have larger pieces. */
const PIECE_BYTES = 256 * 1024 ** 2;

type CopyInput = Parameters<ObjectStore['copy']>[0];
type CopyOptions = Parameters<ObjectStore['copy']>[1];

interface Copying {
  context: StoreContext & { facts: StoreFacts };
  input: CopyInput;
  guard: BaseGuard;
  call: (options: Cancellable) => CallOptions;
}

/** Copies; see ObjectStore.copy for what holds. */
export async function copyObject(
  context: StoreContext & { facts: StoreFacts },
  input: CopyInput,
  options: CopyOptions,
): Promise<StoredObject> {
  const budget = context.transferBudget ?? TRANSFER_BUDGET;
  const copying: Copying = {
    context,
    input,
    guard: createBaseGuard(context, input.from),
    call: ({ signal }) => ({ signal, budget }),
  };
  await copying.guard.expect(copying.call(options));
  const crc = await crcOf(copying, input.from.key, options);
  const there = input.anew ? undefined : await standing(copying, crc, options);
  if (there !== undefined) return there;
  if (!context.facts.copyParts) return await copyAtOnce(copying, crc, options);
  return await copyInParts(copying, crc, options);
}

/** An earlier copy of this object, whole by nature: keys of copies are written by nobody else. */
async function standing(
  copying: Copying,
  crc: string | undefined,
  options: Cancellable,
): Promise<StoredObject | undefined> {
  const { to, from } = copying.input;
  const found = await look(copying, to, options);
  if (found === undefined || found.sizeBytes !== from.sizeBytes) return undefined;
  const value = found.checksum?.value;
  // the same size and another content is no copy: it is made again
  return crc === undefined || value === undefined || value === crc ? found : undefined;
}

async function copyInParts(
  copying: Copying,
  crc: string | undefined,
  options: CopyOptions,
): Promise<StoredObject> {
  const { context, input, guard, call } = copying;
  const creation = new AbortController();
  const creating = createMultipart(
    context,
    { key: input.to, contentType: input.contentType, watch: {} },
    { signal: AbortSignal.any([options.signal, creation.signal]) },
  );
  try {
    const multipart = await creating;
    const parts = await copyPieces(copying, multipart, options);
    await guard.prove(call(options));
    const whole = crc === undefined ? undefined : decodeCrc32(crc);
    return await multipart.complete({ parts, crc: whole, ifAbsent: false }, options);
  } catch (error) {
    await abandon(context, creating, input.to, creation);
    throw error;
  }
}

async function copyPieces(
  { context, input, guard, call }: Copying,
  multipart: Multipart,
  options: CopyOptions,
): Promise<PartReceipt[]> {
  const { key, sizeBytes } = input.from;
  const receipts: PartReceipt[] = [];
  const sender = createSender({ limit: () => context.quirks.partsInFlight });
  let copiedBytes = 0;
  try {
    const pieces = cutPieces(context.quirks, sizeBytes);
    for (const [index, { offset, length }] of pieces.entries()) {
      await sender.room(options);
      const whole = length === sizeBytes;
      const part = { partNumber: index + 1, key, offset, length, whole, ifMatch: guard.ifMatch };
      sender.add(async ({ signal }) => {
        receipts.push(await multipart.copyPart(part, { signal }));
        copiedBytes += length;
        context.meter.count('store_copied_bytes', length);
        options.onProgress?.(copiedBytes);
      });
    }
    await sender.drain(options);
  } catch (error) {
    await sender.stop(error);
    options.signal.throwIfAborted();
    throw await guard.explain(error, call(options));
  }
  return receipts.sort((a, b) => a.partNumber - b.partNumber);
}

/** Equal pieces, the last one shorter. */
function cutPieces(
  { maxParts, maxPartBytes }: { maxParts: number; maxPartBytes: number },
  sizeBytes: number,
): { offset: number; length: number }[] {
  const pieceBytes = Math.min(maxPartBytes, Math.max(PIECE_BYTES, Math.ceil(sizeBytes / maxParts)));
  const count = Math.max(1, Math.ceil(sizeBytes / pieceBytes));
  return Array.from({ length: count }, (_, i) => ({
    offset: i * pieceBytes,
    length: Math.min(pieceBytes, sizeBytes - i * pieceBytes),
  }));
}

async function copyAtOnce(
  copying: Copying,
  crc: string | undefined,
  options: CopyOptions,
): Promise<StoredObject> {
  const { context, input, guard, call } = copying;
  const { client, calls, bucket } = context;
  const isItself = input.to === input.from.key;
  const command = () =>
    new CopyObjectCommand({
      Bucket: bucket,
      Key: input.to,
      CopySource: `${bucket}/${input.from.key}`,
      // a copy onto itself is refused unless it changes something
      ...(isItself ? { MetadataDirective: 'REPLACE', ContentType: input.contentType } : {}),
    });
  await calls('CopyObject', (to) => client.send(command(), to), {
    ...call(options),
    key: input.to,
  }).catch(async (error) => {
    options.signal.throwIfAborted();
    throw await guard.explain(error, call(options));
  });
  if (!isItself) await guard.prove(call(options));
  const stored = await look(copying, input.to, options);
  const value = stored?.checksum?.value;
  const isSame = crc === undefined || value === undefined || value === crc;
  if (stored === undefined || stored.sizeBytes !== input.from.sizeBytes || !isSame) {
    throw differs('copy', { key: input.to, stored_bytes: stored?.sizeBytes });
  }
  options.onProgress?.(stored.sizeBytes);
  return stored;
}

async function crcOf(
  copying: Copying,
  key: string,
  options: Cancellable,
): Promise<string | undefined> {
  return (await look(copying, key, options))?.checksum?.value;
}

/** What lies at a key, with the store's checksum of the whole object, if it has one. */
async function look(
  { context, call }: Copying,
  key: string,
  options: Cancellable,
): Promise<StoredObject | undefined> {
  const { client, calls, bucket } = context;
  const command = () =>
    new HeadObjectCommand({ Bucket: bucket, Key: key, ChecksumMode: 'ENABLED' });
  const answer = await calls('HeadObject', (to) => client.send(command(), to), {
    ...call(options),
    key,
  }).catch((error) => {
    if (isBackupError(error) && storeStatus(error) === 404) return undefined;
    throw error;
  });
  if (answer === undefined) return undefined;
  const { ChecksumCRC32: value, ChecksumType: type, ContentLength = -1, ETag = '' } = answer;
  const isWhole = value !== undefined && type !== 'COMPOSITE' && !value.includes('-');
  return {
    sizeBytes: ContentLength,
    etag: ETag,
    ...(isWhole ? { checksum: { algorithm: 'crc32', value } } : {}),
  };
}
