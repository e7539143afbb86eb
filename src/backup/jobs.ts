/**
 * The jobs of this process: started, found again after a crash, cancelled, drained.
 *
 * A machine's lease is taken before its job is recorded and kept while the job waits and runs, so two instances never
 * work on one machine, and a job whose instance died is recognised by its expired lease. Where instances share a queue
 * (shared-jobs.ts) nobody holds it while the job waits, and what only this process can do has a queue of its own here.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { leaseKey } from '../catalog/keys.ts';
import type { Lease } from '../catalog/lease.ts';
import { type BackupRequest, backupRequestSchema, isEnded, type Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, VmState } from '../ports.ts';
import type { JobQueue, QueuePlace, SharedQueue } from '../queue-port.ts';
import { formatTime } from '../time.ts';
import { checkRequest } from './check-request.ts';
import type { Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { findVm } from './find-vm.ts';
import type { HeldJobs } from './held-jobs.ts';
import { release } from './keep-lease.ts';
import { createLeasedJobs } from './leased-jobs.ts';
import { createLocalJobs } from './local-jobs.ts';
import { createLocalQueue } from './local-queue.ts';
import { checkKind } from './preflight.ts';
import type { QueueLimits } from './queue.ts';
import type { JobSettings } from './run-job.ts';
import type { IndexInput, StartInput } from './service.ts';
import { createSharedJobs } from './shared-jobs.ts';
import { endedIn, leftJob } from './take-over.ts';
import { traceOf } from './traced.ts';

/** Newest records looked at for jobs a dead instance left; a sweep finds older ones by their leases. */
export const RESUME_WINDOW = 500;
/** Two small writes, each tried for some seconds. */
const START_MS = 30_000;
/** A job's last record is written a moment before its lease is given back: whoever saw its end waits that moment. */
const HANDOVER_MS = 5_000;
const HANDOVER_EVERY_MS = 100;
/** When a refused start may make sense: jobs take minutes, another instance takes over within seconds. */
const BUSY_SECONDS = 30;
const DRAINING_SECONDS = 10;

export interface JobRunner {
  start(input: StartInput, options: Cancellable): Promise<Job>;
  /** A job about a backup that is there. It leaves the machine alone, and its pool need not be there any more. */
  startIndex(input: IndexInput, options: Cancellable): Promise<Job>;
  /** For every other kind: records the job that `make` gives and queues it; one that is there by this id is the answer. */
  begin(
    input: { jobId?: string | undefined },
    options: Cancellable,
    make: () => Promise<Job>,
  ): Promise<Job>;
  /** Where instances share a queue: from now on jobs of it may run here. Without, they may from the beginning. */
  takeTurns(): void;
  cancel(id: string, options: Cancellable): Promise<Job | undefined>;
  /**
   * Takes over jobs whose instance died, and follows cancels that other instances took for jobs that wait here.
   * `also`: jobs to look at beside the newest ones.
   */
  resume(options: Cancellable & { also?: readonly string[] }): Promise<void>;
  /** Running jobs may end within `drainMs`; waiting ones are left, unlocked, to the next instance that looks. */
  drain(input: { drainMs: number }): Promise<void>;
  /** What a job like this one would wait for now; undefined when it could run. */
  reason(place: QueuePlace): string | undefined;
  /** What a job that waits waits for now, as far as it is known here. */
  waitingBecause(job: Job): string | undefined;
  /** Resolves when a job is held here no more: its lease is given back. */
  gone(id: string): Promise<void>;
  readonly draining: boolean;
  readonly running: number;
  readonly waiting: number;
}

export interface RunnerSettings extends JobSettings {
  limits: QueueLimits;
  retentionClasses: readonly string[];
  /** Of all instances; a queue of this process alone unless given. */
  shared?: SharedQueue | undefined;
  /** Jobs that wait in a shared queue are left there, though this process has no part in it. */
  leaveParked?: boolean | undefined;
  /** The shared queue may have lost jobs: resume soon. */
  onDoubt?: (() => void) | undefined;
}

/** The runner of one process. */
export function createJobRunner(engine: Engine, settings: RunnerSettings): JobRunner {
  const own = createLocalQueue(engine.clock, settings.limits);
  const local = createLocalJobs(engine, settings, own);
  const shared = settings.shared && createSharedJobs(engine, settings, settings.shared);
  const queue = settings.shared ?? own;
  const all: HeldJobs[] = shared === undefined ? [local] : [local, shared];
  /** What is read from a stream that this process was given, no other can do. */
  const holderOf = ({ kind }: Job): HeldJobs => (kind === 'adopt' ? local : (shared ?? local));

  /** Being written down: a drain that came meanwhile waits until they are left, too. */
  const accepting = new Set<Promise<Job>>();

  const { refuseIfBusy, takePlace } = createPlaces(queue, {
    waiting: settings.limits.waiting,
    total: shared === undefined ? settings.limits.total : 0,
    isDraining: () => local.draining,
  });

  const begin = async (
    { jobId }: { jobId?: string | undefined },
    options: Cancellable,
    make: () => Promise<Job>,
  ): Promise<Job> => {
    const again = jobId === undefined ? undefined : await engine.jobs.load(jobId, options);
    if (again) return again.job;
    refuseIfBusy();
    const job = await make();
    const reason = queue.reason({ pool: job.vm.pool, srs: job.checkpoint.srs ?? [] });
    const made = { ...job, ...traceOf(engine) };
    const waiting = reason === undefined ? made : { ...made, waiting_because: reason };
    options.signal.throwIfAborted();
    // asked again: others came, or a drain began, while the pool was asked
    const accepted = accept(engine, waiting, { takePlace, add: holderOf(waiting).add });
    accepting.add(accepted);
    return await accepted.finally(() => accepting.delete(accepted));
  };

  const leasedJobs = createLeasedJobs(engine, settings);

  return {
    start: (input, options) =>
      begin(input, options, () => newBackupJob(engine, settings.retentionClasses, input, options)),
    startIndex: (input, options) =>
      begin(input, options, () => newIndexJob(engine, input, options)),
    begin,
    cancel: async (id, options) => {
      const ask = (job: Job) => (isEnded(job) ? undefined : { ...job, cancel_requested: true });
      const job = await engine.jobs.update(id, ask, options);
      // an ended one is no more to be cancelled
      if (job !== undefined && !isEnded(job)) for (const held of all) held.cancel(id);
      return job;
    },
    resume: async (options) => {
      const newest = (await engine.jobs.ids(options)).slice(0, RESUME_WINDOW);
      const ids = [...(options.also ?? []), ...newest];
      if (shared === undefined) {
        return await takeOverLeft(engine, { local, settings, ids: new Set(ids) }, options);
      }
      const look = (leased: readonly string[]) =>
        shared.findLost(new Set([...ids, ...leased]), options);
      await leasedJobs(look, options);
    },
    takeTurns: () => shared?.begin(),
    drain: async (input) => {
      await Promise.all(all.map((held) => held.drain(input)));
      await Promise.allSettled(accepting);
    },
    reason: queue.reason,
    waitingBecause: (job) => holderOf(job).waitingBecause(job),
    gone: async (id) => {
      await Promise.all(all.map((held) => held.gone(id)));
    },
    get draining() {
      return local.draining;
    },
    get running() {
      return shared === undefined ? queue.running : own.running + queue.running;
    },
    get waiting() {
      return queue.waiting;
    },
  };
}

/** What new jobs take until they are in the queue: refused when it is full. `total`: those that would start at once. */
function createPlaces(
  queue: JobQueue,
  limits: { waiting: number; total: number; isDraining(): boolean },
) {
  /** Accepted, but still being written down. */
  let accepting = 0;

  const isFull = (): boolean => {
    const room = Math.max(0, limits.total - queue.running);
    return queue.full || queue.waiting + accepting >= limits.waiting + room;
  };

  const refuseIfBusy = (): void => {
    if (limits.isDraining()) throw draining();
    if (!isFull()) return;
    const { waiting, running } = queue;
    throw new BackupError('limit_reached', `start job: ${waiting} jobs wait already`, {
      details: { waiting, running, retry_after_seconds: BUSY_SECONDS },
    });
  };

  const takePlace = (): (() => void) => {
    refuseIfBusy();
    accepting += 1;
    return () => {
      accepting -= 1;
    };
  };
  return { refuseIfBusy, takePlace };
}

/** Goes on with the jobs of instances that died, here. */
async function takeOverLeft(
  engine: Engine,
  {
    local,
    settings: { instance, leaveParked = false },
    ids,
  }: { local: HeldJobs; settings: RunnerSettings; ids: Iterable<string> },
  options: Cancellable,
): Promise<void> {
  await eachReadable(engine, ids, async (id) => {
    // one that waits here may have been cancelled through another instance
    if (local.has(id) && (await engine.jobs.read(id))?.cancel_requested) local.cancel(id);
    if (local.has(id) || local.draining) return;
    const left = await leftJob(engine, { id, instance, unlessParked: leaveParked }, options);
    if (left === undefined) return await tellForgotten(engine, id, options);
    engine.log.info('job taken over', { job_id: id, phase: left.state.job.phase });
    await local.add(left.state, left.lease);
  });
}

/** Its instance wrote its end and died before it told anybody. */
async function tellForgotten(engine: Engine, id: string, options: Cancellable): Promise<void> {
  const job = engine.notices && (await engine.jobs.read(id));
  if (job !== undefined && isEnded(job)) await engine.notices?.takeOver(job, options);
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

/** Each once, by uuid. */
function srsOf({ disks }: VmState): QueuePlace['srs'] {
  return [
    ...new Map(disks.map(({ sr }) => [sr.uuid, { uuid: sr.uuid, name: sr.nameLabel }])).values(),
  ];
}

/** A job that waits, of kind backup unless it is changed. */
export function newJob(
  engine: Engine,
  input: {
    pool: string;
    vm: { uuid: string; nameLabel: string };
    request: BackupRequest;
    triggeredBy: string;
    jobId: string | undefined;
    srs: QueuePlace['srs'];
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
    checkpoint: {
      backup_id: engine.ids.uuid(),
      excluded_disks: [],
      warnings: [],
      srs: [...input.srs],
    },
  };
}

async function newBackupJob(
  engine: Engine,
  retentionClasses: readonly string[],
  { vm: wanted, request, triggeredBy, jobId, chat }: StartInput,
  options: Cancellable,
): Promise<Job> {
  const { pool, vm } = await findVm(engine, { vm: wanted, pool: request.pool }, options);
  checkKind(vm);
  const state = await pool.inspectVm(vm.ref, options);
  await checkRequest(
    { pool, vm: state, request, retentionClasses, store: engine.store, hooks: engine.hooks },
    options,
  );
  const input = { pool: pool.name, srs: srsOf(state), vm, request, triggeredBy, jobId };
  return { ...newJob(engine, input), ...(chat === undefined ? {} : { chat }) };
}

async function newIndexJob(engine: Engine, input: IndexInput, options: Cancellable): Promise<Job> {
  return { ...(await newJobAbout(engine, input, options)), kind: 'index' };
}

/** About a backup that is there. It reads the bucket alone: no SR waits for it. Errors: `not_found`. */
export async function newJobAbout(
  engine: Engine,
  { backupId, triggeredBy, jobId }: IndexInput,
  options: Cancellable,
): Promise<Job> {
  const entry = await engine.catalog.find(backupId);
  const backup = entry && (await engine.catalog.record(entry, options));
  if (backup === undefined) {
    throw new BackupError('not_found', `find backup ${backupId}: there is none of that id`);
  }
  const { vm, retention, compression } = backup;
  const request = backupRequestSchema.parse({ retention, compression });
  const known = { uuid: vm.uuid, nameLabel: vm.name };
  const job = newJob(engine, { pool: vm.pool, srs: [], vm: known, request, triggeredBy, jobId });
  return { ...job, backup_id: backupId };
}

/** From here on the caller may leave: half a start would block the machine, or begin a job nobody knows of. */
async function accept(
  engine: Engine,
  job: Job,
  runner: { takePlace(): () => void; add(state: Versioned, lease: Lease): Promise<void> },
): Promise<Job> {
  return await withDeadline(engine.clock, START_MS, async (signal) => {
    const lease = await takeLease(engine, job, { signal });
    try {
      const giveBack = runner.takePlace();
      try {
        await runner.add(await engine.jobs.create(job, { signal }), lease);
      } finally {
        giveBack();
      }
    } catch (error) {
      await release(engine, lease);
      throw error;
    }
    return job;
  });
}

async function takeLease(engine: Engine, job: Job, options: Cancellable): Promise<Lease> {
  const key = leaseKey(engine.keys, job);
  const ended = endedIn(engine, options);
  const lastTry = engine.clock.elapsed() + HANDOVER_MS;
  for (;;) {
    try {
      return await engine.leases.take({ key, jobId: job.id, ended }, options);
    } catch (error) {
      if (!isBackupError(error, 'lease_held')) throw error;
      const late = engine.clock.elapsed() >= lastTry;
      if (late || !(await hasEnded(engine, error, options))) throw conflict(job, error);
    }
    await engine.clock.sleep(HANDOVER_EVERY_MS, options);
  }
}

/** Whether the job that holds the lease has ended: then it is about to be given back. */
async function hasEnded(
  engine: Engine,
  { details }: BackupError,
  options: Cancellable,
): Promise<boolean> {
  if (typeof details.job_id !== 'string') return false;
  const found = await engine.jobs.load(details.job_id, options);
  return found !== undefined && isEnded(found.job);
}

function draining(): BackupError {
  return new BackupError('draining', 'start job: this instance is shutting down', {
    details: { retry_after_seconds: DRAINING_SECONDS },
  });
}

function conflict({ vm, backup_id: backupId }: Job, cause: BackupError): BackupError {
  const what = backupId === undefined ? vm.name : `backup ${backupId}`;
  const does = cause.details.owner === undefined ? 'waits for its turn' : 'is running';
  return new BackupError('job_conflict', `start job: one ${does} for ${what} already`, {
    details: { ...cause.details, vm: vm.uuid, retry_after_seconds: BUSY_SECONDS },
    cause,
  });
}
