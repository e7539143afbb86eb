/**
 * XXH64, the checksum of every block of an archive, and the keyed digest by which blocks of two
 * backups are compared.
 *
 * Blocks lie in the arena, and the arena can lie in a WebAssembly memory: then a block is hashed
 * where it is (xxh64.wat), 0.05 CPU s/GiB. Bytes that lie elsewhere are copied into the memory of
 * xxhash-wasm and hashed there, which costs twice as much. Its one-shot call was as fast as any
 * piecewise one, from 16 KiB to 1 MiB a piece, so there is no chunking here.
 */
import { createCipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto';
import xxhash from 'xxhash-wasm';
import { type BlockDigest, DIGEST_BYTES, type Hasher } from './types.ts';
import { XXH64_MODULE } from './xxh64-module.ts';

/** GMAC's nonce, the same for all blocks of a key: docs/xva.md says why that is right here. */
const NONCE = Buffer.alloc(12);

/** The unit of WebAssembly memories, and the most of them that 32-bit addresses reach. */
const PAGE_BYTES = 65_536;
const MOST_PAGES = 65_536;

/**
 * Memory in which `loadHasher` hashes without a copy; undefined where none of this size can be had.
 *
 * Shape: rounded up to whole pages, never grown; shared, so that another thread can read it, too (s3/crc32-thread.ts). Like
 * other memory it is taken from the system as it is first written.
 */
export function createBlockMemory(sizeBytes: number): WebAssembly.Memory | undefined {
  const pages = Math.ceil(sizeBytes / PAGE_BYTES);
  // the last page stays out, so that no end of a block is beyond what 32 bits hold
  if (pages >= MOST_PAGES) return undefined;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    // little address space (ulimit -v): ordinary memory does as well, with a copy
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Loads the WebAssembly modules; call once and share the result. `memory`: where most bytes will lie. */
export async function loadHasher(memory?: WebAssembly.Memory): Promise<Hasher> {
  const api = await xxhash();
  const hashInPlace = memory === undefined ? undefined : await load(memory);
  return {
    xxh64: (bytes) =>
      hashInPlace !== undefined && bytes.buffer === memory?.buffer
        ? BigInt.asUintN(64, hashInPlace(bytes.byteOffset, bytes.length))
        : api.h64Raw(bytes),
    stream: () => {
      const state = api.create64();
      return {
        update: (bytes) => {
          state.update(bytes);
        },
        digest: () => state.digest(),
      };
    },
  };
}

type HashInPlace = (offset: number, length: number) => bigint;

async function load(memory: WebAssembly.Memory): Promise<HashInPlace> {
  const code = Buffer.from(XXH64_MODULE, 'base64');
  const { instance } = await WebAssembly.instantiate(code, { env: { memory } });
  return instance.exports.xxh64 as HashInPlace;
}

/** As a `.xxhash` member holds it: 16 upper-case hexadecimal digits. */
export function formatXxh64(digest: bigint): string {
  return digest.toString(16).padStart(16, '0').toUpperCase();
}

/** SHA-256 in hex of ova.xml's member: the one part of an archive that carries no checksum of its own. */
export function digestOva(member: Uint8Array): string {
  return createHash('sha256').update(member).digest('hex');
}

/** A new key for the digests of a machine's blocks; later backups of it take the base's. */
export function createDigestKey(): Buffer {
  return randomBytes(DIGEST_BYTES);
}

/** The keyed digest of blocks: AES-128-GMAC over the content. 0.05 CPU s/GiB. */
export function createBlockDigest(key: Uint8Array): BlockDigest {
  // made once: to make it of the bytes for every block takes a fifth of the time
  const secret = createSecretKey(key);
  return (content) => {
    const cipher = createCipheriv('aes-128-gcm', secret, NONCE);
    cipher.setAAD(content);
    cipher.final();
    return cipher.getAuthTag();
  };
}
