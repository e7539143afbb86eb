import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { eachZstdFrame } from './zstd-stream.ts';

const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255));
const CONTENTS = [Buffer.alloc(0), Buffer.alloc(3_000_000, 7), noise, Buffer.from('a')];
const COMPRESSED = CONTENTS.flatMap((content) =>
  [0, 1].map((flag) =>
    zstdCompressSync(content, {
      params: {
        [constants.ZSTD_c_checksumFlag]: flag,
        [constants.ZSTD_c_contentSizeFlag]: flag,
      },
    }),
  ),
);
const SKIPPED = Buffer.concat([
  Buffer.from([0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]),
  Buffer.from('hello'),
]);

async function* cut(bytes: Buffer, length: number) {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function framesOf(bytes: Buffer, length = 1000): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for await (const frame of eachZstdFrame(cut(bytes, length))) {
    const pieces: Buffer[] = [];
    for await (const piece of frame) pieces.push(piece);
    found.push(Buffer.concat(pieces));
  }
  return found;
}

test('frames of every kind come out whole, whatever the pieces, and skippable ones are skipped', async () => {
  const stream = Buffer.concat([SKIPPED, ...COMPRESSED, SKIPPED]);
  for (const length of [1, 7, 4096, 10_000_000]) {
    const frames = await framesOf(stream, length);
    assert.deepEqual(frames, COMPRESSED);
    assert.deepEqual(
      frames.map((frame) => zstdDecompressSync(frame).length),
      CONTENTS.flatMap(({ length: size }) => [size, size]),
    );
  }
  assert.deepEqual(await framesOf(Buffer.alloc(0)), []);
});

test('an end in the middle, and what is no frame, is an error', async () => {
  const one = COMPRESSED[3] as Buffer;
  for (const length of [1, 3, 4, 5, 8, one.length - 1]) {
    await assert.rejects(framesOf(one.subarray(0, length)), { code: 'data_corrupt' }, `${length}`);
  }
  await assert.rejects(framesOf(Buffer.concat([one, Buffer.from('trailing')])), /no frame/);
});
