import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { combineCrc32, encodeCrc32 } from './crc32.ts';

test('the CRC of two pieces in a row is combined from theirs', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
      assert.equal(combineCrc32(crc32(a), crc32(b), b.length), crc32(Buffer.concat([a, b])));
    }),
  );
});

test('an empty object has CRC 0 and appending nothing changes nothing', () => {
  assert.equal(combineCrc32(0, 0, 0), crc32(''));
  assert.equal(combineCrc32(0x12345678, 0, 0), 0x12345678);
});

test('lengths beyond 32 bits combine as their halves do', () => {
  const gib4 = 2 ** 32;
  const [a, half] = [0xdeadbeef, 0x01020304];
  const both = combineCrc32(half, half, gib4);
  assert.equal(
    combineCrc32(a, both, 2 * gib4),
    combineCrc32(combineCrc32(a, half, gib4), half, gib4),
  );
});

test('a CRC is written as S3 writes it', () => {
  assert.equal(encodeCrc32(crc32('123456789')), Buffer.from('cbf43926', 'hex').toString('base64'));
});
