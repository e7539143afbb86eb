/**
 * The step that makes the snapshot: guest at rest if that was asked for, one snapshot of our name, proven to be whole.
 *
 * What an earlier try left is used, so that nothing is made twice, unless something hung on the guest being at rest:
 * nobody knows any more whether it was.
 */
import type { Consistency, Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { SnapshotFacts, VmState } from '../ports.ts';
import { formatTime } from '../time.ts';
import { poolOf, type StepContext } from './context.ts';
import { isGuestHeld, releaseGuest, whileAtRest } from './guest.ts';
import { findOurSnapshots, inspect, snapshotName } from './look.ts';
import { fallbackWarning, planQuiesce, type QuiescePlan } from './quiesce.ts';

interface Made {
  snapshot: SnapshotFacts;
  snapshotAt: string;
  quiesced: boolean;
  warnings: string[];
}

/** Makes the snapshot, or finds it; the next phase exports it. */
export async function snapshotStep(given: Job, context: StepContext): Promise<Job> {
  const job = await releaseForgotten(given, context);
  const vm = await inspect(job, context);
  const excluded = new Set(job.checkpoint.excluded_disks.map((disk) => disk.vdi_uuid));
  const { job: taken, made } = await findOrMake({ job, vm, excluded }, context);
  proveSnapshot(vm, excluded, made.snapshot);
  const { engine, signal } = context;
  const marker = { 'xvault:job': job.id, 'xvault:vm': vm.uuid };
  await poolOf(engine, job.vm.pool).markSnapshot(made.snapshot.ref, marker, { signal });
  return {
    ...taken,
    phase: 'exporting',
    checkpoint: {
      ...taken.checkpoint,
      snapshot_uuid: made.snapshot.uuid,
      snapshot_attempt: job.attempt,
      snapshot_at: made.snapshotAt,
      warnings: [...taken.checkpoint.warnings, ...made.warnings],
      consistency: consistencyOf(taken, made),
    },
  };
}

/** The first thing after a crash: a guest that another process froze waits for it. */
async function releaseForgotten(job: Job, context: StepContext): Promise<Job> {
  if (!isGuestHeld(job)) return job;
  const released = await releaseGuest(job, { taken: false }, context);
  const { hooks, warnings } = released.checkpoint;
  await context.remember({ hooks, warnings });
  return released;
}

interface Wanted {
  job: Job;
  vm: VmState;
  excluded: ReadonlySet<string>;
}

async function findOrMake(
  { job, vm, excluded }: Wanted,
  context: StepContext,
): Promise<{ job: Job; made: Made }> {
  const { hooks, quiesce } = job.request;
  const [found] = await findOurSnapshots(job, context);
  if (found !== undefined && hooks === undefined && quiesce === 'never') {
    // made before a crash: surely not before the job began, and no younger than it is
    const snapshotAt = job.started_at ?? job.created_at;
    return { job, made: { snapshot: found, snapshotAt, quiesced: false, warnings: [] } };
  }
  if (found !== undefined) await removeOurs(job, context);
  const plan = await quiescePlan(job, vm, context);
  const ignoreVdis = vm.disks.filter((d) => excluded.has(d.vdiUuid)).map((d) => d.vdiRef);
  return await whileAtRest(job, context, () => make({ job, vm, ignoreVdis, plan }, context));
}

async function quiescePlan(job: Job, vm: VmState, context: StepContext): Promise<QuiescePlan> {
  if (job.request.quiesce === 'never') return { quiesce: false, warnings: [] };
  const { engine, signal } = context;
  const pool = await poolOf(engine, job.vm.pool).facts({ signal });
  return planQuiesce(job.request, { vm, pool });
}

async function make(
  input: {
    job: Job;
    vm: VmState;
    ignoreVdis: VmState['disks'][number]['vdiRef'][];
    plan: QuiescePlan;
  },
  context: StepContext,
): Promise<Made> {
  const { job, vm, ignoreVdis, plan } = input;
  const { engine, signal } = context;
  const take = async (quiesce: boolean, warnings: string[]): Promise<Made> => {
    const snapshotAt = formatTime(engine.clock.now());
    const pool = poolOf(engine, job.vm.pool);
    const wish = {
      vm: vm.ref,
      name: snapshotName(job),
      ignoreVdis,
      ...(quiesce ? { quiesce } : {}),
    };
    const snapshot = await pool.snapshotVm(wish, { signal });
    return { snapshot, snapshotAt, quiesced: quiesce, warnings };
  };
  if (!plan.quiesce) return await take(false, plan.warnings);
  try {
    return await take(true, []);
  } catch (error) {
    if (!isBackupError(error, 'quiesce_failed') || job.request.quiesce === 'require') throw error;
    const warning = fallbackWarning(error);
    engine.log.warn('snapshot not quiesced', { job_id: job.id, error: error.message });
    await removeOurs(job, context); // half a quiesced one would be taken for the plain one
    return await take(false, [warning]);
  }
}

async function removeOurs(job: Job, context: StepContext): Promise<void> {
  const { engine, signal } = context;
  const pool = poolOf(engine, job.vm.pool);
  for (const snapshot of await findOurSnapshots(job, context)) {
    await pool.removeSnapshot(snapshot, { signal });
  }
}

/** A disk the pool left out without being asked to would be missing from the backup unseen. */
function proveSnapshot(vm: VmState, excluded: ReadonlySet<string>, snapshot: SnapshotFacts): void {
  const taken = new Set(snapshot.disks.map((disk) => disk.userdevice));
  const missing = vm.disks.filter((d) => !excluded.has(d.vdiUuid) && !taken.has(d.userdevice));
  if (missing.length === 0) return;
  const names = missing.map((disk) => disk.userdevice).join(',');
  throw new BackupError(
    'snapshot_refused',
    `prove snapshot: disks missing from it, userdevices=${names}`,
    {
      details: { vdi_uuids: missing.map((disk) => disk.vdiUuid) },
      retry: 'later',
    },
  );
}

/** A guest that could not say that its rest lasted is not known to have been at rest. */
function consistencyOf({ request, checkpoint }: Job, { quiesced }: Made): Consistency {
  if (quiesced) return 'quiesced';
  const asked = request.hooks?.before_snapshot !== undefined;
  return asked && checkpoint.hooks?.problem === undefined ? 'guest_hooks' : 'crash_consistent';
}
