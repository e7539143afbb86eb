/** What the pages of runs show, read through the service. */
import { isRunEnded, type Run } from '../../catalog/run.ts';
import { BackupError, toBackupError } from '../../errors.ts';
import type { Cancellable } from '../../ports.ts';
import { NEVER } from '../../signals.ts';
import type { Call } from '../route.ts';
import type { Look } from './live.ts';
import { type Remembered, remembered } from './remembered.ts';
import { runListSections, runSections, runsSection } from './run-page.ts';
import { count } from './words.ts';

/** On the status page: all that go on, most times, and the last that ended. */
const SHOWN = 10;
/** They change when a machine ends; each look is a listing of the bucket. */
const SHOWN_EVERY_MS = 4_000;
/** Older ones: GET /v1/runs. */
const LISTED = 50;

type Looker = (options: Cancellable) => Promise<Look>;

/** The newest runs. */
async function runsOf(
  service: Call['deps']['service'],
  pageSize: number,
  options: Cancellable,
): Promise<Run[]> {
  return (await service.listRuns({ pageSize }, options)).items;
}

/** One instance's, however many look at its status page. */
const latest = new WeakMap<Call['deps']['service'], Remembered<string>>();

/** The section of the status page, drawn. */
export function latestRuns({ service, clock }: Call['deps']): Remembered<string> {
  const draw = async () => {
    const runs = await runsOf(service, SHOWN, { signal: NEVER }).catch(toBackupError);
    return String(await runsSection(runs, clock.now()));
  };
  const known = latest.get(service) ?? remembered(clock, SHOWN_EVERY_MS, draw);
  latest.set(service, known);
  return known;
}

/** Of the page at /runs. */
export function runListLook({ deps: { service, clock } }: Call): Looker {
  return async (options) => {
    const runs = await runsOf(service, LISTED, options).catch(toBackupError);
    return { title: 'runs', sections: runListSections(runs, clock.now()) };
  };
}

/** Of a run. Errors: `not_found`. */
export function runLook({ deps: { service, clock } }: Call, id: string): Looker {
  return async (options) => {
    const run = await service.getRun(id, options);
    if (run === undefined) {
      throw new BackupError('not_found', `find run ${id}: there is none of that id`);
    }
    const title = `run of ${count(run.machines.length, 'machine')}`;
    return { title, sections: runSections(run, clock.now()), isOver: isRunEnded(run) };
  };
}
