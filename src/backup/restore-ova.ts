/**
 * The ova.xml of an archive in the bucket, read alone: a restore must know the machine before it opens anything.
 *
 * It is the first member, so a few ranges from the front are enough. It must be the one that was stored: it carries no
 * checksum of its own, and a restore of some disks reads it nowhere else.
 */
import { BackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts, ObjectStore } from '../ports.ts';
import { createFrameReader } from '../xva/frame-reader.ts';
import { COMPRESSION } from '../xva/frames.ts';
import { digestOva } from '../xva/hash.ts';
import { type Ova, parseOva } from '../xva/ova.ts';
import { fillFrom } from '../xva/reader.ts';
import { paddedBytes, readHeader, TAR_BLOCK_BYTES } from '../xva/tar.ts';
import { MAX_OVA_BYTES } from '../xva/types.ts';
import type { StoredArchive } from './verify-archive.ts';

/** An ordinary machine's takes 20 to 60 KiB. */
const RANGE_BYTES = 128 * 1024;

/** Errors: `data_corrupt`; the store's. */
export async function readOva(
  { backup, archive }: StoredArchive,
  store: ObjectStore,
  { signal }: Cancellable,
): Promise<Ova> {
  const source = fillFrom(ranges(archive, store, { signal }));
  const fill =
    backup.compression === 'none'
      ? source
      : createFrameReader(source, { groupBlocks: COMPRESSION.groupBlocks }).fill;
  const head = Buffer.alloc(TAR_BLOCK_BYTES);
  await fill(head);
  const header = readHeader(head, 0);
  if (header.kind !== 'member' || header.name !== 'ova.xml' || header.sizeBytes > MAX_OVA_BYTES) {
    throw new BackupError('data_corrupt', `read ova.xml of backup ${backup.id}: it is not there`);
  }
  const member = Buffer.alloc(TAR_BLOCK_BYTES + paddedBytes(header.sizeBytes));
  head.copy(member);
  const padded = member.subarray(TAR_BLOCK_BYTES);
  if ((await fill(padded)) < padded.length) {
    throw new BackupError('data_corrupt', `read ova.xml of backup ${backup.id}: it ends early`);
  }
  const { ova_sha256: stored } = backup.archive;
  if (stored !== undefined && stored !== digestOva(member)) {
    const what = 'its ova.xml is not the one that was stored';
    throw new BackupError('data_corrupt', `read ova.xml of backup ${backup.id}: ${what}`, {
      details: { key: archive.key },
    });
  }
  return parseOva(padded.subarray(0, header.sizeBytes));
}

async function* ranges(
  { key, sizeBytes, etag }: ObjectFacts,
  store: ObjectStore,
  { signal }: Cancellable,
): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < sizeBytes; offset += RANGE_BYTES) {
    const bytes = Buffer.alloc(Math.min(RANGE_BYTES, sizeBytes - offset));
    await store.fill({ key, etag, offset }, bytes, { signal });
    yield bytes;
  }
}
