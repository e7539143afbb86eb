/**
 * What dead runs left on one pool: snapshots, disks of snapshots, tasks, machines and disks of unfinished restores.
 *
 * Name and marker say which job made it. They must agree, and the job's record must lie in this bucket: two
 * installations may work on one pool, each with a bucket of its own, and neither knows which jobs of the other live.
 * A restored machine is somebody's last hope: it goes only if its restore failed or was cancelled, and it does not run.
 */
import type { Cancellable, Pool, PoolLeftover } from '../ports.ts';
import { type Engine, SNAPSHOT_PREFIX } from './context.ts';
import { judge, type Leftover, type Verdict } from './leftover.ts';
import type { Owner, Owners } from './owner.ts';

const JOB_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MARKER = `${SNAPSHOT_PREFIX}job`;

/** Lists a pool, then asks for the owners. Errors: `pool_*`, `store_*`. */
export async function findOnPool(
  engine: Engine,
  { pool, owners }: { pool: Pool; owners: Owners },
  options: Cancellable,
): Promise<Leftover[]> {
  const found = await pool.findLeftovers({ prefix: SNAPSHOT_PREFIX }, options);
  const leftovers: Leftover[] = [];
  for (const item of found) {
    const jobId = jobIdOf(item);
    const owner: Owner =
      jobId === undefined ? { state: 'unknown' } : await owners.ofJob(jobId, options);
    leftovers.push({
      kind: item.kind,
      pool: pool.name,
      id: item.uuid,
      name: item.label === '' ? item.nameLabel : item.label,
      owner,
      createdAt: item.createdAt,
      verdict: verdictOf(item, owner, pool.name),
      remove: (removing) => pool.removeLeftover(item, removing),
    });
  }
  engine.log.debug('pool looked through', { pool: pool.name, found: found.length });
  return leftovers;
}

function verdictOf(item: PoolLeftover, owner: Owner, pool: string): Verdict {
  const marked = item.marker[MARKER];
  if (jobIdOf(item) === undefined) {
    const reason =
      marked === undefined
        ? 'not ours: no job has such an id'
        : 'not ours: its name and its marker name different jobs';
    return { remove: false, reason };
  }
  if ('job' in owner && owner.job.vm.pool !== pool) {
    return { remove: false, reason: `its job belongs to pool ${owner.job.vm.pool}` };
  }
  if (isRestored(item) && 'job' in owner && owner.state === 'ended') {
    const { status } = owner.job;
    if (status !== 'failed' && status !== 'cancelled') {
      return { remove: false, reason: `its restore ${status}: only the mark was left` };
    }
    if (item.running === true) {
      return { remove: false, reason: `its restore ${status}, but somebody has started it` };
    }
  }
  return judge(owner, {});
}

function isRestored({ kind }: PoolLeftover): boolean {
  return kind === 'restored_machine' || kind === 'restored_disk';
}

/** The job it carries the id of; undefined when it carries none, or two. */
function jobIdOf({ kind, label, marker }: PoolLeftover): string | undefined {
  const named = kind === 'snapshot_disk' ? marker[MARKER] : label.slice(SNAPSHOT_PREFIX.length);
  if (named === undefined || !JOB_ID.test(named)) return undefined;
  const marked = marker[MARKER];
  // without a marker: the run died between making and marking; the name alone was written with the snapshot itself
  return marked === undefined || marked === named ? named : undefined;
}
