/**
 * The checksums S3 knows: taken over chunks as they arrive, combined over the parts of an upload.
 *
 * CRC32, CRC32C and CRC64NVME as big-endian base64, SHA-1 and SHA-256; MD5 for ETags and Content-MD5. Full-object
 * values of an upload are combined from the parts' values (crc(ab) = crc(a)·x^(8·|b|) + crc(b), the method of
 * zlib's crc32_combine), so completing does not read the object again. CRC32 is zlib's native one and cheap; CRC32C
 * and CRC64NVME run in plain JavaScript here (about 3 s/GiB) and are for small test bodies.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const CHECKSUM_ALGORITHMS = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];
export type ChecksumType = 'COMPOSITE' | 'FULL_OBJECT';

/** A checksum as it is kept and answered. */
export interface Checksum {
  algorithm: ChecksumAlgorithm;
  type: ChecksumType;
  /** Base64; composites end in `-<parts>`. */
  value: string;
}

/** A running hash. */
export interface Hasher {
  update(chunk: Uint8Array): void;
  digest(): Buffer;
}

/** Starts a hash over nothing. */
export function createHasher(algorithm: ChecksumAlgorithm | 'MD5'): Hasher {
  switch (algorithm) {
    case 'CRC32':
      return createCrc32();
    case 'CRC32C':
      return createTableCrc32(crc32cTable());
    case 'CRC64NVME':
      return createCrc64();
    default: {
      const hash = createHash(algorithm.toLowerCase());
      return { update: (chunk) => void hash.update(chunk), digest: () => hash.digest() };
    }
  }
}

/** The digest of whole content in base64. */
export function checksumOf(algorithm: ChecksumAlgorithm, chunks: Iterable<Uint8Array>): string {
  const hasher = createHasher(algorithm);
  for (const chunk of chunks) hasher.update(chunk);
  return hasher.digest().toString('base64');
}

/** Header and field name: `x-amz-checksum-crc32`, `ChecksumCRC32`. */
export function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return `x-amz-checksum-${algorithm.toLowerCase()}`;
}

/** The type S3 takes when a client names only the algorithm. */
export function defaultType(algorithm: ChecksumAlgorithm): ChecksumType {
  return algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE';
}

/** Hash of the parts' hashes, as S3 gives for composite checksums. */
export function compositeChecksum(algorithm: ChecksumAlgorithm, parts: readonly string[]): string {
  const digests = parts.map((part) => Buffer.from(part, 'base64'));
  return `${checksumOf(algorithm, digests)}-${parts.length}`;
}

/** The whole object's CRC from those of its parts. */
export function fullObjectChecksum(
  algorithm: 'CRC32' | 'CRC32C' | 'CRC64NVME',
  parts: readonly { value: string; sizeBytes: number }[],
): string {
  const field = FIELDS[algorithm];
  let whole = 0n;
  for (const part of parts) {
    const crc = BigInt(`0x${Buffer.from(part.value, 'base64').toString('hex')}`);
    whole = multiply(field, whole, power(field, part.sizeBytes * 8)) ^ crc;
  }
  const hex = whole.toString(16).padStart(Number(field.bits / 4n), '0');
  return Buffer.from(hex, 'hex').toString('base64');
}

interface Field {
  bits: bigint;
  /** Bit-reflected, as all three CRCs are. */
  polynomial: bigint;
}

const FIELDS: Readonly<Record<'CRC32' | 'CRC32C' | 'CRC64NVME', Field>> = {
  CRC32: { bits: 32n, polynomial: 0xedb88320n },
  CRC32C: { bits: 32n, polynomial: 0x82f63b78n },
  CRC64NVME: { bits: 64n, polynomial: 0x9a6c9329ac4bc9b5n },
};

/** a·b modulo the polynomial; the highest bit is x^0. */
function multiply(field: Field, a: bigint, b: bigint): bigint {
  let product = 0n;
  let factor = b;
  for (let bit = 1n << (field.bits - 1n); bit !== 0n; bit >>= 1n) {
    if (a & bit) product ^= factor;
    factor = factor & 1n ? (factor >> 1n) ^ field.polynomial : factor >> 1n;
  }
  return product;
}

/** x^exponent modulo the polynomial. */
function power(field: Field, exponent: number): bigint {
  let result = 1n << (field.bits - 1n);
  let square = 1n << (field.bits - 2n);
  for (let left = BigInt(exponent); left !== 0n; left >>= 1n) {
    if (left & 1n) result = multiply(field, square, result);
    square = multiply(field, square, square);
  }
  return result;
}

function createCrc32(): Hasher {
  let value = 0;
  return {
    update: (chunk) => {
      value = crc32(chunk, value);
    },
    digest: () => uint32(value),
  };
}

function createTableCrc32(table: Uint32Array): Hasher {
  let value = 0xffffffff;
  return {
    update: (chunk) => {
      for (const byte of chunk) {
        value = (table[(value ^ byte) & 255] as number) ^ (value >>> 8);
      }
    },
    digest: () => uint32(~value),
  };
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value >>> 0);
  return buffer;
}

let tableOfCrc32c: Uint32Array | undefined;

function crc32cTable(): Uint32Array {
  tableOfCrc32c ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) {
      value = value & 1 ? (value >>> 1) ^ Number(FIELDS.CRC32C.polynomial) : value >>> 1;
    }
    return value >>> 0;
  });
  return tableOfCrc32c;
}

let tableOfCrc64: { high: Uint32Array; low: Uint32Array } | undefined;

function crc64Table(): { high: Uint32Array; low: Uint32Array } {
  if (tableOfCrc64) return tableOfCrc64;
  const high = new Uint32Array(256);
  const low = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let value = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      value = value & 1n ? (value >> 1n) ^ FIELDS.CRC64NVME.polynomial : value >> 1n;
    }
    high[byte] = Number(value >> 32n);
    low[byte] = Number(value & 0xffffffffn);
  }
  tableOfCrc64 = { high, low };
  return tableOfCrc64;
}

/** Two 32-bit halves: BigInt would be fifty times slower. */
function createCrc64(): Hasher {
  const table = crc64Table();
  let high = 0xffffffff;
  let low = 0xffffffff;
  return {
    update: (chunk) => {
      for (const byte of chunk) {
        const index = (low ^ byte) & 255;
        low = ((low >>> 8) | (high << 24)) ^ (table.low[index] as number);
        high = (high >>> 8) ^ (table.high[index] as number);
      }
    },
    digest: () => Buffer.concat([uint32(~high), uint32(~low)]),
  };
}
