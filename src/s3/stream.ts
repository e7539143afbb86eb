/**
 * A whole object read front to back, faster than one connection can: ranges of one unit of the budget each, some of them
 * on their way while one is used.
 *
 * A range is asked for when its memory is there, in order, and its memory goes back when the next piece is asked for. So
 * a reader never waits for memory that it holds itself: with a single unit it has one range at a time.
 */
import type { Readable } from 'node:stream';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore, Slab } from '../ports.ts';
import { isAnswerTo, notARange, type SendOptions, storeStatus } from './calls.ts';
import type { FillWish } from './client.ts';
import type { StoreContext } from './context.ts';
import { TRANSFER_BUDGET } from './retry.ts';

/** Ranges on their way, or there, besides the one in use. */
const AHEAD_RANGES = 2;

type Input = Parameters<ObjectStore['read']>[0];

interface Range {
  offset: number;
  length: number;
}

/** `ObjectStore.read`. */
export async function* readStream(
  context: StoreContext,
  input: Input,
  { signal }: Cancellable,
): AsyncGenerator<Uint8Array, void, undefined> {
  const stop = new AbortController();
  const options = { signal: AbortSignal.any([signal, stop.signal]) };
  const coming: Promise<Slab>[] = [];
  const { offset, length: wanted } = input.range ?? { offset: 0, length: input.sizeBytes };
  let next = offset;
  const ask = (): void => {
    const length = Math.min(context.arena.unitBytes, offset + wanted - next);
    if (length <= 0) return;
    const piece = fetchRange(context, input, { offset: next, length }, options);
    piece.catch(() => undefined); // told when its turn comes
    coming.push(piece);
    next += length;
  };
  try {
    for (let i = 0; i <= AHEAD_RANGES; i++) ask();
    for (let piece = coming.shift(); piece !== undefined; piece = coming.shift()) {
      const slab = await piece;
      try {
        yield slab.bytes;
      } finally {
        slab.release();
      }
      ask();
    }
  } finally {
    stop.abort();
    for (const left of await Promise.allSettled(coming)) {
      if (left.status === 'fulfilled') left.value.release();
    }
  }
}

/** One range in memory of the budget, whose owner is the caller. */
async function fetchRange(
  context: StoreContext,
  input: Input,
  range: Range,
  options: Cancellable,
): Promise<Slab> {
  const { bytes: memory, release } = await context.arena.take(range.length, range.length, options);
  try {
    const bytes = memory.subarray(0, range.length);
    await fillRange(context, { ...input, bytes, range }, options);
    return { bytes, release };
  } catch (error) {
    release();
    throw error;
  }
}

/** `ObjectStore.fill`. */
export async function fillFromObject(
  context: StoreContext,
  { offset, ...object }: Parameters<ObjectStore['fill']>[0],
  target: Uint8Array,
  options: Cancellable,
): Promise<void> {
  const bytes = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
  await fillRange(context, { ...object, bytes, range: { offset, length: bytes.length } }, options);
}

/** Fills the memory, again from its beginning when a try fails. */
async function fillRange(
  { client, calls, bucket, transferBudget }: StoreContext,
  { key, etag, bytes, range }: Pick<Input, 'key' | 'etag'> & { bytes: Buffer; range: Range },
  { signal }: Cancellable,
): Promise<void> {
  const { offset, length } = range;
  const input = { Bucket: bucket, Key: key, Range: `bytes=${offset}-${offset + length - 1}` };
  const fill = async (to: SendOptions): Promise<boolean> => {
    const wish: FillWish = { target: bytes, isFilled: false };
    const options = { ...to, fill: wish };
    const answer = await client.send(new GetObjectCommand(input), options);
    const body = answer.Body as Readable | undefined;
    if (bare(answer.ETag ?? '') !== bare(etag)) {
      body?.destroy();
      return false;
    }
    if (wish.isFilled) return true;
    if (!isAnswerTo(range, answer)) {
      body?.destroy();
      throw notARange(key);
    }
    // an answer that is not simply the range, such as one in chunks
    let filled = 0;
    for await (const chunk of (body ?? []) as AsyncIterable<Uint8Array>) {
      // a store may send more than was asked for, never into memory that is not ours
      const fits = chunk.subarray(0, length - filled);
      bytes.set(fits, filled);
      filled += fits.length;
      if (fits.length < chunk.length) break;
    }
    if (filled === length) return true;
    throw Object.assign(new Error('answer cut short'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
  };
  const budget = transferBudget ?? TRANSFER_BUDGET;
  const isOurs = await calls('GetObject', fill, { key, signal, budget }).catch((error) => {
    if (!isBackupError(error, 'store_refused')) throw error;
    if (storeStatus(error) === 404) throw lost('gone', key);
    if (storeStatus(error) === 416) return false; // it ends before
    throw error;
  });
  if (!isOurs) throw lost('changed', key);
}

function lost(how: 'gone' | 'changed', key: string): BackupError {
  return new BackupError('precondition_failed', `read object: it is ${how}, key=${key}`);
}

/** Some stores quote an ETag in one answer and not in another. */
const bare = (etag: string) => etag.replaceAll('"', '');
