/**
 * Guest hooks: the guest is called before its snapshot is made, so that it brings its data to rest, and after it.
 *
 *   remember "owed" ─► before_snapshot ─► snapshot ─► after_snapshot
 *                            └── no, or no answer: no snapshot ──▲
 *
 * Once before_snapshot was called, after_snapshot is called whatever happened: a guest that stays frozen is worse than a
 * backup that fails. So it is written down before the first call; whoever takes the job over, or cleans up after it,
 * calls it then. Each round has a number, which is in the body and in the ids: a late call of a dead instance is not taken
 * for one of the living. A round belongs to one process: what an earlier one snapshotted is not trusted, since nobody
 * knows whether its guest was still at rest. A process that lost its lease calls nothing any more; the new owner does.
 * Failing, before_snapshot ends the job, after_snapshot only becomes a warning.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable, HookCall } from '../ports.ts';
import type { StepContext } from './context.ts';

/** A guest that did not answer may have frozen: it is not asked again, but released. */
const BEFORE_ATTEMPTS = 1;
/** With the waits between them a guest has about 20 s more than its own time-outs. */
const AFTER_ATTEMPTS = 4;

/** True when somebody called before_snapshot for this job, and nobody after_snapshot yet. */
export function isGuestHeld({ checkpoint }: Pick<Job, 'checkpoint'>): boolean {
  return checkpoint.hooks?.owed === true;
}

/**
 * Makes something while the guest is at rest.
 *
 * Errors: `hook_failed` when the guest says no; those of `make`. In both cases the guest was released before.
 */
export async function whileAtRest<T>(
  job: Job,
  context: StepContext,
  make: () => Promise<T>,
): Promise<{ job: Job; made: T }> {
  const { hooks } = job.request;
  if (hooks === undefined) return { job, made: await make() };
  const round = (job.checkpoint.hooks?.round ?? 0) + 1;
  const held = withHooks(job, { round, owed: hooks.after_snapshot !== undefined });
  await context.remember({ hooks: held.checkpoint.hooks });
  try {
    await callBefore(held, context);
    const made = await make();
    return { job: await releaseGuest(held, { taken: true }, context), made };
  } catch (error) {
    if (!isLeaseLost(context.signal)) await releaseAfterFailure(held, context);
    throw error;
  }
}

/** Calls after_snapshot if that is owed. Never fails: what went wrong is a warning of the job. */
export async function releaseGuest(
  job: Job,
  { taken }: { taken: boolean },
  context: StepContext,
): Promise<Job> {
  const { hooks } = job.checkpoint;
  if (hooks === undefined || !isGuestHeld(job)) return job;
  const { round } = hooks;
  using untilLost = whileLeaseHeld(context);
  try {
    const input = { name: 'after_snapshot', attempts: AFTER_ATTEMPTS } as const;
    await callHook(job, { ...input, data: { snapshot_taken: taken } }, context, untilLost);
    return withHooks(job, { round, owed: false });
  } catch (error) {
    if (isLeaseLost(context.signal)) throw error;
    const { message } = toBackupError(error);
    context.engine.log.warn('guest not released', { job_id: job.id, error: message });
    const problem = `the guest may still hold its data: ${message}`;
    const told = withHooks(job, { round, owed: false, problem });
    const warnings = [...told.checkpoint.warnings, problem];
    return { ...told, checkpoint: { ...told.checkpoint, warnings } };
  }
}

/** Written at once, so that cleaning up does not call again; if it cannot be, the guest hears the same id twice. */
async function releaseAfterFailure(held: Job, context: StepContext): Promise<void> {
  try {
    const { hooks } = (await releaseGuest(held, { taken: false }, context)).checkpoint;
    await context.remember({ hooks });
  } catch (error) {
    const { message } = toBackupError(error);
    context.engine.log.warn('release of the guest not written', {
      job_id: held.id,
      error: message,
    });
  }
}

async function callBefore(job: Job, context: StepContext): Promise<void> {
  const { signal } = context;
  const input = { name: 'before_snapshot', attempts: BEFORE_ATTEMPTS } as const;
  await callHook(job, { ...input, data: {} }, context, { signal });
}

interface GuestCall extends Pick<HookCall, 'attempts' | 'data'> {
  name: 'before_snapshot' | 'after_snapshot';
}

async function callHook(
  job: Job,
  { name, attempts, data }: GuestCall,
  { engine }: StepContext,
  { signal }: Cancellable,
): Promise<void> {
  const url = job.request.hooks?.[name];
  if (url === undefined) return;
  if (engine.hooks === undefined) {
    throw new BackupError('hook_failed', `call ${name}: XVAULT_HOOK_ALLOW is not set here`);
  }
  const round = job.checkpoint.hooks?.round ?? 1;
  const call: HookCall = {
    name,
    url,
    attempts,
    id: `hook_${job.id}_${round}_${name}`,
    data: { phase: name, job_id: job.id, round, vm: job.vm, ...data },
  };
  const outcome = (text: string) =>
    engine.meter.count('hook_calls_total', 1, { hook: name, outcome: text });
  try {
    await engine.hooks.call(call, { signal });
    outcome('ok');
  } catch (error) {
    outcome('failed');
    throw error;
  }
}

function withHooks(job: Job, hooks: NonNullable<Job['checkpoint']['hooks']>): Job {
  return { ...job, checkpoint: { ...job.checkpoint, hooks } };
}

function isLeaseLost({ aborted, reason }: AbortSignal): boolean {
  return aborted && isBackupError(reason, 'lease_lost');
}

/** A cancelled or draining job still releases its guest; one that is another instance's now does not. */
function whileLeaseHeld({ signal }: StepContext): Cancellable & Disposable {
  const lost = new AbortController();
  const look = () => {
    if (isLeaseLost(signal)) lost.abort(signal.reason);
  };
  signal.addEventListener('abort', look);
  look();
  return {
    signal: lost.signal,
    [Symbol.dispose]: () => signal.removeEventListener('abort', look),
  };
}
