/**
 * Disks whose content is a pure function of seed and position: any size, no memory, no files.
 *
 * Data come in runs of clusters, as files do: the disk is cut into groups of equal length and each group holds one
 * run at a place drawn from the seed, so finding the next data is arithmetic, also on a disk of many TiB. A page is
 * a slice of a 1 MiB pool of bytes (half of them noise, half compressible, like a real disk) with its own position
 * stamped into every 4 KiB: no two places of any generated disk hold the same 4 KiB, so a block that lands in a
 * wrong place is seen. Filling a page is one copy: the source is never what limits a measurement.
 */

import assert from 'node:assert/strict';
import { createDisk, type DiskBase, PAGE_BYTES, type SimDisk } from './overlay.ts';

export interface GeneratedDiskInput {
  sizeBytes: number;
  seed: number;
  /** Share of the disk that is allocated, 0..1. */
  density: number;
  /** Allocation unit, a multiple of 64 KiB; 64 KiB (QCOW2) unless told, 2 MiB is a VHD's. */
  clusterBytes?: number;
}

/** Clusters in one run: about one file's worth, so that holes are long too. */
const RUN_CLUSTERS = 16;
const POOL_BYTES = 1_048_576;
const STAMP_EVERY_BYTES = 4096;

/** A disk of generated content; writes overlay it. */
export function createGeneratedDisk(input: GeneratedDiskInput): SimDisk {
  const { sizeBytes, seed, density, clusterBytes = PAGE_BYTES } = input;
  assert(clusterBytes > 0 && clusterBytes % PAGE_BYTES === 0, 'clusters are multiples of 64 KiB');
  assert(density >= 0 && density <= 1, 'density is a share, 0..1');
  const layout = createRuns({ sizeBytes, seed, density, clusterBytes });
  return createDisk(sizeBytes, { ...layout, readPage: createPages(seed, layout) });
}

interface Runs {
  nextPage(page: number): number | undefined;
}

/** Places one run of clusters in every group. */
function createRuns(input: Required<GeneratedDiskInput>): Runs {
  const { sizeBytes, seed, density } = input;
  const clusters = Math.ceil(sizeBytes / input.clusterBytes);
  const pagesPerCluster = input.clusterBytes / PAGE_BYTES;
  if (density === 0) return { nextPage: () => undefined };
  const wanted = Math.max(1, Math.round(clusters * density));
  const runLength = Math.min(RUN_CLUSTERS, wanted);
  const groupLength = Math.max(runLength, Math.min(clusters, Math.round(runLength / density)));

  /** The run of a group, half-open, in clusters. */
  function runOf(group: number): { start: number; end: number } {
    const slack = groupLength - runLength;
    const start = group * groupLength + (slack === 0 ? 0 : mix(seed, group) % (slack + 1));
    return { start, end: start + runLength };
  }

  return {
    nextPage(page) {
      const cluster = Math.floor(page / pagesPerCluster);
      for (let group = Math.floor(cluster / groupLength); group * groupLength < clusters; group++) {
        const run = runOf(group);
        if (cluster >= run.end) continue;
        const next = cluster >= run.start ? page : run.start * pagesPerCluster;
        return next * PAGE_BYTES < sizeBytes ? next : undefined;
      }
      return undefined;
    },
  };
}

function createPages(seed: number, runs: Runs): DiskBase['readPage'] {
  const pool = createPool(seed);
  return (page, target) => {
    if (runs.nextPage(page) !== page) return false;
    const start = mix(seed ^ 0x5bd1e995, page) % (POOL_BYTES - PAGE_BYTES + 1);
    target.set(pool.subarray(start, start + target.length));
    const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
    for (let at = 0; at + 12 <= target.length; at += STAMP_EVERY_BYTES) {
      view.setFloat64(at, page * PAGE_BYTES + at, true);
      view.setUint32(at + 8, seed, true);
    }
    return true;
  };
}

function createPool(seed: number): Uint8Array {
  const words = new Uint32Array(POOL_BYTES / 4);
  let state = mix(seed, 0x9e3779b9) || 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    // Every second 4 KiB repeats its first 64 bytes, so that compression finds about what it finds on real disks.
    const repeated = (index & 0x400) !== 0 && (index & 0x3ff) >= 16;
    words[index] = repeated ? (words[index - 16] as number) : state;
  }
  return new Uint8Array(words.buffer);
}

/** 32 bits that depend on all bits of both numbers (finaliser of MurmurHash3); `position` may exceed 2^32. */
function mix(seed: number, position: number): number {
  let hash = seed >>> 0;
  for (const word of [position % 2 ** 32, Math.floor(position / 2 ** 32)]) {
    hash = Math.imul(hash ^ word, 0x85ebca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}
