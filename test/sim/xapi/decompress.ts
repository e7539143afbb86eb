/**
 * Decompresses an import by the programs a host runs, for tests that want the real ones.
 *
 * Source: xen-api `ocaml/xapi/import.ml` (with_open_archive): a tar header of ova.xml is plain, 28 B5 2F FD goes to
 * `zstd --decompress --stdout`, anything else to `gzip --decompress --stdout`. A program that fails ends its output,
 * which the reader then finds too short. Otherwise the strict importer decompresses itself, by the same rule.
 */
import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';

const ZSTD_MAGIC = 0xfd2fb528;

function programFor(start: Uint8Array): 'zstd' | 'gzip' | undefined {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (bytes.toString('latin1', 0, 8) === 'ova.xml\0') return undefined;
  return bytes.length >= 4 && bytes.readUInt32LE(0) === ZSTD_MAGIC ? 'zstd' : 'gzip';
}

async function* from(first: Uint8Array, rest: AsyncIterator<Uint8Array>) {
  yield first;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

/** The plain bytes of an archive; leaving the loop early ends the program. */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pieces = source[Symbol.asyncIterator]();
  try {
    const first = await pieces.next();
    if (first.done === true) return;
    const program = programFor(first.value);
    if (program === undefined) {
      yield* from(first.value, pieces);
      return;
    }
    yield* through(program, from(first.value, pieces));
  } finally {
    await pieces.return?.();
  }
}

async function* through(
  program: string,
  compressed: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const child = spawn(program, ['--decompress', '--stdout'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const input = Readable.from(compressed, { objectMode: false });
  let failure: unknown;
  const fail = (error: unknown) => {
    failure ??= error;
    child.kill();
  };
  child.once('error', fail);
  input.once('error', fail);
  child.stdin.on('error', () => undefined); // a program that gave up says so by ending its output
  input.pipe(child.stdin);
  try {
    for await (const piece of child.stdout) yield piece as Uint8Array;
    if (failure !== undefined) throw failure;
  } finally {
    input.destroy();
    child.kill();
  }
}
