/**
 * CRC-32 (IEEE 802.3, as in zlib) of an object out of the CRCs of its parts, without reading a byte again.
 *
 * A CRC is linear over GF(2): crc(A‖B) = crc(A)·x^(8·|B|) mod P  xor  crc(B), where P is the CRC's polynomial. So
 * appending costs one multiplication and log2(|B|) squarings. Bits are reflected: the highest bit of a word is x^0.
 */
import assert from 'node:assert/strict';

/** P without x^32, reflected. */
const POLYNOMIAL = 0xedb88320;
/** The polynomial 1. */
const ONE = 0x80000000;
/** x^8: one byte further. */
const BYTE = 0x00800000;

/** The CRC of A‖B from those of A and B and the length of B. */
export function combineCrc32(crcA: number, crcB: number, lengthB: number): number {
  return (multiply(powerOfByte(lengthB), crcA) ^ crcB) >>> 0;
}

/** Bytes and their CRC; undefined: it is not known yet. */
export interface Sum {
  sizeBytes: number;
  crc: number | undefined;
}

/** The CRC of the bytes of all of them, in order, behind those `before` is of. Every one is known. */
export function foldCrc32(sums: readonly Sum[], before = 0): number {
  return sums.reduce((all, { crc, sizeBytes }) => {
    assert(crc !== undefined, 'a checksum is missing');
    return combineCrc32(all, crc, sizeBytes);
  }, before);
}

/** As S3 writes it: base64 of the four bytes, highest first. */
export function encodeCrc32(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc >>> 0);
  return bytes.toString('base64');
}

/** From what S3 writes. */
export function decodeCrc32(text: string): number {
  return Buffer.from(text, 'base64').readUInt32BE(0);
}

/** a·b mod P. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}

let lastCount = 0;
let lastPower = ONE;

/** x^(8·count) mod P; blocks have one length, so the last answer is often the next. */
function powerOfByte(count: number): number {
  if (count !== lastCount) {
    lastPower = computePower(count);
    lastCount = count;
  }
  return lastPower;
}

/** x^(8·count) mod P. `count` may exceed 32 bits, hence no bit operators on it. */
function computePower(count: number): number {
  let power = ONE;
  let square = BYTE;
  for (let left = count; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) power = multiply(square, power);
    square = multiply(square, square);
  }
  return power;
}
