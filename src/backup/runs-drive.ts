/**
 * One run from where its record says it is to its end: looks at the disks, begins jobs as room comes, collects what became
 * of them.
 *
 * A job is begun only when it could run at once, so a run never fills the queue and never stands in the way of what others
 * ask for; its own order, its deadline and a cancel hold until the last moment. The record is written before a job is
 * begun, with the job's id in it, and on condition that nobody wrote since: an instance that slept or was cut off finds out
 * with its next write, and whoever took over begins the same jobs, not others. A bucket or a pool that is away is waited for.
 */
import { problemOf } from '../catalog/problem.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { askerOfJobs, endOf, isMachineEnded, type Run, type RunMachine } from '../catalog/run.ts';
import type { RunStore, VersionedRun } from '../catalog/run-store.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import type { JobRunner } from './jobs.ts';
import { lookAtMachine, planRun } from './runs-look.ts';
import {
  closeDoor,
  endWaiting,
  onceMore,
  outcomeOf,
  replaced,
  waitingAgain,
} from './runs-outcome.ts';
import { machineKey, nextMachine } from './runs-plan.ts';
import { inRunSpan, inRunsJobSpan } from './traced.ts';

/** Jobs that another instance works on are asked about this often; those of this one tell by themselves. */
const LOOK_EVERY_MS = 5_000;
/** A cancel that another instance took is seen this late. */
const RELOAD_EVERY_MS = 10_000;
/** A machine that could not be begun is tried again after this, doubled each time where pool or bucket are away. */
const PAUSE_MS = 30_000;
/** A quarter of an hour in all: as long as a master restarts. One that is only busy is tried until the deadline. */
const MAX_TRIES = 6;
/** As in the queue: more would starve a machine with several storages, fewer leave storages idle. */
const MAX_PASSES = 10;

export interface RunContext {
  engine: Engine;
  store: RunStore;
  runner: Pick<JobRunner, 'start' | 'cancel' | 'gone' | 'reason'>;
  instance: string;
}

export interface RunDriver {
  /** Resolves with the run as it ended. Errors: the signal's reason, `lease_lost`. */
  readonly ended: Promise<Run>;
  /** Something changed: look now. */
  wake(): void;
}

/** What this process knows of a run beside its record. */
interface Local {
  state: VersionedRun;
  readAt: number;
  /** Jobs begun here that are still held here. */
  held: Set<string>;
  /** By machine, or by pool where the whole pool is away. */
  pausedUntil: Map<string, number>;
  /** Failed in a row, by the same. */
  tries: Map<string, number>;
  /** Of machines with disks on several storages: how often another one was begun on one of these first. */
  passes: Map<string, number>;
  /** Jobs that were asked to stop. */
  stopped: Set<string>;
  wake(): void;
}

/** One whose job is to begin now. */
type Chosen = RunMachine & { job_id: string };

/** Drives `state` to its end; the caller holds its lease. */
export function driveRun(
  context: RunContext,
  state: VersionedRun,
  { signal }: Cancellable,
): RunDriver {
  let waking = new AbortController();
  const local: Local = {
    state,
    readAt: context.engine.clock.elapsed(),
    held: new Set(),
    pausedUntil: new Map(),
    tries: new Map(),
    passes: new Map(),
    stopped: new Set(),
    wake: () => waking.abort(),
  };
  const pause = async (): Promise<void> => {
    const any = AbortSignal.any([signal, waking.signal]);
    await context.engine.clock.sleep(LOOK_EVERY_MS, { signal: any }).catch(() => undefined); // woken
    waking = new AbortController();
    signal.throwIfAborted();
  };
  const ended = inRunSpan(context.engine, state.run, () =>
    drive(context, local, { signal, pause }),
  );
  return { ended, wake: local.wake };
}

async function drive(
  context: RunContext,
  local: Local,
  { signal, pause }: Cancellable & { pause(): Promise<void> },
): Promise<Run> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const begun = await round(context, local, { signal });
      const { run } = local.state;
      if (run.machines.every(isMachineEnded)) return await end(context, local, { signal });
      if (begun) continue;
    } catch (error) {
      signal.throwIfAborted();
      if (isBackupError(error, 'lease_lost')) throw error;
      // the record stays as it is, and the deadline ends what nothing else does
      const { message } = toBackupError(error);
      context.engine.log.warn('run goes on later', { run_id: local.state.run.id, error: message });
    }
    await pause();
  }
}

/** One look at everything; true when a job was begun and another look may begin one more. */
async function round(context: RunContext, local: Local, options: Cancellable): Promise<boolean> {
  const { clock } = context.engine;
  if (clock.elapsed() - local.readAt >= RELOAD_EVERY_MS) await reload(context, local, options);
  const { run } = local.state;
  let next = await collect(context, local, options);
  if (!next.planned && !next.cancel_requested) next = await planRun(context.engine, next, options);
  if (next.status === 'queued') {
    next = { ...next, status: 'running', started_at: formatTime(clock.now()) };
  }
  if (next.cancel_requested) next = await stopAll(context, local, next, options);
  if (clock.now() >= parseTime(next.deadline_at)) next = closeDoor(next, clock.now());
  if (next !== run) await write(context, local, next, options);
  if (next.cancel_requested) return false;
  return await beginNext(context, local, options);
}

/** What became of the jobs that were begun. */
async function collect(context: RunContext, local: Local, options: Cancellable): Promise<Run> {
  const { run } = local.state;
  const machines: RunMachine[] = [];
  let changed = false;
  for (const machine of run.machines) {
    const seen = await lookAtJob(context, local, { machine, run }, options);
    changed ||= seen !== machine;
    machines.push(seen);
  }
  return changed ? { ...run, machines } : run;
}

async function lookAtJob(
  { engine }: RunContext,
  local: Local,
  { machine, run }: { machine: RunMachine; run: Run },
  options: Cancellable,
): Promise<RunMachine> {
  const { job_id: id, status } = machine;
  if (id === undefined || isMachineEnded(machine) || local.held.has(id)) return machine;
  const late = engine.clock.now() >= parseTime(run.deadline_at) || run.cancel_requested;
  // one that waits may have been begun by an instance that died before it could write so
  if (status === 'waiting' && !late) return machine;
  let job: Job | undefined;
  try {
    job = status === 'waiting' ? await loaded(engine, id, options) : await engine.jobs.read(id);
  } catch (error) {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    // what became of it nobody can tell, so it is no success
    const finished_at = formatTime(engine.clock.now());
    return { ...machine, status: 'failed', finished_at, error: problemOf(error) };
  }
  if (job === undefined) return status === 'waiting' ? machine : waitingAgain(machine);
  if (isEnded(job) && job.error?.code === 'draining' && !late) return onceMore(machine, job);
  if (isEnded(job)) return outcomeOf(machine, job);
  return status === 'running' ? machine : { ...machine, status: 'running' };
}

async function loaded(engine: Engine, id: string, options: Cancellable): Promise<Job | undefined> {
  return (await engine.jobs.load(id, options))?.job;
}

/** Asked to stop: what waits ends at once, what runs is asked to. */
async function stopAll(
  { engine, runner }: RunContext,
  { stopped }: Local,
  run: Run,
  options: Cancellable,
): Promise<Run> {
  for (const { status, job_id: id } of run.machines) {
    if (status !== 'running' || id === undefined || stopped.has(id)) continue;
    await runner.cancel(id, options);
    stopped.add(id);
  }
  return endWaiting(run, { status: 'cancelled', nowMs: engine.clock.now() });
}

async function beginNext(
  context: RunContext,
  local: Local,
  options: Cancellable,
): Promise<boolean> {
  const { engine, runner } = context;
  const next = nextMachine(local.state.run.machines, {
    reason: (place) => runner.reason(place),
    isPausing: (one) =>
      [machineKey(one), one.vm.pool].some(
        (key) => (local.pausedUntil.get(key) ?? 0) > engine.clock.elapsed(),
      ),
    isDue: (one) => (local.passes.get(machineKey(one)) ?? 0) >= MAX_PASSES,
  });
  if (next === undefined) return false;
  for (const key of next.passed.map(machineKey)) {
    local.passes.set(key, (local.passes.get(key) ?? 0) + 1);
  }
  const { waiting_because: _, ...free } = next.machine;
  const chosen: Chosen = {
    ...free,
    status: 'running',
    job_id: free.job_id ?? engine.ids.uuid(),
    started_at: formatTime(engine.clock.now()),
  };
  const begun = await begin(context, local, chosen, options);
  if (begun === undefined) return true;
  await write(context, local, replaced(local.state.run, begun), options);
  return true;
}

/** Begins the job of a machine; undefined when it is begun and written down. */
async function begin(
  context: RunContext,
  local: Local,
  chosen: Chosen,
  options: Cancellable,
): Promise<RunMachine | undefined> {
  const { engine, runner } = context;
  const { run } = local.state;
  const { select: _, skip: __, deadline: ___, ...request } = run.request;
  try {
    const look = await lookAtMachine(engine, { machine: chosen, request: run.request }, options);
    await write(context, local, replaced(run, look.machine), options);
    const input = {
      vm: chosen.vm.uuid,
      request: { ...request, pool: chosen.vm.pool, exclude_disks: look.exclude },
      triggeredBy: askerOfJobs(run),
      jobId: chosen.job_id,
    };
    await inRunsJobSpan(engine, run, () => runner.start(input, options));
    follow(context, local, chosen.job_id);
    local.tries.delete(chosen.vm.pool);
    return undefined;
  } catch (error) {
    if (isBackupError(error, 'lease_lost')) throw error;
    return await notBegun(context, local, { chosen, error: toBackupError(error) }, options);
  }
}

/** Held until its lease is given back; then its record tells. */
function follow({ runner }: RunContext, local: Local, jobId: string): void {
  local.held.add(jobId);
  void runner.gone(jobId).then(() => {
    local.held.delete(jobId);
    local.wake();
  });
}

async function notBegun(
  { engine }: RunContext,
  local: Local,
  { chosen, error }: { chosen: Chosen; error: BackupError },
  options: Cancellable,
): Promise<RunMachine> {
  options.signal.throwIfAborted();
  // the answer got lost, or an instance that was taken for dead begun it
  if ((await loaded(engine, chosen.job_id, options)) !== undefined) return chosen;
  // one pool that is away must not hold up the others, machine by machine
  const key = error.code === 'pool_unavailable' ? chosen.vm.pool : machineKey(chosen);
  const isBusy = isBackupError(error, 'job_conflict', 'limit_reached', 'draining');
  const tries = (local.tries.get(key) ?? 0) + (isBusy ? 0 : 1);
  local.tries.set(key, tries);
  if (error.retry !== 'later' || tries >= MAX_TRIES) {
    const { job_id: _, ...unbegun } = chosen;
    const finished_at = formatTime(engine.clock.now());
    return { ...unbegun, status: 'failed', finished_at, error: problemOf(error) };
  }
  const pauseMs = PAUSE_MS * 2 ** Math.max(0, tries - 1);
  local.pausedUntil.set(key, engine.clock.elapsed() + pauseMs);
  return waitingAgain(chosen, error.message);
}

async function end(context: RunContext, local: Local, options: Cancellable): Promise<Run> {
  const { run } = local.state;
  const finished_at = formatTime(context.engine.clock.now());
  await write(context, local, { ...run, status: endOf(run), finished_at }, options);
  return local.state.run;
}

/** Nobody else writes a run but to ask for its end: that is taken over, and a new owner is found out. */
async function write(
  context: RunContext,
  local: Local,
  run: Run,
  options: Cancellable,
): Promise<void> {
  const { store, engine } = context;
  const updated_at = formatTime(engine.clock.now());
  try {
    local.state = await store.save(local.state, { ...run, updated_at }, options);
    local.readAt = engine.clock.elapsed();
    return;
  } catch (error) {
    if (!isBackupError(error, 'precondition_failed')) throw error;
  }
  await reload(context, local, options);
  const { cancel_requested } = local.state.run;
  local.state = await store.save(local.state, { ...run, updated_at, cancel_requested }, options);
}

async function reload(context: RunContext, local: Local, options: Cancellable): Promise<void> {
  const { id } = local.state.run;
  const found = await context.store.load(id, options);
  if (found === undefined || found.run.instance !== context.instance) {
    throw new BackupError('lease_lost', `drive run=${id}: another instance is at it`);
  }
  local.state = found;
  local.readAt = context.engine.clock.elapsed();
}
