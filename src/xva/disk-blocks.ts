/**
 * The blocks of one disk, read by ranges of the archive and proved by its index.
 *
 * Of a plain archive neighbouring members are one range; of a compressed one neighbouring frames are. A block is given
 * out only if its content has the XXH64 that blocks.idx keeps of it, so that one from another place or another time is
 * noticed as well as a damaged one. Entries of the index are read by the thousand and kept for a while.
 */
import { BackupError, isBackupError } from '../errors.ts';
import { type ByteRange, blockAt, entryRange } from './blocks-index.ts';
import { ENTRY_BYTES } from './entries.ts';
import type { Frame, FrameMap } from './frames.ts';
import { TAR_BLOCK_BYTES } from './tar.ts';
import { BLOCK_MEMBER_BYTES, type Hasher, type IndexedBlock, type IndexedDisk } from './types.ts';
import { decompressFrame } from './zstd.ts';

/** Where in the memory of a block its content begins: behind the header of its member. */
export const CONTENT_AT = TAR_BLOCK_BYTES;

/** Entries read at once: 48 KiB, for 2 GiB of stored blocks. */
const ENTRIES_AT_ONCE = 2048;
/** Pieces of that size that are kept: 256 KiB for each disk that is read. */
const KEPT_PIECES = 16;

export interface DiskBlocksInput {
  disk: IndexedDisk;
  /** Of a compressed archive. */
  frames?: FrameMap | undefined;
  hash: Hasher;
  readIndex(range: ByteRange, options: { signal: AbortSignal }): Promise<Uint8Array>;
  readArchive(range: ByteRange, options: { signal: AbortSignal }): Promise<Uint8Array>;
  /** The same into memory; must not write to it any more once it has settled. */
  fillFromArchive(offset: number, target: Buffer, options: { signal: AbortSignal }): Promise<void>;
}

export interface DiskBlocks {
  /**
   * Puts the stored blocks from position `from` on into `memory`, BLOCK_MEMBER_BYTES for each; content begins at
   * CONTENT_AT of each. Errors: `data_corrupt` naming disk and block; those of the readers as they are.
   */
  load(from: number, memory: Buffer, options: { signal: AbortSignal }): Promise<void>;
}

/** Makes the reader of one disk; nothing is read yet. */
export function createDiskBlocks(input: DiskBlocksInput): DiskBlocks {
  const { disk, frames, hash } = input;
  const sumsOf = createSums(input);
  return {
    load: async (from, memory, options) => {
      const count = memory.length / BLOCK_MEMBER_BYTES;
      const blocks = Array.from({ length: count }, (_, i) => blockAt(disk, from + i));
      const reading =
        frames === undefined
          ? readMembers(input, blocks, memory, options)
          : readFrames(input, { frames, blocks, memory }, options);
      const sums = sumsOf(from, count, options);
      // both, whatever becomes of one: memory is given away when this ends
      await Promise.allSettled([reading, sums]);
      await reading;
      const wanted = await sums;
      for (const [i, block] of blocks.entries()) {
        const at = i * BLOCK_MEMBER_BYTES + CONTENT_AT;
        const content = memory.subarray(at, at + block.lengthBytes);
        if (hash.xxh64(content) !== wanted[i]) throw damaged(disk, block);
      }
    },
  };
}

async function readMembers(
  { fillFromArchive }: DiskBlocksInput,
  blocks: readonly IndexedBlock[],
  memory: Buffer,
  options: { signal: AbortSignal },
): Promise<void> {
  const [first, last] = [blocks.at(0) as IndexedBlock, blocks.at(-1) as IndexedBlock];
  const length = last.offsetBytes + last.memberBytes - first.offsetBytes;
  await fillFromArchive(first.offsetBytes, memory.subarray(0, length), options);
}

async function readFrames(
  { disk, readArchive }: DiskBlocksInput,
  { frames, blocks, memory }: { frames: FrameMap; blocks: readonly IndexedBlock[]; memory: Buffer },
  options: { signal: AbortSignal },
): Promise<void> {
  const holding = blocks.map(({ number }) => frames.frameOf(disk, number) as Frame);
  const [first, last] = [holding.at(0) as Frame, holding.at(-1) as Frame];
  const offset = first.offsetBytes;
  const packed = await readArchive(
    { offset, length: last.offsetBytes + last.lengthBytes - offset },
    options,
  );
  let open: { frame: Frame; bytes: Buffer } | undefined;
  for (const [i, block] of blocks.entries()) {
    const frame = holding[i] as Frame;
    if (open?.frame.offsetBytes !== frame.offsetBytes) {
      const at = frame.offsetBytes - offset;
      const bytes = await unpack(packed.subarray(at, at + frame.lengthBytes), frame, disk, block);
      open = { frame, bytes };
    }
    const at = block.offsetBytes - frame.plainOffsetBytes + CONTENT_AT;
    open.bytes.copy(memory, i * BLOCK_MEMBER_BYTES + CONTENT_AT, at, at + block.lengthBytes);
  }
}

async function unpack(
  bytes: Uint8Array,
  { plainBytes }: Frame,
  disk: IndexedDisk,
  block: IndexedBlock,
): Promise<Buffer> {
  try {
    return await decompressFrame(bytes, plainBytes);
  } catch (error) {
    throw isBackupError(error, 'data_corrupt') ? damaged(disk, block, error) : error;
  }
}

/** The XXH64 of blocks, as the index has them. */
function createSums({ disk, readIndex }: DiskBlocksInput) {
  const pieces = new Map<number, Promise<Buffer>>();
  const pieceOf = (number: number, options: { signal: AbortSignal }): Promise<Buffer> => {
    const from = number * ENTRIES_AT_ONCE;
    const to = Math.min(disk.storedBlocks, from + ENTRIES_AT_ONCE);
    const kept = pieces.get(number);
    const piece = kept ?? readSums(entryRange(disk, from, to), readIndex, options);
    // the last one asked for is the last one to go
    pieces.delete(number);
    pieces.set(number, piece);
    if (kept !== undefined) return kept;
    piece.catch(() => {
      if (pieces.get(number) === piece) pieces.delete(number);
    });
    const [oldest] = pieces.keys();
    if (pieces.size > KEPT_PIECES && oldest !== undefined) pieces.delete(oldest);
    return piece;
  };
  return async (from: number, count: number, options: { signal: AbortSignal }) => {
    const sums: bigint[] = [];
    for (let position = from; position < from + count; position++) {
      const piece = await pieceOf(Math.floor(position / ENTRIES_AT_ONCE), options);
      sums.push(piece.readBigUInt64BE((position % ENTRIES_AT_ONCE) * 8));
    }
    return sums;
  };
}

async function readSums(
  range: ByteRange,
  readIndex: DiskBlocksInput['readIndex'],
  options: { signal: AbortSignal },
): Promise<Buffer> {
  const bytes = Buffer.from(await readIndex(range, options));
  if (bytes.length !== range.length) {
    throw new BackupError('data_corrupt', 'read blocks.idx: it ends early', {
      details: { index: 'damaged' },
    });
  }
  const sums = Buffer.alloc((range.length / ENTRY_BYTES) * 8);
  for (let i = 0; i * 8 < sums.length; i++) {
    bytes.copy(sums, i * 8, i * ENTRY_BYTES, i * ENTRY_BYTES + 8);
  }
  return sums;
}

function damaged(disk: IndexedDisk, { number }: IndexedBlock, cause?: unknown): BackupError {
  const what = `disk=${disk.archiveId} block=${number}`;
  return new BackupError('data_corrupt', `read block: it is not the one that was stored, ${what}`, {
    details: { disk: disk.archiveId, block: number },
    ...(cause === undefined ? {} : { cause }),
  });
}
