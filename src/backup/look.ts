/** Finding again what a job is about: its machine and its snapshot, whoever made it. */
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { SnapshotFacts, VmRef, VmState } from '../ports.ts';
import { poolOf, SNAPSHOT_PREFIX, type StepContext } from './context.ts';

/** The name our snapshot of this job has on the pool, and the description of its tasks. */
export function snapshotName(job: Pick<Job, 'id'>): string {
  return `${SNAPSHOT_PREFIX}${job.id}`;
}

/** The machine as it is now. Errors: `not_found` when it was deleted while the job waited. */
export async function inspect(job: Job, { engine, signal }: StepContext): Promise<VmState> {
  const pool = poolOf(engine, job.vm.pool);
  if (job.checkpoint.vm_ref !== undefined) {
    return pool.inspectVm(job.checkpoint.vm_ref as VmRef, { signal });
  }
  const found = (await pool.findVms(job.vm.uuid, { signal })).find((vm) => vm.uuid === job.vm.uuid);
  if (found) return pool.inspectVm(found.ref, { signal });
  throw new BackupError('not_found', `find machine vm=${job.vm.uuid} pool=${job.vm.pool}`);
}

/** What an earlier step, or an earlier instance, made for this job; undefined when nothing is there. */
export async function findOurSnapshot(
  job: Job,
  context: StepContext,
): Promise<SnapshotFacts | undefined> {
  const { snapshot_uuid: known } = job.checkpoint;
  const found = await findOurSnapshots(job, context);
  // a former owner that only slept may have made another one of the same name since
  return found.find(({ uuid }) => known === undefined || uuid === known);
}

/** All snapshots of this job's name: more than one only where an answer was lost or an instance slept. */
export async function findOurSnapshots(
  job: Job,
  { engine, signal }: StepContext,
): Promise<SnapshotFacts[]> {
  const pool = poolOf(engine, job.vm.pool);
  const name = snapshotName(job);
  const found = await pool.findSnapshots({ namePrefix: name }, { signal });
  return found.filter((snapshot) => snapshot.nameLabel === name);
}
