/** What the pages of runs show, read through the service. */
import { isRunEnded, type Run } from '../../catalog/run.ts';
import { BackupError, toBackupError } from '../../errors.ts';
import type { Cancellable } from '../../ports.ts';
import { NEVER } from '../../signals.ts';
import type { Call } from '../route.ts';
import { type Look, wantsEvents } from './live.ts';
import { onePer, type Remembered, remembered } from './remembered.ts';
import { runListSections, runSections, runsSection } from './run-page.ts';
import { count } from './words.ts';

/** On the status page: all that go on, most times, and the last that ended. */
const SHOWN = 10;
/** They change when a machine ends; each question is a listing of the bucket. */
const SHOWN_EVERY_MS = 4_000;
/** Older ones: GET /v1/runs. */
const LISTED = 50;

type Looker = (options: Cancellable) => Promise<Look>;
type Service = Call['deps']['service'];

/** The newest runs. */
async function runsOf(service: Service, pageSize: number, options: Cancellable): Promise<Run[]> {
  return (await service.listRuns({ pageSize }, options)).items;
}

/** One instance's, however many look. */
const latestPer = onePer<Service, string>();
const listPer = onePer<Service, Run[] | BackupError>();

/** The section of the status page, drawn. */
export function latestRuns({ service, clock }: Call['deps']): Remembered<string> {
  const draw = async () => {
    const runs = await runsOf(service, SHOWN, { signal: NEVER }).catch(toBackupError);
    return String(await runsSection(runs, clock.now()));
  };
  return latestPer(service, () => remembered(clock, SHOWN_EVERY_MS, draw));
}

/** Of the page at /runs. */
export function runListLook(call: Call): Looker {
  const { service, clock } = call.deps;
  const ask = () => runsOf(service, LISTED, { signal: NEVER }).catch(toBackupError);
  const list = listPer(service, () => remembered(clock, SHOWN_EVERY_MS, ask));
  // who loads the page wants to see what is; who stays hears of it
  if (!wantsEvents(call)) list.forget();
  return async () => ({
    title: 'runs',
    sections: runListSections(await list.get(), clock.now()),
  });
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
