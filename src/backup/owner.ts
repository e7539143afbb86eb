/**
 * Whose is it, and does he still live: the question before anything found is removed.
 *
 * The record of a job is written before the job makes anything and says `ended` only after its last step, so whoever
 * lists first and reads the record then knows: of an ended job nothing can come any more. A job that has not ended
 * lives while it holds its machine's lease; without the lease its instance died, and whoever takes it over goes on
 * with what is there. A job without a record is another installation's, or older than the records are kept.
 */
import { leaseKey } from '../catalog/keys.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import { uuidTimeMs } from './ids.ts';

export type Owner =
  | { state: 'ended' | 'living' | 'left'; jobId: string; job: Job }
  | { state: 'unknown' | 'unreadable'; jobId?: string };

export interface Owners {
  ofJob(jobId: string, options: Cancellable): Promise<Owner>;
  /** The job that makes, or made, this backup. */
  ofBackup(
    backup: { pool: string; vmUuid: string; backupId: string },
    options: Cancellable,
  ): Promise<Owner>;
}

/** An id may be reserved for a request that is repeated; idempotency keys live two days. */
const RESERVED_MS = 2 * 86_400_000;
/** Two instances make job and backup id; their clocks differ. */
const SKEW_MS = 15 * 60_000;
/** Records read to find one backup's job; the first is nearly always the one. */
const RECORDS_PER_BACKUP = 1000;
/** The part of a UUIDv7 that tells the instant: tries of one job share it. */
const TIME = 'xxxxxxxx-xxxx'.length;

/** Looks each job up once: make a new one for every sweep, after what is to be judged was listed. */
export function createOwners(engine: Engine): Owners {
  const known = new Map<string, Promise<Owner>>();
  const ofJob: Owners['ofJob'] = (jobId, options) => {
    const found = known.get(jobId) ?? look(engine, jobId, options);
    known.set(jobId, found);
    return found;
  };
  return {
    ofJob,
    ofBackup: async (backup, options) => {
      const jobId = await jobOf(engine, backup, options);
      return jobId === undefined ? { state: 'unknown' } : await ofJob(jobId, options);
    },
  };
}

async function look(engine: Engine, jobId: string, options: Cancellable): Promise<Owner> {
  try {
    const job = (await engine.jobs.load(jobId, options))?.job;
    if (job === undefined) return { state: 'unknown', jobId };
    if (isEnded(job)) return { state: 'ended', jobId, job };
    const key = leaseKey(engine.keys, job);
    const holder = await engine.leases.look(key, options);
    const lives = holder !== undefined && !holder.expired && holder.jobId === jobId;
    return { state: lives ? 'living' : 'left', jobId, job };
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return { state: 'unreadable', jobId };
    throw error;
  }
}

/** Job and backup id are made in the same moment, the job's first: it is looked for from there backwards. */
async function jobOf(
  engine: Engine,
  { pool, vmUuid, backupId }: { pool: string; vmUuid: string; backupId: string },
  options: Cancellable,
): Promise<string | undefined> {
  const madeAt = uuidTimeMs(backupId);
  const near = (await engine.jobs.ids(options))
    .filter((id) => uuidTimeMs(id) <= madeAt + SKEW_MS && uuidTimeMs(id) >= madeAt - RESERVED_MS)
    .slice(0, RECORDS_PER_BACKUP);
  for (const id of near) {
    options.signal.throwIfAborted();
    const job = await engine.jobs.read(id).catch((error) => {
      if (isBackupError(error, 'data_corrupt')) return undefined;
      throw error;
    });
    if (job === undefined || job.vm.uuid !== vmUuid || job.vm.pool !== pool) continue;
    if (job.checkpoint.backup_id.slice(0, TIME) === backupId.slice(0, TIME)) return id;
  }
  return undefined;
}
