/**
 * The runs this process drives, each under a lease that is kept until its last record is written.
 *
 * Taken here, or taken over from an instance whose lease ran out. A drain leaves them as they are: the next instance that
 * looks goes on at once.
 */
import type { Lease } from '../catalog/lease.ts';
import { isRunEnded, type Run } from '../catalog/run.ts';
import type { VersionedRun } from '../catalog/run-store.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { withDeadline } from './deadline.ts';
import { keepLease, release } from './keep-lease.ts';
import { driveRun, type RunContext, type RunDriver } from './runs-drive.ts';
import { runNotice } from './runs-report.ts';
import { traceOf } from './traced.ts';

/** Two small writes, each tried for some seconds. */
const START_MS = 30_000;
const DRAINING_SECONDS = 10;

export interface LiveRuns {
  has(id: string): boolean;
  readonly size: number;
  /** Takes the lease, records the run, and begins to drive it. */
  accept(run: Run): Promise<Run>;
  /** Drives the run of an instance that is gone; one that lives or ended is left alone, and false. */
  takeOver(id: string, options: Cancellable): Promise<boolean>;
  wake(id: string): void;
  /** Resolves when the run is held here no more: its lease is given back. */
  gone(id: string): Promise<void>;
  stop(): Promise<void>;
  readonly stopped: boolean;
}

interface Entry {
  controller: AbortController;
  driver: RunDriver;
  gone: Promise<void>;
}

/** Drives none at first. Who wants to hear of ends is told of those that ended here. */
export function createLiveRuns(context: RunContext): LiveRuns {
  const { engine, store } = context;
  const { clock, log, meter, keys, leases } = engine;
  const live = new Map<string, Entry>();
  /** Being written down: who stops meanwhile waits until they are left, too. */
  const accepting = new Set<Promise<Run>>();
  let stopped = false;

  const follow = async (id: string, driver: RunDriver): Promise<void> => {
    try {
      const run = await driver.ended;
      log.info('run ended', { run_id: id, status: run.status, machines: run.machines.length });
      meter.count('runs_total', 1, { result: run.status });
      const notice = runNotice(run);
      if (notice !== undefined) engine.notices?.tell(notice);
    } catch (error) {
      // its record stays: whoever looks next goes on with it
      log.info('run left', { run_id: id, error: toBackupError(error).message });
    }
  };

  const hold = (state: VersionedRun, lease: Lease): void => {
    const controller = new AbortController();
    const kept = keepLease(engine, lease, controller);
    const { id } = state.run;
    if (stopped) controller.abort(draining());
    const driver = driveRun(context, state, { signal: controller.signal });
    meter.count('runs_running', 1);
    const letGo = async (): Promise<void> => {
      await kept.giveBack();
      live.delete(id);
      meter.count('runs_running', -1);
    };
    const gone = follow(id, driver).then(letGo);
    live.set(id, { controller, driver, gone });
  };

  const record = (run: Run): Promise<Run> =>
    withDeadline(clock, START_MS, async (signal) => {
      const lease = await leases.take({ key: keys.runLease(run.id), jobId: run.id }, { signal });
      try {
        hold(await store.create({ ...run, ...traceOf(engine) }, { signal }), lease);
        return run;
      } catch (error) {
        await release(engine, lease);
        throw error;
      }
    });

  return {
    has: (id) => live.has(id),
    get size() {
      return live.size;
    },
    // from here on the caller may leave: half a start would be a run nobody knows of
    accept: async (run) => {
      if (stopped) throw draining();
      const accepted = record(run);
      accepting.add(accepted);
      return await accepted.finally(() => accepting.delete(accepted));
    },
    takeOver: async (id, options) => {
      const left = await leftRun(context, id, options);
      if (left !== undefined) hold(left.state, left.lease);
      return left !== undefined;
    },
    wake: (id) => live.get(id)?.driver.wake(),
    gone: async (id) => await live.get(id)?.gone,
    stop: async () => {
      stopped = true;
      for (const { controller } of live.values()) controller.abort(draining());
      await Promise.allSettled(accepting);
      await Promise.all([...live.values()].map(({ gone }) => gone));
    },
    get stopped() {
      return stopped;
    },
  };
}

/** What a start is refused with, and a run is left with, when this process ends. */
export function draining(): BackupError {
  return new BackupError('draining', 'drive run: this instance is shutting down', {
    details: { retry_after_seconds: DRAINING_SECONDS },
  });
}

/** The run of an instance that is gone, with its lease in our hands; undefined when it ended or lives elsewhere. */
async function leftRun(
  { engine, store, instance }: RunContext,
  id: string,
  options: Cancellable,
): Promise<{ state: VersionedRun; lease: Lease } | undefined> {
  const { keys, leases, log } = engine;
  const key = keys.runLease(id);
  const holder = await leases.look(key, options);
  if (holder && !holder.expired) return undefined;
  let lease: Lease;
  try {
    lease = await leases.take({ key, jobId: id }, options);
  } catch (error) {
    if (isBackupError(error, 'lease_held')) return undefined; // exactly one wins
    throw error;
  }
  try {
    const state = await store.load(id, options);
    if (state !== undefined && !isRunEnded(state.run)) {
      const mine = await store.save(state, { ...state.run, instance }, options);
      log.info('run taken over', { run_id: id });
      return { state: mine, lease };
    }
  } catch (error) {
    await release(engine, lease);
    // its instance is alive after all and wrote: it finds out that its lease is gone
    if (isBackupError(error, 'precondition_failed')) return undefined;
    throw error;
  }
  await release(engine, lease);
  return undefined;
}
