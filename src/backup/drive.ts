/**
 * The driver: a thin loop round `advance` that keeps record, lease and signal of one job together.
 *
 * While a step runs, a heartbeat writes progress and notices a cancel asked for elsewhere (keep-lease.ts renews the
 * lease). Losing the lease stops the step at once: whoever took it over does the rest, and every write of ours to the
 * record is conditional on being its last writer, so a process that slept through its lease cannot spoil anything.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { isEnded, type Job, type Progress } from '../catalog/record.ts';
import { BackupError, type ErrorCode, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime } from '../time.ts';
import { advance, failed } from './advance.ts';
import { CLEANING_MS, CLEANUP_MS, type Engine, PUBLISH_MS, type StepContext } from './context.ts';
import { withDeadline } from './deadline.ts';
import type { KeptLease } from './keep-lease.ts';

/** R2 takes one write a second and key; pollers see progress at least this often. */
const HEARTBEAT_MS = 2000;
/** A heartbeat that takes longer is given up; the next one writes the same. */
const HEARTBEAT_LIMIT_MS = 25_000;
/**
 * Steps that go on though the job was cancelled or is being drained: a whole archive is published, not thrown away,
 * and what was made on the pool is removed.
 */
const OWN_TIME_MS: Partial<Record<Job['phase'], number>> = {
  finishing: PUBLISH_MS,
  cleaning: CLEANING_MS,
};
/** Tries to write the last record before giving the job up to whoever finds its lease expired. */
const LAST_SAVE_ATTEMPTS = 5;

export interface DriveInput {
  engine: Engine;
  state: Versioned;
  /** Absent for a dry run: it changes nothing, so it needs no lease. */
  lease?: KeptLease | undefined;
  instance: string;
  /** Aborted with the reason (`cancelled`, `draining`, `lease_lost`); cleaning up still happens. */
  controller: AbortController;
}

/** Runs the job to its end and returns it. Errors: `lease_lost`, or the store's when the end could not be written. */
export async function drive(input: DriveInput): Promise<Job> {
  const run = createRun(input);
  const { clock } = input.engine;
  // asked for while the job waited, or before its last instance died
  if (run.job().cancel_requested) input.controller.abort(cancelled());
  await run.change((job) => ({
    ...job,
    status: 'running',
    started_at: job.started_at ?? formatTime(clock.now()),
    instance: input.instance,
  }));
  while (!isEnded(run.job())) await step(input, run);
  return run.job();
}

async function step(input: DriveInput, run: Run): Promise<void> {
  const { engine, controller } = input;
  const ownMs = OWN_TIME_MS[run.job().phase];
  const own = ownMs === undefined ? controller.signal : undefined;
  const heart = new AbortController();
  const beating = beat(input, run, heart.signal);
  let next: Job;
  const contextFor = (signal: AbortSignal): StepContext => ({
    engine,
    signal,
    report: run.report,
    remember: (patch) =>
      run.change((job) => ({ ...job, checkpoint: { ...job.checkpoint, ...patch } })),
  });
  try {
    next =
      ownMs === undefined
        ? await advance(run.job(), contextFor(controller.signal))
        : await withDeadline(engine.clock, ownMs, (signal) =>
            advance(run.job(), contextFor(signal)),
          );
  } catch (thrown) {
    const error = own?.aborted ? own.reason : thrown;
    if (isBackupError(error, 'lease_lost')) throw error;
    logFailure(engine, run.job(), error, thrown);
    next = failed(run.job(), error, contextFor(controller.signal));
  } finally {
    heart.abort();
    await beating;
  }
  // given back first: whoever sees the job ended may start the next one at once
  if (isEnded(next)) await input.lease?.giveBack();
  await run.finish(next);
}

interface Run {
  job(): Job;
  report(progress: Progress): void;
  /** Changes the record here and in the bucket. */
  change(change: (job: Job) => Job): Promise<void>;
  /** The step's outcome: kept here whatever happens to the bucket, written there as soon as it can be. */
  finish(next: Job): Promise<void>;
  beat(): Promise<void>;
}

function createRun({ engine, state, instance, controller }: DriveInput): Run {
  let current = state;
  let progress: Progress | undefined;
  let queue: Promise<unknown> = Promise.resolve();

  /** One write at a time: heartbeat, checkpoint and step's end would otherwise race each other. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = queue.then(work);
    queue = turn.catch(() => undefined);
    return turn;
  };

  async function write(change: (job: Job) => Job, options: Cancellable): Promise<void> {
    for (;;) {
      const changed = change({ ...current.job, ...(progress ? { progress } : {}) });
      const job = { ...changed, updated_at: formatTime(engine.clock.now()) };
      try {
        current = await engine.jobs.save(current, job, options);
        return;
      } catch (error) {
        if (!isBackupError(error, 'precondition_failed')) throw error;
        await adopt(options);
      }
    }
  }

  /** Somebody wrote: a wish to cancel is ours to follow; another instance's name in it means the job is not ours. */
  async function adopt(options: Cancellable): Promise<void> {
    const found = await engine.jobs.load(current.job.id, options);
    const theirs = found?.job.instance;
    if (found === undefined || (theirs !== undefined && theirs !== instance)) {
      throw new BackupError('lease_lost', `write record job=${current.job.id} now of=${theirs}`);
    }
    current = {
      etag: found.etag,
      job: { ...current.job, cancel_requested: found.job.cancel_requested },
    };
    if (found.job.cancel_requested) controller.abort(cancelled());
  }

  return {
    job: () => current.job,
    report: (latest) => {
      progress = latest;
    },
    change: (change) =>
      inTurn(() => withDeadline(engine.clock, CLEANUP_MS, (signal) => write(change, { signal }))),
    finish: (next) =>
      inTurn(async () => {
        progress = undefined;
        const mine = { ...next, cancel_requested: current.job.cancel_requested };
        current = { ...current, job: mine };
        await saveOutcome(engine, mine, () =>
          withDeadline(engine.clock, CLEANUP_MS, (signal) =>
            write(({ cancel_requested }) => ({ ...mine, cancel_requested }), { signal }),
          ),
        );
      }),
    beat: () =>
      inTurn(() =>
        withDeadline(engine.clock, HEARTBEAT_LIMIT_MS, (signal) => write((job) => job, { signal })),
      ),
  };
}

/**
 * Between phases a failed write is not the job's failure: the record is written again after the next step, and a
 * take-over would only repeat a step. The last record must get there; if it does not, the lease runs out and
 * another instance ends the job.
 */
async function saveOutcome(engine: Engine, job: Job, save: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await save();
    } catch (error) {
      if (isBackupError(error, 'lease_lost') || (isEnded(job) && attempt === LAST_SAVE_ATTEMPTS))
        throw error;
      engine.log.warn('job record not written', {
        job_id: job.id,
        error: toBackupError(error).message,
      });
      if (!isEnded(job)) return;
    }
  }
}

/** Progress and cancel while a step runs. A store that is away for a while is no reason to stop by itself. */
async function beat(
  { engine, controller }: DriveInput,
  run: Run,
  stop: AbortSignal,
): Promise<void> {
  while (await pause(engine, stop)) {
    try {
      await run.beat();
    } catch (error) {
      const { message } = toBackupError(error);
      engine.log.warn('heartbeat failed', { job_id: run.job().id, error: message });
      if (isBackupError(error, 'lease_lost')) return controller.abort(error);
    }
  }
}

async function pause(engine: Engine, stop: AbortSignal): Promise<boolean> {
  try {
    await engine.clock.sleep(HEARTBEAT_MS, { signal: stop });
    return true;
  } catch {
    return false; // the step ended
  }
}

/** A refusal is the user's to mend; these two are ours to look at, and two were asked for. */
const LEVELS: Partial<Record<ErrorCode, 'info' | 'error'>> = {
  internal: 'error',
  data_corrupt: 'error',
  cancelled: 'info',
  draining: 'info',
};

/** The one place a failed step is logged, with its cause. */
function logFailure(engine: Engine, job: Job, error: unknown, thrown: unknown): void {
  const { code, message, details } = toBackupError(error);
  const cause = thrown instanceof Error ? thrown.cause : undefined;
  const fields = { job_id: job.id, phase: job.phase, code, error: message, details };
  const text = cause instanceof Error ? { cause: cause.message } : {};
  const stack = code === 'internal' && thrown instanceof Error ? { stack: thrown.stack } : {};
  const level = LEVELS[code] ?? 'warn';
  engine.log[level]('step failed', { ...fields, ...text, ...stack });
}

/** The reason a job ends `cancelled`. */
export function cancelled(): BackupError {
  return new BackupError('cancelled', 'cancel job: asked for');
}
