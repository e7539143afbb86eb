/**
 * The steps of a verify job: is a backup still what was stored? All of it is read, or a share of it drawn at random.
 *
 * What is found is kept beside the backup (catalog/verifications.ts), good or bad, and told wherever the backup is. Damage also
 * fails the job, with object, disk and block in its problem. What says nothing of the backup (a store that is away, an archive
 * in a class that cannot be read at once, a cancel) is not kept. Nothing is ever repaired or removed here.
 */
import type { Job } from '../catalog/record.ts';
import type { Verification, VerifyWish } from '../catalog/verified.ts';
import { formatTime } from '../time.ts';
import type { StepContext } from './context.ts';
import { findIndex } from './find-index.ts';
import { backupIdOf, findArchive } from './verify-archive.ts';
import { indexDamage, type Problem, problemIn, withHeirs } from './verify-damage.ts';
import { checkRuns, createDraw, drawRuns, type SampleFigures } from './verify-sample.ts';
import { checkWhole } from './verify-whole.ts';

/** Looks whether what is needed may be read and written, so that a job that cannot end well does not begin. */
export async function prepareVerify(job: Job, { engine, signal }: StepContext): Promise<Job> {
  // the right to it is not among those of older policies: better known now than after hours
  await engine.store.head(engine.keys.verified(backupIdOf(job)), { signal });
  return { ...job, phase: 'verifying' };
}

/** Reads the archive, all of it or a sample, compares it with record and index, and keeps what was found. */
export async function verifyArchive(job: Job, context: StepContext): Promise<Job> {
  const wish = job.verify ?? { percent: 100 };
  const figures: SampleFigures = { readBytes: 0, checkedBlocks: 0 };
  const kind = wish.percent >= 100 ? 'whole' : 'sampled';
  const keep = (problem?: Problem) =>
    keepVerification(job, { kind, percent: wish.percent, ...figures, problem }, context);
  try {
    await look({ job, wish, figures }, context);
  } catch (thrown) {
    const error = await withHeirs(thrown, job, context);
    const problem = problemIn(error);
    if (problem) await keep(problem);
    throw error;
  }
  const verified = await keep();
  const progress = {
    ...job.progress,
    read_bytes: figures.readBytes,
    total_bytes: figures.readBytes,
  };
  return { ...job, phase: 'cleaning', progress, verified };
}

interface Look {
  job: Job;
  wish: VerifyWish;
  /** Filled in as it goes. */
  figures: SampleFigures;
}

async function look({ job, wish, figures }: Look, context: StepContext): Promise<void> {
  const stored = await findArchive(job, context);
  const index = await findIndex(stored.backup, context);
  const onRead = (readBytes: number, totalBytes: number) => {
    figures.readBytes = readBytes;
    const { progress } = job;
    context.report({ ...progress, read_bytes: readBytes, total_bytes: totalBytes });
  };
  if (wish.percent >= 100) {
    const { sizeBytes } = stored.archive;
    const toldRead = (readBytes: number) => onRead(readBytes, sizeBytes);
    figures.checkedBlocks = await checkWhole({ job, stored, index, onRead: toldRead }, context);
    figures.readBytes = sizeBytes;
    return;
  }
  if (index.index === undefined) throw indexDamage(stored.backup, index);
  const runs = drawRuns(index.index.disks, wish.percent, createDraw(job.id));
  const input = { ...stored, index: index.index, indexKey: index.key, runs, onRead };
  figures.checkedBlocks = (await checkRuns(input, context)).checkedBlocks;
}

/** Writes beside the backup what was found of it. Errors: the store's. */
export async function keepVerification(
  job: Job,
  found: SampleFigures & {
    kind: Verification['kind'];
    percent: number;
    problem: Problem | undefined;
  },
  { engine, signal }: StepContext,
): Promise<Verification> {
  const { kind, percent, problem } = found;
  const verification: Verification = {
    at: formatTime(engine.clock.now()),
    kind,
    percent,
    ok: problem === undefined,
    read_bytes: found.readBytes,
    checked_blocks: found.checkedBlocks,
    job_id: job.id,
    ...(problem === undefined ? {} : { problem }),
  };
  await engine.verifications.keep(backupIdOf(job), verification, { signal });
  engine.meter.count('verifications_total', 1, { kind, outcome: problem?.part ?? 'ok' });
  return verification;
}
