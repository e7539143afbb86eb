/**
 * The jobs this process holds: waiting for their turn, running, or pausing until their next attempt.
 *
 * Each keeps its lease from the first moment to after the last write of its record, so nobody takes it for one that was
 * left. A drain is the exception: a job that waits would only be started to be stopped, so it is left as it is, its lease
 * given back, and the next instance that looks takes it over at once.
 */
import assert from 'node:assert/strict';
import type { Versioned } from '../catalog/job-store.ts';
import type { Lease } from '../catalog/lease.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { cancelled, type DriveInput, drive } from './drive.ts';
import { type KeptLease, keepLease } from './keep-lease.ts';
import { createQueue, type Queue, type QueueItem, type QueueLimits } from './queue.ts';
import { describeOutcome, inJobSpan } from './traced.ts';
import type { RetryPolicy } from './try-again.ts';

export interface LocalJobs {
  has(id: string): boolean;
  /** Resolves when the job is held no more: its lease is given back. */
  gone(id: string): Promise<void>;
  /** Takes the job in; it starts when its pause is over and the limits allow. */
  add(state: Versioned, lease: Lease): void;
  /** Stops it, whatever it is doing. One that is not here is nobody's business here. */
  cancel(id: string): void;
  /** Leaves what waits, lets what runs end within `drainMs`, then stops it and waits for its clean-up. */
  drain(input: { drainMs: number }): Promise<void>;
  readonly draining: boolean;
  /** To look at. */
  readonly queue: Pick<Queue, 'full' | 'running' | 'waiting' | 'reason' | 'reasonOf'>;
}

export interface LocalSettings {
  instance: string;
  limits: QueueLimits;
  retry: RetryPolicy;
  onLeaseLost?: () => void;
  /** Its end is written down and its lease given back. */
  onEnded?: (job: Job) => void;
}

interface Entry {
  controller: AbortController;
  lease: KeptLease;
  gone: PromiseWithResolvers<void>;
}

interface Outcome {
  /** It waits for its next attempt. */
  again?: Versioned;
  ended?: Job;
  error?: BackupError;
}

/** Holds none at first. */
export function createLocalJobs(engine: Engine, settings: LocalSettings): LocalJobs {
  const { clock, meter, log } = engine;
  const queue = createQueue(settings.limits);
  const live = new Map<string, Entry>();
  /** Promises of jobs that are neither in the queue nor running. */
  const elsewhere = new Set<Promise<void>>();
  const drained = new AbortController();
  const isDraining = (): boolean => drained.signal.aborted;

  const track = (work: Promise<void>): void => {
    const tracked = work.finally(() => elsewhere.delete(tracked));
    elsewhere.add(tracked);
  };

  const letGo = async (id: string): Promise<void> => {
    const entry = live.get(id);
    await entry?.lease.giveBack();
    live.delete(id);
    entry?.gone.resolve();
  };

  /** Its record says that it waits; with the lease free, whoever looks next takes it over at once. */
  const leave = async (id: string): Promise<void> => {
    meter.count('jobs_queued', -1);
    await letGo(id);
    log.info('waiting job left to the next instance', { job_id: id });
  };

  const run = async (state: Versioned): Promise<void> => {
    const { id } = state.job;
    const entry = live.get(id);
    assert.ok(entry, 'what is queued is held');
    meter.count('jobs_queued', -1);
    const { instance, retry } = settings;
    const { again, ended, error } = await runJob({ engine, state, instance, retry, ...entry });
    if (again !== undefined && !isDraining()) return wait(again);
    await letGo(id);
    if (ended !== undefined) tell(engine, settings, ended);
    if (isBackupError(error, 'lease_lost')) settings.onLeaseLost?.();
  };

  const pause = async (atMs: number, item: QueueItem): Promise<void> => {
    const { controller } = live.get(item.id) as Entry;
    const signal = AbortSignal.any([controller.signal, drained.signal]);
    const ms = Math.max(0, atMs - clock.now());
    await clock.sleep(ms, { signal }).catch(() => undefined); // told below which it was
    if (isDraining()) return await leave(item.id);
    queue.add(item);
    if (controller.signal.aborted) queue.startNow(item.id);
  };

  const wait = (state: Versioned): void => {
    const { id, vm, checkpoint, next_attempt_at: at } = state.job;
    const item = { id, pool: vm.pool, srs: checkpoint.srs ?? [], run: () => run(state) };
    meter.count('jobs_queued', 1);
    if (isDraining()) track(leave(id));
    else if (at === undefined) queue.add(item);
    else track(pause(parseTime(at), item));
  };

  return {
    has: (id) => live.has(id),
    gone: async (id) => await live.get(id)?.gone.promise,
    add: (state, lease) => {
      live.set(state.job.id, createEntry(engine, lease));
      wait(state);
    },
    cancel: (id) => {
      live.get(id)?.controller.abort(cancelled());
      queue.startNow(id);
    },
    drain: async ({ drainMs }) => {
      drained.abort();
      for (const { id } of queue.withdraw()) track(leave(id));
      await withAlarm(engine, { ms: drainMs, ring: () => stop(live) }, queue.idle());
      await Promise.all(elsewhere);
    },
    get draining() {
      return isDraining();
    },
    queue,
  };
}

function tell({ notices }: Engine, { onEnded }: LocalSettings, ended: Job): void {
  onEnded?.(ended);
  notices?.ended(ended);
}

function createEntry(engine: Engine, lease: Lease): Entry {
  const controller = new AbortController();
  return {
    controller,
    lease: keepLease(engine, lease, controller),
    gone: Promise.withResolvers(),
  };
}

function stop(live: ReadonlyMap<string, Entry>): void {
  for (const { controller } of live.values()) {
    controller.abort(new BackupError('draining', 'stop job: this instance is shutting down'));
  }
}

/** Drives one job; why it was given up is logged and told: whoever finds its lease free goes on. */
async function runJob(input: DriveInput): Promise<Outcome> {
  return await inJobSpan(input.engine, input.state.job, () => begin(input));
}

async function begin(input: DriveInput): Promise<Outcome> {
  const { engine, state } = input;
  const { attempt, phase, triggered_by } = state.job;
  engine.log.info('job begins', { ...namesOf(state.job), attempt, phase, triggered_by });
  engine.meter.count('jobs_running', 1);
  try {
    const left = await drive(input);
    report(engine, left.job);
    describeOutcome(engine, left.job);
    return left.job.status === 'queued' ? { again: left } : { ended: left.job };
  } catch (thrown) {
    const error = toBackupError(thrown);
    const { code, message } = error;
    engine.log.error('job given up', { ...namesOf(state.job), code, error: message });
    return { error };
  } finally {
    engine.meter.count('jobs_running', -1);
  }
}

/** Whatever a line says of a job, it can be found by these. */
function namesOf({ id, kind, vm }: Job): Record<string, string> {
  return { job_id: id, kind, vm_uuid: vm.uuid, pool: vm.pool };
}

function report(engine: Engine, job: Job): void {
  const { log, meter } = engine;
  const seconds = job.result?.duration_seconds ?? 0;
  const fields = { ...namesOf(job), status: job.status };
  if (job.status === 'queued') {
    const { attempt, next_attempt_at: at, last_error: error } = job;
    const code = error?.code ?? '';
    log.info('job is tried again', { ...fields, attempt, next_attempt_at: at, code });
    meter.count('job_retries_total', 1, { code });
    return;
  }
  log.info('job ended', { ...fields, seconds, ...(job.error ? { code: job.error.code } : {}) });
  if (job.kind !== 'backup' || job.request.dry_run) return;
  meter.count('backups_total', 1, { mode: job.result?.mode ?? 'full', result: job.status });
  if (job.result) meter.observe('backup_duration_seconds', seconds, { pool: job.vm.pool });
}

/** Waits for `work`, and rings once if it takes longer than `ms`. */
async function withAlarm(
  { clock }: Engine,
  { ms, ring }: { ms: number; ring(): void },
  work: Promise<void>,
): Promise<void> {
  const done = new AbortController();
  const late = clock.sleep(ms, { signal: done.signal }).then(ring, () => undefined); // done in time
  await work;
  done.abort();
  await late;
}
