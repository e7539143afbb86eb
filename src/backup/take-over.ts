/**
 * Jobs whose instance died: recognised by their free or expired lease, and continued at the step they were in.
 *
 * The lease decides who takes over, the record then tells everybody: it is written on condition that nobody wrote
 * since, with the new owner's name in it, so that a former owner that only slept finds out with its next write.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { leaseKey } from '../catalog/keys.ts';
import { isParked, type Lease, type LeaseWish } from '../catalog/lease.ts';
import { problemOf } from '../catalog/problem.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import { park, release } from './keep-lease.ts';

/** Instances that may begin a job without ending it; then it is taken to be the reason. */
const MAX_INSTANCES = 5;

/** The job `id` if its instance is gone, with its lease in our hands; undefined when it ended or lives elsewhere. */
export async function leftJob(
  engine: Engine,
  { id, instance, unlessParked }: { id: string; instance: string; unlessParked?: boolean },
  options: Cancellable,
): Promise<{ lease: Lease; state: Versioned } | undefined> {
  const seen = await engine.jobs.read(id);
  if (seen === undefined || isEnded(seen)) return undefined;
  const key = leaseKey(engine.keys, seen);
  const holder = await engine.leases.look(key, options);
  if (holder && (!holder.expired || (unlessParked && isParked(holder)))) return undefined;
  const lease = await takeFree(
    engine,
    { key, jobId: id, ended: endedIn(engine, options) },
    options,
  );
  if (lease === undefined) return undefined;
  try {
    const state = await engine.jobs.load(id, options);
    if (state !== undefined && !isEnded(state.job)) {
      const again = takenOver(state.job, instance);
      return { lease, state: await engine.jobs.save(state, again, options) };
    }
  } catch (error) {
    // it has not ended, as far as anybody knows: no other job of the machine may begin before it
    await park(engine, lease);
    // its instance is alive after all and wrote: it will notice that its lease is gone
    if (isBackupError(error, 'precondition_failed')) return undefined;
    throw error;
  }
  await release(engine, lease);
  return undefined;
}

/** Says of a job whether nobody works on it any more: it ended, or was never recorded. */
export function endedIn(engine: Engine, options: Cancellable) {
  return async (jobId: string): Promise<boolean> => {
    const found = await engine.jobs.load(jobId, options);
    return found === undefined || isEnded(found.job);
  };
}

async function takeFree(
  engine: Engine,
  input: LeaseWish,
  options: Cancellable,
): Promise<Lease | undefined> {
  try {
    return await engine.leases.take(input, options);
  } catch (error) {
    if (isBackupError(error, 'lease_held')) return undefined; // exactly one wins
    throw error;
  }
}

/** The record as its new owner writes it. One that no instance can end is not tried for ever. */
function takenOver(job: Job, instance: string): Job {
  // the name tells the former owner, should it wake, that the record is no longer its to write
  const mine = { ...job, instance };
  if (job.status === 'queued') return mine; // left by a drain, or not begun yet: nobody failed with it
  const known = job.checkpoint.former_instances;
  const former = [...(known ?? []), job.instance ?? 'unknown'].slice(-MAX_INSTANCES);
  const again = {
    ...mine,
    attempt: job.attempt + 1,
    checkpoint: { ...job.checkpoint, former_instances: former },
  };
  // records of older versions only count
  const count = known === undefined ? job.attempt : former.length;
  const closing = job.phase === 'finishing' || job.phase === 'cleaning';
  if (closing || count < MAX_INSTANCES) return again;
  // a lost lease looks the same from here: the former owner could not write, or was not there to
  const error = new BackupError(
    'internal',
    `end job: ${count} instances began it and none ended it: they died with it, or lost its lease (paused, or cut off from the bucket); look at the memory and the logs of ${[...new Set(former)].join(', ')}`,
    { details: { instances: former } },
  );
  return { ...again, phase: 'cleaning', error: problemOf(error, { jobId: job.id }) };
}
