/** What a restore looks at before it decides: the backup, its ova.xml, the pool; and the plan that follows from them. */
import type { Backup, Job } from '../catalog/record.ts';
import type { RestoreRequest } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, Pool } from '../ports.ts';
import type { Ova } from '../xva/ova.ts';
import { describeOva } from '../xva/ova-facts.ts';
import { type Engine, PUBLISH_MS, poolOf, type StepContext } from './context.ts';
import { insist, withDeadline } from './deadline.ts';
import { readOva } from './restore-ova.ts';
import { type PlannedRestore, planRestore } from './restore-plan.ts';
import { findArchive, type StoredArchive } from './verify-archive.ts';

export interface RestoreLook {
  stored: StoredArchive;
  ova: Ova;
  pool: Pool;
  planned: PlannedRestore;
}

/** Looks at everything anew. Errors: those of `planRestore`, of pool and store. */
export async function lookAtRestore(
  job: Pick<Job, 'id' | 'backup_id' | 'vm' | 'restore'>,
  context: Pick<StepContext, 'engine' | 'signal'>,
): Promise<RestoreLook> {
  const { engine, signal } = context;
  const request = requestOf(job);
  const pool = poolOf(engine, job.vm.pool);
  const [stored, targets] = await Promise.all([
    findArchive(job, context),
    pool.importTargets({ signal }),
  ]);
  const ova = await readOva(stored, engine.store, { signal });
  const facts = describeOva(ova);
  const planned = planRestore({
    backup: stored.backup,
    ova: facts,
    request,
    pool: pool.name,
    targets,
  });
  return { stored, ova, pool, planned };
}

/** Where a restore goes: the pool named; the backup's own; the only one there is. Errors: `invalid_request`, `not_found`. */
export function targetPool(
  { pools }: Engine,
  { vm }: Backup,
  { pool }: Pick<RestoreRequest, 'pool'>,
): string {
  if (pool !== undefined) return pool;
  if (pools.has(vm.pool)) return vm.pool;
  const [only, ...others] = pools.keys();
  if (only !== undefined && others.length === 0) return only;
  throw new BackupError(
    'invalid_request',
    `choose a pool: the backup's own (${vm.pool}) is not in the settings`,
    { details: { pools: [...pools.keys()] } },
  );
}

/** What was asked of a restore. */
export function requestOf({ id, restore }: Pick<Job, 'id' | 'restore'>): RestoreRequest {
  if (restore !== undefined) return restore;
  throw new BackupError('internal', `advance job=${id}: it says not what to restore`);
}

/**
 * Small questions to a pool after an import of hours: a toolstack that restarts is no reason to throw the machine away.
 * Errors: the work's own, after ten minutes.
 */
export async function patiently<T>(
  job: Pick<Job, 'id'>,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
  work: (options: Cancellable) => Promise<T>,
): Promise<T> {
  const onFailure = ({ message }: Error) =>
    engine.log.info('pool asked again', { job_id: job.id, error: message });
  return await withDeadline(engine.clock, PUBLISH_MS, async (limit) => {
    const either = AbortSignal.any([signal, limit]);
    const options = { signal: either };
    return await insist(engine.clock, () => work(options), { signal: either, onFailure });
  });
}
