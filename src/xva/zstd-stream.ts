/**
 * Takes a zstd stream apart into its frames, whoever wrote it.
 *
 * A stream may be many frames, one behind the other (archives of ours, and of parallel compressors), with skippable ones
 * between. Node's decompressor stops after the first without a word, so each frame gets one of its own: here they are
 * only found, by walking over their blocks' headers. Layout: RFC 8878, section 3.1.
 */
import { BackupError } from '../errors.ts';

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const MAGIC_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
/** No block is longer, compressed or not. */
const MAX_BLOCK_BYTES = 131_072;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CHECKSUM_BYTES = 4;

type Pieces = AsyncIterable<Uint8Array>;
/** Exactly so many bytes, fewer only at the end. */
type Take = (length: number) => Promise<Buffer>;

/** The bytes of each frame, to be read to its end before the next is asked for. Errors: `data_corrupt`. */
export async function* eachZstdFrame(
  pieces: Pieces,
): AsyncGenerator<AsyncGenerator<Buffer, void, undefined>, void, undefined> {
  const take = createTake(pieces);
  for (;;) {
    const magic = await take(MAGIC_BYTES);
    if (magic.length === 0) return;
    const number = magic.length < MAGIC_BYTES ? 0 : magic.readUInt32LE(0);
    if (number === MAGIC) yield frame(magic, take);
    else if ((number & SKIPPABLE_MASK) >>> 0 === SKIPPABLE) await skip(take);
    else throw corrupt('no frame where one should begin');
  }
}

async function* frame(magic: Buffer, take: Take): AsyncGenerator<Buffer, void, undefined> {
  yield magic;
  const [descriptor] = await exactly(take, 1);
  const flags = descriptor as number;
  const isSingle = (flags & 0x20) !== 0;
  const dictionary = DICTIONARY_BYTES[(flags & 3) as 0 | 1 | 2 | 3];
  const sizeFlag = flags >> 6;
  const size = sizeFlag === 0 ? Number(isSingle) : 1 << sizeFlag;
  yield Buffer.from([flags]);
  const rest = (isSingle ? 0 : 1) + dictionary + size;
  if (rest > 0) yield await exactly(take, rest);
  for (let isLast = false; !isLast; ) {
    const header = await exactly(take, BLOCK_HEADER_BYTES);
    yield header;
    const word = header.readUIntLE(0, BLOCK_HEADER_BYTES);
    isLast = (word & 1) === 1;
    const type = (word >> 1) & 3;
    // a repeated byte takes one, whatever its length
    const length = type === 1 ? 1 : word >> 3;
    if (type === 3 || length > MAX_BLOCK_BYTES) throw corrupt('a wrong block');
    if (length > 0) yield await exactly(take, length);
  }
  if ((flags & 4) !== 0) yield await exactly(take, CHECKSUM_BYTES);
}

async function skip(take: Take): Promise<void> {
  let left = (await exactly(take, 4)).readUInt32LE(0);
  for (; left > 0; left -= Math.min(left, MAX_BLOCK_BYTES)) {
    await exactly(take, Math.min(left, MAX_BLOCK_BYTES));
  }
}

async function exactly(take: Take, length: number): Promise<Buffer> {
  const bytes = await take(length);
  if (bytes.length === length) return bytes;
  throw corrupt('it ends early');
}

/** Copies: what it gives stays valid. */
function createTake(pieces: Pieces): Take {
  const source = pieces[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array();
  return async (length) => {
    const bytes = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      if (rest.length === 0) {
        const { done, value } = await source.next();
        if (done) break;
        rest = value;
      }
      const count = Math.min(rest.length, length - filled);
      bytes.set(rest.subarray(0, count), filled);
      rest = rest.subarray(count);
      filled += count;
    }
    return bytes.subarray(0, filled);
  };
}

function corrupt(what: string): BackupError {
  return new BackupError('data_corrupt', `read zstd stream: ${what}`);
}
