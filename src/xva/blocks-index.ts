/**
 * blocks.idx: what lies where in a normalised archive, so that a disk can be read, compared or
 * copied by ranges.
 *
 * Everything in it can be rebuilt from the archive alone. Numbers are big-endian, text is ASCII
 * padded with NUL. Version 1 (docs/xva.md has the same table with explanations):
 *
 *   offset  size  header
 *        0     8  magic "XVAULTIX"
 *        8     4  version, 1
 *       12     4  disks, n
 *       16     8  size of the archive
 *       24     8  size of ova.xml's member with header and padding: where the first disk begins
 *       32     8  stored blocks of all disks
 *       40     8  content digest: XXH64 over the XXH64 of every stored block, in order
 *       48     8  XXH64 of the whole index with these eight bytes zero
 *   56+80i   80  disk i: archive id 16, uuid of the live VDI 40, virtual size 8,
 *                offset of its first member 8, stored blocks 8
 *   56+80n  12k  block k of all disks in archive order: number on its disk 4,
 *                XXH64 of its content 8
 *
 * 12 bytes a stored block; absent blocks cost nothing. A stored block's place needs no entry of its
 * own: every one but a disk's last takes BLOCK_MEMBER_BYTES.
 */
import { BackupError } from '../errors.ts';
import { paddedBytes, TAR_BLOCK_BYTES } from './tar.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES, type Hasher } from './types.ts';

const MAGIC = 'XVAULTIX';
const VERSION = 1;
const HEADER_BYTES = 56;
const DISK_BYTES = 80;
const ENTRY_BYTES = 12;
const DIGEST_AT = 48;
/** Header, checksum header and checksum of a block: what its member takes beside the content. */
const FRAME_BYTES = BLOCK_MEMBER_BYTES - BLOCK_BYTES;
/** The two zero blocks that end an archive. */
export const END_BYTES = 2 * TAR_BLOCK_BYTES;
/** Entries of one piece of a growing table: 12 KiB, so that small disks stay cheap. */
const PIECE_ENTRIES = 1024;

export interface IndexedDisk {
  archiveId: string;
  vdiUuid: string;
  virtualSizeBytes: number;
  /** Where the disk's first member begins in the archive. */
  offsetBytes: number;
  storedBlocks: number;
  /** Its entries, 12 bytes each, ascending by block number. */
  entries: Buffer;
}

export interface BlocksIndex {
  archiveBytes: number;
  ovaMemberBytes: number;
  contentDigest: bigint;
  disks: IndexedDisk[];
}

/** A stored block and its place in the archive. */
export interface IndexedBlock {
  number: number;
  /** Where its tar header begins; the content begins 512 bytes later. */
  offsetBytes: number;
  /** Header, content, padding, checksum member. */
  memberBytes: number;
  lengthBytes: number;
  xxh64: bigint;
}

/** Gathers the entries of one disk while its blocks go by. */
export interface EntryTable {
  readonly count: number;
  add(number: number, xxh64: bigint): void;
  bytes(): Buffer;
}

/** Makes an empty table; it grows by pieces, never by copying. */
export function createEntryTable(): EntryTable {
  const pieces: Buffer[] = [];
  let count = 0;
  return {
    get count() {
      return count;
    },
    add(number, xxh64) {
      const at = (count++ % PIECE_ENTRIES) * ENTRY_BYTES;
      if (at === 0) pieces.push(Buffer.alloc(PIECE_ENTRIES * ENTRY_BYTES));
      const piece = pieces.at(-1) as Buffer;
      piece.writeUInt32BE(number, at);
      piece.writeBigUInt64BE(xxh64, at + 4);
    },
    bytes: () => Buffer.concat(pieces, count * ENTRY_BYTES),
  };
}

/** The bytes of blocks.idx. */
export function encodeIndex(index: BlocksIndex, hash: Hasher): Buffer {
  const entriesAt = HEADER_BYTES + index.disks.length * DISK_BYTES;
  const entries = index.disks.reduce((sum, disk) => sum + disk.storedBlocks, 0);
  const out = Buffer.alloc(entriesAt + entries * ENTRY_BYTES);
  out.write(MAGIC, 0, 'latin1');
  out.writeUInt32BE(VERSION, 8);
  out.writeUInt32BE(index.disks.length, 12);
  writeSize(out, index.archiveBytes, 16);
  writeSize(out, index.ovaMemberBytes, 24);
  writeSize(out, entries, 32);
  out.writeBigUInt64BE(index.contentDigest, 40);
  let at = HEADER_BYTES;
  let entryAt = entriesAt;
  for (const disk of index.disks) {
    out.write(disk.archiveId, at, 16, 'latin1');
    out.write(disk.vdiUuid, at + 16, 40, 'latin1');
    writeSize(out, disk.virtualSizeBytes, at + 56);
    writeSize(out, disk.offsetBytes, at + 64);
    writeSize(out, disk.storedBlocks, at + 72);
    at += DISK_BYTES;
    entryAt += disk.entries.copy(out, entryAt);
  }
  out.writeBigUInt64BE(hash.xxh64(out), DIGEST_AT);
  return out;
}

/** Reads and checks blocks.idx; the entries are views of `bytes`. Errors: `data_corrupt`. */
export function decodeIndex(bytes: Uint8Array, hash: Hasher): BlocksIndex {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER_BYTES || view.toString('latin1', 0, 8) !== MAGIC)
    throw corrupt('no magic');
  const version = view.readUInt32BE(8);
  if (version !== VERSION) throw corrupt(`unknown version, version=${version}`);
  checkDigest(view, hash);
  const count = view.readUInt32BE(12);
  const index: BlocksIndex = {
    archiveBytes: readSize(view, 16),
    ovaMemberBytes: readSize(view, 24),
    contentDigest: view.readBigUInt64BE(40),
    disks: [],
  };
  let entryAt = HEADER_BYTES + count * DISK_BYTES;
  if (entryAt + readSize(view, 32) * ENTRY_BYTES !== view.length) throw corrupt('wrong length');
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * DISK_BYTES;
    const storedBlocks = readSize(view, at + 72);
    index.disks.push({
      archiveId: readText(view, at, 16),
      vdiUuid: readText(view, at + 16, 40),
      virtualSizeBytes: readSize(view, at + 56),
      offsetBytes: readSize(view, at + 64),
      storedBlocks,
      entries: view.subarray(entryAt, entryAt + storedBlocks * ENTRY_BYTES),
    });
    entryAt += storedBlocks * ENTRY_BYTES;
  }
  checkPlaces(index);
  return index;
}

/**
 * The stored block that holds block `number` of the disk; undefined where the disk reads as zeros.
 */
export function findBlock(disk: IndexedDisk, number: number): IndexedBlock | undefined {
  let low = 0;
  let high = disk.storedBlocks - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = disk.entries.readUInt32BE(middle * ENTRY_BYTES);
    if (found === number) return blockAt(disk, middle);
    if (found < number) low = middle + 1;
    else high = middle - 1;
  }
  return undefined;
}

/** The `position`-th stored block of the disk, from 0. */
export function blockAt(disk: IndexedDisk, position: number): IndexedBlock {
  const at = position * ENTRY_BYTES;
  const number = disk.entries.readUInt32BE(at);
  const lengthBytes = Math.min(BLOCK_BYTES, disk.virtualSizeBytes - number * BLOCK_BYTES);
  return {
    number,
    offsetBytes: disk.offsetBytes + position * BLOCK_MEMBER_BYTES,
    memberBytes: FRAME_BYTES + paddedBytes(lengthBytes),
    lengthBytes,
    xxh64: disk.entries.readBigUInt64BE(at + 4),
  };
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

/** XXH64 over the XXH64 of every stored block. */
export function digestEntries(tables: Iterable<Buffer>, hash: Hasher): bigint {
  const stream = hash.stream();
  const piece = Buffer.alloc(PIECE_ENTRIES * 8);
  for (const table of tables) {
    let filled = 0;
    for (let at = 0; at < table.length; at += ENTRY_BYTES) {
      filled += table.copy(piece, filled, at + 4, at + ENTRY_BYTES);
      if (filled < piece.length) continue;
      stream.update(piece);
      filled = 0;
    }
    stream.update(piece.subarray(0, filled));
  }
  return stream.digest();
}

function checkDigest(view: Buffer, hash: Hasher): void {
  const stream = hash.stream();
  stream.update(view.subarray(0, DIGEST_AT));
  stream.update(Buffer.alloc(8));
  stream.update(view.subarray(HEADER_BYTES));
  if (stream.digest() !== view.readBigUInt64BE(DIGEST_AT)) throw corrupt('wrong checksum');
}

/**
 * The arithmetic of `blockAt` holds only if every disk has its first and last block and nothing
 * lies between disks.
 */
function checkPlaces(index: BlocksIndex): void {
  let offset = index.ovaMemberBytes;
  for (const disk of index.disks) {
    const stored = disk.storedBlocks;
    if (disk.offsetBytes !== offset || !isComplete(disk)) throw corrupt('wrong places');
    offset += diskMemberBytes(disk.virtualSizeBytes, stored);
  }
  if (offset + END_BYTES !== index.archiveBytes) throw corrupt('wrong archive size');
}

/** Ascending from block 0 to the disk's last, in as many entries as were announced. */
function isComplete({ entries, storedBlocks, virtualSizeBytes }: IndexedDisk): boolean {
  if (storedBlocks === 0 || entries.length !== storedBlocks * ENTRY_BYTES) return false;
  let last = -1;
  for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
    const number = entries.readUInt32BE(at);
    if (number <= last || (at === 0 && number !== 0)) return false;
    last = number;
  }
  return last === Math.ceil(virtualSizeBytes / BLOCK_BYTES) - 1;
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
  return new BackupError('data_corrupt', `read blocks.idx: ${what}`);
}
