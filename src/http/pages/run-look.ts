/** What the pages of runs show, read through the service. */
import { isRunEnded, type Run } from '../../catalog/run.ts';
import { BackupError, toBackupError } from '../../errors.ts';
import type { Cancellable } from '../../ports.ts';
import type { Call } from '../route.ts';
import type { Look } from './live.ts';
import { runListSections, runSections } from './run-page.ts';
import { count } from './words.ts';

/** Older ones: GET /v1/runs. */
const LISTED = 50;

type Looker = (options: Cancellable) => Promise<Look>;

/** The newest runs. */
export async function runsOf(
  service: Call['deps']['service'],
  pageSize: number,
  options: Cancellable,
): Promise<Run[]> {
  return (await service.listRuns({ pageSize }, options)).items;
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
