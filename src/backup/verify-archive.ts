/**
 * An archive in the bucket, read front to back and proved to be what its record says it is.
 *
 * Every block against its checksum, every header and the end against what we write, all blocks together against the record's
 * content digest (a block's own checksum does not tell of one that is not there), ova.xml against its digest, and the
 * object's bytes against the checksum the store gave when it was stored, where record and store have these. Out of it comes
 * the index anew: with the key of the one that is there, the same byte for byte. Used by index jobs and by verify jobs.
 */
import { crc32 } from 'node:zlib';
import type { Backup, Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { ObjectFacts } from '../ports.ts';
import { indexCompressedArchive } from '../xva/frame-reader.ts';
import { createDigestKey } from '../xva/hash.ts';
import {
  type ArchiveSummary,
  type ArchiveVisitor,
  type Fill,
  fillFrom,
  indexArchive,
} from '../xva/reader.ts';
import type { BlocksIndex } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { lookAtArchive } from './find-index.ts';
import { locate } from './verify-place.ts';

/** Read at once when an index made anew is compared with the one that is there. */
const COMPARED_BYTES = 1_048_576;

export interface StoredArchive {
  backup: Backup;
  archive: ObjectFacts;
}

type JobAbout = Pick<Job, 'id' | 'backup_id'>;

export interface WholeRead extends StoredArchive {
  /** The index that is there, if it tells its key: then the new one is the same. */
  old: BlocksIndex | undefined;
  /** Sees everything as it goes by, before all of it is proved. */
  visitor?: ArchiveVisitor;
  onRead(readBytes: number): void;
}

/** The backup a job is about, and its archive as it lies there. Errors: `not_found`; `data_corrupt` for another object. */
export async function findArchive(
  job: JobAbout,
  context: Pick<StepContext, 'engine' | 'signal'>,
): Promise<StoredArchive> {
  const id = backupIdOf(job);
  const { catalog } = context.engine;
  const entry = await catalog.find(id);
  const backup = entry && (await catalog.record(entry, context));
  if (backup === undefined) throw new BackupError('not_found', `find backup ${id}: it is gone`);
  const archive = await lookAtArchive(backup, context);
  if (!('why' in archive)) return { backup, archive };
  const { key } = backup.archive;
  throw new BackupError(archive.code, `read backup ${id}: ${archive.why}, key=${key}`, {
    details: { key },
  });
}

/**
 * Reads all of it and proves it.
 *
 * Errors: `data_corrupt` naming the object, and disk, block and offset as far as they are known; the store's.
 */
export async function readWhole(
  input: WholeRead,
  context: Pick<StepContext, 'engine' | 'signal'>,
): Promise<ArchiveSummary> {
  const { backup, old } = input;
  try {
    const { summary, crc } = await readAll(input, context);
    prove(summary, crc, backup);
    return summary;
  } catch (error) {
    throw locate(asDamage(error), { backup, index: old });
  }
}

async function readAll(
  input: WholeRead,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Promise<{ summary: ArchiveSummary; crc: string | undefined }> {
  const { backup, archive, old, visitor = {} } = input;
  const { key, sizeBytes, etag } = archive;
  const pieces = engine.store.read({ key, sizeBytes, etag }, { signal });
  let crc = backup.archive.checksum === undefined ? undefined : 0;
  const read = fillFrom(pieces);
  let readBytes = 0;
  const fill: Fill = async (target) => {
    const filled = await read(target);
    readBytes += filled;
    if (crc !== undefined) crc = crc32(target.subarray(0, filled), crc);
    input.onRead(readBytes);
    return filled;
  };
  const hash = await engine.hasher();
  const wish = { hash, digestKey: old?.digestKey ?? createDigestKey(), visitor };
  const compression = old?.frames;
  try {
    const summary =
      backup.compression === 'none'
        ? await indexArchive(fill, wish, { signal })
        : await indexCompressedArchive(
            fill,
            { ...wish, ...(compression === undefined ? {} : { compression }) },
            { signal },
          );
    return { summary, crc: crc === undefined ? undefined : encodeCrc32(crc) };
  } finally {
    // gives memory back that was read ahead of an error
    await pieces.return();
  }
}

/** What was read must be what was stored. */
function prove(
  { contentDigest, archiveBytes, ovaSha256 }: ArchiveSummary,
  crc: string | undefined,
  { id, archive, compression }: Backup,
): void {
  const wrong = (what: string, details: Record<string, unknown>) =>
    new BackupError('data_corrupt', `prove archive of backup ${id}: ${what}`, { details });
  const plainBytes = compression === 'none' ? archive.size_bytes : archive.uncompressed_bytes;
  const isSize = plainBytes === undefined || plainBytes === archiveBytes;
  if (contentDigest !== archive.content_digest || !isSize) {
    throw wrong('its blocks are not those that were stored', {
      content_digest: contentDigest,
      stored_content_digest: archive.content_digest,
    });
  }
  if (archive.ova_sha256 !== undefined && archive.ova_sha256 !== ovaSha256) {
    throw wrong('its ova.xml is not the one that was stored', {
      ova_sha256: ovaSha256,
      stored_ova_sha256: archive.ova_sha256,
    });
  }
  if (archive.checksum !== undefined && archive.checksum.value !== crc) {
    throw wrong('its bytes have another checksum than the store gave for them', {
      crc32: crc,
      stored_crc32: archive.checksum.value,
    });
  }
}

/** The object has its length, or it would not have been read: one that ends early inside is damaged, not cut off. */
function asDamage(error: unknown): unknown {
  if (!isBackupError(error, 'source_truncated', 'source_failed')) return error;
  return new BackupError('data_corrupt', error.message, { details: error.details, cause: error });
}

/** Whether what lies at `key` is this index, to the last byte. */
export async function isSame(
  index: Uint8Array,
  { key, sizeBytes }: { key: string; sizeBytes: number },
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Promise<boolean> {
  if (sizeBytes !== index.length) return false;
  for (let offset = 0; offset < sizeBytes; offset += COMPARED_BYTES) {
    const length = Math.min(COMPARED_BYTES, sizeBytes - offset);
    const found = await engine.store.get(key, { signal, range: { offset, length } });
    if (!found || Buffer.compare(found.bytes, index.subarray(offset, offset + length)) !== 0) {
      return false;
    }
  }
  return true;
}

/** The id of the backup a job is about. */
export function backupIdOf({ id, backup_id: backupId }: JobAbout): string {
  if (backupId !== undefined) return backupId;
  throw new BackupError('internal', `advance job=${id}: it names no backup`);
}

/** As records have it: base64 of the four bytes, highest first. */
function encodeCrc32(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString('base64');
}
