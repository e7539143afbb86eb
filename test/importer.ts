/**
 * A strict importer of `.xva` archives, for tests: takes what a real host takes, and says no with a sentence.
 *
 * Written from the description of the format alone and deliberately not from our codec, of which it uses nothing: a
 * misunderstanding shared by reader and writer would otherwise stay unseen. Where a host is careless (it stops
 * reading after the last block, ignores what follows and does not miss the end of the archive) this one is not.
 *
 *   ova.xml                            first, once
 *   <id>/<number>                      a chunk, 1 MiB, the last one of a disk shorter; 0 bytes: a sign of life
 *   <id>/<number>.xxhash | .checksum   at once after it: XXH64 in upper, or SHA-1 in lower hexadecimal digits
 *   …                                  disks by id as strings, numbers ascending; two zero blocks; the end
 *
 * A chunk's place is where the last one ended plus, for every number left out, the length of the very first chunk
 * of the whole archive (that is how hosts count; an empty chunk uses up a number but no space).
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import xxhash from 'xxhash-wasm';
import { type ByteReader, type Compression, openPlain } from './importer/bytes.ts';
import { type ExpectedDisk, type Inventory, readInventory } from './importer/inventory.ts';
import { refuse } from './importer/refusal.ts';
import { BLOCK_BYTES, paddingOf, parseHeader } from './importer/tar.ts';
import { createSparseDisk, PAGE_BYTES, type SimDisk } from './sim/disk.ts';

export type { ImportedVif, ImportedVm } from './importer/inventory.ts';
export { ImportRefused } from './importer/refusal.ts';

/** A disk as it would stand on the storage after the import. */
export interface ImportedDisk extends ExpectedDisk {
  image: SimDisk;
  /** Chunks that were in the archive, signs of life included. */
  chunks: number;
  emptyChunks: number;
  checksums: ('xxhash' | 'checksum')[];
}

/** A chunk that was just written. */
export interface WrittenChunk {
  offset: number;
  lengthBytes: number;
  checksum: 'xxhash' | 'checksum';
}

/** What a simulated host does while it imports; the importer itself only reads and checks. */
export interface ImportSteps {
  /** How the archive is compressed; nothing is read yet. */
  opened?(compression: Compression): void;
  /** ova.xml is read, no chunk yet: the host makes its objects now. */
  planned?(inventory: Inventory): void;
  /** Where a disk's content goes; a sparse image in memory unless given. */
  open?(disk: ExpectedDisk): SimDisk;
  /** A chunk is written. */
  wrote?(disk: ExpectedDisk, chunk: WrittenChunk): Promise<void> | void;
  /** The whole disk is there. */
  filled?(disk: ExpectedDisk): void;
  /** Wrong checksums are let pass, as a host does when forced to. */
  force?: boolean;
  /** As a host does: stop after the last chunk, what follows is not read. */
  stopsEarly?: boolean;
}

/** What an import would leave in the pool. */
export interface ImportedXva extends Omit<Inventory, 'disks'> {
  disks: ImportedDisk[];
  compression: Compression;
  /** Length of the archive once plain. */
  plainBytes: number;
}

const MIB = 1_048_576;
/** Real ones take some hundred KiB; read whole, so it needs a limit. */
const OVA_LIMIT_BYTES = 64 * MIB;
/** Attributes before a chunk are padding of a composed archive, at most one part's worth. */
const ATTRIBUTES_LIMIT_BYTES = 8 * MIB;

/**
 * Imports an archive from a file or a stream of bytes, of any compression a host takes.
 *
 * Errors: ImportRefused with the reason. Disks come back as sparse images in memory.
 */
export async function importXva(
  source: AsyncIterable<Uint8Array> | string,
  steps: ImportSteps = {},
): Promise<ImportedXva> {
  const bytes = typeof source === 'string' ? createReadStream(source) : source;
  const pieces = bytes[Symbol.asyncIterator]();
  const { compression, plain } = await openPlain({ [Symbol.asyncIterator]: () => pieces });
  try {
    steps.opened?.(compression);
    const archive = createArchive(plain);
    const planned = await readOva(archive);
    steps.planned?.(planned);
    const { disks: expected, ...inventory } = planned;
    const chunks = createChunks(archive, await createHashes(), steps.force === true);
    const disks: ImportedDisk[] = [];
    for (const disk of expected) disks.push(await importDisk(disk, chunks, steps));
    if (steps.stopsEarly !== true) await archive.end();
    return { ...inventory, disks, compression, plainBytes: plain.offset };
  } finally {
    await plain.close();
    await pieces.return?.();
  }
}

async function readOva(archive: Archive): Promise<Inventory> {
  const first = await archive.next({ attributes: false });
  if (first?.name !== 'ova.xml') refuse(`the first member is ${quoted(first)}, not ova.xml`);
  if (first.sizeBytes > OVA_LIMIT_BYTES) refuse(`ova.xml is ${first.sizeBytes} bytes long`);
  const bytes = await archive.content(first);
  try {
    return readInventory(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    if (error instanceof TypeError) refuse('ova.xml is not UTF-8', error);
    throw error;
  }
}

// ------------------------------------------------------------------------------------------------ disks

interface Chunk {
  number: number;
  content: Buffer;
  checksum: 'xxhash' | 'checksum';
}

interface Chunks {
  /** The next chunk, which must belong to this disk; its checksum is right. */
  next(disk: ExpectedDisk): Promise<Chunk>;
  /** Length of the very first chunk of the archive. */
  unitBytes(): number;
}

async function importDisk(
  disk: ExpectedDisk,
  chunks: Chunks,
  steps: ImportSteps,
): Promise<ImportedDisk> {
  const image = steps.open?.(disk) ?? createSparseDisk(disk.sizeBytes);
  const result: ImportedDisk = { ...disk, image, chunks: 0, emptyChunks: 0, checksums: [] };
  let last = -1;
  let offset = 0;
  while (offset < disk.sizeBytes) {
    const { number, content, checksum } = await chunks.next(disk);
    const where = `chunk ${number} of disk ${disk.id}`;
    if (number <= last) refuse(`${where} comes after chunk ${last}`);
    if (last < 0 && number !== 0) refuse(`disk ${disk.id} begins with chunk ${number}, not with 0`);
    offset += (number - last - 1) * chunks.unitBytes();
    if (offset + content.length > disk.sizeBytes)
      refuse(`${where} lies behind the end of the disk`);
    const isLast = offset + content.length === disk.sizeBytes;
    if (content.length !== MIB && content.length !== 0 && !isLast) {
      refuse(`${where} is ${content.length} bytes long and not the last one`);
    }
    writeSparse(image, offset, content);
    await steps.wrote?.(disk, { offset, lengthBytes: content.length, checksum });
    offset += content.length;
    last = number;
    result.chunks++;
    if (content.length === 0) result.emptyChunks++;
    if (!result.checksums.includes(checksum)) result.checksums.push(checksum);
  }
  steps.filled?.(disk);
  return result;
}

const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

/** Leaves zero pages unwritten, so that an image takes no more memory than the disk holds data. */
function writeSparse(image: SimDisk, offset: number, content: Buffer): void {
  for (let at = 0; at < content.length; at += PAGE_BYTES) {
    const page = content.subarray(at, at + PAGE_BYTES);
    if (!page.equals(ZERO_PAGE.subarray(0, page.length))) image.write(offset + at, page);
  }
}

function createChunks(archive: Archive, hash: Hashes, force: boolean): Chunks {
  let unitBytes: number | undefined;

  async function readChunk(disk: ExpectedDisk): Promise<{ name: string; content: Buffer }> {
    const member = await archive.next({ attributes: true });
    if (member === undefined) return refuse(`the archive ends inside disk ${disk.id}`);
    if (!member.name.startsWith(`${disk.id}/`)) {
      refuse(`${quoted(member)} stands where a chunk of disk ${disk.id} belongs`);
    }
    if (!/^\d{8,}$/.test(member.name.slice(disk.id.length + 1))) {
      refuse(`${quoted(member)} is no chunk's name`);
    }
    if (member.sizeBytes > MIB) refuse(`${member.name} is ${member.sizeBytes} bytes long`);
    return { name: member.name, content: await archive.content(member) };
  }

  async function readChecksum(name: string, content: Buffer): Promise<Chunk['checksum']> {
    const member = await archive.next({ attributes: false });
    const kind = (['xxhash', 'checksum'] as const).find((end) => member?.name === `${name}.${end}`);
    if (member === undefined || kind === undefined) {
      return refuse(`the checksum of ${name} is missing: there is ${quoted(member)}`);
    }
    const wanted = hash[kind](content);
    if (member.sizeBytes !== wanted.length) refuse(`${member.name} has another length`);
    const found = (await archive.content(member)).toString('latin1');
    if (found !== wanted && !force)
      refuse(`${name} has the checksum ${wanted}, not ${quote(found)}`);
    return kind;
  }

  return {
    async next(disk) {
      const { name, content } = await readChunk(disk);
      unitBytes ??= content.length;
      const checksum = await readChecksum(name, content);
      return { number: Number(name.slice(disk.id.length + 1)), content, checksum };
    },
    unitBytes: () => unitBytes ?? 0,
  };
}

interface Hashes {
  xxhash(content: Buffer): string;
  checksum(content: Buffer): string;
}

async function createHashes(): Promise<Hashes> {
  const { h64Raw } = await xxhash();
  return {
    xxhash: (content) => h64Raw(content).toString(16).toUpperCase().padStart(16, '0'),
    checksum: (content) => createHash('sha1').update(content).digest('hex'),
  };
}

// ------------------------------------------------------------------------------------------------ members

interface Member {
  name: string;
  sizeBytes: number;
}

interface Archive {
  /** The next member's header; undefined at the first block of the end. Its content must be read before the next. */
  next(options: { attributes: boolean }): Promise<Member | undefined>;
  content(member: Member): Promise<Buffer>;
  /** Demands that the two end blocks and then the end follow. */
  end(): Promise<void>;
}

function createArchive(plain: ByteReader): Archive {
  async function take(length: number, what: string): Promise<Buffer> {
    const bytes = await plain.read(length);
    if (bytes.length < length) refuse(`the archive ends inside ${what}`);
    return bytes;
  }

  async function content({ name, sizeBytes }: Member): Promise<Buffer> {
    // A copy: the piece read may be a view of memory that the next read lets go.
    const bytes = Buffer.from(await take(sizeBytes, name));
    const padding = await take(paddingOf(sizeBytes), `the padding of ${name}`);
    if (!isZero(padding)) refuse(`the padding of ${name} is not zero`);
    return bytes;
  }

  async function next({ attributes }: { attributes: boolean }): Promise<Member | undefined> {
    const block = await plain.peek(BLOCK_BYTES);
    if (block.length === 0) refuse('the archive ends without its end blocks');
    if (block.length === BLOCK_BYTES && isZero(block)) return undefined;
    const header = parseHeader(block);
    await plain.read(BLOCK_BYTES);
    if (header.kind === 'file') return header;
    if (!attributes) refuse(`attributes stand before a member that has none: ${header.name}`);
    if (header.sizeBytes > ATTRIBUTES_LIMIT_BYTES) refuse('attributes are too long');
    if (!/^\d+ comment=/.test((await content(header)).toString('utf8', 0, 32))) {
      refuse('attributes are more than a comment');
    }
    return next({ attributes: false });
  }

  async function end(): Promise<void> {
    const member = await next({ attributes: false });
    if (member !== undefined) refuse(`${quoted(member)} follows the last disk`);
    const blocks = await plain.read(2 * BLOCK_BYTES);
    if (blocks.length < 2 * BLOCK_BYTES) refuse('the archive ends inside its end blocks');
    if (!isZero(blocks)) refuse('a member follows a zero block');
    if ((await plain.read(1)).length > 0) refuse('bytes follow the end of the archive');
  }

  return { next, content, end };
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function quoted(member: Member | undefined): string {
  return member === undefined ? 'the end' : quote(member.name);
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}
