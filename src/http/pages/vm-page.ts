/** The page of a machine: its backups, their sizes, when each is deleted, and the commands that bring one back. */
import { html } from 'hono/html';
import type { ListedBackup, StatusReport } from '../../backup/service.ts';
import type { Job } from '../../catalog/record.ts';
import { BackupError } from '../../errors.ts';
import type { Html } from '../page.ts';
import { activeJobs, pastJobs } from './job-table.ts';
import { isRun, runBar } from './run-bar.ts';
import { sizeChart } from './size-chart.ts';
import {
  ageText,
  amountText,
  bytesText,
  command,
  count,
  day,
  facts,
  jobPath,
  nameOf,
  tag,
  time,
  trouble,
} from './words.ts';

/** Jobs below the backups. */
const SHOWN_JOBS = 10;
/** Deletions to come in a list; the table has all. */
const SHOWN_ENDS = 5;

export interface VmPageInput {
  vm: { uuid: string; name: string; pool: string };
  /** Absent: it is on no pool any more. An error: nobody could say. */
  row: StatusReport['vms'][number] | BackupError | undefined;
  /** Newest first. */
  backups: ListedBackup[] | BackupError;
  hasMore: boolean;
  jobs: Job[] | BackupError;
  /** Of this service, for commands. */
  origin: string;
}

/** Sections by id. */
export function vmSections(input: VmPageInput): Record<string, Html> {
  const { backups, jobs } = input;
  const ended = (job: Job) => job.finished_at !== undefined;
  return {
    head: standing(input),
    jobs: html`${
      Array.isArray(jobs)
        ? html`${jobs.every(ended) ? '' : html`<h2>Running and queued</h2>${activeJobs(jobs.filter((job) => !ended(job)))}`}
<h2>Last runs</h2>${runBar(jobs.filter(isRun))}${pastJobs(jobs.filter(ended).slice(0, SHOWN_JOBS))}`
        : trouble(jobs)
    }`,
    backups: Array.isArray(backups) ? stored(backups, input) : trouble(backups),
  };
}

function stored(backups: readonly ListedBackup[], { vm, origin, hasMore }: VmPageInput): Html {
  if (backups.length === 0) return html`<h2>Backups</h2><p class="quiet">None yet.</p>`;
  return html`${bringBack(backups, origin)}
<h2>Size and what was sent</h2>${sizeChart(backups)}${spent(backups)}
<h2>What is deleted when</h2>${ends(backups)}
<h2>Backups</h2>${backupTable(backups)}${hasMore ? html`<p class="quiet">Older ones: <code>xvault list ${vm.uuid}</code></p>` : ''}`;
}

const GUARD_WORDS: Record<NonNullable<StatusReport['vms'][number]['guard']>, string | undefined> = {
  none: undefined,
  safe: 'the rules of the bucket let it lie',
  renewed: 'a copy out of rotation, made in time',
  pinned: 'a pin',
  due: 'nothing yet: it is about to be copied',
  released: 'nothing: it was released',
};

function standing({ vm, row: known }: VmPageInput): Html {
  const row = known instanceof BackupError ? undefined : known;
  const gone = 'On no pool any more, or its pool does not answer: known from the bucket.';
  const how = known instanceof BackupError ? trouble(known) : html`<p>${row?.reason ?? gone}</p>`;
  const about = facts([
    ['pool', vm.pool],
    ['uuid', html`<code>${vm.uuid}</code>`],
    [
      'last good backup',
      row?.age_seconds === undefined ? undefined : `${ageText(row.age_seconds)} ago`,
    ],
    ['it is deleted on', row?.expires_at && day(row.expires_at)],
    ['what keeps it', row?.guard && GUARD_WORDS[row.guard]],
    ['verified', row?.verified && verifiedText(row.verified)],
  ]);
  return html`<h1>${nameOf(vm)} ${row ? tag(row.status) : ''}</h1>
${how}${about}`;
}

/** Of the newest backup that is not known to be damaged. */
function bringBack(backups: readonly ListedBackup[], origin: string): Html {
  const best = backups.find(({ verified }) => verified?.problem?.part !== 'archive');
  if (best === undefined) return html`<p class="quiet">No backup that is not damaged.</p>`;
  return html`<h2>Bring it back</h2>${commands(best, origin)}`;
}

function commands(backup: ListedBackup, origin: string): Html {
  const { id } = backup;
  return html`<p>A new, halted machine out of the backup of ${time(backup.created_at)}; first what would happen:</p>
${command(`xvault restore ${id} --dry-run`)}${command(`xvault restore ${id}`)}
<p>Its archive as a file, checked while it comes, or as it lies in the bucket (<a href="/v1/backups/${id}/xva">here</a>):</p>
${command(`xvault restore ${id} --to ${fileName(backup)}`)}
${command(`curl -fL -OJ -H "Authorization: Bearer $TOKEN" "${origin}/v1/backups/${id}/xva"`)}`;
}

/** As in the bucket, if it is one plain word: a name of a machine must not become part of a command. */
function fileName({ archive: { key } }: ListedBackup): string {
  const name = key.slice(key.lastIndexOf('/') + 1);
  return /^\w[\w.-]{0,120}$/.test(name) ? name : 'machine.xva';
}

function spent(backups: readonly ListedBackup[]): Html {
  const costs = backups.flatMap(({ estimated_cost: cost }) => (cost ? [cost] : []));
  const [first] = costs;
  const sent = backups.reduce((sum, { sent_bytes }) => sum + sent_bytes, 0);
  const stored = backups.reduce((sum, { archive }) => sum + archive.size_bytes, 0);
  const amount = costs.reduce((sum, cost) => sum + cost.amount, 0);
  const cost = first && amountText({ amount, currency: first.currency });
  return html`<p>${count(backups.length, 'backup')}: ${bytesText(stored)} held, ${bytesText(sent)} sent${
    cost ? `, about ${cost} for requests and transfer` : ''
  }.</p>`;
}

/** The next first; what no rule deletes is said, too. */
function ends(backups: readonly ListedBackup[]): Html {
  const ending = backups
    .filter(({ expires_at }) => expires_at !== undefined)
    .toSorted((a, b) => ((a.expires_at ?? '') < (b.expires_at ?? '') ? -1 : 1));
  const stay = backups.length - ending.length;
  const rows = ending
    .slice(0, SHOWN_ENDS)
    .map(
      ({ expires_at = '', created_at, expires_by }) =>
        html`<li>${day(expires_at)}: the backup of ${time(created_at)}${expires_by ? html`, by <code>${expires_by}</code>` : ''}</li>`,
    );
  return html`${rows.length > 0 ? html`<ul>${rows}</ul>` : ''}
<p class="quiet">${ending.length > SHOWN_ENDS ? `${ending.length - SHOWN_ENDS} more later. ` : ''}${stay > 0 ? `No rule that is known deletes ${stay === backups.length ? 'any of them' : stay}.` : ''}</p>`;
}

function backupTable(backups: readonly ListedBackup[]): Html {
  const rows = backups.map(
    (
      backup,
    ) => html`<tr><td>${time(backup.created_at)}<br><code class="quiet wide">${backup.id}</code></td>
<td class="wide">${backup.retention}</td><td>${backup.mode}${backup.pinned ? ', pinned' : ''}</td>
<td class="n" data-l="size">${bytesText(backup.archive.size_bytes)}</td><td class="n" data-l="sent">${bytesText(backup.sent_bytes)}</td>
<td data-l="verified">${backup.verified ? verifiedText(backup.verified) : 'not yet'}</td>
<td data-l="deleted on">${backup.expires_at === undefined ? '' : day(backup.expires_at)}</td>
<td><details><summary>restore</summary>${command(`xvault restore ${backup.id}`)}<a href="/v1/backups/${backup.id}/xva">archive</a>
<a href="${jobPath(backup.job_id)}">job</a></details></td></tr>`,
  );
  return html`<table><thead><tr><th scope="col">made at</th><th scope="col" class="wide">class</th><th scope="col">mode</th><th scope="col" class="n">size</th><th scope="col" class="n">sent</th><th scope="col">verified</th><th scope="col">deleted on</th><th scope="col">bring back</th></tr></thead>
<tbody>${rows}</tbody></table>`;
}

function verifiedText({ ok, kind, at, problem }: NonNullable<ListedBackup['verified']>): Html {
  return ok ? html`${kind}, ${day(at)}` : html`${tag('critical')} ${problem?.detail ?? kind}`;
}
