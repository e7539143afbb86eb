/**
 * What people read of machines, backups, jobs and runs: aligned text for terminals and chat.
 *
 * The commands print these tables, and the API answers with them where a caller asks for text/plain, so that both say the same.
 * Names are foreign text: control characters and marks of direction are taken out. Nothing here is parsed again.
 */
import { runHeadline } from '../backup/runs-report.ts';
import type { StatusReport, Verdict, VmView } from '../backup/service.ts';
import type { Backup } from '../catalog/record.ts';
import type { Run } from '../catalog/run.ts';
import type { UnreadableRecord } from '../catalog/unreadable.ts';
import type { Verification } from '../catalog/verified.ts';
import {
  count,
  formatAgo,
  formatBytes,
  formatShare,
  formatTable,
  plain,
} from '../commands/format.ts';
import { detailLines, endText, progressText } from '../commands/progress.ts';
import type { Answer, Call } from './route.ts';
import { textAnswer } from './route.ts';
import type { BackupView, JobView } from './views.ts';

/** Said in the description of every route that has it. */
export const AS_TEXT = 'With `Accept: text/plain` as aligned text.';

/** JSON unless text is named and JSON is not: curl and browsers accept anything. */
export function prefersText({ c }: Pick<Call, 'c'>): boolean {
  const accept = c.req.header('accept') ?? '';
  return /\btext\/plain\b/i.test(accept) && !/\bapplication\/json\b/i.test(accept);
}

/** Lines as an answer. */
export function linesAnswer(lines: readonly string[], status = 200): Answer {
  return textAnswer(status, 'text/plain; charset=utf-8', `${lines.join('\n')}\n`);
}

/** Colours a word of a table, where the reader has colours. */
export type Style = (verdict: Verdict) => string;
const noStyle: Style = (verdict) => verdict;

const nameOf = (vm: { name: string; uuid: string }) => plain(vm.name) || vm.uuid;

interface Row {
  vm: { name: string; uuid: string };
}

/** In a list a name that several machines carry does not say which: these do not. */
export function sharedNames(rows: readonly Row[]): ReadonlySet<string> {
  const uuids = new Map<string, string>();
  const shared = new Set<string>();
  for (const { vm } of rows) {
    const known = uuids.get(vm.name) ?? vm.uuid;
    if (known !== vm.uuid && vm.name !== '') shared.add(vm.name);
    uuids.set(vm.name, known);
  }
  return shared;
}

function namesIn(rows: readonly Row[]) {
  const shared = sharedNames(rows);
  return (vm: Row['vm']) => (shared.has(vm.name) ? `${nameOf(vm)} ${vm.uuid}` : nameOf(vm));
}

const STATUS_COLUMNS = ['STATUS', 'MACHINE', 'POOL', 'LAST GOOD', 'DELETED ON', 'WHY'].map(
  (title) => ({ title }),
);

/** A line for each machine, the worst first as the report has them. */
export function statusTable(
  { vms }: StatusReport,
  nowMs: number,
  style: Style = noStyle,
): string[] {
  const nameIn = namesIn(vms);
  const rows = vms.map((line) => [
    style(line.status),
    nameIn(line.vm),
    line.vm.pool,
    formatAgo(line.last_backup_at, nowMs),
    deletionText(line),
    plain(line.reason),
  ]);
  return formatTable(STATUS_COLUMNS, rows);
}

/** What a status has to say beside its machines. */
export function statusWarnings(report: StatusReport): string[] {
  const silent = report.unreachable_pools.map(
    (pool) => `pool ${plain(pool)} does not answer; its machines are known from the bucket`,
  );
  const gone = (report.gone_at_risk ?? []).map(
    ({ vm, reason }) => `${vm.pool}/${nameOf(vm)} is on no pool any more: ${plain(reason)}`,
  );
  return [...silent, ...gone, ...unreadableLines(report.unreadable_records)];
}

/** A sentence, the table, the warnings. */
export function statusText(report: StatusReport, nowMs: number): string[] {
  const { vms } = report;
  const good = vms.filter(({ status }) => status === 'ok').length;
  const head = `${report.status}: ${good} of ${count(vms.length, 'machine')} backed up and well`;
  return [
    head,
    ...(vms.length === 0 ? [] : statusTable(report, nowMs)),
    ...warned(statusWarnings(report)),
  ];
}

/** The day the bucket deletes it, or what keeps it. */
function deletionText({ expires_at: at, guard }: StatusReport['vms'][number]): string {
  if (at !== undefined) return at.slice(0, 10);
  return guard === undefined ? '–' : guard === 'safe' ? 'never' : guard;
}

const BACKUP_COLUMNS = [
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'TAKEN' },
  { title: 'SIZE', right: true },
  { title: 'SENT', right: true },
  { title: 'DISKS', right: true },
  { title: 'CLASS' },
  { title: 'MODE' },
  { title: 'VERIFIED' },
  { title: 'BACKUP' },
];

/** A line for each backup. */
export function backupTable(backups: readonly BackupView[], nowMs: number): string[] {
  const nameIn = namesIn(backups);
  const rows = backups.map((backup) => [
    nameIn(backup.vm),
    backup.vm.pool,
    formatAgo(backup.created_at, nowMs),
    sizeText(backup.archive),
    formatBytes(backup.sent_bytes),
    String(backup.disks.length),
    classText(backup),
    backup.mode,
    verifiedText(backup.verified, nowMs),
    backup.id,
  ]);
  return formatTable(BACKUP_COLUMNS, rows);
}

/** With what keeps it whatever the rules of its class delete. */
function classText({ retention, pinned }: BackupView): string {
  return pinned === undefined ? retention : `${retention}, ${pinned.kind}`;
}

/** When it was looked at last; in capitals what nobody may overlook. */
function verifiedText(verified: Verification | undefined, nowMs: number): string {
  if (verified === undefined) return '–';
  if (verified.problem?.part === 'archive') return 'DAMAGED';
  if (!verified.ok) return verified.problem?.part === 'index' ? 'index lost' : 'FAILED';
  const share = verified.kind === 'sampled' ? `${verified.percent} % ` : '';
  return `${share}${formatAgo(verified.at, nowMs)}`;
}

/** Of a compressed archive also what share of its blocks that is. */
function sizeText({ size_bytes: size, uncompressed_bytes: whole }: Backup['archive']): string {
  return whole === undefined
    ? formatBytes(size)
    : `${formatBytes(size)} (${formatShare(size, whole)})`;
}

const JOB_COLUMNS = ['JOB', 'MACHINE', 'POOL', 'STARTED', 'STATUS', 'WHAT'].map((title) => ({
  title,
}));

/** A line for each job. */
export function jobTable(jobs: readonly JobView[], nowMs: number): string[] {
  const nameIn = namesIn(jobs);
  const rows = jobs.map((job) => [
    job.id,
    nameIn(job.vm),
    job.vm.pool,
    formatAgo(job.started_at ?? job.created_at, nowMs),
    job.status,
    job.status === 'running' ? progressText(job, undefined) : plain(job.error?.code ?? ''),
  ]);
  return formatTable(JOB_COLUMNS, rows);
}

/** One job: what it is at, or how it ended and what to do. */
export function jobText(job: JobView): string[] {
  const isOver = job.finished_at !== undefined;
  const now = `${nameOf(job.vm)}: ${job.status}, ${progressText(job, undefined)}`;
  const percent = job.progress.percent === undefined ? '' : `, ${job.progress.percent} %`;
  return [
    isOver ? `${job.status}: ${endText(job)}` : `${now}${percent}`,
    ...(isOver ? detailLines(job) : []),
    ...(job.error === undefined ? [] : [`what to do: ${plain(job.error.title)}`]),
    `job ${job.id}`,
  ];
}

const RUN_COLUMNS = ['RUN', 'STARTED', 'STATUS', 'BY', 'WHAT'].map((title) => ({ title }));

/** A line for each run. */
export function runTable(runs: readonly Run[], nowMs: number): string[] {
  const rows = runs.map((run) => [
    run.id,
    formatAgo(run.created_at, nowMs),
    run.status,
    plain(run.triggered_by),
    runHeadline(run),
  ]);
  return formatTable(RUN_COLUMNS, rows);
}

const VM_COLUMNS = [
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'STATE' },
  { title: 'LAST GOOD' },
  { title: 'SIZE', right: true },
  { title: 'NOW' },
  { title: 'UUID' },
];

/** A line for each machine of the pools. */
export function vmTable(vms: readonly VmView[], nowMs: number): string[] {
  const rows = vms.map((vm) => [
    nameOf(vm),
    vm.pool,
    vm.power_state.toLowerCase(),
    formatAgo(vm.last_backup?.created_at, nowMs),
    vm.last_backup === undefined ? '–' : formatBytes(vm.last_backup.size_bytes),
    vm.running_job_id === undefined ? plain(vm.skipped_because ?? '') : 'being backed up',
    vm.uuid,
  ]);
  return formatTable(VM_COLUMNS, rows);
}

/** A page of a list: its table, what was left out, where it goes on. */
export function listText({
  noun,
  table,
  rows,
  unreadable,
  nextPageToken,
}: {
  noun: string;
  rows: number;
  table: readonly string[];
  unreadable?: readonly UnreadableRecord[] | undefined;
  nextPageToken?: string | undefined;
}): string[] {
  return [
    ...(rows === 0 ? [`no ${noun}`] : table),
    ...warned(unreadableLines(unreadable)),
    ...(nextPageToken ? [`there are more: page_token=${nextPageToken}`] : []),
  ];
}

function unreadableLines(records: readonly UnreadableRecord[] = []): string[] {
  return records.map(({ key, detail }) => `${plain(key)}: ${plain(detail)}`);
}

function warned(lines: readonly string[]): string[] {
  return lines.map((line) => `warning: ${line}`);
}
