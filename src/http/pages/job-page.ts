/** The page of a job: how far it is, where its time went, what went wrong and what mends it, what came of it. */
import { html } from 'hono/html';
import type { Job } from '../../catalog/record.ts';
import { runBehind } from '../../catalog/run.ts';
import type { Html } from '../page.ts';
import { jobView } from '../views.ts';
import { kindText, lastedText, progressBar } from './job-table.ts';
import { paceOf } from './pace.ts';
import {
  amountText,
  bytesText,
  command,
  durationText,
  facts,
  nameOf,
  runPath,
  tag,
  time,
  vmPath,
} from './words.ts';

/** Sections by id. `nowMs`: the end of the phase that still runs. */
export function jobSections(job: Job, nowMs: number): Record<string, Html> {
  const { vm } = job;
  return {
    head: html`<h1>${sentence(kindText(job.kind))} of <a href="${vmPath(vm)}">${nameOf(vm)}</a> ${tag(job.status)}</h1>${wrong(job)}`,
    progress: progress(job),
    phases: html`<h2>Phases</h2>${timeline(job, nowMs)}`,
    result: outcome(job),
    facts: html`<h2>About it</h2>${facts([
      ['asked for by', asker(job)],
      ['asked for at', time(job.created_at)],
      ['ended at', job.finished_at && time(job.finished_at)],
      ['took', lastedText(job)],
      ['attempt', job.attempt > 1 ? String(job.attempt) : undefined],
      ['pool', vm.pool],
      ['instance', job.instance],
      ['id', html`<code>${job.id}</code>`],
    ])}${told(job)}
<p><a href="/v1/jobs/${job.id}">The record as JSON</a></p>`,
  };
}

/** A job of a run leads to its run. */
function asker({ triggered_by: by }: Job): Html {
  const run = runBehind(by);
  if (run === undefined) return html`${by}`;
  return html`${run.by} (<a href="${runPath(run.runId)}">run ${run.runId}</a>)`;
}

function wrong({ error, last_error, next_attempt_at, status, waiting_because }: Job): Html {
  const problem = error ?? last_error;
  const waits =
    status === 'queued' && waiting_because ? html`<p>Waits: ${waiting_because}.</p>` : '';
  if (problem === undefined) return html`${waits}`;
  const again = next_attempt_at ? html` It is tried again at ${time(next_attempt_at)}.` : '';
  return html`${waits}<p class="wrong">${problem.detail}</p><p>${problem.title}${again} <code class="quiet">${problem.code}</code></p>`;
}

function progress(job: Job): Html {
  const { progress: view } = jobView(job);
  const pace = paceOf(job);
  const left = pace?.secondsLeft;
  const now = job.cancel_requested ? `asked to stop, ${job.phase}` : job.phase;
  const bar = html`<p>${progressBar(view.percent, job.vm.name)} <span class="quiet">${now}</span></p>`;
  return html`${job.status === 'running' ? bar : ''}${facts([
    ['read', bytesText(view.read_bytes)],
    ['sent', bytesText(view.sent_bytes)],
    ['copied in the bucket', view.copied_bytes > 0 ? bytesText(view.copied_bytes) : undefined],
    ['of at most', view.total_bytes === undefined ? undefined : bytesText(view.total_bytes)],
    ['rate', pace && `${bytesText(pace.bytesPerSecond)}/s`],
    ['time left', left === undefined ? undefined : `at most ${durationText(left)}`],
  ])}`;
}

interface Span {
  phase: string;
  attempt: number;
  fromMs: number;
  toMs: number;
}

/** Each recorded phase until the next; the last until the end, or now. */
function spansOf({ phases = [], finished_at }: Job, nowMs: number): Span[] {
  const endMs = finished_at === undefined ? nowMs : Date.parse(finished_at);
  return phases.map(({ phase, attempt, at }, i) => {
    const fromMs = Date.parse(at);
    const next = phases[i + 1]?.at;
    const toMs = next === undefined ? endMs : Date.parse(next);
    return { phase, attempt, fromMs, toMs: Math.max(fromMs, toMs) };
  });
}

const WIDTH = 600;
const BAR = 12;

/** A row a phase: when it began, how long it took, and where that lies in the whole. */
function timeline(job: Job, nowMs: number): Html {
  const spans = spansOf(job, nowMs);
  const [first] = spans;
  const last = spans.at(-1);
  if (first === undefined || last === undefined) {
    return html`<p class="quiet">${job.started_at ? 'Not kept.' : 'Not begun.'}</p>`;
  }
  const totalMs = Math.max(1, last.toMs - first.fromMs);
  const place = (ms: number) => Math.round((ms / totalMs) * WIDTH);
  const rows = spans.map(({ phase, attempt, fromMs, toMs }) => {
    const x = Math.min(WIDTH - 2, place(fromMs - first.fromMs));
    const width = Math.max(2, Math.min(WIDTH - x, place(toMs - fromMs)));
    return html`<tr><td>${phase}${attempt > 1 ? html` <span class="quiet">attempt ${attempt}</span>` : ''}</td>
<td class="n" data-l="took">${durationText((toMs - fromMs) / 1000)}</td><td class="wide">${time(new Date(fromMs).toISOString())}</td>
<td class="all"><svg width="100%" height="${BAR}" viewBox="0 0 ${WIDTH} ${BAR}" preserveAspectRatio="none" aria-hidden="true"><rect class="base" width="${WIDTH}" height="${BAR}"/><rect class="good" x="${x}" width="${width}" height="${BAR}"/></svg></td></tr>`;
  });
  return html`<table><thead><tr><th scope="col">phase</th><th scope="col" class="n">took</th><th scope="col" class="wide">began</th><th scope="col">of the whole</th></tr></thead><tbody>${rows}</tbody></table>`;
}

function outcome({ result, restored, verified, index, dry_run, backup_id }: Job): Html {
  const parts: Html[] = [];
  if (result !== undefined) {
    const { estimated_cost: cost } = result;
    parts.push(
      html`${facts([
        ['archive', bytesText(result.archive.size_bytes)],
        ['mode', `${result.mode}: ${result.mode_reason}`],
        ['sent', bytesText(result.sent_bytes)],
        ['copied in the bucket', bytesText(result.copied_bytes)],
        ['cost of the requests', cost && amountText(cost)],
        ['class', result.retention],
        ['backup', html`<code>${result.id}</code>`],
      ])}${warnings(result.warnings)}<p>Restore it:</p>${command(`xvault restore ${result.id}`)}`,
    );
  }
  if (restored !== undefined) {
    parts.push(
      html`<p>Made ${restored.vm ? html`machine ${restored.vm.name} <code>${restored.vm.uuid}</code>` : 'a disk'} on pool ${restored.pool}${restored.started ? ', started' : ''}.</p>${warnings(restored.warnings)}`,
    );
  }
  if (verified !== undefined) {
    parts.push(
      html`<p>${tag(verified.ok ? 'ok' : 'critical')} ${verified.checked_blocks} blocks checked, ${bytesText(verified.read_bytes)} read. ${verified.problem?.detail ?? ''}</p>`,
    );
  }
  if (index !== undefined) {
    parts.push(
      html`<p>The index was ${index.found}${index.written ? ' and is written anew' : ''}.</p>`,
    );
  }
  if (dry_run !== undefined) {
    parts.push(
      html`<p>It would be ${dry_run.mode} (${dry_run.mode_reason}), at most ${bytesText(dry_run.max_archive_bytes)}.</p>${warnings(dry_run.warnings)}`,
    );
  }
  if (result === undefined && backup_id !== undefined) {
    parts.push(html`<p>About backup <code>${backup_id}</code>.</p>`);
  }
  return parts.length === 0 ? html`` : html`<h2>Outcome</h2>${parts}`;
}

function warnings(texts: readonly string[]): Html {
  return html`${texts.map((text) => html`<p class="wrong">${text}</p>`)}`;
}

function told({ notifications = [] }: Job): Html {
  const failed = notifications.filter(({ ok, owed }) => !ok && !owed);
  return warnings(
    failed.map(
      ({ event, target, problem }) => `${event} was not told to ${target}: ${problem ?? ''}`,
    ),
  );
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
