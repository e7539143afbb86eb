/**
 * One zstd frame: made, read, and walked through.
 *
 * A frame says how long its content is and ends with a checksum of it, so that `zstd` itself
 * notices damage. The same bytes give the same frame for one version and level of zstd; both stand
 * in `COMPRESSION.parameters`. Layout of frames: RFC 8878, section 3.1. Works in Node's thread pool.
 */
import { constants, type ZstdOptions, zstdCompress, zstdDecompress } from 'node:zlib';
import { BackupError } from '../errors.ts';

const MAGIC = 0xfd2fb528;
/** Magic and frame header descriptor. */
const START_BYTES = 5;
/** Longest frame header behind them: window, dictionary, content size. */
const MAX_HEADER_BYTES = 1 + 4 + 8;
const BLOCK_HEADER_BYTES = 3;
/** Slack for content that cannot be compressed: zstd's own bound is 1/256 and some bytes. */
const SLACK_BYTES = 65_536;

/** Compresses bytes into one frame. */
export function compressFrame(bytes: Uint8Array, level: number): Promise<Buffer> {
  const options: ZstdOptions = {
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: 1,
      [constants.ZSTD_c_contentSizeFlag]: 1,
    },
    pledgedSrcSize: bytes.length,
    // one piece of output: frames are small, and pieces would be copied together again
    chunkSize: bytes.length + SLACK_BYTES,
  };
  return new Promise((resolve, reject) => {
    zstdCompress(bytes, options, (error, frame) => (error ? reject(error) : resolve(frame)));
  });
}

/**
 * Reads one frame, whose content must have exactly `plainBytes`. Errors: `data_corrupt`.
 */
export function decompressFrame(frame: Uint8Array, plainBytes: number): Promise<Buffer> {
  const options = { maxOutputLength: plainBytes + 1, chunkSize: Math.max(1024, plainBytes + 1) };
  return new Promise((resolve, reject) => {
    zstdDecompress(frame, options, (error, bytes) => {
      if (error) reject(corrupt('it is damaged', error));
      else if (bytes.length !== plainBytes) reject(corrupt('it has another length'));
      else resolve(bytes);
    });
  });
}

/**
 * Takes the next frame of a stream apart, without reading its content: `read` gives exactly the
 * bytes asked for, or fewer at the end. undefined at the end of the stream.
 *
 * Errors: `data_corrupt` for what is no frame of ours: skippable ones, content of unknown length or
 * above `maxPlainBytes`, a frame cut short.
 */
export async function readFrame(
  read: (length: number) => Promise<Uint8Array>,
  { maxPlainBytes }: { maxPlainBytes: number },
): Promise<{ frame: Buffer; plainBytes: number } | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const take = async (count: number): Promise<Buffer> => {
    const bytes = Buffer.from(await read(count));
    if (bytes.length < count) throw corrupt('it ends early');
    pieces.push(bytes);
    length += count;
    return bytes;
  };
  const start = Buffer.from(await read(START_BYTES));
  if (start.length === 0) return undefined;
  if (start.length < START_BYTES || start.readUInt32LE(0) !== MAGIC)
    throw corrupt('it has no magic');
  pieces.push(start);
  const header = parseDescriptor(start[4] as number);
  const fields = await take(header.bytes);
  const plainBytes = readContentSize(fields.subarray(header.sizeAt));
  if (plainBytes > maxPlainBytes) throw corrupt('it is too long');
  const longest = plainBytes + SLACK_BYTES;
  for (let isLast = false; !isLast; ) {
    const block = (await take(BLOCK_HEADER_BYTES)).readUIntLE(0, BLOCK_HEADER_BYTES);
    isLast = (block & 1) === 1;
    const type = (block >> 1) & 3;
    // a repeated byte takes one, whatever its length
    const size = type === 1 ? 1 : block >> 3;
    if (type === 3 || length + size > longest) throw corrupt('it has a wrong block');
    await take(size);
  }
  if (header.hasChecksum) await take(4);
  return { frame: Buffer.concat(pieces), plainBytes };
}

function parseDescriptor(descriptor: number) {
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? (isSingle ? 1 : 0) : 1 << sizeFlag;
  if (sizeBytes === 0) throw corrupt('it does not tell its length');
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  const sizeAt = (isSingle ? 0 : 1) + dictionaryBytes;
  const bytes = sizeAt + sizeBytes;
  if (bytes > MAX_HEADER_BYTES || dictionaryBytes > 0) throw corrupt('it wants a dictionary');
  return { bytes, sizeAt, hasChecksum: (descriptor & 4) !== 0 };
}

/** One byte, two (from 256 on), four or eight. */
function readContentSize(field: Buffer): number {
  if (field.length === 1) return field[0] as number;
  if (field.length === 2) return field.readUInt16LE(0) + 256;
  return field.length === 4 ? field.readUInt32LE(0) : Number(field.readBigUInt64LE(0));
}

function corrupt(what: string, cause?: unknown): BackupError {
  return new BackupError('data_corrupt', `read zstd frame: ${what}`, cause ? { cause } : {});
}
