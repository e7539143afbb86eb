/**
 * What blocks.idx says of the blocks of one disk, gathered while they go by.
 *
 * 24 bytes a block: XXH64 8 (big-endian), keyed digest 16; which block it is stands in the bitmap.
 * Both grow by pieces, never by copying, so that a small disk and a huge one with little in it stay
 * cheap.
 */
import { BLOCK_BYTES, DIGEST_BYTES, type Hasher, type IndexEntry } from './types.ts';

/** Bytes of one entry. */
export const ENTRY_BYTES = 8 + DIGEST_BYTES;
/** Entries of one piece of a growing table: 24 KiB. */
const PIECE_ENTRIES = 1024;
/** Bytes of one piece of a growing bitmap: 32 GiB of disk. */
const PAGE_BYTES = 4096;

export interface EntryTable {
  readonly count: number;
  /** Blocks come in ascending order. */
  add(block: { number: number; xxh64: bigint; digest: Uint8Array }): void;
  /** All entries, piece by piece. */
  readonly pieces: readonly Buffer[];
  /** The bitmap of a disk of this size. */
  bits(virtualSizeBytes: number): Buffer;
}

/** Makes an empty table. */
export function createEntryTable(): EntryTable {
  const pieces: Buffer[] = [];
  const pages = new Map<number, Buffer>();
  let count = 0;
  return {
    get count() {
      return count;
    },
    get pieces() {
      const filled = count - (pieces.length - 1) * PIECE_ENTRIES;
      return pieces.map((piece, i) =>
        i === pieces.length - 1 ? piece.subarray(0, filled * ENTRY_BYTES) : piece,
      );
    },
    add: ({ number, xxh64, digest }) => {
      const at = (count++ % PIECE_ENTRIES) * ENTRY_BYTES;
      if (at === 0) pieces.push(Buffer.alloc(PIECE_ENTRIES * ENTRY_BYTES));
      const piece = pieces.at(-1) as Buffer;
      piece.writeBigUInt64BE(xxh64, at);
      piece.set(digest, at + 8);
      setBit(pages, number);
    },
    bits: (virtualSizeBytes) => {
      const bits = Buffer.alloc(bitmapBytes(virtualSizeBytes));
      for (const [page, bytes] of pages) bytes.copy(bits, page * PAGE_BYTES);
      return bits;
    },
  };
}

/** Bytes of the bitmap of a disk. */
export function bitmapBytes(virtualSizeBytes: number): number {
  return Math.ceil(Math.ceil(virtualSizeBytes / BLOCK_BYTES) / 8);
}

/** The entry that begins at byte `at` of some entries. */
export function readEntry(entries: Buffer, at: number): IndexEntry {
  return {
    xxh64: entries.readBigUInt64BE(at),
    digest: entries.subarray(at + 8, at + ENTRY_BYTES),
  };
}

/** XXH64 over the XXH64 of every entry: equal contents have equal digests, whatever the key. */
export function digestContent(pieces: Iterable<Buffer>, hash: Hasher): bigint {
  const stream = hash.stream();
  const sums = Buffer.alloc(PIECE_ENTRIES * 8);
  for (const piece of pieces) {
    let filled = 0;
    for (let at = 0; at < piece.length; at += ENTRY_BYTES) {
      filled += piece.copy(sums, filled, at, at + 8);
      if (filled < sums.length) continue;
      stream.update(sums);
      filled = 0;
    }
    stream.update(sums.subarray(0, filled));
  }
  return stream.digest();
}

function setBit(pages: Map<number, Buffer>, number: number): void {
  const byte = number >> 3;
  const page = Math.floor(byte / PAGE_BYTES);
  let bytes = pages.get(page);
  if (bytes === undefined) {
    bytes = Buffer.alloc(PAGE_BYTES);
    pages.set(page, bytes);
  }
  const at = byte % PAGE_BYTES;
  bytes[at] = (bytes[at] as number) | (1 << (number & 7));
}
