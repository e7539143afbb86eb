/**
 * The report of a run that whoever keeps the engine has ended, because the engine itself could not be kept up
 * (src/cloudflare/records.ts): it knows nobody to tell, so the next engine that looks at runs does.
 *
 * By one of all engines, and once: a claim is made first, so a process that dies in between leaves it untold.
 */
import type { Run } from '../catalog/run.ts';
import type { Cancellable } from '../ports.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { runNotice } from './runs-report.ts';

/** Older news would confuse more than help. Less than the two days that claims are kept. */
const STALE_MS = 24 * 3_600_000;

/** Tells of it unless somebody did; of any other run nothing. Errors: the store's. */
export async function tellGivenUp(
  { notices, clock, log }: Pick<Engine, 'notices' | 'clock' | 'log'>,
  run: Run,
  options: Cancellable,
): Promise<void> {
  const { id, finished_at } = run;
  const notice = isGivenUp(run) ? runNotice(run) : undefined;
  if (notices === undefined || notice === undefined || finished_at === undefined) return;
  if (clock.now() - parseTime(finished_at) >= STALE_MS) return;
  // one claim, on whatever day it is found
  const day = finished_at.slice(0, 10);
  if (!(await notices.claim(`run ${id}`, { ...options, day }))) return;
  log.info('report of a run that was given up is sent', { run_id: id });
  notices.tell(notice);
}

/** No engine writes this code into the problems of a run. */
function isGivenUp({ problems }: Run): boolean {
  return problems.some(({ code }) => code === 'engine_unavailable');
}
