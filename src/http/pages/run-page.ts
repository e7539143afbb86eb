/**
 * The pages of runs: the list, and one run with every machine: what became of it, what was left out and why, what failed and
 * what mends it, what it sent and cost.
 */
import { html } from 'hono/html';
import { costsOf, runHeadline, tookSeconds } from '../../backup/runs-report.ts';
import { isRunEnded, type Run, type RunMachine } from '../../catalog/run.ts';
import type { BackupError } from '../../errors.ts';
import type { Html } from '../page.ts';
import {
  amountText,
  bytesText,
  count,
  durationText,
  facts,
  jobPath,
  nameOf,
  runPath,
  tag,
  time,
  trouble,
  vmPath,
} from './words.ts';

/** More rows than these belong into the report as text. */
const MAX_ROWS = 1000;
/** Of a kind, above the table. */
const NAMED = 5;

/** Who looks for what is wrong finds it first. */
const ORDER: readonly RunMachine['status'][] = [
  'failed',
  'not_started',
  'cancelled',
  'running',
  'waiting',
  'succeeded',
];

/** Sections by id. `nowMs`: the end of a run that goes on. */
export function runSections(run: Run, nowMs: number): Record<string, Html> {
  return {
    head: html`<h1>Run of ${count(run.machines.length, 'machine')} ${tag(run.status)}</h1>
<p>${runHeadline(run)}.</p>${run.cancel_requested && !isRunEnded(run) ? html`<p>Asked to stop.</p>` : ''}${wrong(run)}`,
    sums: sums(run, nowMs),
    machines: html`<h2>Machines</h2>${machineTable(run)}`,
    skipped: skipped(run),
    facts: html`<h2>About it</h2>${facts([
      ['asked for by', run.triggered_by],
      ['asked for at', time(run.created_at)],
      ['ended at', run.finished_at && time(run.finished_at)],
      ['nothing begins after', time(run.deadline_at)],
      ['which machines', selectionText(run)],
      ['class', run.request.retention],
      ['instance', run.instance],
      ['id', html`<code>${run.id}</code>`],
    ])}
<p><a href="/v1/runs/${run.id}">The record as JSON</a></p>`,
  };
}

/** What failed, each reason once with its machines and its mend; and what the selection lacks. */
function wrong({ machines, problems }: Run): Html {
  const failed = machines.filter(({ error }) => error !== undefined);
  const byMend = Map.groupBy(failed, ({ error }) => error?.title ?? '');
  const told = [...byMend].map(([mend, some]) => {
    const named = some
      .slice(0, NAMED)
      .map(
        ({ vm, error }, i) =>
          html`${i > 0 ? html`<br>` : ''}<a href="${vmPath(vm)}">${nameOf(vm)}</a>: ${error?.detail}`,
      );
    const more = some.length > NAMED ? html`<br>and ${some.length - NAMED} more, below` : '';
    return html`<p class="wrong">${named}${more}</p><p>${mend}</p>`;
  });
  const others = problems.map(
    ({ detail, title }) => html`<p class="wrong">${detail}</p><p>${title}</p>`,
  );
  return html`${told}${others}`;
}

function sums(run: Run, nowMs: number): Html {
  const made = run.machines.flatMap((machine) => machine.made ?? []);
  const sum = (field: 'size_bytes' | 'sent_bytes' | 'copied_bytes') =>
    made.reduce((all, one) => all + one[field], 0);
  const copied = sum('copied_bytes');
  return html`${facts([
    ['archives', made.length === 0 ? undefined : bytesText(sum('size_bytes'))],
    ['sent', bytesText(sum('sent_bytes'))],
    ['copied in the bucket', copied > 0 ? bytesText(copied) : undefined],
    ['cost of the requests', costsOf(run).map(amountText).join(' + ')],
    [isRunEnded(run) ? 'took' : 'for', durationText(tookSeconds(run, nowMs))],
  ])}`;
}

function machineTable({ machines }: Run): Html {
  if (machines.length === 0) return html`<p class="quiet">None.</p>`;
  const sorted = machines.toSorted((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const left = sorted.length - MAX_ROWS;
  return html`<table><thead><tr><th scope="col">machine</th><th scope="col" class="wide">pool</th><th scope="col">state</th><th scope="col" class="n">size</th><th scope="col" class="n">sent</th><th scope="col" class="n">took</th><th scope="col">what</th></tr></thead>
<tbody>${sorted.slice(0, MAX_ROWS).map(machineRow)}</tbody></table>${left > 0 ? html`<p class="quiet">${left} more are not shown.</p>` : ''}`;
}

function machineRow({ vm, status, job_id: id, made, ...rest }: RunMachine): Html {
  const state = tag(status.replace('_', ' '));
  const remarks = [...rest.left_out.map((text) => `left out: ${text}`), ...rest.warnings];
  const what = [rest.error?.detail ?? rest.waiting_because ?? made?.mode ?? '', ...remarks];
  return html`<tr><td><a href="${vmPath(vm)}">${nameOf(vm)}</a></td><td class="wide">${vm.pool}</td>
<td>${id === undefined || status === 'waiting' ? state : html`<a href="${jobPath(id)}" aria-label="job of ${nameOf(vm)}">${state}</a>`}</td>
<td class="n" data-l="size">${made && bytesText(made.size_bytes)}</td><td class="n" data-l="sent">${made && bytesText(made.sent_bytes)}</td>
<td class="n" data-l="took">${made && durationText(made.duration_seconds)}</td>
<td class="all">${what.filter(Boolean).map((text, i) => html`${i > 0 ? html`<br>` : ''}${text}`)}</td></tr>`;
}

function skipped({ skipped: machines, notes }: Run): Html {
  const rows = machines
    .slice(0, MAX_ROWS)
    .map(
      ({ vm, reason }) =>
        html`<tr><td><a href="${vmPath(vm)}">${nameOf(vm)}</a></td><td class="wide">${vm.pool}</td><td class="all">${reason}</td></tr>`,
    );
  const table = html`<h2>Left out</h2><table><thead><tr><th scope="col">machine</th><th scope="col" class="wide">pool</th><th scope="col">why</th></tr></thead><tbody>${rows}</tbody></table>`;
  return html`${rows.length === 0 ? '' : table}${notes.map((note) => html`<p class="quiet">${note}</p>`)}`;
}

function selectionText({ request: { select, skip } }: Run): string {
  const { all, tags, names, pool } = select;
  const which = all ? 'all' : [...tags.map((text) => `tag ${text}`), ...names].join(', ');
  const without = skip.length === 0 ? '' : `, without ${skip.join(', ')}`;
  return `${which}${pool === undefined ? '' : ` of pool ${pool}`}${without}`;
}

/** The page at /runs. */
export function runListSections(runs: readonly Run[] | BackupError, nowMs: number) {
  const list = 'length' in runs ? runTable(runs, nowMs) : trouble(runs);
  return { head: html`<h1>Runs</h1>`, runs: list };
}

/** On the status page: what runs, and how the last one went. */
export function runsSection(runs: readonly Run[] | BackupError, nowMs: number): Html {
  if (!('length' in runs)) return html`<h2>Runs</h2>${trouble(runs)}`;
  const open = runs.filter((run) => !isRunEnded(run));
  const last = runs.find(isRunEnded);
  const shown = [...open, ...(last === undefined ? [] : [last])];
  if (shown.length === 0) return html``;
  return html`<h2>Runs</h2>${runTable(shown, nowMs)}<p><a href="/runs">All runs</a></p>`;
}

function runTable(runs: readonly Run[], nowMs: number): Html {
  if (runs.length === 0) return html`<p class="quiet">None that is still kept.</p>`;
  const rows = runs.map((run) => {
    const cost = costsOf(run).map(amountText).join(' + ');
    return html`<tr><td><a href="${runPath(run.id)}">${time(run.created_at)}</a></td><td>${tag(run.status)}</td>
<td class="all">${runHeadline(run)}</td><td class="n" data-l="${isRunEnded(run) ? 'took' : 'for'}">${durationText(tookSeconds(run, nowMs))}</td>
<td class="n" data-l="cost">${cost}</td><td class="wide">${run.triggered_by}</td></tr>`;
  });
  return html`<table><thead><tr><th scope="col">begun</th><th scope="col">state</th><th scope="col">what became of it</th><th scope="col" class="n">took</th><th scope="col" class="n">cost</th><th scope="col" class="wide">by</th></tr></thead>
<tbody>${rows}</tbody></table>`;
}
