/**
 * One multipart upload that takes parts: the final object's own, or a staging object's.
 *
 * Parts are jobs of the upload's sender. A part's memory is given back when the store has acknowledged it or when it
 * is given up, and not before its request has ended.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Cancellable, StoreFacts, UploadCounters } from '../ports.ts';
import { untilAborted } from '../signals.ts';
import type { BaseGuard } from './base.ts';
import type { CallOptions } from './calls.ts';
import type { StoreContext } from './context.ts';
import { foldCrc32 } from './crc32.ts';
import type { Budget } from './layout.ts';
import { createMultipart, type Multipart, type PartReceipt, type Watch } from './multipart.ts';
import { TRANSFER_BUDGET } from './retry.ts';
import type { Sender } from './sender.ts';

/** Shared by all uploads of a store: memory is divided by their number. */
export interface UploadShare {
  active: number;
}

export interface UploadContext extends StoreContext {
  facts: StoreFacts;
  share: UploadShare;
}

/** What all parts of one archive share. */
export interface Delivery {
  context: UploadContext;
  sender: Sender;
  counters: UploadCounters;
  watch: Watch;
  contentType: string;
  stagingPrefix: string;
  /** Names this upload's staging objects apart from those of an earlier try. */
  unique: string;
  /** Ends the creation of staging uploads; they are not cut off by a failure, or they could not be aborted. */
  creation: AbortController;
  /** The store verifies a CRC32 of each part. */
  hasCrc: boolean;
  /** undefined: nothing is copied from a base. */
  guard: BaseGuard | undefined;
  /** All staging objects of this archive, for cleaning up. */
  staged: Section[];
}

export interface Section {
  key: string;
  multipart: Promise<Multipart>;
  /** Acknowledged parts, in any order until the end. */
  receipts: PartReceipt[];
  /** Part numbers given out. */
  parts: number;
  /** Bytes of those parts. */
  bytes: number;
  /** Completed (or about to be): there may be an object to remove. */
  stored?: boolean;
}

/** Where one part goes. */
export interface Slot {
  section: Section;
  partNumber: number;
}

/** Bytes in memory that are one part. */
export interface Part {
  body: Buffer;
  /** A promise where another thread reads the bytes; it is never rejected. */
  crc: number | Promise<number>;
  /** How much of it is not new, by where it was read back from. */
  rereadBytes: { base: number; staged: number };
  /** Gives the memory back. */
  release(): void;
}

/** The section of an upload that exists already. */
export function sectionOf(multipart: Multipart): Section {
  return {
    key: multipart.key,
    multipart: Promise.resolve(multipart),
    receipts: [],
    parts: 0,
    bytes: 0,
  };
}

/** A new staging object under a key nobody else uses, created in the background. */
export function openStaged(delivery: Delivery): Section {
  const { context, watch, contentType, creation, staged } = delivery;
  const key = `${delivery.stagingPrefix}${delivery.unique}/${staged.length + 1}`;
  const multipart = createMultipart(context, { key, contentType, watch }, creation);
  // Its failure is met by the first part that waits for it.
  multipart.catch(() => undefined);
  const section: Section = { key, multipart, receipts: [], parts: 0, bytes: 0 };
  staged.push(section);
  return section;
}

/** Names for the staging objects of one upload. */
export const uniqueName = () => randomUUID();

/** The next part number of `section`. */
export function takeSlot(section: Section, sizeBytes: number): Slot {
  section.parts += 1;
  section.bytes += sizeBytes;
  return { section, partNumber: section.parts };
}

/** Sends a part in the background. Errors: the sender's first failure. */
export function addSend({ sender, counters, context }: Delivery, slot: Slot, part: Part): void {
  const { section, partNumber } = slot;
  const { body } = part;
  const release = () => part.release();
  sender.signal.addEventListener('abort', release, { once: true });
  const send = async ({ signal }: Cancellable) => {
    // From here on the job itself gives the memory back: not before its request has ended.
    sender.signal.removeEventListener('abort', release);
    try {
      const multipart = await section.multipart;
      const crc = await untilAborted(Promise.resolve(part.crc), signal);
      section.receipts.push(await multipart.sendPart({ partNumber, body, crc }, { signal }));
      countSent(counters, part);
      counters.parts += 1;
      context.meter.count('store_sent_bytes', body.length);
    } finally {
      release();
    }
  };
  try {
    sender.add(send);
  } catch (error) {
    release();
    throw error;
  }
}

function countSent(counters: UploadCounters, { body, rereadBytes }: Part): void {
  const { base, staged } = rereadBytes;
  counters.sentBytes += body.length - base - staged;
  counters.copiedBytes += base;
  counters.joinedBytes += staged;
  counters.rereadBytes += base + staged;
}

/** A range of the base or of a staging object. */
export interface Source {
  /** undefined: the base. */
  staged: Section | undefined;
  offset: number;
  length: number;
  crc?: number | undefined;
}

/** Copies a range in the background. Errors: the sender's first failure. */
export function addCopy(delivery: Delivery, slot: Slot, source: Source): void {
  const { sender, counters, context } = delivery;
  const { section, partNumber } = slot;
  const { staged, length } = source;
  sender.add(async (to) => {
    const multipart = await section.multipart;
    const receipt =
      staged === undefined
        ? await copyOfBase(delivery, multipart, { ...source, partNumber }, to)
        : await multipart.copyPart({ ...ofStaged(staged, source), partNumber }, to);
    section.receipts.push(receipt);
    if (staged === undefined) counters.copiedBytes += length;
    else counters.joinedBytes += length;
    counters.parts += 1;
    context.meter.count('store_copied_bytes', length);
  });
}

/** Calls that work of hours hangs on are tried as long as a part, and counted as the upload's. */
export function patientCall({ context, watch }: Delivery, signal: AbortSignal): CallOptions {
  return { signal, budget: context.transferBudget ?? TRANSFER_BUDGET, ...watch };
}

async function copyOfBase(
  delivery: Delivery,
  multipart: Multipart,
  part: Source & { partNumber: number },
  { signal }: Cancellable,
): Promise<PartReceipt> {
  const { guard } = delivery;
  assert(guard !== undefined, 'a base was given');
  const call = patientCall(delivery, signal);
  const { base, ifMatch } = guard;
  const { partNumber, offset, length, crc } = part;
  const whole = length === base.sizeBytes;
  const copy = { partNumber, key: base.key, offset, length, whole, crc, ifMatch };
  await guard.expect(call);
  try {
    return await multipart.copyPart(copy, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw await guard.explain(error, call);
  }
}

const ofStaged = ({ key, bytes }: Section, { offset, length, crc }: Source) => ({
  key,
  offset,
  length,
  crc,
  whole: length === bytes,
});

/** Completes a staging object whose parts are all acknowledged, and has the store prove it. */
export async function completeStaged(section: Section, options: Cancellable): Promise<void> {
  const multipart = await section.multipart;
  section.receipts.sort((a, b) => a.partNumber - b.partNumber);
  assert.equal(section.receipts.length, section.parts);
  const isKnown = section.receipts.every(({ crc }) => crc !== undefined);
  const crc = isKnown ? foldCrc32(section.receipts) : undefined;
  section.stored = true;
  await multipart.complete({ parts: section.receipts, crc, ifAbsent: false }, options);
}

/** The memory there is and how many share it. */
export function budgetOf({ arena, share }: UploadContext): Budget {
  const { totalBytes, unitBytes } = arena;
  return { totalBytes, unitBytes, activeUploads: share.active };
}
