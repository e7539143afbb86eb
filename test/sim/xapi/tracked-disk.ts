/**
 * A disk that remembers the checksums of its blocks, across snapshots.
 *
 * Exports of gigabytes are cheap only if a block is hashed once. Every write gives its blocks a new version; sums are
 * kept by (block, version) for the whole family of clones, so a snapshot and its live disk share them.
 */
import { createHash } from 'node:crypto';
import xxhash from 'xxhash-wasm';
import { createSparseDisk, type SimDisk } from '../disk.ts';

export const BLOCK_BYTES = 1_048_576;

/** Sums kept per family of clones: about 100 MiB of text at most. */
const MAX_SUMS = 1_000_000;

export type ChecksumKind = 'sha1' | 'xxh64';

export interface TrackedDisk extends SimDisk {
  /** Checksum text of block `index`, whose bytes the caller has at hand. */
  checksum(index: number, kind: ChecksumKind, bytes: Uint8Array): string;
  /** Remembered: the block holds only zeros (true), or not (false), or not known. */
  isZero(index: number): boolean | undefined;
  markZero(index: number, zero: boolean): void;
  clone(): TrackedDisk;
}

interface Family {
  sums: Map<string, string>;
  versions: number;
}

const hasher = await xxhash();

/** XXH64 seed 0 as a host writes it: 16 upper-case hex digits. */
export function xxh64(bytes: Uint8Array): string {
  return hasher.h64Raw(bytes).toString(16).toUpperCase().padStart(16, '0');
}

/** The checksum as it stands in an archive's checksum member. */
export function checksumText(kind: ChecksumKind, bytes: Uint8Array): string {
  return kind === 'xxh64' ? xxh64(bytes) : createHash('sha1').update(bytes).digest('hex');
}

function track(disk: SimDisk, family: Family, versions: Map<number, number>): TrackedDisk {
  const keyOf = (kind: string, index: number) => `${kind}:${index}:${versions.get(index) ?? 0}`;
  const remember = (key: string, value: string) => {
    if (family.sums.size < MAX_SUMS) family.sums.set(key, value);
    return value;
  };
  return {
    sizeBytes: disk.sizeBytes,
    read: (offset, target) => disk.read(offset, target),
    nextData: (offset) => disk.nextData(offset),
    write(offset, bytes) {
      disk.write(offset, bytes);
      if (bytes.length === 0) return;
      family.versions += 1;
      const last = Math.floor((offset + bytes.length - 1) / BLOCK_BYTES);
      for (let index = Math.floor(offset / BLOCK_BYTES); index <= last; index += 1) {
        versions.set(index, family.versions);
      }
    },
    clone: () => track(disk.clone(), family, new Map(versions)),
    checksum(index, kind, bytes) {
      const key = keyOf(kind, index);
      return family.sums.get(key) ?? remember(key, checksumText(kind, bytes));
    },
    isZero(index) {
      const known = family.sums.get(keyOf('zero', index));
      return known === undefined ? undefined : known === '1';
    },
    markZero: (index, zero) => void remember(keyOf('zero', index), zero ? '1' : '0'),
  };
}

/** Wraps a disk; it must from now on be written through the wrapper only. */
export function trackDisk(disk: SimDisk): TrackedDisk {
  return track(disk, { sums: new Map(), versions: 0 }, new Map());
}

/** A disk without content, for VDIs nobody gave one. */
export function emptyDisk(sizeBytes: number): TrackedDisk {
  return trackDisk(createSparseDisk(sizeBytes));
}
