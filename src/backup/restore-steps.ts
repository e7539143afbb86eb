/**
 * The steps of a restore: preparing ─► importing ─► verifying ─► cleaning.
 *
 * Everything made on the pool carries the job's id (other_config `xvault:restore`, or the task that made it) until the
 * restore is done. So whoever takes over a job whose instance died finds what its try made, removes it and begins again; a job
 * that fails or is cancelled removes it and leaves nothing; and a machine without the mark is whole and checked. What the
 * pool looked like when the job was asked for may be different by now: each step plans anew.
 */
import type { Job } from '../catalog/record.ts';
import type { RestoreCheckpoint } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { VdiRef, VmRef } from '../ports.ts';
import { parseTime } from '../time.ts';
import { removeOurTasks } from './clean.ts';
import { poolOf, type StepContext } from './context.ts';
import { insist } from './deadline.ts';
import { checkMachine, describeDisks } from './restore-check.ts';
import {
  createTally,
  importApart,
  importMachine,
  planApart,
  unclearText,
} from './restore-import.ts';
import { lookAtRestore, patiently, requestOf } from './restore-look.ts';

const NOTHING_MADE: RestoreCheckpoint = { tasks: [], disks: {} };

/** Looks whether it can be done, and decides who the machine will be, so that every try makes the same one. */
export async function prepareRestore(job: Job, context: StepContext): Promise<Job> {
  const { planned } = await lookAtRestore(job, context);
  const { plan, keepIdentity, needsMacSeed, vmUuid } = planned;
  const { ids } = context.engine;
  const identity: Partial<RestoreCheckpoint> = keepIdentity
    ? {
        vm_uuid: vmUuid ?? ids.uuid(),
        generation_id: generationId(ids.uuid() + ids.uuid()),
        ...(needsMacSeed ? { mac_seed: ids.uuid() } : {}),
      }
    : {};
  const { uuid: _, ...shown } = plan;
  return {
    ...job,
    phase: requestOf(job).dry_run ? 'cleaning' : 'importing',
    restore_plan: { ...shown, ...(identity.vm_uuid ? { uuid: identity.vm_uuid } : {}) },
    checkpoint: {
      ...job.checkpoint,
      warnings: plan.warnings,
      restore: { ...NOTHING_MADE, ...identity },
    },
  };
}

/** Brings machine and disks in, after it removed what an earlier try made. */
export async function importRestore(job: Job, context: StepContext): Promise<Job> {
  const former = checkpointOf(job);
  if (job.attempt > 1 || former.tasks.length > 0) await removeMade(job, context);
  const look = await lookAtRestore(job, context);
  const unclear = unclearText(job.checkpoint, look.stored.backup.vm.name);
  const { vm_ref: _, disks: _2, unclear: _3, ...identity } = former;
  let made: RestoreCheckpoint = { ...identity, disks: {} };
  const note = async (patch: Partial<RestoreCheckpoint>) => {
    made = { ...made, ...patch };
    await context.remember({ restore: made });
  };
  const progress = createTally(job, context);
  const run = { job, look, progress, made: () => made, note };
  const apart = await planApart(run, context);
  const imported = look.planned.alone ? undefined : await importMachine(run, context);
  if (imported !== undefined) await note({ vm_ref: imported.vm });
  if (apart) await importApart(run, apart, context);
  const plan = imported && job.restore_plan && { ...job.restore_plan, ...imported.way };
  if (plan && unclear !== undefined) plan.warnings = [...plan.warnings, unclear];
  return {
    ...job,
    phase: 'verifying',
    ...(plan === undefined ? {} : { restore_plan: plan }),
    progress: progress.last(),
    checkpoint: { ...job.checkpoint, restore: made },
  };
}

/** Compares what is there with what was asked for, and starts it if asked. */
export async function verifyRestore(job: Job, context: StepContext): Promise<Job> {
  const { engine } = context;
  const { restore_plan: plan } = job;
  const made = checkpointOf(job);
  if (plan === undefined) throw new BackupError('internal', `check job=${job.id}: it has no plan`);
  const pool = poolOf(engine, job.vm.pool);
  const began = parseTime(job.started_at ?? job.created_at);
  const common = {
    pool: pool.name,
    via: plan.via,
    duration_seconds: Math.max(0, (engine.clock.now() - began) / 1000),
  };
  if (made.vm_ref === undefined) {
    const disks = describeDisks(plan, made);
    const restored = { ...common, disks, networks: [], started: false, warnings: plan.warnings };
    return { ...job, phase: 'cleaning', restored };
  }
  const vm = made.vm_ref as VmRef;
  const found = await patiently(job, context, async (options) => {
    const there = await pool.describeMachine(vm, options);
    if (there.nameLabel === plan.name) return there;
    await pool.renameMachine({ vm, nameLabel: plan.name }, options);
    return await pool.describeMachine(vm, options);
  });
  const checked = checkMachine(found, plan);
  const isRunning = found.powerState === 'Running';
  const problem = plan.start && !isRunning ? await start(vm, job, context) : undefined;
  const misnamed =
    found.nameLabel === plan.name ? undefined : 'the pool gave it another name than it was to have';
  const told = [misnamed, problem].filter((text) => text !== undefined);
  const warnings = [...plan.warnings, ...told];
  const started = plan.start && problem === undefined;
  return { ...job, phase: 'cleaning', restored: { ...common, ...checked, started, warnings } };
}

/**
 * After a failure removes everything that was made; else takes the marks away: it is the user's now. Gives what may be left
 * all the same.
 */
export async function cleanRestore(job: Job, context: StepContext): Promise<string | undefined> {
  const { engine, signal } = context;
  if (requestOf(job).dry_run) return undefined;
  const onFailure = ({ message }: Error) =>
    engine.log.info('restore not cleaned up yet', { job_id: job.id, error: message });
  const work = job.error ? removeMade : unmark;
  await insist(engine.clock, () => work(job, context), { signal, onFailure });
  return job.error && unclearText(job.checkpoint, job.vm.name);
}

/** Removes all that carries the job's mark, or was made by its tasks. Gone already is success. */
export async function removeMade(job: Job, { engine, signal }: StepContext): Promise<void> {
  const pool = poolOf(engine, job.vm.pool);
  const { tasks } = checkpointOf(job);
  for (const remains of await pool.findImported({ mark: job.id, tasks }, { signal })) {
    await pool.removeImported(remains, { signal });
    engine.log.info('unfinished restore removed', { job_id: job.id, uuid: remains.uuid });
  }
  await removeOurTasks(pool, job, { signal });
}

async function unmark(job: Job, { engine, signal }: StepContext): Promise<void> {
  const pool = poolOf(engine, job.vm.pool);
  const { vm_ref: vm, disks } = checkpointOf(job);
  for (const { ref } of Object.values(disks)) {
    await pool.markDisk({ vdi: ref as VdiRef, mark: undefined }, { signal });
  }
  if (vm !== undefined) await pool.markMachine({ vm: vm as VmRef, mark: undefined }, { signal });
}

/** A machine of terabytes is not thrown away because there is no memory for it now. */
async function start(
  vm: VmRef,
  job: Job,
  { engine, signal }: StepContext,
): Promise<string | undefined> {
  try {
    await poolOf(engine, job.vm.pool).startVm(vm, { signal });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof BackupError)) throw error;
    engine.log.warn('restored machine not started', { job_id: job.id, error: error.message });
    return `it is restored, but could not be started: ${error.message}`;
  }
}

function checkpointOf({ checkpoint }: Job): RestoreCheckpoint {
  return checkpoint.restore ?? NOTHING_MADE;
}

/** As xapi writes it: two signed numbers of 64 bits; from two uuids, whose last 64 bits are random. */
function generationId(uuids: string): string {
  const digits = uuids.replaceAll('-', '');
  const at = (from: number) => BigInt.asIntN(64, BigInt(`0x${digits.slice(from, from + 16)}`));
  return `${at(16)}:${at(48)}`;
}
