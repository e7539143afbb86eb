/** Runs as the commands get them: from an engine in this process, or from a running service. */
import { isDeepStrictEqual } from 'node:util';
import type { Service } from '../backup/service.ts';
import { isRunEnded, type Run, type RunRequest, runRequestSchema } from '../catalog/run.ts';
import { systemClock } from '../clock.ts';
import { BackupError } from '../errors.ts';
import { type RunView, runView } from '../http/run-answers.ts';
import type { Cancellable } from '../ports.ts';
import { parseTime } from '../time.ts';
import { parseWishes } from './wishes.ts';

/** A run that was left is gone on with by the same wish of the same night; the next night's wants every machine again. */
const SAME_NIGHT_MS = 12 * 3_600_000;
/** Newest runs among which one that is under way is looked for: some a day are made. */
const NEWEST = 50;

export type RunWishes = Partial<Omit<RunRequest, 'select'>> & {
  select: Partial<RunRequest['select']>;
};

export interface RunsPage {
  runs: RunView[];
  /** Empty at the end. */
  next_page_token: string;
}

/** The part of a client that is about runs. */
export interface RunClient {
  /** Errors: `not_found` when no machine is left to back up. */
  startRun(wishes: RunWishes, options: Cancellable): Promise<RunView>;
  /** Errors: `not_found`. */
  getRun(id: string, options: Cancellable): Promise<RunView>;
  /** Errors: `not_found`. */
  cancelRun(id: string, options: Cancellable): Promise<RunView>;
  listRuns(
    input: { status?: string; pageSize: number; pageToken?: string },
    options: Cancellable,
  ): Promise<RunsPage>;
  /**
   * The run of the same wishes, if it is of tonight: one that an earlier process left and this one took over, or one that
   * another instance is at. Should that instance be gone, this process goes on with it when the lease has run out.
   */
  openRun?(wishes: RunWishes, options: Cancellable): Promise<RunView | undefined>;
}

/** From an engine in this process. */
export function createDirectRuns(
  service: Pick<Service, 'startRun' | 'getRun' | 'cancelRun' | 'listRuns' | 'leftRuns'>,
  triggeredBy: () => string,
): RunClient {
  const shown = (run: Run | undefined, id: string): RunView => {
    if (run === undefined) throw new BackupError('not_found', `find run, id=${id}`);
    return runView(run);
  };
  return {
    startRun: async (wishes, options) => {
      const input = { request: parseWishes(runRequestSchema, wishes), triggeredBy: triggeredBy() };
      return runView(await service.startRun(input, options));
    },
    getRun: async (id, options) => shown(await service.getRun(id, options), id),
    cancelRun: async (id, options) => shown(await service.cancelRun(id, options), id),
    listRuns: async (input, options) => {
      const { items, nextPageToken } = await service.listRuns(input, options);
      return { runs: items.map(runView), next_page_token: nextPageToken ?? '' };
    },
    openRun: async (wishes, options) => {
      const request = parseWishes(runRequestSchema, wishes);
      const nowMs = systemClock.now();
      const isWanted = (run: Run) => {
        const isOpen = nowMs < parseTime(run.deadline_at) && !run.cancel_requested;
        const isTonight = nowMs < parseTime(run.created_at) + SAME_NIGHT_MS;
        return isOpen && isTonight && isDeepStrictEqual(run.request, request);
      };
      const left = service.leftRuns().findLast(isWanted);
      if (left !== undefined || request.dry_run) return left && runView(left);
      const { items } = await service.listRuns({ pageSize: NEWEST }, options);
      const found = items.find((run) => !isRunEnded(run) && isWanted(run));
      return found && runView(found);
    },
  };
}

/** From a running service. `start` sends a POST that may be repeated, `json` any call. */
export function createHttpRuns(deps: {
  start: (path: string, body: unknown, options: Cancellable) => Promise<unknown>;
  json: (
    input: Cancellable & {
      method?: 'GET' | 'POST';
      path: string;
      query?: Record<string, string | number | undefined>;
    },
  ) => Promise<unknown>;
}): RunClient {
  const pathOf = (id: string) => `/v1/runs/${encodeURIComponent(id)}`;
  return {
    startRun: async (wishes, options) => (await deps.start('/v1/runs', wishes, options)) as RunView,
    getRun: async (id, { signal }) => (await deps.json({ path: pathOf(id), signal })) as RunView,
    cancelRun: async (id, { signal }) =>
      (await deps.json({ method: 'POST', path: `${pathOf(id)}/cancel`, signal })) as RunView,
    listRuns: async ({ status, pageSize, pageToken }, { signal }) => {
      const query = { status, page_size: pageSize, page_token: pageToken };
      return (await deps.json({ path: '/v1/runs', query, signal })) as RunsPage;
    },
  };
}
