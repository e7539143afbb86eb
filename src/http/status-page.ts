/** The page at /: every machine with its last good backup and what becomes of it, what runs now, and where to go on. */
import { html } from 'hono/html';
import type { ForecastReport } from '../backup/forecast-service.ts';
import type { StatusReport, Verdict } from '../backup/service.ts';
import type { Job } from '../catalog/record.ts';
import type { BackupError } from '../errors.ts';
import { forecastChart } from './forecast-chart.ts';
import type { Html } from './page.ts';
import { activeJobs } from './pages/job-table.ts';
import { isRun, runBar } from './pages/run-bar.ts';
import { ageText, bytesText, day, nameOf, tag, time, trouble, vmPath } from './pages/words.ts';

/** More rows than these belong into a monitor, not onto a page. */
const MAX_ROWS = 1000;
/** Of those that are not well, above everything else. */
const NAMED = 3;

export interface StatusPageInput {
  version: string;
  draining: boolean;
  status: StatusReport | BackupError;
  /** The newest of all kinds and states. */
  recent: Job[] | BackupError;
  /** Of the days to come. */
  forecast: ForecastReport | BackupError;
}

/** What runs and waits, as a section of its own: it changes by the second. */
export function jobsSection(jobs: Job[] | BackupError): Html {
  return html`<h2>Running and queued</h2>
${Array.isArray(jobs) ? activeJobs(jobs) : trouble(jobs)}`;
}

/** The other sections by id. What could not be read is said in its place. */
export function statusSections(input: StatusPageInput): Record<string, Html> {
  const { version, draining, status, forecast } = input;
  const shutting = html`<p><span class="tag warning">This instance is shutting down: it takes no new work.</span></p>`;
  return {
    head: html`<h1>Backups ${'vms' in status ? tag(status.status) : ''}</h1>${draining ? shutting : ''}
${'vms' in status ? summary(status) : ''}`,
    machines: html`<h2>Machines</h2>
${'vms' in status ? vmTable(status, runsOf(input.recent)) : trouble(status)}`,
    forecast: html`${'days' in forecast ? forecastChart(forecast, bytesText) : trouble(forecast)}
<p class="quiet">xvault ${version}</p>`,
  };
}

/** What is wrong and what is next, in a sentence each. */
function summary(report: StatusReport): Html {
  const { vms, unreachable_pools, unreadable_records, gone_at_risk } = report;
  const good = vms.filter(({ status }) => status === 'ok').length;
  const bad = vms.filter(({ status }) => status === 'critical');
  const [next] = vms
    .filter((row) => row.expires_at !== undefined)
    .toSorted((a, b) => ((a.expires_at ?? '') < (b.expires_at ?? '') ? -1 : 1));
  return html`<p>${good} of ${vms.length} backed up as they should be.${
    next?.expires_at === undefined
      ? good > 0 && ' No rule that is known deletes a last good backup.'
      : html` The first last good backup to be deleted is that of <a href="${vmPath(next.vm)}">${nameOf(next.vm)}</a>, on ${day(next.expires_at)}.`
  }</p>
${report.machines_from === 'bucket' ? html`<p class="quiet">No pool is asked for this page: these are the machines that have backups or jobs.</p>` : ''}
${bad.slice(0, NAMED).map(({ vm, reason }) => html`<p class="wrong"><a href="${vmPath(vm)}">${nameOf(vm)}</a>: ${reason}</p>`)}
${bad.length > NAMED ? html`<p>And ${bad.length - NAMED} more, below.</p>` : ''}
${unreachable_pools.map(
  (pool) =>
    html`<p class="wrong">Pool ${pool} does not answer: its machines are known from the bucket only.</p>`,
)}
${(unreadable_records ?? []).map(
  ({ key, detail }) =>
    html`<p class="wrong">A record cannot be read, <code>${key}</code>: ${detail}</p>`,
)}
${(gone_at_risk ?? []).map(
  ({ vm, status, reason }) =>
    html`<p class="wrong">${tag(status)} <a href="${vmPath(vm)}">${nameOf(vm)}</a>, on no pool any more: ${reason}</p>`,
)}`;
}

/** The worst first; within one verdict as the service sorts them. */
const ORDER: readonly Verdict[] = ['critical', 'warning', 'ok'];

function vmTable(report: StatusReport, runs: ReadonlyMap<string, Job[]>): Html {
  const sorted = report.vms.toSorted((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const names = sorted.map(({ vm }) => vm.name);
  const twice = new Set(names.filter((name, at) => names.indexOf(name) !== at));
  const rows = sorted.slice(0, MAX_ROWS).map((row) => {
    const age = row.age_seconds === undefined ? 'never' : `${ageText(row.age_seconds)} ago`;
    return html`<tr><td>${machine(row.vm, twice)}</td><td class="wide">${row.vm.pool}</td><td>${tag(row.status)}</td>
<td class="n" data-l="last good backup">${age}</td><td data-l="deleted on">${row.expires_at === undefined ? '' : day(row.expires_at)}</td>
<td>${runBar(runs.get(machineOf(row.vm)) ?? [])}</td><td class="${row.status === 'ok' ? 'wide' : 'all'}">${row.reason}</td></tr>`;
  });
  const left = report.vms.length - rows.length;
  return html`<table><thead><tr><th scope="col">machine</th><th scope="col" class="wide">pool</th><th scope="col">status</th><th scope="col" class="n">last good backup</th><th scope="col">deleted on</th><th scope="col">last runs</th><th scope="col">reason</th></tr></thead>
<tbody>${rows}</tbody></table>
<p class="quiet">${left > 0 ? `${left} more are not shown. ` : ''}Overdue after ${ageText(report.max_age_seconds)}. Looked at ${time(report.checked_at)}.</p>`;
}

/** Its name; a nameless one, and one of several with a name, has its uuid. */
function machine(vm: { uuid: string; name: string; pool: string }, twice: ReadonlySet<string>) {
  const shown = vm.name !== '' && !twice.has(vm.name);
  const link = html`<a href="${vmPath(vm)}" title="${vm.uuid}">${vm.name.trim() || 'no name'}</a>`;
  return shown ? link : html`${link} <code class="quiet">${vm.uuid}</code>`;
}

function machineOf({ pool, uuid }: { pool: string; uuid: string }): string {
  return `${pool}/${uuid}`;
}

function runsOf(recent: Job[] | BackupError): Map<string, Job[]> {
  return Array.isArray(recent)
    ? Map.groupBy(recent.filter(isRun), ({ vm }) => machineOf(vm))
    : new Map();
}
