import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBlockDigest, createDigestKey, formatXxh64, loadHasher } from './hash.ts';
import { BLOCK_BYTES, DIGEST_BYTES } from './types.ts';

const hash = await loadHasher();

test('XXH64 gives the values hosts write', () => {
  assert.equal(formatXxh64(hash.xxh64(Buffer.alloc(0))), 'EF46DB3751D8E999');
  assert.equal(formatXxh64(hash.xxh64(Buffer.from('abc'))), '44BC2CF5AD770999');
  assert.equal(formatXxh64(hash.xxh64(Buffer.alloc(BLOCK_BYTES))), '87D2A1B6E1163EF1');
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
