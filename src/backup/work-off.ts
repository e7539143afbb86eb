/**
 * Working off what waits, then ending: for processes that a scheduler starts when there is something to do.
 *
 * Done is what this process has nothing to do for any more: nothing runs here, and no job is left that it could begin. What
 * pauses until its next attempt, what other instances are at and what finds its pool full is left: another process comes.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { SharedQueue } from '../queue-port.ts';
import { untilAborted } from '../signals.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { type JobRunner, RESUME_WINDOW } from './jobs.ts';
import { lostJob } from './shared-jobs.ts';

/** How often it is looked at whether there is more to do. */
const LOOK_MS = 1_000;
/** Longer than it takes to connect; a queue that is away then is somebody's to mend. */
const AWAY_MS = 30_000;

export interface WorkOffService {
  /**
   * Does the jobs that wait and returns those that ended here, in order. A drain or the signal ends it early, with what
   * ended until then. Errors: `service_unavailable` when the shared queue stays away, `store_*`.
   */
  workOff(options: Cancellable): Promise<Job[]>;
}

/** `ended`: of this process. */
export function createWorkOff(
  engine: Engine,
  deps: {
    runner: JobRunner;
    queue: SharedQueue | undefined;
    ended: readonly Job[];
  },
): WorkOffService {
  const { clock } = engine;
  const { runner, queue, ended } = deps;
  return {
    workOff: async (options) => {
      let awaySince: number | undefined;
      while (!options.signal.aborted && !runner.draining) {
        if (queue?.problem === undefined) awaySince = undefined;
        else awaySince ??= clock.elapsed();
        if (awaySince !== undefined && clock.elapsed() - awaySince >= AWAY_MS) {
          const text = `work off: the shared queue is away (${queue?.problem})`;
          throw new BackupError('service_unavailable', text);
        }
        if (awaySince === undefined && (await seesDone(engine, deps, options))) break;
        await clock.sleep(LOOK_MS, options).catch(() => undefined); // asked to end
      }
      return [...ended];
    },
  };
}

/** Also when it is to end: a bucket that hangs must not keep it from saying what it has done. */
async function seesDone(
  engine: Engine,
  deps: Parameters<typeof isDone>[1],
  options: Cancellable,
): Promise<boolean> {
  try {
    return await untilAborted(isDone(engine, deps, options), options.signal);
  } catch (error) {
    if (options.signal.aborted) return true;
    throw error;
  }
}

async function isDone(
  engine: Engine,
  { runner, queue }: { runner: JobRunner; queue: SharedQueue | undefined },
  options: Cancellable,
): Promise<boolean> {
  if (runner.running > 0 || (queue === undefined && runner.waiting > 0)) return false;
  const now = engine.clock.now();
  for (const id of (await engine.jobs.ids(options)).slice(0, RESUME_WINDOW)) {
    const job = await lostJob(engine, id, options);
    const at = job?.next_attempt_at;
    const isDue = job !== undefined && (at === undefined || parseTime(at) <= now);
    if (isDue && queue?.reasonOf(id) === undefined) return false; // its turn comes
  }
  return runner.running === 0;
}
