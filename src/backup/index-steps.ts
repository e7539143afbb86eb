/**
 * The steps of an index job: blocks.idx made anew from the archive itself, which is checked block by block on the way.
 *
 * An archive that was stored is never touched, nor is what lies beside it: xvault has no right to delete there, and
 * overwriting is a kind of deleting. So the new index has a place of its own (`indexes/`), where deltas look first
 * (find-index.ts). It may be deleted at any time, which costs another job like this one and nothing else. The write is the
 * last thing done, in one piece, so a job that dies anywhere is simply begun again.
 */
import type { IndexResult, Job } from '../catalog/record.ts';
import type { StepContext } from './context.ts';
import { findIndex } from './find-index.ts';
import { backupIdOf, findArchive, isSame, readWhole } from './verify-archive.ts';

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
  const old = there.index ?? there.directory;
  const onRead = (readBytes: number) => context.report(progressOf(job, readBytes));
  const summary = await readWhole({ backup, archive, old, onRead }, context);
  const isRight = there.index !== undefined && (await isSame(summary.index, there, context));
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

function progressOf({ progress }: Job, readBytes: number): Job['progress'] {
  return { ...progress, read_bytes: readBytes };
}
