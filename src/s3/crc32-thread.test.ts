import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import type { Log } from '../ports.ts';
import { createCrc32Thread } from './crc32-thread.ts';

const MIB = 1024 ** 2;
const warnings: string[] = [];
const log: Log = {
  debug() {},
  info() {},
  warn: (text) => {
    warnings.push(text);
  },
  error() {},
  child: () => log,
};

const open = () => createCrc32Thread({ log, processors: 2 });

/** Memory as the byte budget's, no two pieces of it the same. */
function sharedMemory(sizeBytes: number): Buffer {
  const memory = Buffer.from(new SharedArrayBuffer(sizeBytes));
  for (let at = 0; at < sizeBytes; at += 1) memory[at] = (at * 2_654_435_761) >>> 11;
  return memory;
}

/** Piece by piece, without the thread. */
function expected(bytes: Buffer, sizes: readonly number[]): number[] {
  let at = 0;
  return sizes.map((size) => {
    at += size;
    return crc32(bytes.subarray(at - size, at));
  });
}

test('many questions at once each get the values of their pieces', async () => {
  const thread = open();
  const memory = sharedMemory(3 * MIB);
  const sizes = [0, 1, 511, 512, 70_000, MIB, 3];
  const parts = [0, 1, 4097, MIB, 2 * MIB - 100_000].map((start) => memory.subarray(start));
  const answers = parts.map(async (part) => await thread.read(part, sizes));
  for (const [i, part] of parts.entries()) {
    assert(thread.reads(part));
    assert.deepEqual(await answers[i], expected(part, sizes));
  }
  assert.deepEqual(await thread.read(memory, []), []);
  thread.close();
  assert.deepEqual(warnings, []);
});

test('what cannot be shared is read by the caller, and so is all on a machine of one processor', async () => {
  const thread = open();
  const own = Buffer.from(sharedMemory(1000));
  assert.equal(thread.reads(own), false);
  assert.deepEqual(await thread.read(own, [400, 600]), expected(own, [400, 600]));
  const shared = sharedMemory(1000);
  assert.deepEqual(await thread.read(shared, [1000]), expected(shared, [1000]));
  assert.equal(thread.reads(sharedMemory(10)), false, 'the thread reads one memory');
  thread.close();
  const alone = createCrc32Thread({ log, processors: 1 });
  assert.equal(alone.reads(shared), false);
  assert.deepEqual(await alone.read(shared, [1, 999]), expected(shared, [1, 999]));
  alone.close();
});

test('what is asked when it is closed is answered all the same', async () => {
  const thread = open();
  const memory = sharedMemory(4 * MIB);
  const sizes = [MIB, 2 * MIB, MIB];
  const answers = Array.from({ length: 20 }, async () => await thread.read(memory, sizes));
  thread.close();
  assert.equal(thread.reads(memory), false);
  for (const answer of answers) assert.deepEqual(await answer, expected(memory, sizes));
  assert.deepEqual(await thread.read(memory, sizes), expected(memory, sizes));
  thread.close();
});

test('a thread that dies is done without, and told once', async () => {
  const thread = open();
  const memory = sharedMemory(MIB);
  // no such memory: the thread's own program throws
  const deadly = thread.read(memory, [2 * MIB]);
  const beside = thread.read(memory, [MIB]);
  assert.deepEqual(await deadly, [crc32(memory)]);
  assert.deepEqual(await beside, [crc32(memory)]);
  assert.equal(thread.reads(memory), false);
  assert.deepEqual(await thread.read(memory, [5, 6]), expected(memory, [5, 6]));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /checksum thread ended/);
});

test('a thread that keeps silent is done without, and told once', async () => {
  warnings.length = 0;
  // it takes longer than this to begin
  const thread = createCrc32Thread({ log, processors: 2, silenceMs: 1 });
  const memory = sharedMemory(MIB);
  const answers = [[MIB], [5, 6]].map(async (sizes) => await thread.read(memory, sizes));
  assert.deepEqual(await answers[0], [crc32(memory)]);
  assert.deepEqual(await answers[1], expected(memory, [5, 6]));
  assert.equal(thread.reads(memory), false);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /checksum thread ended/);
});

test('it keeps no process alive, but for an answer', async () => {
  const program = `
    const { createCrc32Thread } = await import(${JSON.stringify(import.meta.resolve('./crc32-thread.ts'))});
    const thread = createCrc32Thread({ log: {}, processors: 2 });
    const memory = Buffer.from(new SharedArrayBuffer(9));
    memory.write('123456789');
    console.log(await thread.read(memory, [9]));
  `;
  const run = promisify(execFile);
  const options = { timeout: 30_000, killSignal: 'SIGKILL' } as const;
  const flags = ['--input-type=module', '--eval', program];
  const { stdout } = await run(process.execPath, flags, options);
  assert.equal(stdout.trim(), `[ ${0xcbf43926} ]`);
});
