/**
 * An archive somebody made by hand, read like an export: plain, gzip or zstd, known by its first bytes.
 *
 * `xe vm-export` writes plain archives, with `compress=true` gzip, with `compress=zstd` zstd; an `.xva` of xvault may be zstd,
 * too. There is no task to ask at the end: that it was all is proved by the end of the archive alone.
 */
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Adopted } from '../catalog/adopt.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, ExportStream } from '../ports.ts';
import { fillFrom } from '../xva/reader.ts';
import { eachZstdFrame } from '../xva/zstd-stream.ts';

const GZIP = 0x1f8b;
const ZSTD = 0x28b52ffd;
const MAGIC_BYTES = 4;

/** Bytes that can be read from their beginning as often as they are needed. */
export interface AdoptSource {
  /** As people know it. */
  name: string;
  sizeBytes: number;
  /** When it was last written, milliseconds since 1970. */
  modifiedMs: number;
  /** A piece is valid until the next is asked for. */
  read(options: Cancellable): AsyncGenerator<Uint8Array, void, undefined>;
}

export interface AdoptStream extends ExportStream {
  readonly compression: Adopted['compression'];
}

/** Opens it. `host`: who made it, as far as that is known. Errors: the source's; `data_corrupt` for a damaged compression. */
export async function openAdopted(
  source: AdoptSource,
  host: ExportStream['host'],
  { signal }: Cancellable,
): Promise<AdoptStream> {
  const stop = new AbortController();
  const options = { signal: AbortSignal.any([signal, stop.signal]) };
  let readBytes = 0;
  const raw = counted(source.read(options), (count) => {
    readBytes += count;
  });
  const { compression, bytes } = await detect(raw);
  const unpacked = unpack(bytes, compression, options);
  const fill = fillFrom(unpacked);
  return {
    host,
    compression,
    fill: (target) => fill(target),
    settle: () => Promise.resolve(),
    get taskProgress() {
      return Math.min(1, readBytes / Math.max(1, source.sizeBytes));
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort(new BackupError('cancelled', 'read archive: it is not needed any more'));
      await unpacked.return().catch(() => undefined); // its errors were told by `fill`
    },
  };
}

async function* counted(
  pieces: AsyncGenerator<Uint8Array, void, undefined>,
  onRead: (count: number) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) {
    onRead(piece.length);
    yield piece;
  }
}

/** By the first bytes; what was read to see them comes first again. */
async function detect(raw: AsyncGenerator<Uint8Array, void, undefined>) {
  let start: Buffer = Buffer.alloc(0);
  while (start.length < MAGIC_BYTES) {
    const { done, value } = await raw.next();
    if (done) break;
    start = Buffer.concat([start, value]);
  }
  const isLong = start.length >= MAGIC_BYTES;
  const compression: Adopted['compression'] =
    isLong && start.readUInt16BE(0) === GZIP
      ? 'gzip'
      : isLong && start.readUInt32BE(0) === ZSTD
        ? 'zstd'
        : 'none';
  async function* bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    yield start;
    yield* raw;
  }
  return { compression, bytes: bytes() };
}

async function* unpack(
  bytes: AsyncGenerator<Uint8Array, void, undefined>,
  compression: Adopted['compression'],
  { signal }: Cancellable,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (compression === 'none') return yield* bytes;
  // the stream may ask for the next piece while it still holds one
  if (compression === 'gzip') return yield* through(createGunzip(), copied(bytes), { signal });
  for await (const frame of eachZstdFrame(bytes)) {
    yield* through(createZstdDecompress(), frame, { signal });
  }
}

async function* through(
  unpacker: Transform,
  packed: AsyncGenerator<Uint8Array, void, undefined>,
  { signal }: Cancellable,
): AsyncGenerator<Uint8Array, void, undefined> {
  const flowing = pipeline(Readable.from(packed, { objectMode: false }), unpacker, { signal });
  flowing.catch(() => undefined); // told below
  try {
    for await (const piece of unpacker) yield piece as Buffer;
    await flowing;
  } catch (error) {
    signal.throwIfAborted();
    throw translated(error);
  }
}

async function* copied(bytes: AsyncGenerator<Uint8Array, void, undefined>) {
  for await (const piece of bytes) yield Buffer.from(piece);
}

/** zlib's own errors have a code that says so; all others are the source's. */
function translated(error: unknown): unknown {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (!/^(Z_|ZSTD_|ERR_ZSTD|ERR_BUFFER)/.test(code ?? '')) return error;
  return new BackupError('data_corrupt', 'read archive: its compression is damaged or cut off', {
    cause: error,
  });
}
