/**
 * A disk as an unchanging base under an overlay of written pages; what `../disk.ts` is made of.
 *
 * A page is 64 KiB (the last one may be short). A clone shares all pages; the first write to a shared page copies
 * it. Offsets are bytes and may exceed 2^32: no bit operations on them.
 */

import assert from 'node:assert/strict';

/** The unit of allocation of every simulated disk. */
export const PAGE_BYTES = 65_536;

/** A disk as the simulated host and the importer see it; all calls are synchronous and in memory. */
export interface SimDisk {
  readonly sizeBytes: number;
  /** Fills `target` with the content at `offset`; the range must lie inside the disk. */
  read(offset: number, target: Uint8Array): void;
  /** Where data begin at or after `offset`: `offset` itself inside an allocated page, else the next such page. */
  nextData(offset: number): number | undefined;
  /** Copies `bytes` to `offset`; the range must lie inside the disk. */
  write(offset: number, bytes: Uint8Array): void;
  /** A disk of the same content: later writes to either are not seen by the other. */
  clone(): SimDisk;
}

/** The unchanging content under a disk's overlay, page by page. */
export interface DiskBase {
  /** Fills `target` (a page, or the short last one) and says whether the page is allocated at all. */
  readPage(page: number, target: Uint8Array): boolean;
  /** The first allocated page at or after `page`. */
  nextPage(page: number): number | undefined;
}

const EMPTY_BASE: DiskBase = { readPage: () => false, nextPage: () => undefined };

/** An empty disk: all zero, nothing allocated. */
export function createSparseDisk(sizeBytes: number): SimDisk {
  return createDisk(sizeBytes, EMPTY_BASE);
}

/** A disk over an unchanging base; what is written goes to the overlay. */
export function createDisk(sizeBytes: number, base: DiskBase): SimDisk {
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'a disk has a whole number of bytes');
  return overlayDisk(sizeBytes, base, new Map());
}

function overlayDisk(sizeBytes: number, base: DiskBase, pages: Map<number, Uint8Array>): SimDisk {
  /** Pages that no clone shares: only these are written in place. */
  let owned = new Set<number>();

  const pageLength = (page: number) => Math.min(PAGE_BYTES, sizeBytes - page * PAGE_BYTES);

  function writablePage(page: number): Uint8Array {
    const shared = pages.get(page);
    if (shared !== undefined && owned.has(page)) return shared;
    const copy = new Uint8Array(pageLength(page));
    if (shared !== undefined) copy.set(shared);
    else if (!base.readPage(page, copy)) copy.fill(0);
    pages.set(page, copy);
    owned.add(page);
    return copy;
  }

  function readPiece(page: number, within: number, target: Uint8Array): void {
    const written = pages.get(page);
    if (written !== undefined) {
      target.set(written.subarray(within, within + target.length));
    } else if (target.length === pageLength(page)) {
      if (!base.readPage(page, target)) target.fill(0);
    } else {
      const whole = new Uint8Array(pageLength(page));
      if (base.readPage(page, whole)) target.set(whole.subarray(within, within + target.length));
      else target.fill(0);
    }
  }

  function* pieces(offset: number, length: number) {
    const end = offset + length;
    const inside = Number.isSafeInteger(offset) && offset >= 0 && end <= sizeBytes;
    assert(inside, `range outside the disk: offset=${offset} length=${length} size=${sizeBytes}`);
    for (let at = offset; at < end; ) {
      const page = Math.floor(at / PAGE_BYTES);
      const next = Math.min(end, (page + 1) * PAGE_BYTES);
      yield { page, within: at - page * PAGE_BYTES, from: at - offset, to: next - offset };
      at = next;
    }
  }

  return {
    sizeBytes,
    read(offset, target) {
      for (const { page, within, from, to } of pieces(offset, target.length)) {
        readPiece(page, within, target.subarray(from, to));
      }
    },
    nextData(offset) {
      if (offset >= sizeBytes) return undefined;
      const first = Math.floor(offset / PAGE_BYTES);
      const page = earliest(base.nextPage(first), nextKey(pages, first));
      if (page === undefined || page * PAGE_BYTES >= sizeBytes) return undefined;
      return Math.max(offset, page * PAGE_BYTES);
    },
    write(offset, bytes) {
      for (const { page, within, from, to } of pieces(offset, bytes.length)) {
        writablePage(page).set(bytes.subarray(from, to), within);
      }
    },
    clone() {
      owned = new Set();
      return overlayDisk(sizeBytes, base, new Map(pages));
    },
  };
}

function earliest(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined) return b;
  return b === undefined ? a : Math.min(a, b);
}

/** Sorted keys of an overlay, made again only when its number of pages changed (pages are never removed). */
const sortedKeys = new WeakMap<Map<number, unknown>, number[]>();

function nextKey(pages: Map<number, unknown>, from: number): number | undefined {
  if (pages.size === 0) return undefined;
  let keys = sortedKeys.get(pages);
  if (keys === undefined || keys.length !== pages.size) {
    keys = [...pages.keys()].sort((a, b) => a - b);
    sortedKeys.set(pages, keys);
  }
  return keys[lowerBound(keys, from)];
}

/** The index of the first of the sorted `keys` that is at least `wanted`. */
export function lowerBound(keys: readonly number[], wanted: number): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
