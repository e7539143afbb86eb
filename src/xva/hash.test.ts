import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createBlockDigest,
  createBlockMemory,
  createDigestKey,
  formatXxh64,
  loadHasher,
} from './hash.ts';
import { BLOCK_BYTES, DIGEST_BYTES } from './types.ts';

const hash = await loadHasher();

test('XXH64 gives the values hosts write', () => {
  assert.equal(formatXxh64(hash.xxh64(Buffer.alloc(0))), 'EF46DB3751D8E999');
  assert.equal(formatXxh64(hash.xxh64(Buffer.from('abc'))), '44BC2CF5AD770999');
  assert.equal(formatXxh64(hash.xxh64(Buffer.alloc(BLOCK_BYTES))), '87D2A1B6E1163EF1');
});

test('what lies in the memory for blocks is hashed there, to the same value', async () => {
  const memory = createBlockMemory(3 * BLOCK_BYTES);
  assert(memory);
  const inPlace = await loadHasher(memory);
  const all = Buffer.from(memory.buffer);
  for (let at = 0; at < all.length; at++) all[at] = (at * 2_654_435_761) >>> 13;
  const check = (start: number, length: number) => {
    const bytes = all.subarray(start, start + length);
    const expected = hash.xxh64(bytes);
    assert.equal(inPlace.xxh64(bytes), expected, `${length} bytes at ${start}`);
    assert.equal(inPlace.xxh64(Buffer.from(bytes)), expected, 'the same bytes elsewhere');
  };
  for (let length = 0; length < 200; length++) check(length * 3, length);
  for (const start of [0, 1, 7, 512, BLOCK_BYTES + 3]) check(start, BLOCK_BYTES);
  check(all.length - BLOCK_BYTES, BLOCK_BYTES);
  check(all.length, 0);
});

test('memory for blocks beyond what WebAssembly has is ordinary memory', () => {
  assert.equal(createBlockMemory(4 * 1024 ** 3), undefined);
});

test('a small digest keeps its leading zeros', () => {
  assert.equal(formatXxh64(0xabn), '00000000000000AB');
});

test('hashing piece by piece gives the same as at once', () => {
  const stream = hash.stream();
  stream.update(Buffer.from('a'));
  stream.update(Buffer.from('bc'));
  assert.equal(stream.digest(), hash.xxh64(Buffer.from('abc')));
});

test('the keyed digest is AES-128-GMAC under a zero nonce', () => {
  // the first case of the GCM specification: no data at all
  const digest = createBlockDigest(Buffer.alloc(16));
  assert.equal(digest(Buffer.alloc(0)).toString('hex'), '58e2fccefa7e3061367f1d57a4e7455a');
  assert.equal(digest(Buffer.alloc(BLOCK_BYTES)).length, DIGEST_BYTES);
});

test('another key, another length or one changed bit give another digest', () => {
  const digest = createBlockDigest(createDigestKey());
  const block = Buffer.alloc(BLOCK_BYTES, 'a');
  const first = digest(block);
  assert.deepEqual(digest(Buffer.from(block)), first);
  assert.notDeepEqual(createBlockDigest(createDigestKey())(block), first);
  assert.notDeepEqual(digest(block.subarray(1)), first);
  block[77_777] = 0x60;
  assert.notDeepEqual(digest(block), first);
});
