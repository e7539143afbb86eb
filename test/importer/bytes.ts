/**
 * Exact reads from a stream of pieces of any size, and the plain bytes of an archive that may be compressed.
 *
 * As a real host does, the kind is told by the first 512 bytes: a tar header of `ova.xml` is plain, the magic
 * 28 B5 2F FD is zstd, anything else is taken for gzip. Node's zstd stream stops after the first frame without a
 * word (seen with 24.21), where the `zstd` tool goes on; so frames are walked here (RFC 8878, 3.1.1) and each is
 * decompressed on its own, which also finds a frame that was cut.
 */

import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from 'node:zlib';
import { refuse } from './refusal.ts';
import { BLOCK_BYTES, parseHeader } from './tar.ts';

export interface ByteReader {
  /** Bytes handed out so far. */
  readonly offset: number;
  /** The next `length` bytes; fewer only at the end of the stream. */
  read(length: number): Promise<Buffer>;
  /** The next bytes without taking them; fewer only at the end. */
  peek(length: number): Promise<Buffer>;
  /** Lets go of what is read from; nothing more comes. */
  close(): Promise<void>;
}

/** Reads exact amounts from pieces of any size. */
export function createByteReader(source: AsyncIterable<Uint8Array>): ByteReader {
  const pieces = source[Symbol.asyncIterator]();
  let queue: Buffer[] = [];
  let queued = 0;
  let offset = 0;

  async function fill(length: number): Promise<void> {
    while (queued < length) {
      const { done, value } = await pieces.next();
      if (done === true) return;
      queue.push(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
      queued += value.byteLength;
    }
  }

  async function peek(length: number): Promise<Buffer> {
    await fill(length);
    const first = queue[0];
    if (first === undefined || first.length < Math.min(length, queued)) {
      queue = [Buffer.concat(queue)];
    }
    return (queue[0] as Buffer).subarray(0, length);
  }

  return {
    get offset() {
      return offset;
    },
    peek,
    async read(length) {
      const bytes = await peek(length);
      queue[0] = (queue[0] as Buffer).subarray(bytes.length);
      if (queue[0].length === 0) queue.shift();
      queued -= bytes.length;
      offset += bytes.length;
      return bytes;
    },
    async close() {
      await pieces.return?.();
    },
  };
}

export type Compression = 'none' | 'zstd' | 'gzip';

const ZSTD_MAGIC = 0xfd2fb528;

/** Finds out how an archive is compressed and hands on its plain bytes. */
export async function openPlain(
  source: AsyncIterable<Uint8Array>,
): Promise<{ compression: Compression; plain: ByteReader }> {
  const raw = createByteReader(source);
  const start = await raw.peek(BLOCK_BYTES);
  if (start.length === 0) refuse('the archive is empty');
  if (isOvaHeader(start)) return { compression: 'none', plain: raw };
  if (start.length >= 4 && start.readUInt32LE(0) === ZSTD_MAGIC) {
    return { compression: 'zstd', plain: createByteReader(zstdFrames(raw)) };
  }
  return { compression: 'gzip', plain: createByteReader(gunzip(raw)) };
}

function isOvaHeader(block: Buffer): boolean {
  try {
    return parseHeader(block).name === 'ova.xml';
  } catch {
    return false; // any damage here means to a real host: not plain, so try the decompressors
  }
}

const PIECE_BYTES = 262_144;

async function* gunzip(raw: ByteReader): AsyncGenerator<Uint8Array> {
  const engine = createGunzip();
  let total = 0;
  async function* compressed(): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = await raw.read(PIECE_BYTES);
      if (piece.length === 0) return;
      total += piece.length;
      yield piece;
    }
  }
  yield* through(compressed(), engine, 'neither a plain, a zstd nor a whole gzip archive');
  if (engine.bytesWritten !== total) refuse('bytes follow the gzip stream');
}

/** What `engine` makes of `compressed`; damage it finds becomes a refusal, other errors stay what they are. */
async function* through(
  compressed: AsyncGenerator<Buffer>,
  engine: Gunzip | ZstdDecompress,
  sentence: string,
): AsyncGenerator<Uint8Array> {
  const source = Readable.from(compressed);
  source.on('error', (error) => engine.destroy(error));
  try {
    yield* source.pipe(engine);
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    if (!/^Z(STD)?_/.test(code)) throw error;
    refuse(`${sentence}: ${message}`, error);
  } finally {
    source.destroy();
    engine.destroy();
  }
}

/** Every frame of a zstd stream, decompressed; skippable frames after the first are skipped. */
async function* zstdFrames(raw: ByteReader): AsyncGenerator<Uint8Array> {
  while ((await raw.peek(1)).length > 0) {
    const magic = (await take(raw, 4)).readUInt32LE(0);
    if (magic >>> 4 === 0x184d2a5) {
      await skip(raw, (await take(raw, 4)).readUInt32LE(0));
    } else if (magic === ZSTD_MAGIC) {
      yield* through(frameBytes(raw), createZstdDecompress(), 'the zstd stream is damaged');
    } else {
      refuse(`bytes that are no zstd frame follow at offset ${raw.offset - 4}`);
    }
  }
}

/** One frame's bytes as they are, from its magic to its checksum. */
async function* frameBytes(raw: ByteReader): AsyncGenerator<Buffer> {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(ZSTD_MAGIC);
  yield magic;
  const descriptor = await take(raw, 1);
  const flags = descriptor[0] as number;
  const singleSegment = (flags & 0x20) !== 0;
  const sizeField = [singleSegment ? 1 : 0, 2, 4, 8][flags >> 6] as number;
  const dictionaryField = [0, 1, 2, 4][flags & 3] as number;
  const rest = (singleSegment ? 0 : 1) + dictionaryField + sizeField;
  yield Buffer.concat([descriptor, await take(raw, rest)]);
  for (let last = false; !last; ) {
    const header = Buffer.from(await take(raw, 3));
    const word = header.readUIntLE(0, 3);
    last = (word & 1) === 1;
    const kind = (word >> 1) & 3;
    if (kind === 3) refuse(`the zstd stream has a reserved block at offset ${raw.offset - 3}`);
    yield header;
    yield Buffer.from(await take(raw, kind === 1 ? 1 : word >> 3));
  }
  if ((flags & 4) !== 0) yield Buffer.from(await take(raw, 4));
}

async function take(raw: ByteReader, length: number): Promise<Buffer> {
  const bytes = await raw.read(length);
  if (bytes.length < length) refuse('the zstd stream ends inside a frame');
  return bytes;
}

async function skip(raw: ByteReader, length: number): Promise<void> {
  for (let left = length; left > 0; left -= PIECE_BYTES) {
    await take(raw, Math.min(left, PIECE_BYTES));
  }
}
