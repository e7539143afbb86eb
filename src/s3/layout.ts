/**
 * How an archive of unknown length is cut into parts: pure arithmetic.
 *
 * A part lies in memory until it is acknowledged, so parts start small and grow with what was sent (never with the
 * machine's virtual size), up to a fair share of the byte budget. An upload has at most 10,000 parts (`maxParts`):
 *
 * - Usual stores: the first four fifths of the part numbers take the bytes directly. What comes after goes into
 *   staging objects, each an upload of its own, and is joined at the end by copies of up to 5 GiB into the fifth
 *   kept free. Only what outgrew is copied.
 * - Stores that want equal parts (R2): all parts, copies too, have one size, so bytes sent as 16 MiB parts and
 *   copies of 1 GiB cannot be mixed. Unless the archive surely fits (`maxBytes`), everything is staged and the
 *   final object is made of equal copies only.
 * - Stores without copies: `maxParts` parts and no more.
 */
import { MAX_RESERVE_BYTES, type PlanLimits } from '../ports.ts';
import type { Quirks } from './quirks.ts';

export interface Layout {
  /** Part numbers 1 … of the final upload that take bytes directly; 0: all bytes are staged. */
  directParts: number;
  /** Parts of one staging object; 0: outgrowing is an error. */
  stagedParts: number;
  /** Equal parts: the size of each; undefined: sizes are free. */
  fixedPartBytes: number | undefined;
  /** The largest piece copied at once; with equal parts: the exact one. */
  pieceBytes: number;
  /** Part numbers left for copied pieces. */
  pieces: number;
}

/** One copy of a staging object's bytes. */
export interface Piece {
  offset: number;
  length: number;
}

/** Parts start to grow when this many have been sent. */
const GROWTH_DIVISOR = 1000;
/** The first parts, if the share allows: 16 MiB. A request costs about 2 ms of CPU, whatever its size. */
const FIRST_UNITS = 2;
/** An upload takes at most this fraction of its share for one part, so that several are on their way. */
const PARTS_IN_SHARE = 4;
/** Equal parts are this many units if the share allows: 16 MiB, 168 GB in 10,000 parts. */
const FIXED_UNITS = 2;
/** Copies of equal-part stores: long enough for 10 TB in 10,000, short enough to be tried again. */
const EQUAL_PIECE_BYTES = 1024 ** 3;
/** Over a base, if the share allows: a copy pays from 5 MiB on, so 16 MiB see both of its ends. */
const WINDOW_BYTES = 16 * 1024 ** 2;
/** One of so many part numbers is kept for copies. */
const PIECES_DIVISOR = 5;

/** Connections of all uploads together: each costs buffers beside the budget, and TLS on more of them costs more CPU. */
const PARTS_IN_FLIGHT_IN_ALL = 16;

export interface Budget {
  totalBytes: number;
  unitBytes: number;
  /** Uploads running now, this one included. */
  activeUploads: number;
}

/** Chooses the cut when the upload begins; `cellBytes`: the size of equal parts is chosen already (planWindow). */
export function planLayout(
  quirks: Pick<Quirks, 'equalParts' | 'copyParts' | 'maxParts' | 'minPartBytes' | 'maxPartBytes'>,
  budget: Budget,
  maxBytes: number | undefined,
  cellBytes?: number,
): Layout {
  const { maxParts, minPartBytes, maxPartBytes } = quirks;
  const free = { fixedPartBytes: undefined, pieceBytes: maxPartBytes };
  if (!quirks.equalParts) {
    if (!quirks.copyParts) return { ...free, directParts: maxParts, stagedParts: 0, pieces: 0 };
    const pieces = Math.max(1, Math.floor(maxParts / PIECES_DIVISOR));
    return { ...free, directParts: maxParts - pieces, stagedParts: maxParts, pieces };
  }
  const shareUnits = Math.floor(shareBytes(budget) / budget.unitBytes);
  const leastUnits = Math.ceil(minPartBytes / budget.unitBytes);
  const units = Math.max(leastUnits, Math.min(FIXED_UNITS, shareUnits));
  const fixedPartBytes = cellBytes ?? units * budget.unitBytes;
  const fits = maxBytes !== undefined && maxBytes <= maxParts * fixedPartBytes;
  if (fits || !quirks.copyParts) {
    return { directParts: maxParts, stagedParts: 0, fixedPartBytes, pieceBytes: 0, pieces: 0 };
  }
  const most = Math.min(EQUAL_PIECE_BYTES, maxPartBytes);
  const perPiece = Math.min(maxParts, Math.max(1, Math.floor(most / fixedPartBytes)));
  return {
    directParts: 0,
    stagedParts: Math.floor(maxParts / perPiece) * perPiece,
    fixedPartBytes,
    pieceBytes: perPiece * fixedPartBytes,
    pieces: maxParts,
  };
}

/**
 * Chooses the memory over a base (window.ts): of fixed size, small enough for many uploads, large enough for a plan
 * that looks ahead. Equal parts are as small as the archive's greatest length allows, for a changed block costs one.
 */
export function planWindow(
  quirks: Pick<Quirks, 'equalParts' | 'maxParts' | 'minPartBytes' | 'maxPartBytes'>,
  budget: Budget,
  maxBytes: number | undefined,
): PlanLimits {
  const { maxParts, minPartBytes, maxPartBytes: maxCopyBytes } = quirks;
  const { unitBytes, totalBytes } = budget;
  const inUnits = (bytes: number) => Math.ceil(bytes / unitBytes) * unitBytes;
  const share = Math.floor(shareBytes(budget) / unitBytes) * unitBytes;
  const leastBytes = Math.min(inUnits(minPartBytes + 2 * MAX_RESERVE_BYTES), totalBytes);
  const windowBytes = Math.max(leastBytes, Math.min(inUnits(WINDOW_BYTES), share));
  if (!quirks.equalParts) return { minPartBytes, maxCopyBytes, windowBytes };
  const most = Math.max(share, leastBytes) - MAX_RESERVE_BYTES;
  const wanted = Math.max(minPartBytes, Math.ceil((maxBytes ?? 0) / maxParts));
  // What does not even fit the largest is staged, and joined in pieces of any number of cells.
  const cellBytes = wanted <= most ? wanted : minPartBytes;
  const needed = inUnits(cellBytes + MAX_RESERVE_BYTES);
  const window = Math.max(windowBytes, needed);
  return { minPartBytes, maxCopyBytes, windowBytes: window, cellBytes };
}

/** The memory wished for the next part, in whole units, where sizes are free. */
export function wantPartBytes(budget: Budget, sentBytes: number, maxPartBytes: number): number {
  const { unitBytes } = budget;
  const growing = Math.max(FIRST_UNITS * unitBytes, Math.floor(sentBytes / GROWTH_DIVISOR));
  const most = Math.min(growing, shareBytes(budget), maxPartBytes);
  return Math.max(1, Math.floor(most / unitBytes)) * unitBytes;
}

/** The least memory of a part: when the next reserve does not fit, it is long enough to be sent. */
export function leastSlabBytes(minPartBytes: number): number {
  return minPartBytes + MAX_RESERVE_BYTES;
}

/**
 * Cuts a staging object into pieces: exact ones with a short end where parts are equal, else as equal as whole
 * bytes allow, so that none falls below the smallest part.
 */
export function cutPieces(layout: Layout, sizeBytes: number): Piece[] {
  const count = Math.ceil(sizeBytes / layout.pieceBytes);
  const length =
    layout.fixedPartBytes === undefined ? Math.ceil(sizeBytes / count) : layout.pieceBytes;
  return Array.from({ length: count }, (_, i) => ({
    offset: i * length,
    length: Math.min(length, sizeBytes - i * length),
  }));
}

/** Copies it takes to join staging objects of these sizes. */
export function countPieces(layout: Layout, staged: readonly { bytes: number }[]): number {
  return staged.reduce((sum, { bytes }) => sum + cutPieces(layout, bytes).length, 0);
}

function shareBytes({ totalBytes, activeUploads }: Budget): number {
  return Math.floor(totalBytes / (PARTS_IN_SHARE * Math.max(1, activeUploads)));
}

/** Parts one upload may have on their way: the store's limit, or its share of all connections, at least one. */
export function partsInFlight(storeLimit: number, activeUploads: number): number {
  const share = Math.floor(PARTS_IN_FLIGHT_IN_ALL / Math.max(1, activeUploads));
  return Math.max(1, Math.min(storeLimit, share));
}
