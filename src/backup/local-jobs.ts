/**
 * The jobs this process holds: waiting for their turn, running, or pausing until their next attempt.
 *
 * Each keeps its lease from the first moment to after the last write of its record, so nobody takes it for one that was
 * left. A drain is the exception: a job that waits would only be started to be stopped, so it is left as it is, its lease
 * parked, and the next instance that looks takes it over at once.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { isBackupError } from '../errors.ts';
import { type JobQueue, type TurnEnd, ticketOf } from '../queue-port.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { cancelled } from './drive.ts';
import { createHolding, type HeldJobs } from './held-jobs.ts';
import { type JobSettings, runJob } from './run-job.ts';

interface Local {
  state: Versioned;
  /** Counted in `jobs_queued`. */
  waits: boolean;
  /** By a drain. */
  left: boolean;
}

/** Holds none at first; `queue` is its own. */
export function createLocalJobs(engine: Engine, settings: JobSettings, queue: JobQueue): HeldJobs {
  const { meter, log } = engine;
  const { live, hold, letGo, tell, track, drain, isDraining } = createHolding<Local>(
    engine,
    settings,
    queue,
  );

  const waits = (held: Local, now: boolean): void => {
    if (held.waits !== now) meter.count('jobs_queued', now ? 1 : -1);
    held.waits = now;
  };

  /** Its record says that it waits; whoever looks next takes it over at once, and finds it by its parked lease. */
  const leave = async (held: Local): Promise<void> => {
    const { id } = held.state.job;
    held.left = true;
    waits(held, false);
    await letGo(id, 'park');
    log.info('waiting job left to the next instance', { job_id: id });
  };

  const turn = async ({ id }: { id: string }): Promise<TurnEnd> => {
    const held = live.get(id);
    if (held === undefined || held.left) return 'done';
    waits(held, false);
    const outcome = await runJob({ engine, ...settings, ...held });
    const { again } = outcome;
    if (again !== undefined) {
      held.state = again;
      waits(held, true);
      if (!isDraining()) return { againAtMs: parseTime(again.job.next_attempt_at ?? '') };
      await leave(held);
      return 'done';
    }
    // a lease that was lost is another's; the end of one that is held could not be written
    const isOpen = outcome.ended === undefined && !isBackupError(outcome.error, 'lease_lost');
    await letGo(id, isOpen ? 'park' : 'giveBack');
    tell(outcome);
    return 'done';
  };
  queue.serve(turn);

  return {
    has: (id) => live.has(id),
    gone: async (id) => await live.get(id)?.gone.promise,
    waitingBecause: ({ id }) => queue.reasonOf(id),
    add: async (state, lease) => {
      const held = hold(state.job.id, lease, { state, waits: false, left: false });
      waits(held, true);
      await (isDraining() ? leave(held) : queue.add(ticketOf(state.job)));
    },
    cancel: (id) => {
      const held = live.get(id);
      if (held === undefined) return;
      held.controller.abort(cancelled());
      // one that waits ends at once, out of turn
      const { pool } = held.state.job.vm;
      track(queue.remove({ id, pool }).then((waited) => (waited ? turn({ id }) : undefined)));
    },
    drain: (input) =>
      drain(input, () => {
        for (const held of live.values()) if (held.waits) track(leave(held));
      }),
    get draining() {
      return isDraining();
    },
  };
}
