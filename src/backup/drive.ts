/**
 * The driver: a thin loop round `advance` that keeps record, lease and signal of one job together.
 *
 * While a step runs, a heartbeat writes progress and notices a cancel asked for elsewhere (keep-lease.ts renews the
 * lease). Losing the lease stops the step at once: whoever took it over does the rest, and every write of ours to the
 * record is conditional on being its last writer, so a process that slept through its lease cannot spoil anything.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { withPhase } from '../catalog/phases.ts';
import { isEnded, type Job, type Progress } from '../catalog/record.ts';
import { BackupError, type ErrorCode, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { formatTime } from '../time.ts';
import { advance, failed } from './advance.ts';
import { CLEANING_MS, CLEANUP_MS, type Engine, PUBLISH_MS, type StepContext } from './context.ts';
import { withDeadline } from './deadline.ts';
import { expired, type KeptLease } from './keep-lease.ts';
import { pause } from './repeat.ts';
import { inPhaseSpan } from './traced.ts';
import { type RetryPolicy, tryAgain } from './try-again.ts';

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
/** Tries to write the record of a job that ends before it is left to whoever finds its lease expired. */
const SAVE_ATTEMPTS = 5;
const SAVE_AGAIN_MS = 1000;

export interface DriveInput {
  engine: Engine;
  state: Versioned;
  /** Given back by the caller, after the last write: until then nobody takes the job for a left one. */
  lease: KeptLease;
  instance: string;
  retry: RetryPolicy;
  /** Aborted with the reason (`cancelled`, `draining`, `lease_lost`); cleaning up still happens. */
  controller: AbortController;
}

/**
 * Runs the job to its end, or until it waits for its next attempt, and returns it. Errors: `lease_lost`, or the store's
 * when the end could not be written.
 */
export async function drive(input: DriveInput): Promise<Versioned> {
  const run = createRun(input);
  const { clock } = input.engine;
  const isFirst = run.job().started_at === undefined && run.job().attempt === 1;
  // asked for while the job waited, or before its last instance died
  if (run.job().cancel_requested) input.controller.abort(cancelled());
  await run.change(({ waiting_because: _, next_attempt_at: _2, ...job }) => ({
    ...job,
    status: 'running',
    started_at: job.started_at ?? formatTime(clock.now()),
    instance: input.instance,
  }));
  if (isFirst && !input.controller.signal.aborted) input.engine.notices?.started(run.job());
  while (run.job().status === 'running') await step(input, run);
  return run.state();
}

async function step(input: DriveInput, run: Run): Promise<void> {
  const { engine, controller, lease } = input;
  if (!lease.held()) throw expired({ jobId: run.job().id });
  const ownMs = OWN_TIME_MS[run.job().phase];
  const own = ownMs === undefined ? controller.signal : undefined;
  const heart = new AbortController();
  const beating = engine.tracer.quietly(() => beat(input, run, heart.signal));
  let next: Job;
  const contextFor = (signal: AbortSignal): StepContext => ({
    engine,
    signal,
    report: run.report,
    remember: (patch) =>
      run.change((job) => ({ ...job, checkpoint: { ...job.checkpoint, ...patch } })),
  });
  try {
    next = await inPhaseSpan(engine, run.job(), () =>
      ownMs === undefined
        ? advance(run.job(), contextFor(controller.signal))
        : withDeadline(engine.clock, ownMs, (signal) =>
            advance(run.job(), contextFor(AbortSignal.any([signal, lease.lost]))),
          ),
    );
  } catch (thrown) {
    const stopped = own?.aborted ? own : lease.lost;
    const error = stopped.aborted ? stopped.reason : thrown;
    if (isBackupError(error, 'lease_lost')) throw error;
    logFailure(engine, run.job(), error, thrown);
    next = failed(run.job(), error, contextFor(controller.signal));
  } finally {
    heart.abort();
    await beating;
  }
  const outcome = tryAgain(next, input.retry, engine.clock.now()) ?? next;
  await run.finish(engine.notices?.owe(outcome) ?? outcome);
}

interface Run {
  job(): Job;
  state(): Versioned;
  report(progress: Progress): void;
  /** Changes the record here and in the bucket. */
  change(change: (job: Job) => Job): Promise<void>;
  /** The step's outcome, written to the bucket before the next step begins. */
  finish(next: Job): Promise<void>;
  beat(): Promise<void>;
}

function createRun(input: DriveInput): Run {
  const { engine, state, instance, controller } = input;
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
      const now = formatTime(engine.clock.now());
      const job = { ...withPhase(changed, now), updated_at: now };
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
    state: () => current,
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
        await saveOutcome(input, mine, () =>
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
 * A phase begins when it is recorded: whoever takes the job over begins where the record says. A snapshot removed
 * under "exporting" would be missing to the new owner, a backup published under "exporting" would be made again.
 * So the write is repeated as long as the lease is ours. One exception: a failed job is cleaned up on the pool though
 * the bucket is away for longer, which nobody else can do before the lease has run out. The last record must get
 * there, too; if it does not, another instance ends the job.
 */
async function saveOutcome(input: DriveInput, job: Job, save: () => Promise<void>): Promise<void> {
  const { engine, lease } = input;
  for (let attempt = 1; ; attempt++) {
    try {
      return await save();
    } catch (error) {
      if (isBackupError(error, 'lease_lost')) throw error;
      if (isEnded(job) && attempt === SAVE_ATTEMPTS) throw error;
      engine.log.warn('job record not written', {
        job_id: job.id,
        error: toBackupError(error).message,
      });
      if (!lease.held() && !isEnded(job)) throw expired({ jobId: job.id }, error);
      if (mayGoOn(input, job, attempt)) return;
    }
    await engine.clock.sleep(SAVE_AGAIN_MS, { signal: NEVER });
  }
}

function mayGoOn({ controller }: DriveInput, job: Job, attempt: number): boolean {
  if (job.phase === 'cleaning') return !isEnded(job) && attempt === SAVE_ATTEMPTS;
  // its next step ends at once, and leads to cleaning
  return controller.signal.aborted && job.phase !== 'finishing';
}

/** Progress and cancel while a step runs. A store that is away for a while is no reason to stop by itself. */
async function beat(
  { engine, controller }: DriveInput,
  run: Run,
  stop: AbortSignal,
): Promise<void> {
  while (await pause(engine.clock, HEARTBEAT_MS, stop)) {
    try {
      await run.beat();
    } catch (error) {
      const { message } = toBackupError(error);
      engine.log.warn('heartbeat failed', { job_id: run.job().id, error: message });
      if (isBackupError(error, 'lease_lost')) return controller.abort(error);
    }
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
