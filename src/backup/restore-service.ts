/** Bringing backups back: the part of the service that starts such jobs. */
import { backupRequestSchema, type Job } from '../catalog/record.ts';
import type { RestoreRequest } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import { type JobRunner, newJob } from './jobs.ts';
import { lookAtRestore, targetPool } from './restore-look.ts';

export interface RestoreInput {
  backupId: string;
  request: RestoreRequest;
  triggeredBy: string;
  /** As for a backup. */
  jobId?: string | undefined;
}

export interface RestoreService {
  /**
   * Starts a job that makes a new machine, or a new disk, out of a backup. What the pool cannot do, or what is not said clearly
   * enough, is told here. Errors: `not_found`, `restore_refused` (details.reason, details.choices), `invalid_request`,
   * `job_conflict` (details.job_id), `limit_reached`, `draining`, `pool_*`, `store_*`.
   */
  startRestore(input: RestoreInput, options: Cancellable): Promise<Job>;
}

/** Over the runner of this process. */
export function createRestoreService(
  engine: Engine,
  runner: Pick<JobRunner, 'begin'>,
): RestoreService {
  return {
    startRestore: (input, options) =>
      runner.begin(input, options, () => newRestoreJob(engine, input, options)),
  };
}

/** A restore that waits. Errors: as `startRestore`. */
export async function newRestoreJob(
  engine: Engine,
  { backupId, request, triggeredBy, jobId }: RestoreInput,
  { signal }: Cancellable,
): Promise<Job> {
  const entry = await engine.catalog.find(backupId);
  const backup = entry && (await engine.catalog.record(entry, { signal }));
  if (backup === undefined) {
    throw new BackupError('not_found', `find backup ${backupId}: there is none of that id`);
  }
  const { vm, retention, compression } = backup;
  const pool = targetPool(engine, backup, request);
  const { dry_run } = request;
  const job: Job = {
    ...newJob(engine, {
      pool,
      srs: [],
      vm: { uuid: vm.uuid, nameLabel: vm.name },
      request: backupRequestSchema.parse({ retention, compression, dry_run }),
      triggeredBy,
      jobId,
    }),
    kind: 'restore',
    backup_id: backupId,
    restore: request,
  };
  const { planned } = await lookAtRestore(job, { engine, signal });
  const srs = new Map(planned.plan.disks.map(({ sr }) => [sr.uuid, sr]));
  return {
    ...job,
    restore_plan: planned.plan,
    checkpoint: { ...job.checkpoint, srs: [...srs.values()] },
  };
}
