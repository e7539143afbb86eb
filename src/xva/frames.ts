/**
 * Where the frames of a compressed archive lie (docs/xva.md, "Compressed archives").
 *
 * ova.xml is the first frame, the end of the archive the last. Between them, disk after disk, each
 * group of neighbouring blocks is one frame of its stored members; groups without any have none. So
 * a frame depends on nothing but its blocks, and any byte of a disk is found by decoding one frame.
 */
import { BackupError } from '../errors.ts';
import { END_BYTES, findBlock, memberBytesOf } from './blocks-index.ts';
import { createPresence } from './presence.ts';
import {
  BLOCK_BYTES,
  BLOCK_MEMBER_BYTES,
  type BlocksIndex,
  type FrameTable,
  type IndexedDisk,
  type Presence,
} from './types.ts';

/** Measured: one block a frame costs 0.7 % of space against sixteen, and nothing else is resent. */
const GROUP_BLOCKS = 1;
const LEVEL = 1;

/** How archives are compressed. */
export const COMPRESSION = {
  level: LEVEL,
  groupBlocks: GROUP_BLOCKS,
  parameters: `zstd ${process.versions.zstd} level=${LEVEL} blocks=${GROUP_BLOCKS} checksum`,
} as const;

/** Frames between two sums of lengths. */
const STRIDE = 256;
/** Bytes of a length in a table. */
export const LENGTH_BYTES = 4;
/** Lengths of one piece of a growing list. */
const PIECE_LENGTHS = 1024;

/** Gathers the lengths of frames while they are made; disks come in any order, each whole. */
export interface FrameLog {
  /** ova.xml's. */
  head(lengthBytes: number): void;
  /** The next one of the disk at this place. */
  add(diskIndex: number, lengthBytes: number): void;
  /** The last one. */
  end(lengthBytes: number): void;
  table(): FrameTable;
}

/** Makes an empty log, for archives compressed as `COMPRESSION` says unless told otherwise. */
export function createFrameLog({
  parameters,
  groupBlocks,
}: Pick<FrameTable, 'parameters' | 'groupBlocks'> = COMPRESSION): FrameLog {
  const [head, end] = [createLengths(), createLengths()];
  const disks: ReturnType<typeof createLengths>[] = [];
  return {
    head: head.add,
    add: (diskIndex, lengthBytes) => {
      disks[diskIndex] ??= createLengths();
      disks[diskIndex].add(lengthBytes);
    },
    end: end.add,
    table: () => {
      const lengths = [head, ...disks, end].map((list) => list.bytes());
      return { parameters, groupBlocks, lengths: Buffer.concat(lengths) };
    },
  };
}

/** A frame and what it holds. */
export interface Frame {
  /** In the compressed archive. */
  offsetBytes: number;
  lengthBytes: number;
  /** In the archive before compression. */
  plainOffsetBytes: number;
  plainBytes: number;
  /** Stored blocks in it: with all of them the same and as many, a frame is the same. */
  storedBlocks: number;
}

/** The frames of one archive. */
export interface FrameMap {
  /** Length of the compressed archive. */
  readonly archiveBytes: number;
  readonly count: number;
  readonly head: Frame;
  readonly end: Frame;
  /** The frame that holds this block; undefined where the disk reads as zeros. */
  frameOf(disk: IndexedDisk, number: number): Frame | undefined;
}

interface DiskFrames {
  /** Ordinal of its first frame. */
  first: number;
  groups: Presence;
}

/**
 * The frames of an index that has some. Errors: `data_corrupt` if they are not as many as its
 * blocks make.
 */
export function createFrameMap(index: BlocksIndex): FrameMap {
  const { frames } = index;
  if (frames === undefined || frames.groupBlocks === 0) throw corrupt();
  const { groupBlocks } = frames;
  const count = frames.lengths.length / LENGTH_BYTES;
  const places = new Map<IndexedDisk, DiskFrames>();
  let first = 1;
  for (const disk of index.disks) {
    const groups = groupsOf(disk, groupBlocks);
    places.set(disk, { first, groups });
    first += groups.rank(Infinity);
  }
  if (count !== first + 1) throw corrupt();
  const lengths = createSums(frames.lengths);
  const frameAt = (ordinal: number, plain: Omit<Frame, 'offsetBytes' | 'lengthBytes'>): Frame => ({
    offsetBytes: lengths.before(ordinal),
    lengthBytes: lengths.at(ordinal),
    ...plain,
  });
  const endAt = index.archiveBytes - END_BYTES;
  const head = { plainOffsetBytes: 0, plainBytes: index.ovaMemberBytes, storedBlocks: 0 };
  const end = { plainOffsetBytes: endAt, plainBytes: END_BYTES, storedBlocks: 0 };
  return {
    archiveBytes: lengths.before(count),
    count,
    head: frameAt(0, head),
    end: frameAt(count - 1, end),
    frameOf: (disk, number) => {
      const place = places.get(disk);
      if (place === undefined || findBlock(disk, number) === undefined) return undefined;
      const group = Math.floor(number / groupBlocks);
      const { rank } = disk.presence;
      const [from, to] = [rank(group * groupBlocks), rank((group + 1) * groupBlocks)];
      return frameAt(place.first + place.groups.rank(group), {
        plainOffsetBytes: disk.offsetBytes + from * BLOCK_MEMBER_BYTES,
        plainBytes: plainBytesOf(disk, from, to),
        storedBlocks: to - from,
      });
    },
  };
}

/** Which groups have any stored block. */
function groupsOf({ presence, virtualSizeBytes }: IndexedDisk, groupBlocks: number): Presence {
  if (groupBlocks === 1) return presence;
  const blocks = Math.ceil(virtualSizeBytes / BLOCK_BYTES);
  const bits = Buffer.alloc(Math.ceil(Math.ceil(blocks / groupBlocks) / 8));
  for (let number = 0; number < blocks; number++) {
    if (!presence.has(number)) continue;
    const group = Math.floor(number / groupBlocks);
    bits[group >> 3] = (bits[group >> 3] as number) | (1 << (group & 7));
  }
  return createPresence(bits);
}

/** Members from one position to before another; only a disk's last may be short. */
function plainBytesOf(disk: IndexedDisk, from: number, to: number): number {
  const last = disk.presence.select(to - 1);
  return (to - from - 1) * BLOCK_MEMBER_BYTES + memberBytesOf(disk, last);
}

function createSums(lengths: Buffer) {
  const count = lengths.length / LENGTH_BYTES;
  const sums = new Float64Array(Math.floor(count / STRIDE) + 1);
  const at = (ordinal: number) => lengths.readUInt32BE(ordinal * LENGTH_BYTES);
  let sum = 0;
  for (let ordinal = 0; ordinal < count; ordinal++) {
    if (ordinal % STRIDE === 0) sums[ordinal / STRIDE] = sum;
    sum += at(ordinal);
  }
  if (count % STRIDE === 0) sums[count / STRIDE] = sum;
  return {
    at,
    before: (ordinal: number) => {
      const stride = Math.floor(ordinal / STRIDE);
      let total = sums[stride] as number;
      for (let i = stride * STRIDE; i < ordinal; i++) total += at(i);
      return total;
    },
  };
}

/** A growing list of lengths. */
export function createLengths() {
  const pieces: Buffer[] = [];
  let count = 0;
  return {
    add: (lengthBytes: number) => {
      const at = (count++ % PIECE_LENGTHS) * LENGTH_BYTES;
      if (at === 0) pieces.push(Buffer.alloc(PIECE_LENGTHS * LENGTH_BYTES));
      (pieces.at(-1) as Buffer).writeUInt32BE(lengthBytes, at);
    },
    bytes: () => Buffer.concat(pieces, count * LENGTH_BYTES),
  };
}

function corrupt(): BackupError {
  return new BackupError(
    'data_corrupt',
    'read blocks.idx: its frames are not those of its blocks',
    {
      details: { index: 'damaged' },
    },
  );
}
