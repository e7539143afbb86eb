/** The page at /: every machine with its last good backup, what runs now, and where to go on. */
import { html } from 'hono/html';
import type { ForecastReport } from '../backup/forecast-service.ts';
import type { StatusReport, Verdict } from '../backup/service.ts';
import type { Job } from '../catalog/record.ts';
import type { BackupError } from '../errors.ts';
import { forecastChart } from './forecast-chart.ts';
import type { Html } from './page.ts';
import { jobView } from './views.ts';

/** More rows than these belong into a monitor, not onto a page. */
const MAX_ROWS = 1000;

export interface StatusPageInput {
  version: string;
  draining: boolean;
  status: StatusReport | BackupError;
  jobs: Job[] | BackupError;
  /** Of the days to come. */
  forecast: ForecastReport | BackupError;
}

/** The body of the page. What could not be read is said in its place. */
export function statusPage(input: StatusPageInput): Html {
  const { version, draining, status, jobs, forecast } = input;
  return html`<h1>xvault ${'vms' in status ? tag(status.status) : ''}</h1>
<nav><a href="/docs">API</a><a href="/openapi.json">OpenAPI</a><a href="/metrics">metrics</a>
<span class="quiet">version ${version}</span></nav>
${draining ? html`<p class="tag warning">This instance is shutting down: it takes no new work.</p>` : ''}
<h2>Running and queued</h2>
${Array.isArray(jobs) ? jobTable(jobs) : trouble(jobs)}
<h2>Machines</h2>
${'vms' in status ? vmTable(status) : trouble(status)}
${'days' in forecast ? forecastChart(forecast, bytesText) : trouble(forecast)}`;
}

/** The worst first; within one verdict as the service sorts them. */
const ORDER: readonly Verdict[] = ['critical', 'warning', 'ok'];

function vmTable(report: StatusReport): Html {
  const sorted = report.vms.toSorted((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const names = sorted.map(({ vm }) => vm.name);
  const twice = new Set(names.filter((name, at) => names.indexOf(name) !== at));
  const rows = sorted.slice(0, MAX_ROWS).map(
    (
      row,
    ) => html`<tr><td>${machine(row.vm, twice)}</td><td class="wide">${row.vm.pool}</td><td>${tag(row.status)}</td>
<td class="n">${row.age_seconds === undefined ? 'never' : `${ageText(row.age_seconds)} ago`}</td>
<td class="wide">${row.last_backup_at === undefined ? '' : time(row.last_backup_at)}</td><td class="${row.status === 'ok' ? 'wide' : ''}">${row.reason}</td></tr>`,
  );
  const good = report.vms.filter(({ status }) => status === 'ok').length;
  const left = report.vms.length - rows.length;
  return html`${report.unreachable_pools.map(
    (pool) =>
      html`<p class="tag critical">Pool ${pool} does not answer: its machines are known from the bucket only.</p>`,
  )}
${(report.unreadable_records ?? []).map(
  ({ key, detail }) =>
    html`<p class="tag warning">A record cannot be read, <code>${key}</code>: ${detail}</p>`,
)}
${(report.gone_at_risk ?? []).map(
  ({ vm, status, reason }) =>
    html`<p><span class="tag ${status}">${status}</span> ${vm.name}, on no pool any more: ${reason}</p>`,
)}
<p>${good} of ${report.vms.length} backed up as they should be.</p>
<table><thead><tr><th>machine</th><th class="wide">pool</th><th>status</th><th class="n">last good backup</th><th class="wide">at</th><th>reason</th></tr></thead>
<tbody>${rows}</tbody></table>
<p class="quiet">${left > 0 ? `${left} more are not shown. ` : ''}Overdue after ${ageText(report.max_age_seconds)}. Looked at ${time(report.checked_at)}.</p>`;
}

function jobTable(jobs: Job[]): Html {
  if (jobs.length === 0) return html`<p class="quiet">Nothing.</p>`;
  const rows = jobs.map(jobView).map(
    (
      job,
    ) => html`<tr><td>${job.vm.name || job.vm.uuid}</td><td>${job.status}, ${job.waiting_because ?? job.phase}</td>
<td><progress max="100" value="${job.progress.percent ?? 0}"></progress></td>
<td class="n">${bytesText(job.progress.read_bytes)}</td><td class="n">${bytesText(job.progress.sent_bytes)}</td>
<td class="wide">${job.triggered_by}</td><td class="wide"><code>${job.id}</code></td></tr>`,
  );
  return html`<table><thead><tr><th>machine</th><th>job</th><th></th><th class="n">read</th><th class="n">sent</th><th class="wide">by</th><th class="wide">id</th></tr></thead>
<tbody>${rows}</tbody></table>`;
}

function trouble(error: BackupError): Html {
  return html`<p><span class="tag critical">${error.code}</span> ${error.message}</p>`;
}

/** Its name; a nameless one, and one of several with a name, has its uuid. */
function machine(vm: { uuid: string; name: string }, twice: ReadonlySet<string>): Html {
  const shown = vm.name !== '' && !twice.has(vm.name);
  return html`<span title="${vm.uuid}">${vm.name}</span>${shown ? '' : html` <code class="quiet">${vm.uuid}</code>`}`;
}

/** 2026-11-23T08:08:51.193Z → 2026-11-23 08:08:51 UTC. */
function time(text: string): Html {
  const shown = text.replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');
  return html`<time datetime="${text}">${shown}</time>`;
}

function tag(verdict: string): Html {
  return html`<span class="tag ${verdict}">${verdict}</span>`;
}

/** 93600 → 26 h. */
export function ageText(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}
