/**
 * Where the index of a backup lies, and whether it can be used.
 *
 * One that was made anew (index-steps.ts) comes first: it is only ever written when the one beside the archive is not
 * right. Where it is missing or unusable itself, or may not be read (rights given for an earlier version do not name its
 * place), the one beside the archive is taken.
 */
import type { Backup, IndexResult } from '../catalog/record.ts';
import { BackupError, type ErrorCode, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts, ObjectStore } from '../ports.ts';
import { entryRange, openIndex } from '../xva/blocks-index.ts';
import { createFrameMap } from '../xva/frames.ts';
import type { BlocksIndex, Hasher } from '../xva/types.ts';
import type { StepContext } from './context.ts';

type Context = Pick<StepContext, 'engine' | 'signal'> & {
  /** Who compares each block with its entry need not have the entries proved beforehand, which takes reading all of them. */
  entries?: 'proved' | 'unproved';
};

/** A usable index without its entries, or why there is none, as it reads in a sentence. */
export type LookedAt =
  | { index: BlocksIndex; found?: undefined; key: string; sizeBytes: number }
  | {
      index?: undefined;
      found: Exclude<IndexResult['found'], 'right'>;
      why: string;
      /** Nothing is known to be wrong with it: it must be restored from its class before it can be read. */
      isCold?: true;
      /** Only entries are damaged: the key and how the archive was compressed are still known. */
      directory?: BlocksIndex | undefined;
    };

/** An archive that cannot be read as the one that was stored: as it reads in a sentence, and as the code of an error. */
export interface Unusable {
  why: string;
  code: ErrorCode;
}

/** Classes whose objects must be restored before they can be read (or copied). */
const COLD = new Set([
  'GLACIER',
  'DEEP_ARCHIVE',
  'ARCHIVE',
  'ARCHIVE_ACCESS',
  'DEEP_ARCHIVE_ACCESS',
]);
/** Entries read at once, to be checked. */
const CHECKED_BYTES = 1_048_576;

/** The archive as it is in the bucket, or why it cannot be read as the one that was stored. */
export async function lookAtArchive(
  { archive: { key, size_bytes: size, etag } }: Backup,
  { engine, signal }: Context,
): Promise<ObjectFacts | Unusable> {
  const archive = await engine.store.head(key, { signal });
  if (archive === undefined) return { code: 'not_found', why: 'its archive is gone' };
  if (archive.sizeBytes !== size) {
    const found = `${archive.sizeBytes} bytes instead of ${size}`;
    return { code: 'data_corrupt', why: `its archive is not the one that was stored (${found})` };
  }
  if (bare(archive.etag) !== bare(etag)) {
    return { code: 'data_corrupt', why: 'its archive is not the one that was stored' };
  }
  const { storageClass } = archive;
  if (storageClass === undefined || !COLD.has(storageClass)) return archive;
  return { code: 'store_refused', why: `its archive lies in ${storageClass}` };
}

/** Finds the index that counts; what is wrong is told of the one beside the archive. Errors: the store's. */
export async function findIndex(backup: Backup, context: Context): Promise<LookedAt> {
  const rebuilt = await openAt(context.engine.keys.rebuiltIndex(backup.id), backup, context).catch(
    (error) => {
      if (isBackupError(error, 'store_credentials')) return undefined;
      throw error;
    },
  );
  return rebuilt?.index ? rebuilt : await openAt(backup.index_key, backup, context);
}

async function openAt(
  key: string,
  { archive }: Backup,
  { engine, signal, entries = 'proved' }: Context,
): Promise<LookedAt> {
  const facts = await engine.store.head(key, { signal });
  if (facts === undefined) return { found: 'missing', why: 'its index is gone' };
  const { sizeBytes } = facts;
  const read = rangesOf(engine.store, key, { signal });
  const hash = await engine.hasher();
  let directory: BlocksIndex | undefined;
  try {
    const index = await openIndex(read, { sizeBytes, hash });
    const archiveBytes = index.frames ? createFrameMap(index).archiveBytes : index.archiveBytes;
    const isOf =
      hex(index.contentDigest) === archive.content_digest && archiveBytes === archive.size_bytes;
    if (isOf) {
      directory = index;
      if (entries === 'proved') await proveEntries(index, read, hash);
      return { index, key, sizeBytes };
    }
    return { found: 'damaged', why: 'its index is that of another archive' };
  } catch (error) {
    if (isArchived(error)) {
      const why = 'its index lies in a class that cannot be read at once';
      return { found: 'damaged', why, isCold: true };
    }
    if (!isBackupError(error, 'data_corrupt')) throw error;
    return error.details.index === 'old'
      ? { found: 'old', why: 'its index is of an older version' }
      : { found: 'damaged', why: 'its index is damaged', directory };
  }
}

/**
 * An entry in the place of another would have a block copied from the wrong place, which stores without checksums of
 * whole objects do not notice. 24 bytes for each block: a range for each 42 GiB stored. Errors: `data_corrupt`.
 */
async function proveEntries(
  { disks }: BlocksIndex,
  read: (range: { offset: number; length: number }) => Promise<Uint8Array>,
  hash: Hasher,
): Promise<void> {
  for (const disk of disks) {
    const { offset: from, length: sizeBytes } = entryRange(disk, 0, disk.storedBlocks);
    const stream = hash.stream();
    for (let at = 0; at < sizeBytes; at += CHECKED_BYTES) {
      stream.update(
        await read({ offset: from + at, length: Math.min(CHECKED_BYTES, sizeBytes - at) }),
      );
    }
    if (stream.digest() === disk.entriesDigest) continue;
    throw new BackupError(
      'data_corrupt',
      `read blocks.idx: wrong entries, disk=${disk.archiveId}`,
      {
        details: { index: 'damaged' },
      },
    );
  }
}

/** The store wants it restored from a cold class first. */
function isArchived(error: unknown): boolean {
  return isBackupError(error, 'store_refused') && error.details.store_code === 'InvalidObjectState';
}

/** Reads ranges of one small object, as the codec asks for them. */
export function rangesOf(store: ObjectStore, key: string, { signal }: Cancellable) {
  return async (range: { offset: number; length: number }): Promise<Uint8Array> => {
    const found = await store.get(key, { signal, range });
    if (found) return found.bytes;
    throw new BackupError('data_corrupt', `read ${key}: it is gone`);
  };
}

/** Some stores quote an ETag in one answer and not in another. */
const bare = (etag: string) => etag.replaceAll('"', '');
const hex = (digest: bigint) => digest.toString(16).padStart(16, '0');
