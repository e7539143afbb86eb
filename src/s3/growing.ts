/**
 * Cuts what comes into parts that start small and grow with what was sent (layout.ts), or that are all equal.
 *
 * A part's memory is taken before its bytes are read. The part being filled is the only memory held that is not on
 * its way out, which is what keeps many uploads on a small budget from waiting for each other:
 *
 *   reserve → commit → … → part full: sent in the background, next part's memory taken → …
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { type Cancellable, MAX_RESERVE_BYTES, type Slab } from '../ports.ts';
import { foldCrc32, type Sum } from './crc32.ts';
import type { Cutter, PartSink, Piece, Rest } from './cutter.ts';
import { type Layout, leastSlabBytes, wantPartBytes } from './layout.ts';
import { budgetOf, type Delivery, type Part } from './section.ts';

/** The part being filled. */
interface OpenPart {
  slab: Slab;
  /** As much of the slab as this part may take. */
  bytes: Buffer;
  usedBytes: number;
  sums: Sum[];
  rereadBytes: Part['rereadBytes'];
}

/** Where the next bytes go: into the open part, or beside it when they straddle the border of equal parts. */
interface Reserved {
  buffer: Buffer;
  beside: boolean;
}

interface State {
  delivery: Delivery;
  layout: Layout;
  sink: PartSink;
  open: OpenPart | undefined;
  reserved: Reserved | undefined;
  /** Memory beside the parts, and how much of it waits for the next part. Only with equal parts. */
  scratch: Buffer | undefined;
  carryBytes: number;
  isClosed: boolean;
}

/** Makes a cutter whose parts go to `sink`. */
export function createGrowing(delivery: Delivery, layout: Layout, sink: PartSink): Cutter {
  const state: State = {
    delivery,
    layout,
    sink,
    open: undefined,
    reserved: undefined,
    scratch: undefined,
    carryBytes: 0,
    isClosed: false,
  };
  return {
    findsCrc: layout.fixedPartBytes === undefined,
    reserve: async (sizeBytes, options) => await reserve(state, sizeBytes, options),
    commit: (piece) => commit(state, piece),
    flush: async ({ evenEmpty, signal }) => {
      if (state.carryBytes > 0 || (evenEmpty && state.open === undefined)) {
        await openPart(state, { signal });
      }
      const { open } = state;
      if (open !== undefined && (open.usedBytes > 0 || evenEmpty)) closePart(state, true);
      dropOpen(state);
    },
    settle: () => settle(state),
    begin: (next, { rest }) => {
      state.sink = next;
      if (rest === 'keep') return;
      state.carryBytes = 0;
      if (state.open !== undefined) state.open = { ...state.open, ...emptyPart() };
    },
    close: () => {
      state.isClosed = true;
      dropOpen(state);
    },
  };
}

async function reserve(state: State, sizeBytes: number, options: Cancellable): Promise<Buffer> {
  state.reserved = undefined;
  if (state.open === undefined) await openPart(state, options);
  let open = usable(state);
  const roomBytes = open.bytes.length - open.usedBytes;
  if (roomBytes < sizeBytes && state.layout.fixedPartBytes === undefined) {
    closePart(state, false);
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

function commit(state: State, piece: Piece): void {
  const { sizeBytes, origin } = piece;
  const { reserved, layout } = state;
  assert(reserved !== undefined && sizeBytes <= reserved.buffer.length, `sizeBytes=${sizeBytes}`);
  state.reserved = undefined;
  const open = usable(state);
  if (!reserved.beside) {
    accept(open, piece);
    if (origin !== undefined) open.rereadBytes[origin] += sizeBytes;
  } else {
    assert(origin === undefined, 'what is read back fits its part');
    const headBytes = Math.min(sizeBytes, open.bytes.length - open.usedBytes);
    reserved.buffer.copy(open.bytes, open.usedBytes, 0, headBytes);
    accept(open, sumOf(reserved.buffer.subarray(0, headBytes)));
    state.carryBytes = sizeBytes - headBytes;
    reserved.buffer.copyWithin(0, headBytes, sizeBytes);
  }
  if (layout.fixedPartBytes !== undefined && open.usedBytes === open.bytes.length) {
    closePart(state, false);
  }
}

/** Too short for a part, or for a whole one where all are equal. */
function settle(state: State): Rest {
  const { minPartBytes } = state.delivery.context.quirks;
  const { open, layout } = state;
  if (open === undefined) return { bytes: scratchOf(state).subarray(0, state.carryBytes) };
  if (layout.fixedPartBytes === undefined && open.usedBytes >= minPartBytes) {
    closePart(state, false);
    return { bytes: Buffer.alloc(0) };
  }
  findNow(open);
  return { bytes: open.bytes.subarray(0, open.usedBytes) };
}

/** These bytes may not become a part of their own. */
function findNow({ sums, bytes }: OpenPart): void {
  let at = 0;
  for (const sum of sums) {
    sum.crc ??= crc32(bytes.subarray(at, at + sum.sizeBytes));
    at += sum.sizeBytes;
  }
}

/** Counts bytes that already lie in the open part. */
function accept(open: OpenPart, sum: Sum): void {
  open.sums.push(sum);
  open.usedBytes += sum.sizeBytes;
}

const sumOf = (bytes: Buffer): Sum => ({ sizeBytes: bytes.length, crc: crc32(bytes) });

/** Takes the memory of the next part and puts in what was carried over. */
async function openPart(state: State, options: Cancellable): Promise<void> {
  const { sink, layout } = state;
  const { context, sender, counters } = state.delivery;
  const { fixedPartBytes } = layout;
  const { minPartBytes, maxPartBytes } = context.quirks;
  const least = fixedPartBytes ?? leastSlabBytes(minPartBytes);
  const want =
    fixedPartBytes ?? wantPartBytes(budgetOf(context), counters.acceptedBytes, maxPartBytes);
  sink.expect(want);
  await sender.room(options);
  const signal = AbortSignal.any([options.signal, sender.signal]);
  const slab = await context.arena.take(least, want, { signal });
  if (signal.aborted || state.isClosed) {
    slab.release();
    signal.throwIfAborted();
  }
  const bytes = slab.bytes.subarray(0, fixedPartBytes ?? maxPartBytes);
  const open = { slab, bytes, ...emptyPart() };
  state.open = open;
  const { carryBytes } = state;
  if (carryBytes > 0) {
    scratchOf(state).copy(bytes, 0, 0, carryBytes);
    state.carryBytes = 0;
    accept(open, sumOf(bytes.subarray(0, carryBytes)));
  }
}

const emptyPart = () => ({ usedBytes: 0, sums: [], rereadBytes: { base: 0, staged: 0 } });

function closePart(state: State, isLast: boolean): void {
  const { open } = state;
  if (open === undefined) return;
  state.open = undefined;
  const { slab, usedBytes, sums, rereadBytes } = open;
  const body = open.bytes.subarray(0, usedBytes);
  const crc = sums.every((sum) => sum.crc !== undefined)
    ? foldCrc32(sums)
    : findLater(state.delivery, body, sums);
  state.sink.send({ body, crc, rereadBytes, release: () => slab.release() }, { isLast });
}

/** The part's checksum; its pieces' are set by then. */
async function findLater({ context }: Delivery, body: Buffer, sums: Sum[]): Promise<number> {
  const sizes = sums.map(({ sizeBytes }) => sizeBytes);
  for (const [i, crc] of (await context.crc32s.read(body, sizes)).entries()) {
    const sum = sums[i];
    if (sum !== undefined) sum.crc ??= crc;
  }
  return foldCrc32(sums);
}

function dropOpen(state: State): void {
  state.open?.slab.release();
  state.open = undefined;
}

function usable({ open }: State): OpenPart {
  assert(open !== undefined, 'no part is open');
  return open;
}

function scratchOf(state: State): Buffer {
  state.scratch ??= Buffer.allocUnsafeSlow(MAX_RESERVE_BYTES);
  return state.scratch;
}
