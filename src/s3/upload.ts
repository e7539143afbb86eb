/**
 * The writer of ports.ts: one archive of unknown length into one object, through memory of the process-wide budget.
 *
 * A part's memory is taken before its bytes are read, kept until the store has acknowledged it (so it can be sent
 * again) and then given back. The part being filled is the only memory held that is not on its way out, which is
 * what keeps many uploads on a small budget from waiting for each other. Order of one upload:
 *
 *   reserve → commit → … → part full: sent in the background, next part's memory taken → … → complete
 *
 * What goes where (direct parts, staging objects, joining) is decided in layout.ts; what the store must prove is in
 * multipart.ts; joining is in joiner.ts.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { BackupError } from '../errors.ts';
import {
  type Cancellable,
  MAX_RESERVE_BYTES,
  type ObjectUpload,
  type Slab,
  type StoredObject,
  type StoreFacts,
  type UploadCounters,
  type UploadInput,
} from '../ports.ts';
import { untilAborted } from './abort.ts';
import { abandon, removeStaged } from './cleanup.ts';
import type { StoreContext } from './context.ts';
import { combineCrc32 } from './crc32.ts';
import { countPieces, joinStaged, type Section } from './joiner.ts';
import { type Layout, leastSlabBytes, partsInFlight, planLayout, wantPartBytes } from './layout.ts';
import { createMultipart, differs, type Multipart, type Watch } from './multipart.ts';
import { createSender, type Sender } from './sender.ts';

/** Shared by all uploads of a store: memory is divided by their number. */
export interface UploadShare {
  active: number;
}

export interface UploadContext extends StoreContext {
  facts: StoreFacts;
  share: UploadShare;
  /** Names this upload's staging objects apart from those of an earlier try. */
  unique: string;
}

/** The part being filled. */
interface OpenPart {
  slab: Slab;
  /** As much of the slab as this part may take. */
  bytes: Buffer;
  usedBytes: number;
  crc: number;
}

/** Where the next bytes go: into the open part, or beside it when they straddle the border of equal parts. */
interface Reserved {
  buffer: Buffer;
  beside: boolean;
}

interface State {
  context: UploadContext;
  input: UploadInput;
  layout: Layout;
  final: Multipart;
  /** Ends the creation of staging uploads; they are not cut off by a failure, or they could not be aborted. */
  creation: AbortController;
  sender: Sender;
  counters: UploadCounters;
  watch: Watch;
  /** The final upload's direct parts first, then the staging objects. */
  sections: Section[];
  open: OpenPart | undefined;
  reserved: Reserved | undefined;
  /** Memory beside the parts, and how much of it waits for the next part. Only with equal parts. */
  scratch: Buffer | undefined;
  carryBytes: number;
  /** `ended`: completed or disposed; nothing may be called any more. */
  phase: 'writing' | 'completing' | 'ended';
}

/** Creates the upload at the store; see ports.ts. */
export async function beginUpload(
  context: UploadContext,
  input: UploadInput,
  options: Cancellable,
): Promise<ObjectUpload> {
  const { share, quirks } = context;
  const counters: UploadCounters = {
    acceptedBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    joinedBytes: 0,
    parts: 0,
    requests: 0,
    uploadRequests: 0,
    copyRequests: 0,
    retries: 0,
  };
  const watch: Watch = {
    onRequest: () => {
      counters.requests += 1;
    },
    onRetry: () => {
      counters.retries += 1;
    },
  };
  const creation = new AbortController();
  const creating = createMultipart(context, { ...input, watch }, creation);
  const final = await untilAborted(creating, options.signal).catch(async (error) => {
    await abandon(context, creating, input.key, creation);
    throw error;
  });
  share.active += 1;
  const layout = planLayout(quirks, budgetOf(context), input.maxBytes);
  const direct: Section = {
    multipart: Promise.resolve(final),
    key: input.key,
    receipts: [],
    parts: 0,
    bytes: 0,
  };
  const state: State = {
    context,
    input,
    layout,
    final,
    creation,
    sender: createSender({ limit: () => partsInFlight(quirks.partsInFlight, share.active) }),
    counters,
    watch,
    sections: [direct],
    open: undefined,
    reserved: undefined,
    scratch: undefined,
    carryBytes: 0,
    phase: 'writing',
  };
  return {
    key: input.key,
    uploadId: final.uploadId,
    counters,
    arrange: (places) => assert(places.every((place, i) => place === i)),
    endSection: async () => {},
    reserve: async (sizeBytes, to) => await reserve(state, sizeBytes, to),
    commit: (sizeBytes) => commit(state, sizeBytes),
    write: async (bytes, to) => {
      for (let at = 0; at < bytes.length; at += MAX_RESERVE_BYTES) {
        const piece = bytes.subarray(at, at + MAX_RESERVE_BYTES);
        (await reserve(state, piece.length, to)).set(piece);
        commit(state, piece.length);
      }
    },
    complete: async (to) => await complete(state, to),
    [Symbol.asyncDispose]: async () => await dispose(state),
  };
}

async function reserve(state: State, sizeBytes: number, options: Cancellable): Promise<Buffer> {
  assert(sizeBytes >= 0 && sizeBytes <= MAX_RESERVE_BYTES, `sizeBytes=${sizeBytes}`);
  assert.equal(state.phase, 'writing');
  state.reserved = undefined;
  options.signal.throwIfAborted();
  state.sender.signal.throwIfAborted();
  if (state.open === undefined) await openPart(state, options);
  let open = usable(state);
  const roomBytes = open.bytes.length - open.usedBytes;
  if (roomBytes < sizeBytes && state.layout.fixedPartBytes === undefined) {
    closePart(state);
    await openPart(state, options);
    open = usable(state);
  } else if (roomBytes < sizeBytes) {
    const buffer = scratchOf(state).subarray(0, sizeBytes);
    state.reserved = { buffer, beside: true };
    return buffer;
  }
  const buffer = open.bytes.subarray(open.usedBytes, open.usedBytes + sizeBytes);
  state.reserved = { buffer, beside: false };
  return buffer;
}

function commit(state: State, sizeBytes: number): void {
  const { reserved, counters, layout } = state;
  assert(reserved !== undefined && state.phase === 'writing', 'commit without reserve');
  assert(sizeBytes >= 0 && sizeBytes <= reserved.buffer.length, `sizeBytes=${sizeBytes}`);
  state.sender.signal.throwIfAborted();
  state.reserved = undefined;
  counters.acceptedBytes += sizeBytes;
  const open = usable(state);
  if (!reserved.beside) {
    accept(state, sizeBytes);
  } else {
    const headBytes = Math.min(sizeBytes, open.bytes.length - open.usedBytes);
    reserved.buffer.copy(open.bytes, open.usedBytes, 0, headBytes);
    accept(state, headBytes);
    state.carryBytes = sizeBytes - headBytes;
    reserved.buffer.copyWithin(0, headBytes, sizeBytes);
  }
  if (layout.fixedPartBytes !== undefined && open.usedBytes === open.bytes.length) closePart(state);
}

/** Counts bytes that already lie in the open part; their CRC is taken while they are still in the cache. */
function accept(state: State, sizeBytes: number): void {
  const open = usable(state);
  const end = open.usedBytes + sizeBytes;
  if (state.final.hasCrc) open.crc = crc32(open.bytes.subarray(open.usedBytes, end), open.crc);
  open.usedBytes = end;
}

/** Takes the memory of the next part and puts in what was carried over. */
async function openPart(state: State, options: Cancellable): Promise<void> {
  const { context, sender, layout, counters } = state;
  const { fixedPartBytes } = layout;
  const { minPartBytes, maxPartBytes } = context.quirks;
  const least = fixedPartBytes ?? leastSlabBytes(minPartBytes);
  const want =
    fixedPartBytes ?? wantPartBytes(budgetOf(context), counters.acceptedBytes, maxPartBytes);
  refuseOutgrown(state, want);
  await sender.room(options);
  const signal = AbortSignal.any([options.signal, sender.signal]);
  const slab = await context.arena.take(least, want, { signal });
  if (signal.aborted || state.phase === 'ended') {
    slab.release();
    signal.throwIfAborted();
  }
  const bytes = slab.bytes.subarray(0, fixedPartBytes ?? maxPartBytes);
  state.open = { slab, bytes, usedBytes: 0, crc: 0 };
  if (state.carryBytes > 0) {
    scratchOf(state).copy(bytes, 0, 0, state.carryBytes);
    const carryBytes = state.carryBytes;
    state.carryBytes = 0;
    accept(state, carryBytes);
  }
}

/** Hands the open part to the sender; its memory is given back when it is acknowledged or given up. */
function closePart(state: State): void {
  const { open, sender, counters, context } = state;
  if (open === undefined) return;
  state.open = undefined;
  const section = sectionForNext(state);
  const partNumber = ++section.parts;
  const body = open.bytes.subarray(0, open.usedBytes);
  section.bytes += body.length;
  const release = () => open.slab.release();
  sender.signal.addEventListener('abort', release, { once: true });
  const send = async ({ signal }: Cancellable) => {
    // From here on the job itself gives the memory back: not before its request has ended.
    sender.signal.removeEventListener('abort', release);
    try {
      const multipart = await section.multipart;
      const receipt = await multipart.sendPart({ partNumber, body, crc: open.crc }, { signal });
      section.receipts.push(receipt);
      counters.sentBytes += body.length;
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

/** The section whose turn it is; a new staging object when the last is full. */
function sectionForNext(state: State): Section {
  const { layout, sections, context, input, creation, watch } = state;
  const [direct] = sections;
  const last = sections.at(-1);
  assert(direct !== undefined && last !== undefined);
  // All there is fits one part: no need to stage it.
  const only = state.phase === 'completing' && sections.length === 1 && direct.parts === 0;
  const capacity = last === direct ? layout.directParts : layout.stagedParts;
  if (last.parts < capacity || only) return last;
  const key = `${input.stagingPrefix}${context.unique}/${sections.length}`;
  const section: Section = {
    key,
    multipart: createMultipart(context, { key, contentType: input.contentType, watch }, creation),
    receipts: [],
    parts: 0,
    bytes: 0,
  };
  // Its failure is met by the first part that waits for it.
  section.multipart.catch(() => undefined);
  sections.push(section);
  return section;
}

/** Says before reading on that there is no place left for a part of `wantBytes`. */
function refuseOutgrown({ layout, sections, counters, context }: State, wantBytes: number): void {
  const { maxParts, maxObjectBytes, name } = context.quirks;
  const [direct, ...staged] = sections;
  const last = staged.at(-1);
  const isLastFull = last === undefined || last.parts >= layout.stagedParts;
  const next = isLastFull
    ? [...staged, { bytes: wantBytes }]
    : [...staged.slice(0, -1), { bytes: last.bytes + wantBytes }];
  const fits =
    (direct?.parts ?? 0) < layout.directParts ||
    (layout.stagedParts > 0 && countPieces(layout, next) <= layout.pieces);
  if (fits && counters.acceptedBytes < maxObjectBytes) return;
  const limits = `provider=${name} max_parts=${maxParts} sent_bytes=${counters.acceptedBytes}`;
  throw new BackupError(
    'store_refused',
    `store an archive of this size: raise XVAULT_MEMORY_MIB for larger parts, ${limits}`,
    { details: { max_parts: maxParts, max_object_bytes: maxObjectBytes }, retry: 'after-fix' },
  );
}

async function complete(state: State, options: Cancellable): Promise<StoredObject> {
  assert.equal(state.phase, 'writing');
  state.reserved = undefined;
  state.phase = 'completing';
  const { sender, sections, counters, final, context, layout } = state;
  sender.signal.throwIfAborted();
  const nothingYet = state.open === undefined && counters.parts + (sections[0]?.parts ?? 0) === 0;
  // An object of no bytes is one part of no bytes.
  const empty = nothingYet && sections.length === 1;
  if (state.carryBytes > 0 || empty) await openPart(state, options);
  if (state.open !== undefined && (state.open.usedBytes > 0 || empty)) closePart(state);
  state.open?.slab.release();
  state.open = undefined;
  await sender.drain(options);
  if (counters.sentBytes !== counters.acceptedBytes) {
    const { sentBytes, acceptedBytes } = counters;
    throw differs('upload', { accepted_bytes: acceptedBytes, acknowledged_bytes: sentBytes });
  }
  for (const section of sections) section.receipts.sort((a, b) => a.partNumber - b.partNumber);
  const crc = sections.flatMap(({ receipts }) => receipts).reduce(appendCrc, 0);
  const signal = AbortSignal.any([options.signal, sender.signal]);
  const copied = await joinStaged(
    { context, layout, sections, final, sender, counters },
    { signal },
  );
  const parts = [...(sections[0]?.receipts ?? []), ...copied];
  const ifAbsent = context.facts.conditionalComplete;
  const stored = await final.complete({ parts, crc, ifAbsent }, { signal });
  end(state);
  await removeStaged(context, sections);
  return stored;
}

const appendCrc = (crc: number, part: { crc: number | undefined; sizeBytes: number }) =>
  combineCrc32(crc, part.crc ?? 0, part.sizeBytes);

function end(state: State): void {
  if (state.phase === 'ended') return;
  state.phase = 'ended';
  state.context.share.active -= 1;
}

async function dispose(state: State): Promise<void> {
  if (state.phase === 'ended') return;
  end(state);
  const { sender, context } = state;
  await sender.stop(new BackupError('cancelled', 'upload was given up'));
  state.open?.slab.release();
  state.open = undefined;
  const { sections, creation } = state;
  await Promise.all(sections.map((s) => abandon(context, s.multipart, s.key, creation)));
  await removeStaged(context, sections);
}

function usable({ open }: State): OpenPart {
  assert(open !== undefined, 'no part is open');
  return open;
}

function scratchOf(state: State): Buffer {
  state.scratch ??= Buffer.allocUnsafeSlow(MAX_RESERVE_BYTES);
  return state.scratch;
}

function budgetOf({ arena, share }: UploadContext) {
  const { totalBytes, unitBytes } = arena;
  return { totalBytes, unitBytes, activeUploads: share.active };
}
