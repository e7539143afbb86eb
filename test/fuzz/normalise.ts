/** Drives the codec over archives in memory, for its unit tests and the fuzz. */
import assert from 'node:assert/strict';
import { BackupError } from '../../src/errors.ts';
import { decodeIndex, diskMemberBytes } from '../../src/xva/blocks-index.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import {
  type ArchiveSummary,
  type ArchiveVisitor,
  type Fill,
  readArchive,
} from '../../src/xva/reader.ts';
import type { DiskOrder, IndexedDisk, OvaRewrite } from '../../src/xva/types.ts';
import { type ForeignDisk, MIB } from './foreign-archive.ts';

export const hash = await loadHasher();
const never = new AbortController().signal;

/** Reads an archive in memory. */
export function fillOf(archive: Buffer): Fill {
  let at = 0;
  return async (target) => {
    const count = archive.copy(target, 0, at);
    at += count;
    return count;
  };
}

/** A disk of recognisable content at the given positions. */
export function disk(index: number, sizeBytes: number, filled: number[]): ForeignDisk {
  const blocks = new Map<number, Buffer>();
  for (const position of filled) {
    const length = Math.min(MIB, sizeBytes - position * MIB);
    blocks.set(position, Buffer.alloc(length, `disk ${index} block ${position} `));
  }
  return { id: `Ref:${12 + index}`, uuid: `u${index}`, name: `d${index}`, sizeBytes, blocks };
}

/** The key of all digests in these tests. */
export const KEY = Buffer.alloc(16, 'key');

/** The normalised archive and what is known of it. */
export async function normalise(
  archive: Buffer,
  rewrite?: OvaRewrite,
  { order = 'arrival', ...visitor }: ArchiveVisitor & { order?: DiskOrder } = {},
) {
  const pieces: Buffer[] = [];
  const input = {
    hash,
    order,
    digestKey: KEY,
    ...(rewrite && { rewrite }),
    visitor: {
      ...visitor,
      bytes: (bytes: Uint8Array) => {
        pieces.push(Buffer.from(bytes));
      },
    },
  };
  const summary = await readArchive(fillOf(archive), input, { signal: never });
  return { summary, archive: inPlace(Buffer.concat(pieces), summary) };
}

/** Brings the disks, which come in the order of the source, to their places. */
function inPlace(bytes: Buffer, { index, arrivals }: ArchiveSummary): Buffer {
  const { ovaMemberBytes, disks } = decodeIndex(index, hash);
  let at = ovaMemberBytes;
  const sections = arrivals.map(({ index: place }) => {
    const disk = disks[place] as IndexedDisk;
    const length = diskMemberBytes(disk.virtualSizeBytes, disk.storedBlocks);
    at += length;
    return { place, bytes: bytes.subarray(at - length, at) };
  });
  sections.sort((a, b) => a.place - b.place);
  const placed = sections.map((section) => section.bytes);
  return Buffer.concat([bytes.subarray(0, ovaMemberBytes), ...placed, bytes.subarray(at)]);
}

/** The error a damaged archive must give. */
export async function refusal(archive: Buffer): Promise<BackupError> {
  const error = await normalise(archive).then(
    () => assert.fail('accepted'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof BackupError, String(error));
  return error;
}
