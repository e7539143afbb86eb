/**
 * The jobs of this process: started, found again after a crash, cancelled, drained.
 *
 * A machine's lease is taken before its job is recorded and kept while the job waits and runs, so two instances never
 * work on one machine, and a job whose instance died is recognised by its expired lease.
 */
import type { Versioned } from '../catalog/job-store.ts';
import type { Lease } from '../catalog/lease.ts';
import { type BackupRequest, isEnded, type Job } from '../catalog/record.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime } from '../time.ts';
import { checkRequest } from './check-request.ts';
import type { Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { cancelled, type DriveInput, drive } from './drive.ts';
import { findVm } from './find-vm.ts';
import { keepLease, release } from './keep-lease.ts';
import { checkKind } from './preflight.ts';
import { createQueue, type Queue, type QueueLimits } from './queue.ts';
import type { StartInput } from './service.ts';
import { endedIn, leftJob } from './take-over.ts';

/** Newest records looked at for jobs a dead instance left; older ones are reported by the status, not resumed. */
const RESUME_WINDOW = 500;
/** Two small writes, each tried for some seconds. */
const START_MS = 30_000;

export interface JobRunner {
  start(input: StartInput, options: Cancellable): Promise<Job>;
  cancel(id: string, options: Cancellable): Promise<Job | undefined>;
  /**
   * Takes over jobs whose instance died, and follows cancels that other instances took for jobs that wait here.
   * `also`: jobs to look at beside the newest ones.
   */
  resume(options: Cancellable & { also?: readonly string[] }): Promise<void>;
  drain(input: { drainMs: number }): Promise<void>;
  readonly draining: boolean;
  readonly running: number;
  readonly waiting: number;
}

/** The runner of one process. */
export function createJobRunner(
  engine: Engine,
  settings: {
    instance: string;
    limits: QueueLimits;
    retentionClasses: readonly string[];
    onLeaseLost?: () => void;
  },
): JobRunner {
  const queue = createQueue(settings.limits);
  const live = new Map<string, AbortController>();
  let draining = false;

  const enqueue = (state: Versioned, lease: Lease | undefined, srs: readonly string[]): void => {
    const { id, vm } = state.job;
    const controller = new AbortController();
    live.set(id, controller);
    const kept = lease && keepLease(engine, lease, controller);
    const run = async (): Promise<void> => {
      engine.meter.count('jobs_queued', -1);
      const input = { engine, state, lease: kept, instance: settings.instance, controller };
      const error = await runJob(input);
      live.delete(id);
      if (isBackupError(error, 'lease_lost')) settings.onLeaseLost?.();
    };
    engine.meter.count('jobs_queued', 1);
    queue.add({ id, pool: vm.pool, srs, run });
  };

  const refuseIfBusy = (): void => {
    if (draining) throw new BackupError('draining', 'start job: this instance is shutting down');
    if (!queue.full) return;
    throw new BackupError('limit_reached', `start job: ${queue.waiting} jobs wait already`, {
      details: { waiting: queue.waiting, running: queue.running },
    });
  };

  const cancelHere = (id: string): void => {
    live.get(id)?.abort(cancelled());
    queue.startNow(id);
  };

  return {
    start: async ({ vm: wanted, request, triggeredBy, jobId }, options) => {
      const again = jobId === undefined ? undefined : await engine.jobs.load(jobId, options);
      if (again) return again.job;
      refuseIfBusy();
      const { pool, vm } = await findVm(engine, { vm: wanted, pool: request.pool }, options);
      checkKind(vm);
      const state = await pool.inspectVm(vm.ref, options);
      const { retentionClasses } = settings;
      await checkRequest({ pool, vm: state, request, retentionClasses }, options);
      const job = newJob(engine, { pool: pool.name, vm, request, triggeredBy, jobId });
      options.signal.throwIfAborted();
      const srs = [...new Set(state.disks.map((disk) => disk.sr.uuid))];
      return await accept(engine, job, {
        refuseIfBusy, // others came, or a drain began, while the pool was asked
        enqueue: (state, lease) => enqueue(state, lease, srs),
      });
    },
    cancel: async (id, options) => {
      const ask = (job: Job) => (isEnded(job) ? undefined : { ...job, cancel_requested: true });
      const job = await engine.jobs.update(id, ask, options);
      cancelHere(id);
      return job;
    },
    resume: async (options) => {
      const look = async (id: string): Promise<void> => {
        // one that waits here may have been cancelled through another instance
        if (live.has(id) && (await engine.jobs.read(id))?.cancel_requested) cancelHere(id);
        if (live.has(id) || draining) return;
        const left = await leftJob(engine, { id, instance: settings.instance }, options);
        if (left === undefined) return;
        engine.log.info('job taken over', { job_id: id, phase: left.state.job.phase });
        enqueue(left.state, left.lease, []);
      };
      const newest = (await engine.jobs.ids(options)).slice(0, RESUME_WINDOW);
      await eachReadable(engine, new Set([...(options.also ?? []), ...newest]), look);
    },
    drain: async ({ drainMs }) => {
      draining = true;
      await drainAll(engine, queue, live, drainMs);
    },
    get draining() {
      return draining;
    },
    get running() {
      return queue.running;
    },
    get waiting() {
      return queue.waiting;
    },
  };
}

/** One record that cannot be read must not keep the others from being looked at. */
async function eachReadable(
  engine: Engine,
  ids: Iterable<string>,
  look: (id: string) => Promise<void>,
): Promise<void> {
  for (const id of ids) {
    try {
      await look(id);
    } catch (error) {
      if (!isBackupError(error, 'data_corrupt')) throw error;
      engine.log.warn('job not looked at', { job_id: id, error: error.message });
    }
  }
}

/** Drives one job to its end; why it was given up instead is logged and told: whoever finds its lease free goes on. */
async function runJob(input: DriveInput): Promise<BackupError | undefined> {
  const { engine, state } = input;
  engine.meter.count('jobs_running', 1);
  try {
    report(engine, await drive(input));
    return undefined;
  } catch (thrown) {
    const error = toBackupError(thrown);
    const { code, message } = error;
    engine.log.error('job given up', { job_id: state.job.id, code, error: message });
    return error;
  } finally {
    await input.lease?.giveBack();
    engine.meter.count('jobs_running', -1);
  }
}

/** Waits for what runs; what is still there after `drainMs` is stopped, and its clean-up waited for. */
async function drainAll(
  engine: Engine,
  queue: Queue,
  live: ReadonlyMap<string, AbortController>,
  drainMs: number,
): Promise<void> {
  const done = new AbortController();
  const late = engine.clock.sleep(drainMs, { signal: done.signal }).then(
    () => {
      for (const [id, controller] of live) {
        controller.abort(new BackupError('draining', 'stop job: this instance is shutting down'));
        queue.startNow(id);
      }
    },
    () => undefined, // all ended in time
  );
  await queue.idle();
  done.abort();
  await late;
}

function newJob(
  engine: Engine,
  input: {
    pool: string;
    vm: { uuid: string; nameLabel: string };
    request: BackupRequest;
    triggeredBy: string;
    jobId: string | undefined;
  },
): Job {
  const now = formatTime(engine.clock.now());
  return {
    version: 1,
    id: input.jobId ?? engine.ids.uuid(),
    kind: 'backup',
    status: 'queued',
    phase: 'preparing',
    vm: { uuid: input.vm.uuid, name: input.vm.nameLabel, pool: input.pool },
    request: input.request,
    progress: { read_bytes: 0, sent_bytes: 0, copied_bytes: 0 },
    attempt: 1,
    created_at: now,
    updated_at: now,
    cancel_requested: false,
    triggered_by: input.triggeredBy,
    checkpoint: { backup_id: engine.ids.uuid(), excluded_disks: [], warnings: [] },
  };
}

/** From here on the caller may leave: half a start would block the machine, or begin a job nobody knows of. */
async function accept(
  engine: Engine,
  job: Job,
  runner: { refuseIfBusy(): void; enqueue(state: Versioned, lease: Lease | undefined): void },
): Promise<Job> {
  return await withDeadline(engine.clock, START_MS, async (signal) => {
    const lease = job.request.dry_run ? undefined : await takeLease(engine, job, { signal });
    try {
      runner.refuseIfBusy();
      runner.enqueue(await engine.jobs.create(job, { signal }), lease);
    } catch (error) {
      if (lease) await release(engine, lease);
      throw error;
    }
    return job;
  });
}

async function takeLease(engine: Engine, job: Job, options: Cancellable): Promise<Lease> {
  const key = engine.keys.lease(job.vm.pool, job.vm.uuid);
  try {
    const ended = endedIn(engine, options);
    return await engine.leases.take({ key, jobId: job.id, ended }, options);
  } catch (error) {
    if (!isBackupError(error, 'lease_held')) throw error;
    throw new BackupError('job_conflict', `start job: one is running for ${job.vm.name} already`, {
      details: { ...error.details, vm: job.vm.uuid },
      cause: error,
    });
  }
}

function report(engine: Engine, job: Job): void {
  const { log, meter } = engine;
  const seconds = job.result?.duration_seconds ?? 0;
  const fields = { job_id: job.id, vm_uuid: job.vm.uuid, pool: job.vm.pool, status: job.status };
  log.info('job ended', { ...fields, seconds, ...(job.error ? { code: job.error.code } : {}) });
  if (job.request.dry_run) return;
  meter.count('backups_total', 1, { mode: job.result?.mode ?? 'full', result: job.status });
  if (job.result) meter.observe('backup_duration_seconds', seconds, { pool: job.vm.pool });
}
