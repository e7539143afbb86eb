import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { countBits, createPresence } from './presence.ts';

function bitsOf(numbers: Iterable<number>, length: number): Buffer {
  const bits = Buffer.alloc(length);
  for (const n of numbers) bits[n >> 3] = (bits[n >> 3] as number) | (1 << (n & 7));
  return bits;
}

test('positions, numbers and presence agree with a plain list, whatever is stored', () => {
  const density = fc.constantFrom(1, 2, 3, 50, 700);
  const property = fc.property(fc.integer({ min: 1, max: 400 }), density, (length, every) => {
    const numbers = Array.from({ length: length * 8 }, (_, n) => n).filter(
      (n) => (n * 2_654_435_761) % every === 0,
    );
    const bits = bitsOf(numbers, length);
    const presence = createPresence(bits);
    assert.equal(countBits(bits), numbers.length);
    for (const [position, number] of numbers.entries()) {
      assert.equal(presence.select(position), number);
      assert.equal(presence.rank(number), position);
    }
    const stored = new Set(numbers);
    let below = 0;
    for (let n = 0; n < length * 8; n++) {
      assert.equal(presence.has(n), stored.has(n));
      assert.equal(presence.rank(n), below);
      if (stored.has(n)) below++;
    }
  });
  fc.assert(property, { numRuns: 60 });
});

test('behind the end nothing is stored, and everything lies below', () => {
  for (const length of [1, 63, 64, 65, 128]) {
    const presence = createPresence(Buffer.alloc(length, 0xff));
    for (const number of [length * 8, length * 8 + 1, 99_999_999]) {
      assert.equal(presence.has(number), false);
      assert.equal(presence.rank(number), length * 8);
    }
  }
});
