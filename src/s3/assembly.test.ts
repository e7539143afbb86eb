/** The checksum of the whole object; what becomes of the bytes is held by test/conformance/object-delta.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { type AssemblyParts, createAssembly, digest, wholeCrc } from './assembly.ts';
import type { Sum } from './crc32.ts';

test('pieces whose checksum is known late keep their place in the sum', () => {
  const assembly = createAssembly({} as AssemblyParts);
  const texts = ['ova.xml', 'first block', 'second', '', 'the third block', 'end'];
  // the thread has the second and the fifth; it may end in between, and what follows is known at once
  const pieces = texts.map((text, i): Sum => {
    const isLate = i === 1 || i === 4;
    return { sizeBytes: text.length, crc: isLate ? undefined : crc32(text) };
  });
  for (const [i, piece] of pieces.entries()) {
    digest(assembly, piece);
    if (i === 4) piece.crc = crc32(texts[4] ?? '');
  }
  assert.throws(() => wholeCrc(assembly), 'one is missing');
  if (pieces[1]) pieces[1].crc = crc32(texts[1] ?? '');
  assert.equal(wholeCrc(assembly), crc32(texts.join('')));
});
