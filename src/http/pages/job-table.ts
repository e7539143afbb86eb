/** Jobs as rows: those that run or wait, with their pace, and those of a machine that are over. */
import { html } from 'hono/html';
import type { Job } from '../../catalog/record.ts';
import type { Html } from '../page.ts';
import { jobView } from '../views.ts';
import { paceOf } from './pace.ts';
import { bytesText, durationText, jobPath, nameOf, tag, time, vmPath } from './words.ts';

/** What is looked for, of those that run and of those that wait, and shown in all. */
export const MAX_ACTIVE = 100;

/** What runs and waits now, the running first. */
export function activeJobs(jobs: readonly Job[]): Html {
  if (jobs.length === 0) return html`<p class="quiet">Nothing.</p>`;
  const waiting = jobs.filter(({ status }) => status === 'queued').length;
  const orMore = waiting >= MAX_ACTIVE ? ' or more' : '';
  const hidden = jobs.length > MAX_ACTIVE ? ` The first ${MAX_ACTIVE} are shown.` : '';
  return html`<p>${jobs.length - waiting} at work, ${waiting}${orMore} waiting.${hidden}</p><table><thead><tr><th scope="col">machine</th><th scope="col">job</th><th scope="col">progress</th><th scope="col" class="n">read</th><th scope="col" class="n">sent</th><th scope="col" class="n">rate</th><th scope="col" class="n">time left</th><th scope="col" class="wide">by</th></tr></thead>
<tbody>${jobs.slice(0, MAX_ACTIVE).map(activeRow)}</tbody></table>`;
}

function activeRow(job: Job): Html {
  const { progress, vm, kind, phase, status, waiting_because } = jobView(job);
  const isWaiting = status === 'queued';
  const pace = paceOf(job);
  const rate = pace && `${bytesText(pace.bytesPerSecond)}/s`;
  const left = pace?.secondsLeft === undefined ? undefined : durationText(pace.secondsLeft);
  return html`<tr><td><a href="${vmPath(vm)}">${nameOf(vm)}</a></td>
<td><a href="${jobPath(job.id)}">${kindText(kind)}</a>, ${isWaiting ? (waiting_because ?? 'queued') : phase}</td>
<td>${isWaiting ? '' : progressBar(progress.percent, vm.name)}</td>
<td class="n" data-l="read">${isWaiting ? '' : bytesText(progress.read_bytes)}</td><td class="n" data-l="sent">${isWaiting ? '' : bytesText(progress.sent_bytes)}</td>
<td class="n" data-l="rate">${rate ?? ''}</td><td class="n" data-l="time left">${left === undefined ? '' : `at most ${left}`}</td><td class="wide">${job.triggered_by}</td></tr>`;
}

/** With the figure in words; none is a bar that does not know. */
export function progressBar(percent: number | undefined, name: string): Html {
  if (percent === undefined) return html`<span class="quiet">not known yet</span>`;
  return html`<progress max="100" value="${percent}" aria-label="progress of ${name}"></progress> ${Math.floor(percent)} %`;
}

/** What happened lately, newest first. */
export function pastJobs(jobs: readonly Job[]): Html {
  if (jobs.length === 0) return html`<p class="quiet">None that is still kept.</p>`;
  const rows = jobs.map(
    (job) => html`<tr><td><a href="${jobPath(job.id)}">${time(job.created_at)}</a></td>
<td>${kindText(job.kind)}${job.request.dry_run ? ', dry run' : ''}</td><td>${tag(job.status)}</td>
<td class="n" data-l="took">${lastedText(job)}</td><td class="wide">${job.triggered_by}</td><td class="all">${job.error?.detail ?? ''}</td></tr>`,
  );
  return html`<table><thead><tr><th scope="col">begun</th><th scope="col">job</th><th scope="col">state</th><th scope="col" class="n">took</th><th scope="col" class="wide">by</th><th scope="col">what went wrong</th></tr></thead>
<tbody>${rows}</tbody></table>`;
}

/** restore_test → restore test. */
export function kindText(kind: Job['kind']): string {
  return kind.replaceAll('_', ' ');
}

/** From its beginning to its end. */
export function lastedText({ started_at, finished_at }: Job): string {
  if (started_at === undefined || finished_at === undefined) return '';
  return durationText((Date.parse(finished_at) - Date.parse(started_at)) / 1000);
}
