/**
 * Removing our snapshots: this job's in every outcome, and what earlier jobs of the machine could not remove.
 *
 * A pool that is away for a moment, or a disk that is in use, is asked again until cleaning's own time is over. What
 * is left even then is found by its name by the next backup of the same machine: each snapshot of ours carries the id
 * of its job, and this job holds the machine's lease, so the snapshot of a job that has ended is nobody's any more.
 */
import { isEnded, type Job } from '../catalog/record.ts';
import { isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable, Pool, SnapshotFacts, VmRef } from '../ports.ts';
import { poolOf, SNAPSHOT_PREFIX, type StepContext } from './context.ts';
import { insist } from './deadline.ts';
import { snapshotName } from './look.ts';

/** Doubled each time; cleaning's deadline (CLEANING_MS) ends it. */
const FIRST_LOOK_MS = 1_000;
const JOB_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Removes every snapshot of this job, however many tries made one. Errors: the pool's last one. */
export async function removeOurSnapshots(job: Job, context: StepContext): Promise<void> {
  const { engine, signal } = context;
  const onFailure = ({ message }: Error) =>
    engine.log.info('snapshot not removed yet', { job_id: job.id, error: message });
  await insist(engine.clock, () => removeOnce(job, context), { signal, onFailure });
}

async function removeOnce(job: Job, context: StepContext): Promise<void> {
  const { engine, signal } = context;
  const pool = poolOf(engine, job.vm.pool);
  const namePrefix = snapshotName(job);
  let found = await pool.findSnapshots({ namePrefix }, { signal });
  if (found.length === 0 && (await isSnapshotUnderWay(job, context))) {
    found = await pool.findSnapshots({ namePrefix }, { signal });
  }
  for (const snapshot of found) {
    if (snapshot.nameLabel === namePrefix) await pool.removeSnapshot(snapshot, { signal });
  }
  if (job.attempt > 1) await removeOurTasks(pool, job, { signal });
}

/** An instance that died after it made the export's task, and before it asked for the export, leaves it pending for ever. */
export async function removeOurTasks(pool: Pool, job: Job, options: Cancellable): Promise<void> {
  const left = await pool.findLeftovers({ prefix: snapshotName(job) }, options);
  for (const one of left) {
    if (one.kind === 'task') await pool.removeLeftover(one, options);
  }
}

/**
 * An unanswered or cancelled call may still be making the snapshot: waits until the pool says that it is done.
 * False when none was under way.
 */
async function isSnapshotUnderWay(job: Job, { engine, signal }: StepContext): Promise<boolean> {
  const { vm_ref: vmRef, snapshot_uuid: known } = job.checkpoint;
  if (job.error === undefined || vmRef === undefined || known !== undefined) return false;
  const pool = poolOf(engine, job.vm.pool);
  for (let waitMs = FIRST_LOOK_MS, waited = false; ; waitMs *= 2, waited = true) {
    const vm = await pool.inspectVm(vmRef as VmRef, { signal }).catch((error) => {
      if (isBackupError(error, 'not_found')) return undefined;
      throw error;
    });
    if (!vm?.currentOperations.some((one) => one.startsWith('snapshot'))) return waited;
    await engine.clock.sleep(waitMs, { signal });
  }
}

/**
 * Removes snapshots that ended jobs or earlier attempts left on the machine, as far as it can: no reason to stop a backup.
 * True when there was one: chains and free space are others now.
 */
export async function removeLeftovers(
  job: Job,
  vm: VmRef,
  { engine, signal }: StepContext,
): Promise<boolean> {
  let removed = 0;
  const pool = poolOf(engine, job.vm.pool);
  const log = engine.log.child({ job_id: job.id });
  const ours = await pool.findSnapshots({ vm, namePrefix: SNAPSHOT_PREFIX }, { signal });
  for (const snapshot of ours) {
    try {
      if (!(await isNobodys(snapshot, job, { engine, signal }))) continue;
      await pool.removeSnapshot(snapshot, { signal });
      removed += 1;
      log.info('left snapshot removed', { snapshot: snapshot.nameLabel });
    } catch (error) {
      signal.throwIfAborted();
      const { message } = toBackupError(error);
      log.warn('left snapshot not removed', { snapshot: snapshot.nameLabel, error: message });
    }
  }
  return removed > 0;
}

/** A job without record may be another installation's. One of our own name is an earlier attempt's: this one has none yet. */
async function isNobodys(
  { nameLabel }: SnapshotFacts,
  job: Job,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Promise<boolean> {
  const id = nameLabel.slice(SNAPSHOT_PREFIX.length);
  if (id === job.id) return job.phase === 'preparing';
  if (!JOB_ID.test(id)) return false;
  const owner = await engine.jobs.load(id, { signal });
  return owner !== undefined && isEnded(owner.job) && owner.job.vm.uuid === job.vm.uuid;
}
