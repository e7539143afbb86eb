/**
 * Runs: many machines in one call, one report.
 *
 * A run is recorded before it is answered and driven by the instance that took it, under a lease of its own; should that
 * instance die, any other goes on with it, as with jobs. What a run begins are ordinary jobs: they end by themselves whatever
 * becomes of the run.
 */
import { isRunEnded, MAX_DEADLINE_SECONDS, type Run, type RunRequest } from '../catalog/run.ts';
import { createRunStore, type RunStore } from '../catalog/run-store.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { inTime } from '../signals.ts';
import type { Engine } from './context.ts';
import { idAt } from './ids.ts';
import { pageOf } from './page.ts';
import type { RunContext } from './runs-drive.ts';
import { tellGivenUp } from './runs-given-up.ts';
import { createLiveRuns, draining } from './runs-live.ts';
import { planRun } from './runs-look.ts';
import { selectRun } from './runs-request.ts';
import type { Page, PageInput } from './service.ts';
import { GONE_LIMIT_MS } from './watch.ts';

/** Taken over and remembered: a process that goes on with one takes over few, a service many in its life. */
const LEFT_KEPT = 50;
/** Runs at once in one instance: each is a record that is read every few seconds. */
const MAX_RUNS = 20;
const WATCH_EVERY_MS = 500;
const BUSY_SECONDS = 30;
const DAY_MS = 86_400_000;

export interface RunInput {
  request: RunRequest;
  triggeredBy: string;
  /** A UUIDv7 chosen by the caller: a second start with the same id answers with the first one's run. */
  runId?: string | undefined;
}

export interface RunService {
  /**
   * Starts a run: selects the machines, records it, begins jobs as room comes. A dry run is selected and planned, never
   * recorded. Errors: `not_found` when no machine is left (details.skipped), `invalid_request`, `limit_reached`, `draining`,
   * `pool_*` when no pool answers, `store_*`.
   */
  startRun(input: RunInput, options: Cancellable): Promise<Run>;
  /** undefined when there is none. Errors: `data_corrupt`. */
  getRun(id: string, options: Cancellable): Promise<Run | undefined>;
  /** Resolves when the run ended or after `timeoutMs`, with the run as it is then. */
  waitRun(id: string, input: { timeoutMs: number }, options: Cancellable): Promise<Run | undefined>;
  listRuns(input: PageInput & { status?: string }, options: Cancellable): Promise<Page<Run>>;
  /** What waits is not begun, what runs is asked to stop. An ended run is returned as it is. */
  cancelRun(id: string, options: Cancellable): Promise<Run | undefined>;
  /** The last runs of instances that are gone, which this one goes on with: as they were found, but for its name. */
  leftRuns(): readonly Run[];
}

/** The service's runs, and what the process does with them. */
export interface Runs {
  service: RunService;
  /** Goes on with runs whose instance died. */
  resume(options: Cancellable): Promise<void>;
  /** Leaves its runs, unlocked, to the next instance that looks. Their jobs are the runner's. */
  stop(): Promise<void>;
}

/** Over the runner of this process. */
export function createRuns(
  engine: Engine,
  deps: {
    runner: RunContext['runner'] & { readonly draining: boolean };
    stateStore: ObjectStore;
    instance: string;
  },
): Runs {
  const { clock, keys, unreadable } = engine;
  const { runner, instance, stateStore } = deps;
  const store = createRunStore({ store: stateStore, keys, clock, unreadable });
  const live = createLiveRuns({ engine, store, runner, instance });
  /** Ended, or cannot be read: not looked at for a take-over again. */
  const settled = new Set<string>();
  const left: Run[] = [];

  const get: RunService['getRun'] = async (id) => {
    const run = await store.read(id);
    if (run !== undefined && isRunEnded(run)) await inTime(clock, GONE_LIMIT_MS, live.gone(id));
    return run;
  };

  return {
    service: {
      startRun: async (input, options) => {
        const { runId, request } = input;
        const again = runId === undefined ? undefined : await store.load(runId, options);
        if (again !== undefined) return again.run;
        if (live.stopped || runner.draining) throw draining();
        if (live.size >= MAX_RUNS && !request.dry_run) throw tooMany(live.size);
        const run = await selectRun(engine, { input, instance }, options);
        if (request.dry_run) return await planRun(engine, run, options);
        options.signal.throwIfAborted();
        return await live.accept(run);
      },
      getRun: get,
      waitRun: async (id, { timeoutMs }, options) => {
        const until = clock.elapsed() + timeoutMs;
        for (;;) {
          const run = await get(id, options);
          if (run === undefined || isRunEnded(run) || clock.elapsed() >= until) return run;
          await clock.sleep(Math.min(WATCH_EVERY_MS, until - clock.elapsed()), options);
        }
      },
      listRuns: async (input, options) => {
        const ids = await store.ids({}, options);
        const one = async (id: string) => {
          const run = await readable(store, id);
          return run && (input.status ?? run.status) === run.status ? run : undefined;
        };
        const load = (some: readonly string[]) => Promise.all(some.map(one));
        return await pageOf(ids, input, ['runs', input.status], (id) => id, load);
      },
      cancelRun: async (id, options) => {
        const ask = (run: Run) =>
          isRunEnded(run) ? undefined : { ...run, cancel_requested: true };
        const run = await store.update(id, ask, options);
        live.wake(id);
        return run;
      },
      leftRuns: () => left,
    },
    resume: async (options) => {
      const afterId = idAt(clock.now() - MAX_DEADLINE_SECONDS * 1000 - DAY_MS, engine.ids.uuid());
      for (const id of await store.ids({ afterId }, options)) {
        if (live.stopped || live.has(id) || settled.has(id)) continue;
        const run = await readable(store, id);
        if (run === undefined || isRunEnded(run)) {
          if (run !== undefined) await tellGivenUp(engine, run, options);
          settled.add(id);
        } else if (await live.takeOver(id, options)) {
          left.push({ ...run, instance });
          if (left.length > LEFT_KEPT) left.shift();
        }
      }
    },
    stop: live.stop,
  };
}

/** undefined also for a record that cannot be read: it is told of elsewhere, and must not hide the others. */
async function readable(store: RunStore, id: string): Promise<Run | undefined> {
  try {
    return await store.read(id);
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return undefined;
    throw error;
  }
}

function tooMany(running: number): BackupError {
  return new BackupError('limit_reached', `start run: ${running} runs are under way`, {
    details: { running, retry_after_seconds: BUSY_SECONDS },
  });
}
