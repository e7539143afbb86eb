/** What the pages show, read through the service: what changes by the second often, the rest every 15 seconds. */
import { raw } from 'hono/html';
import { isEnded, type Job } from '../../catalog/record.ts';
import { BackupError, toBackupError } from '../../errors.ts';
import type { Cancellable } from '../../ports.ts';
import { NEVER } from '../../signals.ts';
import type { Call } from '../route.ts';
import { jobsSection, statusSections } from '../status-page.ts';
import { jobSections } from './job-page.ts';
import { kindText, MAX_ACTIVE } from './job-table.ts';
import { type Look, wantsEvents } from './live.ts';
import { onePer, remembered } from './remembered.ts';
import { latestRuns } from './run-look.ts';
import { vmSections } from './vm-page.ts';
import { nameOf } from './words.ts';

const SLOW_EVERY_MS = 15_000;
/** Jobs begun since the last slow look are among the newest. */
const NEWEST_JOBS = 50;
/** As many as the status itself looks at: they are at hand. */
const RECENT_JOBS = 500;
const FORECAST_DAYS = 30;
const VM_BACKUPS = 100;
const VM_JOBS = 30;

type Looker = (options: Cancellable) => Promise<Look>;
type Service = Call['deps']['service'];

/** What does not change by the second, drawn: once for all who look. */
interface Overview {
  active: Job[] | BackupError;
  sections: Record<string, string>;
}

/** One instance's, however many look at its pages. */
const overviewPer = onePer<Service, Overview>();

/** Of the page at /. */
export function statusLook(call: Call): Looker {
  const { deps, settings } = call;
  const { service, clock } = deps;
  const overview = overviewPer(service, () =>
    remembered(clock, SLOW_EVERY_MS, () => overviewOf({ deps, settings })),
  );
  // who loads the page wants to see what is; who stays hears of it
  const runs = latestRuns(deps);
  if (!wantsEvents(call)) {
    overview.forget();
    runs.forget();
  }
  let wasDraining = service.draining;
  return async (options) => {
    if (service.draining !== wasDraining) overview.forget();
    wasDraining = service.draining;
    const { active, sections } = await overview.get();
    const jobs = Array.isArray(active)
      ? await orProblem(activeNow(service, active, options))
      : active;
    // one ended meanwhile: its machine has another state
    if (Array.isArray(jobs) && Array.isArray(active)) {
      const ids = new Set(jobs.map(({ id }) => id));
      if (active.some(({ id }) => !ids.has(id))) overview.forget();
    }
    const { head = '', ...rest } = sections;
    const shown = { head: raw(head), jobs: jobsSection(jobs), runs: raw(await runs.get()) };
    for (const [id, text] of Object.entries(rest)) Object.assign(shown, { [id]: raw(text) });
    return { title: 'backups', sections: shown };
  };
}

async function overviewOf({ deps, settings }: Pick<Call, 'deps' | 'settings'>): Promise<Overview> {
  const { service, version } = deps;
  const { draining } = service;
  const options = { signal: NEVER };
  const [status, forecast, recent, running, queued] = await Promise.all([
    orProblem(service.status({ maxAgeSeconds: settings.maxAgeSeconds }, options)),
    orProblem(service.forecast({ days: FORECAST_DAYS }, options)),
    orProblem(jobsOf(service, { pageSize: RECENT_JOBS }, options)),
    orProblem(jobsOf(service, { pageSize: MAX_ACTIVE, status: 'running' }, options)),
    orProblem(jobsOf(service, { pageSize: MAX_ACTIVE, status: 'queued' }, options)),
  ]);
  const active = bothOf(running, queued);
  const drawn = statusSections({ version, draining, status, forecast, recent });
  const sections: Record<string, string> = {};
  for (const [id, section] of Object.entries(drawn)) sections[id] = String(await section);
  return { active, sections };
}

/** Half of them would look like all. */
function bothOf(running: Job[] | BackupError, queued: Job[] | BackupError): Job[] | BackupError {
  if (!Array.isArray(running)) return running;
  return Array.isArray(queued) ? [...running, ...queued] : queued;
}

/** Those known to run or wait, as they are now, and those begun since. */
async function activeNow(
  service: Service,
  known: readonly Job[],
  options: Cancellable,
): Promise<Job[]> {
  const newest = await jobsOf(service, { pageSize: NEWEST_JOBS }, options);
  const seen = new Map(newest.map((job) => [job.id, job]));
  const older = await Promise.all(
    known.filter(({ id }) => !seen.has(id)).map(({ id }) => service.getJob(id, options)),
  );
  const all = [...newest, ...older.filter((job) => job !== undefined)];
  const active = all.filter((job) => !isEnded(job));
  return [
    ...active.filter(({ status }) => status === 'running'),
    ...active.filter(({ status }) => status === 'queued'),
  ];
}

/** Of this service, for commands to copy: as it was asked, which behind a proxy that ends TLS is http, unless the settings know. */
export function addressOf({ settings, c }: Pick<Call, 'settings' | 'c'>): string {
  return settings.publicUrl ?? new URL(c.req.url).origin;
}

/** Of a machine. Errors: `not_found` when nobody knows it. */
export function vmLook(
  { deps: { service, clock }, settings, c }: Call,
  { pool, uuid }: { pool: string; uuid: string },
): Looker {
  const { maxAgeSeconds } = settings;
  const origin = addressOf({ settings, c });
  const slow = remembered(clock, SLOW_EVERY_MS, async () => {
    const options = { signal: NEVER };
    const [status, page] = await Promise.all([
      orProblem(service.status({ maxAgeSeconds }, options)),
      orProblem(service.listBackups({ vm: uuid, pool, pageSize: VM_BACKUPS }, options)),
    ]);
    const isIt = ({ vm }: { vm: { uuid: string; pool: string } }) =>
      vm.uuid === uuid && vm.pool === pool;
    return { row: 'vms' in status ? status.vms.find(isIt) : status, page };
  });
  return async (options) => {
    const { row, page } = await slow.get();
    const jobs = await orProblem(jobsOf(service, { vm: uuid, pool, pageSize: VM_JOBS }, options));
    const backups = 'items' in page ? page.items : page;
    const named =
      (row instanceof BackupError ? undefined : row) ??
      (Array.isArray(backups) ? backups[0] : undefined) ??
      (Array.isArray(jobs) ? jobs[0] : undefined);
    if (named === undefined) throw nothingKnown(uuid, [row, backups, jobs]);
    const hasMore = 'items' in page && page.nextPageToken !== undefined;
    return {
      title: nameOf(named.vm),
      sections: vmSections({ vm: named.vm, row, backups, hasMore, jobs, origin }),
    };
  };
}

/** What could not be read may have known it. */
function nothingKnown(uuid: string, answers: readonly unknown[]): BackupError {
  const problem = answers.find((answer) => answer instanceof BackupError);
  const name = uuid.slice(0, 100);
  return problem ?? new BackupError('not_found', `find machine ${name}: nobody knows it`);
}

/** Of a job. Errors: `not_found`. */
export function jobLook({ deps: { service, clock } }: Call, id: string): Looker {
  return async (options) => {
    const job = await service.getJob(id, options);
    if (job === undefined) {
      throw new BackupError('not_found', `find job ${id}: there is none of that id`);
    }
    const title = `${kindText(job.kind)} of ${nameOf(job.vm)}`;
    return { title, sections: jobSections(job, clock.now()), isOver: isEnded(job) };
  };
}

async function jobsOf(
  service: Service,
  input: Parameters<Service['listJobs']>[0],
  options: Cancellable,
): Promise<Job[]> {
  return (await service.listJobs(input, options)).items;
}

/** A page shows what it has: the part that failed says why. */
async function orProblem<T>(work: Promise<T>): Promise<T | BackupError> {
  try {
    return await work;
  } catch (error) {
    return toBackupError(error);
  }
}
