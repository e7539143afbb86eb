/**
 * The steps of an index job: blocks.idx made anew from the archive itself, which is checked block by block on the way.
 *
 * An archive that was stored is never touched, nor is what lies beside it: xvault has no right to delete there, and
 * overwriting is a kind of deleting. So the new index has a place of its own (`indexes/`), where deltas look first
 * (find-index.ts). It may be deleted at any time, which costs another job like this one and nothing else. The write is the
 * last thing done, in one piece, so a job that dies anywhere is simply begun again.
 */
import type { Backup, IndexResult, Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { ObjectFacts } from '../ports.ts';
import { indexCompressedArchive } from '../xva/frame-reader.ts';
import { createDigestKey } from '../xva/hash.ts';
import { type ArchiveSummary, type Fill, fillFrom, indexArchive } from '../xva/reader.ts';
import type { BlocksIndex } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { findIndex, lookAtArchive } from './find-index.ts';

/** Read at once when the new index is compared with the one that is there. */
const COMPARED_BYTES = 1_048_576;

/** Looks whether the archive is there and can be read, so that a job that cannot end well does not begin. */
export async function prepareIndex(job: Job, context: StepContext): Promise<Job> {
  const { archive } = await findArchive(job, context);
  // the right to read there is not among those of older policies: better known now than after hours
  await context.engine.store.head(context.engine.keys.rebuiltIndex(backupIdOf(job)), context);
  const { progress } = job;
  return {
    ...job,
    phase: 'verifying',
    progress: { ...progress, total_bytes: archive.sizeBytes },
  };
}

/** Reads the archive, proves it to be what its record says, and writes its index if the one that is there is wrong. */
export async function rebuildIndex(job: Job, context: StepContext): Promise<Job> {
  const { engine, signal } = context;
  const { backup, archive } = await findArchive(job, context);
  const there = await findIndex(backup, context);
  const summary = await readAll(
    { job, backup, archive, old: there.index ?? there.directory },
    context,
  );
  prove(summary, backup);
  const isRight =
    there.index !== undefined && (await isSame(there.key, summary.index, there.sizeBytes, context));
  const found = isRight ? 'right' : (there.found ?? 'damaged');
  const key = isRight ? there.key : engine.keys.rebuiltIndex(backup.id);
  if (!isRight) await engine.store.put(key, summary.index, { signal, patient: true });
  const index: IndexResult = {
    found,
    written: !isRight,
    key,
    size_bytes: summary.index.length,
    stored_blocks: summary.disks.reduce((sum, { storedBlocks }) => sum + storedBlocks, 0),
  };
  return { ...job, phase: 'cleaning', progress: progressOf(job, archive.sizeBytes), index };
}

async function findArchive(
  job: Job,
  context: StepContext,
): Promise<{ backup: Backup; archive: ObjectFacts }> {
  const id = backupIdOf(job);
  const { catalog } = context.engine;
  const entry = await catalog.find(id);
  const backup = entry && (await catalog.record(entry, context));
  if (backup === undefined) throw new BackupError('not_found', `find backup ${id}: it is gone`);
  const archive = await lookAtArchive(backup, context);
  if (!('why' in archive)) return { backup, archive };
  throw new BackupError(archive.code, `read backup ${id}: ${archive.why}`, {
    details: { key: backup.archive.key },
  });
}

/** With the key of the index that is there, if it tells: then the new one is the same, byte for byte. */
async function readAll(
  input: { job: Job; backup: Backup; archive: ObjectFacts; old: BlocksIndex | undefined },
  context: StepContext,
): Promise<ArchiveSummary> {
  const { job, backup, archive, old } = input;
  const { engine, signal } = context;
  const { key, sizeBytes, etag } = archive;
  const pieces = engine.store.read({ key, sizeBytes, etag }, { signal });
  const read = fillFrom(pieces);
  let readBytes = 0;
  const fill: Fill = async (target) => {
    const filled = await read(target);
    readBytes += filled;
    context.report(progressOf(job, readBytes));
    return filled;
  };
  const wish = {
    hash: await engine.hasher(),
    digestKey: old?.digestKey ?? createDigestKey(),
  };
  try {
    if (backup.compression === 'none') return await indexArchive(fill, wish, { signal });
    const compression = old?.frames;
    return await indexCompressedArchive(
      fill,
      { ...wish, ...(compression === undefined ? {} : { compression }) },
      { signal },
    );
  } finally {
    // gives memory back that was read ahead of an error
    await pieces.return();
  }
}

/** What was read must be what was stored: block checksums tell of each block alone, not of a block that is not there. */
function prove(
  { contentDigest, archiveBytes }: ArchiveSummary,
  { id, archive, ...backup }: Backup,
) {
  const isSize = backup.compression !== 'none' || archiveBytes === archive.size_bytes;
  if (contentDigest === archive.content_digest && isSize) return;
  throw new BackupError(
    'data_corrupt',
    `prove archive of backup ${id}: its blocks are not those that were stored`,
    { details: { content_digest: contentDigest, stored_content_digest: archive.content_digest } },
  );
}

async function isSame(
  key: string,
  index: Uint8Array,
  sizeBytes: number,
  { engine, signal }: StepContext,
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

function progressOf({ progress }: Job, readBytes: number): Job['progress'] {
  return { ...progress, read_bytes: readBytes };
}

function backupIdOf({ id, backup_id: backupId }: Job): string {
  if (backupId !== undefined) return backupId;
  throw new BackupError('internal', `advance job=${id}: it names no backup`);
}
