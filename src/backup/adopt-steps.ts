/**
 * The steps of a job that adopts an archive made by hand: it is read, checked and stored as an export would be.
 *
 * The same way of a byte as a backup's (store-archive.ts), so what comes out is a backup like any other: normalised, indexed, a
 * base for deltas, restored and verified alike. The archive is read by the process that was given it, which alone can: a
 * job whose process died is not taken over, but ends, cleaned up. What is otherwise in the stored archive than in the one that
 * was given is told in the record.
 */
import type { Backup, Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import { formatTime } from '../time.ts';
import type { Normaliser, OvaRewrite, Step } from '../xva/types.ts';
import type { FoundArchive } from './adopt-look.ts';
import { type AdoptSource, openAdopted } from './adopt-stream.ts';
import { withClass } from './choose-class.ts';
import type { StepContext } from './context.ts';
import { fullMode } from './delta-mode.ts';
import { backupOf, progressOf } from './export-result.ts';
import { startAfresh } from './export-step.ts';
import { storeArchive } from './store-archive.ts';

/** An archive this process was given, by the job that adopts it. */
export interface Adoption {
  source: AdoptSource;
  archive: FoundArchive;
  rewrite: OvaRewrite;
  /** What is known to be changed before the first block is read. */
  changes: readonly string[];
  warnings: readonly string[];
}

/** Counted while the archive goes by. */
interface Seen {
  sha1: number;
  dropped: number;
}

const CHECKSUM_HEADER_BYTES = 1024;
const NAME_BYTES = 100;

/** Decides the class, if that was left to the calendar. */
export async function prepareAdopt(given: Job, context: StepContext): Promise<Job> {
  const { archive, source, warnings } = adoptionOf(given, context);
  const job = await withClass(given, context);
  const at = takenAt(archive, source, context.engine.clock.now());
  const totalBytes = archive.disks.reduce((sum, disk) => sum + disk.virtualSizeBytes, 0);
  return {
    ...job,
    phase: 'exporting',
    progress: { ...job.progress, total_bytes: totalBytes },
    checkpoint: { ...job.checkpoint, snapshot_at: at, warnings: [...warnings] },
  };
}

/** Reads the archive into the bucket; the next phase publishes the result. */
export async function adoptArchive(given: Job, context: StepContext): Promise<Job> {
  const adoption = adoptionOf(given, context);
  const { source, archive, rewrite } = adoption;
  const { engine, signal } = context;
  const job = await startAfresh(given, context);
  const seen: Seen = { sha1: 0, dropped: 0 };
  const createNormaliser: typeof engine.createNormaliser = async (input) =>
    watched(await engine.createNormaliser(input), seen);
  const mode = fullMode(await engine.store.facts({ signal }))(`adopted from ${source.name}`);
  const open = (options: { signal: AbortSignal }) => openAdopted(source, archive.host, options);
  const { disks } = archive;
  const watching = { ...context, engine: { ...engine, createNormaliser } };
  const moved = await storeArchive({ job, disks, rewrite, mode, open }, watching).catch((error) => {
    throw ofArchive(error, source);
  });
  const result: Backup = {
    ...backupOf(job, archive, moved, context),
    adopted: {
      source: source.name,
      size_bytes: source.sizeBytes,
      compression: archive.compression,
      changes: [...adoption.changes, ...archive.changes, ...changesOf(seen, adoption, job)],
    },
  };
  return {
    ...job,
    phase: 'finishing',
    progress: progressOf(job, moved.readBytes, moved.counters, 100),
    checkpoint: { ...job.checkpoint, result },
  };
}

function adoptionOf({ id }: Job, { engine }: StepContext): Adoption {
  const found = engine.adoptions.get(id);
  if (found) return found;
  throw new BackupError(
    'source_failed',
    'adopt archive: the process that was given it is gone; run xvault adopt again',
    { retry: 'after-fix' },
  );
}

/** Notes what is changed, and changes nothing itself. */
function watched(normaliser: Normaliser, seen: Seen): Normaliser {
  return {
    get wantBytes() {
      return normaliser.wantBytes;
    },
    get disks() {
      return normaliser.disks;
    },
    get block() {
      return normaliser.block;
    },
    get sourceOffsetBytes() {
      return normaliser.sourceOffsetBytes;
    },
    accept: (view): Step => {
      // read before it is written over
      const isSha1 = endsWithSha1(view.subarray(0, normaliser.wantBytes));
      const step = normaliser.accept(view);
      if (step.kind === 'drop') seen.dropped += 1;
      if (step.kind === 'keep' && isSha1) seen.sha1 += 1;
      return step;
    },
    truncated: normaliser.truncated,
    totals: normaliser.totals,
    contentDigest: normaliser.contentDigest,
    index: normaliser.index,
  };
}

/** The name of the member behind a block tells by which sum it was checked. */
function endsWithSha1(view: Buffer): boolean {
  const at = view.length - CHECKSUM_HEADER_BYTES;
  if (at < 0) return false;
  const name = view.toString('latin1', at, at + NAME_BYTES);
  return name.replace(/\0.*$/s, '').endsWith('.checksum');
}

function changesOf({ sha1, dropped }: Seen, { archive }: Adoption, { request }: Job): string[] {
  const { compression } = request;
  return [
    ...(archive.compression === compression
      ? []
      : [`it was ${inWords(archive.compression)}, and is ${inWords(compression)}`]),
    ...(sha1 === 0 ? [] : ['its blocks had SHA-1 checksums, and have XXH64']),
    ...(dropped === 0 ? [] : [`${dropped} blocks of zeros or of nothing were left out`]),
  ];
}

function inWords(compression: FoundArchive['compression']): string {
  return compression === 'none' ? 'not compressed' : `compressed by ${compression}`;
}

/** An archive that ends early does not get longer by asking again. */
function ofArchive(error: unknown, { name }: AdoptSource): unknown {
  if (!isBackupError(error, 'source_truncated', 'source_failed', 'data_corrupt')) return error;
  return new BackupError('data_corrupt', `adopt ${name}: ${error.message}`, {
    details: error.details,
    cause: error.cause ?? error,
  });
}

/** When the machine was as it is in the archive, as far as anybody knows. */
export function takenAt(
  { snapshotMs }: FoundArchive,
  { modifiedMs }: AdoptSource,
  nowMs: number,
): string {
  return formatTime(Math.min(snapshotMs ?? modifiedMs, nowMs));
}
