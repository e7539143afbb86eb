/**
 * blocks.idx, version 2: what lies where in a normalised archive, and by what each block is known
 * again, so that a disk can be read, compared or copied by ranges.
 *
 * Everything in it but the key can be rebuilt from the archive alone. It is read from its end: the
 * trailer tells where the directory begins, the directory which entries lie where. Numbers are
 * big-endian, text is ASCII padded with NUL (docs/xva.md has the same tables with explanations):
 *
 *   head       0   8  magic "XVAULTIX"          entries   24 bytes for each stored block, disk after
 *              8   4  version, 2                          disk in the order of the archive:
 *             12   4  zero                                XXH64 8, keyed digest 16
 *
 *   directory  0   8  size of the archive       + 56       disk i, 88 bytes: archive id 16, uuid of
 *              8   8  size of ova.xml's member   + 88i     the live VDI 40, virtual size 8, stored
 *             16   8  stored blocks                        blocks 8, offset of its first member 8,
 *             24   8  content digest                       XXH64 of its entries 8
 *             32  16  key of the digests        + 56+88d   the bitmaps of all disks
 *             48   4  disks, d                             frames, if compressed: parameters 64,
 *             52   4  frames, f; 0: plain                  blocks of a group 4, f lengths of 4
 *
 *   trailer    0   8  magic                        16   8  where the directory begins
 *              8   8  version 4, zero 4            24   8  XXH64 of directory and trailer up to here
 */
import { BackupError } from '../errors.ts';
import { bitmapBytes, digestContent, ENTRY_BYTES, type EntryTable } from './entries.ts';
import { countBits, createPresence } from './presence.ts';
import { paddedBytes, TAR_BLOCK_BYTES } from './tar.ts';
import {
  BLOCK_BYTES,
  BLOCK_MEMBER_BYTES,
  type BlocksIndex,
  DIGEST_BYTES,
  type FrameTable,
  type Hasher,
  type IndexedBlock,
  type IndexedDisk,
} from './types.ts';

const MAGIC = 'XVAULTIX';
const VERSION = 2;
const HEAD_BYTES = 16;
const DIRECTORY_BYTES = 56;
const DISK_BYTES = 88;
const PARAMETERS_BYTES = 64;
const TRAILER_BYTES = 32;
/** Asked for first: the whole index of a disk of 2 GiB, or the directory of one of 400 GiB. */
const TAIL_BYTES = 65_536;
/**
 * Longest directory read, into memory: bitmaps of 512 TiB (the most `parseOva` takes) and frames of
 * some 100 TiB.
 */
const MAX_DIRECTORY_BYTES = 256 * 1024 * 1024;
/** Header, checksum header and checksum of a block: what its member takes beside the content. */
const FRAME_BYTES = BLOCK_MEMBER_BYTES - BLOCK_BYTES;
/** The two zero blocks that end an archive. */
export const END_BYTES = 2 * TAR_BLOCK_BYTES;

/** Half-open, of blocks.idx. */
export interface ByteRange {
  offset: number;
  length: number;
}

/** What `encodeIndex` is given; places follow from it. */
export interface IndexInput {
  ovaMemberBytes: number;
  contentDigest: bigint;
  digestKey: Uint8Array;
  /** In the order of the archive. */
  disks: readonly {
    archiveId: string;
    vdiUuid: string;
    virtualSizeBytes: number;
    table: EntryTable;
  }[];
  frames?: FrameTable | undefined;
}

/** The bytes of blocks.idx. */
export function encodeIndex(input: IndexInput, hash: Hasher): Buffer {
  const { disks, frames } = input;
  const pieces = disks.map(({ table }) => table.pieces);
  const stored = disks.reduce((sum, { table }) => sum + table.count, 0);
  const fixed = Buffer.alloc(DIRECTORY_BYTES + disks.length * DISK_BYTES);
  let offset = input.ovaMemberBytes;
  for (const [i, disk] of disks.entries()) {
    const at = DIRECTORY_BYTES + i * DISK_BYTES;
    fixed.write(disk.archiveId, at, 16, 'latin1');
    fixed.write(disk.vdiUuid, at + 16, 40, 'latin1');
    writeSize(fixed, disk.virtualSizeBytes, at + 56);
    writeSize(fixed, disk.table.count, at + 64);
    writeSize(fixed, offset, at + 72);
    fixed.writeBigUInt64BE(hashAll(pieces[i] as Buffer[], hash), at + 80);
    offset += diskMemberBytes(disk.virtualSizeBytes, disk.table.count);
  }
  writeSize(fixed, offset + END_BYTES, 0);
  writeSize(fixed, input.ovaMemberBytes, 8);
  writeSize(fixed, stored, 16);
  fixed.writeBigUInt64BE(input.contentDigest, 24);
  fixed.set(input.digestKey.subarray(0, DIGEST_BYTES), 32);
  fixed.writeUInt32BE(disks.length, 48);
  fixed.writeUInt32BE((frames?.lengths.length ?? 0) / 4, 52);
  const bitmaps = disks.map(({ table, virtualSizeBytes }) => table.bits(virtualSizeBytes));
  const directory = [fixed, ...bitmaps, ...encodeFrames(frames)];
  const trailer = Buffer.concat([head(), Buffer.alloc(16)]);
  writeSize(trailer, HEAD_BYTES + stored * ENTRY_BYTES, 16);
  trailer.writeBigUInt64BE(hashAll([...directory, trailer.subarray(0, 24)], hash), 24);
  return Buffer.concat([head(), ...pieces.flat(), ...directory, trailer]);
}

/**
 * Reads an index by ranges, without its entries: one range as a rule, two of a large one.
 *
 * Errors: `data_corrupt`, with details {index: 'old', version} for one of an earlier version, which
 * has no digests, and {index: 'damaged'} for anything else; those of `read` as they are.
 */
export async function openIndex(
  read: (range: ByteRange) => Promise<Uint8Array>,
  { sizeBytes, hash }: { sizeBytes: number; hash: Hasher },
): Promise<BlocksIndex> {
  const tailAt = Math.max(0, sizeBytes - TAIL_BYTES);
  const tail = await readExactly(read, { offset: tailAt, length: sizeBytes - tailAt });
  const directoryAt = findDirectory(tail);
  if (directoryAt === undefined) {
    const length = Math.min(HEAD_BYTES, sizeBytes);
    throw noIndex(tailAt === 0 ? tail : await readExactly(read, { offset: 0, length }));
  }
  if (sizeBytes - directoryAt > MAX_DIRECTORY_BYTES) throw corrupt('wrong length');
  if (directoryAt >= tailAt)
    return decodeDirectory(tail.subarray(directoryAt - tailAt), { directoryAt, hash });
  const front = await readExactly(read, { offset: directoryAt, length: tailAt - directoryAt });
  return decodeDirectory(Buffer.concat([front, tail]), { directoryAt, hash });
}

/** Reads and checks a whole blocks.idx, entries included. Errors: as `openIndex`. */
export function decodeIndex(bytes: Uint8Array, hash: Hasher): BlocksIndex {
  const view = viewOf(bytes);
  const directoryAt = findDirectory(view);
  if (directoryAt === undefined || !view.subarray(0, HEAD_BYTES).equals(head()))
    throw noIndex(view);
  if (directoryAt > view.length) throw corrupt('wrong length');
  const index = decodeDirectory(view.subarray(directoryAt), { directoryAt, hash });
  const tables = index.disks.map((disk) => {
    const { offset, length } = entryRange(disk, 0, disk.storedBlocks);
    return view.subarray(offset, offset + length);
  });
  for (const [i, table] of tables.entries()) {
    if (hashAll([table], hash) !== index.disks[i]?.entriesDigest) throw corrupt('wrong entries');
  }
  if (digestContent(tables, hash) !== index.contentDigest) throw corrupt('wrong content digest');
  return index;
}

/** Where the entries of the stored blocks at positions `from` to before `to` lie in blocks.idx. */
export function entryRange(disk: IndexedDisk, from: number, to: number): ByteRange {
  return {
    offset: disk.entriesOffsetBytes + from * ENTRY_BYTES,
    length: (to - from) * ENTRY_BYTES,
  };
}

/**
 * The stored block that holds block `number` of the disk; undefined where the disk reads as zeros.
 */
export function findBlock(disk: IndexedDisk, number: number): IndexedBlock | undefined {
  const { presence } = disk;
  return presence.has(number) ? placeBlock(disk, number, presence.rank(number)) : undefined;
}

/** The `position`-th stored block of the disk, from 0. */
export function blockAt(disk: IndexedDisk, position: number): IndexedBlock {
  return placeBlock(disk, disk.presence.select(position), position);
}

/** Bytes the member of block `number` of a disk takes. */
export function memberBytesOf(disk: IndexedDisk, number: number): number {
  const lengthBytes = Math.min(BLOCK_BYTES, disk.virtualSizeBytes - number * BLOCK_BYTES);
  return FRAME_BYTES + paddedBytes(lengthBytes);
}

/** Bytes the members of a disk take in the archive. */
export function diskMemberBytes(virtualSizeBytes: number, storedBlocks: number): number {
  return (
    (storedBlocks - 1) * BLOCK_MEMBER_BYTES + FRAME_BYTES + paddedBytes(tail(virtualSizeBytes))
  );
}

/** Content bytes of a disk's stored blocks, of which the last is always one. */
export function diskStoredBytes(virtualSizeBytes: number, storedBlocks: number): number {
  return (storedBlocks - 1) * BLOCK_BYTES + tail(virtualSizeBytes);
}

function placeBlock(disk: IndexedDisk, number: number, position: number): IndexedBlock {
  const lengthBytes = Math.min(BLOCK_BYTES, disk.virtualSizeBytes - number * BLOCK_BYTES);
  return {
    number,
    position,
    offsetBytes: disk.offsetBytes + position * BLOCK_MEMBER_BYTES,
    memberBytes: memberBytesOf(disk, number),
    lengthBytes,
  };
}

/** Where the directory begins, if this is the end of an index of ours. */
function findDirectory(tail: Buffer): number | undefined {
  const at = tail.length - TRAILER_BYTES;
  if (at < HEAD_BYTES || !tail.subarray(at, at + HEAD_BYTES).equals(head())) return undefined;
  return readSize(tail, at + 16);
}

/** Reads what stands from the directory to the end of the file. */
function decodeDirectory(
  view: Buffer,
  { directoryAt, hash }: { directoryAt: number; hash: Hasher },
): BlocksIndex {
  const end = view.length - TRAILER_BYTES;
  if (end < DIRECTORY_BYTES) throw corrupt('wrong length');
  if (hashAll([view.subarray(0, end + 24)], hash) !== view.readBigUInt64BE(end + 24)) {
    throw corrupt('wrong checksum');
  }
  const index: BlocksIndex = {
    archiveBytes: readSize(view, 0),
    ovaMemberBytes: readSize(view, 8),
    contentDigest: view.readBigUInt64BE(24),
    digestKey: Buffer.from(view.subarray(32, 48)),
    disks: [],
  };
  const count = view.readUInt32BE(48);
  let bitsAt = DIRECTORY_BYTES + count * DISK_BYTES;
  if (bitsAt > end) throw corrupt('wrong length');
  let entriesOffsetBytes = HEAD_BYTES;
  for (let i = 0; i < count; i++) {
    const disk = decodeDisk(view, DIRECTORY_BYTES + i * DISK_BYTES, { bitsAt, entriesOffsetBytes });
    index.disks.push(disk);
    bitsAt += disk.presence.bits.length;
    entriesOffsetBytes += disk.storedBlocks * ENTRY_BYTES;
  }
  if (bitsAt > end) throw corrupt('wrong length');
  const frames = decodeFrames(view.subarray(bitsAt, end), view.readUInt32BE(52));
  if (entriesOffsetBytes !== directoryAt) throw corrupt('wrong length');
  if (entriesOffsetBytes !== HEAD_BYTES + readSize(view, 16) * ENTRY_BYTES)
    throw corrupt('wrong length');
  checkPlaces(index);
  return frames ? { ...index, frames } : index;
}

function decodeDisk(
  view: Buffer,
  at: number,
  { bitsAt, entriesOffsetBytes }: { bitsAt: number; entriesOffsetBytes: number },
): IndexedDisk {
  const virtualSizeBytes = readSize(view, at + 56);
  const bits = view.subarray(bitsAt, bitsAt + bitmapBytes(virtualSizeBytes));
  return {
    archiveId: readText(view, at, 16),
    vdiUuid: readText(view, at + 16, 40),
    virtualSizeBytes,
    storedBlocks: readSize(view, at + 64),
    offsetBytes: readSize(view, at + 72),
    presence: createPresence(bits),
    entriesOffsetBytes,
    entriesDigest: view.readBigUInt64BE(at + 80),
  };
}

function encodeFrames(frames: FrameTable | undefined): Buffer[] {
  if (frames === undefined) return [];
  const fixed = Buffer.alloc(PARAMETERS_BYTES + 4);
  fixed.write(frames.parameters, 0, PARAMETERS_BYTES, 'latin1');
  fixed.writeUInt32BE(frames.groupBlocks, PARAMETERS_BYTES);
  return [fixed, frames.lengths];
}

function decodeFrames(view: Buffer, count: number): FrameTable | undefined {
  const fixedBytes = count === 0 ? 0 : PARAMETERS_BYTES + 4;
  if (view.length !== fixedBytes + count * 4) throw corrupt('wrong length');
  if (count === 0) return undefined;
  return {
    parameters: readText(view, 0, PARAMETERS_BYTES),
    groupBlocks: view.readUInt32BE(PARAMETERS_BYTES),
    lengths: view.subarray(fixedBytes),
  };
}

/**
 * The arithmetic of places holds only if every disk has its first and last block, its bits are as
 * many as its blocks, and nothing lies between disks.
 */
function checkPlaces(index: BlocksIndex): void {
  let offset = index.ovaMemberBytes;
  for (const disk of index.disks) {
    const last = Math.ceil(disk.virtualSizeBytes / BLOCK_BYTES) - 1;
    const { bits, has } = disk.presence;
    const isWhole = has(0) && has(last) && (bits.at(-1) as number) >> ((last & 7) + 1) === 0;
    if (!isWhole || countBits(bits) !== disk.storedBlocks || disk.offsetBytes !== offset) {
      throw corrupt('wrong places');
    }
    offset += diskMemberBytes(disk.virtualSizeBytes, disk.storedBlocks);
  }
  if (offset + END_BYTES !== index.archiveBytes) throw corrupt('wrong archive size');
}

async function readExactly(
  read: (range: ByteRange) => Promise<Uint8Array>,
  range: ByteRange,
): Promise<Buffer> {
  const bytes = await read(range);
  if (bytes.length !== range.length) throw corrupt('it ends early');
  return viewOf(bytes);
}

/** Why a file that does not end as an index ends is none. */
function noIndex(start: Buffer): BackupError {
  if (start.length < 12 || start.toString('latin1', 0, 8) !== MAGIC) return corrupt('no magic');
  const version = start.readUInt32BE(8);
  if (version === VERSION) return corrupt('it ends early');
  return new BackupError('data_corrupt', `read blocks.idx: another version, version=${version}`, {
    details: { index: 'old', version },
  });
}

function head(): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32BE(VERSION, 8);
  return bytes;
}

/** Piece by piece, since WebAssembly memory never shrinks again. */
function hashAll(pieces: readonly Buffer[], hash: Hasher): bigint {
  const stream = hash.stream();
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
      stream.update(piece.subarray(at, at + BLOCK_BYTES));
    }
  }
  return stream.digest();
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Length of a disk's last block. */
function tail(virtualSizeBytes: number): number {
  return ((virtualSizeBytes - 1) % BLOCK_BYTES) + 1;
}

function writeSize(out: Buffer, value: number, at: number): void {
  out.writeBigUInt64BE(BigInt(value), at);
}

function readSize(view: Buffer, at: number): number {
  const value = Number(view.readBigUInt64BE(at));
  if (!Number.isSafeInteger(value)) throw corrupt('number too large');
  return value;
}

function readText(view: Buffer, at: number, length: number): string {
  return view.toString('latin1', at, at + length).replace(/\0.*$/s, '');
}

function corrupt(what: string): BackupError {
  return new BackupError('data_corrupt', `read blocks.idx: ${what}`, {
    details: { index: 'damaged' },
  });
}
