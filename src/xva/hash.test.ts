import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatXxh64, loadHasher } from './hash.ts';
import { BLOCK_BYTES } from './types.ts';

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
