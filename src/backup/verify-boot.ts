/**
 * The steps of a restore test: preparing ─► importing ─► verifying ─► cleaning. The strongest proof of a backup there is.
 *
 * The steps of a restore, under a name of its own and without any network; then the machine is started, its guest must
 * report, and who is to judge it must find it good; whatever happened, all of it is removed again. It carries the mark of an
 * unfinished restore from its first to its last moment, so who takes the job over removes it, too. What was found is kept like
 * any verification. What says nothing of the backup (a pool that is full or away, a host without memory, a judge who does not
 * answer) fails the job and is not kept.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { VmRef } from '../ports.ts';
import { poolOf, type StepContext } from './context.ts';
import { insist } from './deadline.ts';
import { unclearText } from './restore-import.ts';
import { importRestore, prepareRestore, removeMade, verifyRestore } from './restore-steps.ts';
import { backupIdOf } from './verify-archive.ts';
import { seeWorking } from './verify-boot-verdict.ts';
import { type Problem, problemIn, withHeirs } from './verify-damage.ts';
import { keepVerification } from './verify-steps.ts';

/** As for a restore, and whether the result may be kept. */
export async function prepareTest(job: Job, context: StepContext): Promise<Job> {
  const { engine, signal } = context;
  await engine.store.head(engine.keys.verified(backupIdOf(job)), { signal });
  return await prepareRestore(job, context);
}

/** Brings the machine in; every block is checked on the way, so damage is found here. */
export async function importTest(job: Job, context: StepContext): Promise<Job> {
  try {
    return await importRestore(job, context);
  } catch (thrown) {
    const error = await withHeirs(thrown, job, context);
    const problem = problemIn(error);
    if (problem) await keep(job, problem, context);
    throw error;
  }
}

/** Compares the machine with the backup, starts it, and waits until it has shown that it works. */
export async function bootTest(given: Job, context: StepContext): Promise<Job> {
  const { engine, signal } = context;
  const vm = given.checkpoint.restore?.vm_ref as VmRef | undefined;
  if (vm === undefined) throw new BackupError('internal', `test job=${given.id}: no machine`);
  const pool = poolOf(engine, given.vm.pool);
  // started by an instance that died: it begins from the beginning
  await pool.stopVm(vm, { signal });
  const job = await verifyRestore(given, context);
  await pool.startVm(vm, { signal });
  const detail = await seeWorking(job, { pool, vm }, context);
  if (detail !== undefined) {
    await keep(job, { part: 'restore', code: 'target_failed', detail }, context);
    throw new BackupError('target_failed', detail, { retry: 'after-fix' });
  }
  const verified = await keep(job, undefined, context);
  const { restored } = job;
  return { ...job, verified, ...(restored ? { restored: { ...restored, started: true } } : {}) };
}

/** Removes the machine, however it went. Gives what may be left all the same. */
export async function cleanTest(job: Job, context: StepContext): Promise<string | undefined> {
  const { engine, signal } = context;
  const onFailure = ({ message }: Error) =>
    engine.log.info('restore test not cleaned up yet', { job_id: job.id, error: message });
  await insist(engine.clock, () => removeMade(job, context), { signal, onFailure });
  return unclearText(job.checkpoint, job.vm.name);
}

async function keep(job: Job, problem: Problem | undefined, context: StepContext) {
  const { catalog } = context.engine;
  const entry = await catalog.find(backupIdOf(job));
  const backup = entry && (await catalog.record(entry, context));
  const checkedBlocks = backup?.disks.reduce((sum, disk) => sum + disk.stored_blocks, 0) ?? 0;
  const readBytes = problem?.part === 'archive' ? 0 : (backup?.archive.size_bytes ?? 0);
  const figures = { readBytes, checkedBlocks: problem?.part === 'archive' ? 0 : checkedBlocks };
  return await keepVerification(
    job,
    { kind: 'restored', percent: 100, ...figures, problem },
    context,
  );
}
