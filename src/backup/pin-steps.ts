/**
 * The steps of a pin job: a backup is copied out of rotation, by the store.
 *
 * The job holds the backup's lease. One that dies anywhere is begun again: what was copied stays, and without its record
 * the copy is no backup (pin-copy.ts).
 */
import type { Holding } from '../catalog/holdings.ts';
import type { Pin } from '../catalog/pin.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { formatTime } from '../time.ts';
import type { StepContext } from './context.ts';
import { pinCopy } from './pin-copy.ts';

/** Looks whether it is there. Errors: `not_found`. */
export async function preparePin(job: Job, context: StepContext): Promise<Job> {
  const { original, pinned } = await findHolding(job, context);
  const { sizeBytes = 0 } = (pinned.record ? pinned : original).archive ?? {};
  return { ...job, phase: 'exporting', progress: { ...job.progress, total_bytes: sizeBytes } };
}

/** Has the store make the copy, or only writes why it is there. */
export async function copyOut(job: Job, context: StepContext): Promise<Job> {
  const { engine, signal } = context;
  const holding = await findHolding(job, context);
  if (job.pin === undefined) throw new BackupError('internal', `pin job=${job.id}: no reason`);
  const pin: Pin = {
    version: 1,
    kind: 'pinned',
    backup_id: holding.backupId,
    ...job.pin,
    by: job.triggered_by,
    at: formatTime(engine.clock.now()),
  };
  let copied = 0;
  const onProgress = (copiedBytes: number) => {
    copied = copiedBytes;
    context.report({ ...job.progress, copied_bytes: copiedBytes });
  };
  await pinCopy({ holding, pin }, engine, { signal, onProgress });
  return { ...job, phase: 'cleaning', progress: { ...job.progress, copied_bytes: copied } };
}

async function findHolding(job: Job, { engine }: StepContext): Promise<Holding> {
  const { backup_id: id = '' } = job;
  engine.catalog.changed();
  const entry = await engine.catalog.find(id);
  if (entry !== undefined) return entry.holding;
  throw new BackupError('not_found', `find backup ${id}: it is gone`);
}
