/**
 * Which blocks of a disk are stored: a bitmap with coarse sums, so that a block's position among
 * the stored ones is found by adding up 64 bytes at most.
 *
 * Block n is bit n % 8, of value 1 << n % 8, of byte n >> 3. A TiB of disk takes 128 KiB and 8 KiB
 * of sums.
 */
import type { Presence } from './types.ts';

/** Blocks between two sums. */
const STRIDE = 512;
const STRIDE_BYTES = STRIDE / 8;
/** Bits set in each byte. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let rest = byte; rest > 0; rest >>= 1) ones += rest & 1;
  return ones;
});

/** Looks into `bits`, which must not change any more. */
export function createPresence(bits: Buffer): Presence {
  const sums = sumUp(bits);
  const has = (number: number) => ((bits[number >> 3] ?? 0) & (1 << (number & 7))) !== 0;
  return {
    bits,
    has,
    rank: (wanted) => {
      const number = Math.min(wanted, bits.length * 8);
      const stride = Math.floor(number / STRIDE);
      const end = number >> 3;
      let count = sums[stride] as number;
      for (let at = stride * STRIDE_BYTES; at < end; at++) count += ONES[bits[at] as number] ?? 0;
      const below = (1 << (number & 7)) - 1;
      return count + (ONES[(bits[end] ?? 0) & below] as number);
    },
    select: (position) => {
      let at = findStride(sums, position) * STRIDE_BYTES;
      let left = position - (sums[at / STRIDE_BYTES] as number);
      for (; left >= (ONES[bits[at] as number] as number); at++) {
        left -= ONES[bits[at] as number] as number;
      }
      let number = at * 8;
      for (; left > 0 || !has(number); number++) if (has(number)) left--;
      return number;
    },
  };
}

/** How many blocks are stored. */
export function countBits(bits: Buffer): number {
  let count = 0;
  for (const byte of bits) count += ONES[byte] as number;
  return count;
}

/** Stored blocks below each stride, and of all of them at the end. */
function sumUp(bits: Buffer): Uint32Array {
  const sums = new Uint32Array(Math.ceil(bits.length / STRIDE_BYTES) + 1);
  let sum = 0;
  for (let at = 0; at < bits.length; at++) {
    if (at % STRIDE_BYTES === 0) sums[at / STRIDE_BYTES] = sum;
    sum += ONES[bits[at] as number] as number;
  }
  sums[sums.length - 1] = sum;
  return sums;
}

/** The last stride that begins at or below `position` and holds something behind it. */
function findStride(sums: Uint32Array, position: number): number {
  let low = 0;
  let high = sums.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((sums[middle] as number) <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}
