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
import {
  createEntry,
  type Entry,
  type HeldJobs,
  type JobSettings,
  runJob,
  stopAll,
  tell,
  withAlarm,
} from './run-job.ts';

interface Held extends Entry {
  state: Versioned;
  /** Counted in `jobs_queued`. */
  waits: boolean;
  /** By a drain. */
  left: boolean;
}

/** Holds none at first; `queue` is its own. */
export function createLocalJobs(engine: Engine, settings: JobSettings, queue: JobQueue): HeldJobs {
  const { meter, log } = engine;
  const live = new Map<string, Held>();
  /** Promises of jobs that have no turn: left, or ended out of turn. */
  const elsewhere = new Set<Promise<unknown>>();
  let draining = false;

  const track = (work: Promise<unknown>): void => {
    const tracked = work.finally(() => elsewhere.delete(tracked));
    elsewhere.add(tracked);
  };

  const waits = (held: Held, now: boolean): void => {
    if (held.waits !== now) meter.count('jobs_queued', now ? 1 : -1);
    held.waits = now;
  };

  const letGo = async (held: Held, how: 'giveBack' | 'park' = 'giveBack'): Promise<void> => {
    const { id } = held.state.job;
    await held.lease[how]();
    live.delete(id);
    held.gone.resolve();
  };

  /** Its record says that it waits; whoever looks next takes it over at once, and finds it by its parked lease. */
  const leave = async (held: Held): Promise<void> => {
    held.left = true;
    waits(held, false);
    await letGo(held, 'park');
    log.info('waiting job left to the next instance', { job_id: held.state.job.id });
  };

  const turn = async ({ id }: { id: string }): Promise<TurnEnd> => {
    const held = live.get(id);
    if (held === undefined || held.left) return 'done';
    waits(held, false);
    const { again, ended, error } = await runJob({ engine, ...settings, ...held });
    if (again !== undefined) {
      held.state = again;
      waits(held, true);
      if (!draining) return { againAtMs: parseTime(again.job.next_attempt_at ?? '') };
      await leave(held);
      return 'done';
    }
    await letGo(held);
    if (ended !== undefined) tell(engine, settings, ended);
    if (isBackupError(error, 'lease_lost')) settings.onLeaseLost?.();
    return 'done';
  };
  queue.serve(turn);

  return {
    has: (id) => live.has(id),
    gone: async (id) => await live.get(id)?.gone.promise,
    add: async (state, lease) => {
      const held = { ...createEntry(engine, lease), state, waits: false, left: false };
      live.set(state.job.id, held);
      waits(held, true);
      await (draining ? leave(held) : queue.add(ticketOf(state.job)));
    },
    cancel: (id) => {
      const held = live.get(id);
      if (held === undefined) return;
      held.controller.abort(cancelled());
      // one that waits ends at once, out of turn
      const { pool } = held.state.job.vm;
      track(queue.remove({ id, pool }).then((waited) => (waited ? turn({ id }) : undefined)));
    },
    drain: async ({ drainMs }) => {
      draining = true;
      queue.stop();
      for (const held of live.values()) if (held.waits) track(leave(held));
      await withAlarm(engine, { ms: drainMs, ring: () => stopAll(live) }, queue.idle());
      await Promise.all(elsewhere);
    },
    get draining() {
      return draining;
    },
  };
}
