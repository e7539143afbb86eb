/**
 * A run in words: what was backed up, what was left out and why, sizes, times, what failed and the mend.
 *
 * One text for terminals, chat (`Accept: text/plain`) and mail; the notice is made of the same parts. Pure. Names of machines
 * are foreign text: control characters are taken out.
 */
import { countsOf, isRunEnded, type Run, type RunMachine } from '../catalog/run.ts';
import {
  count,
  formatBytes,
  formatSeconds,
  formatTable,
  plain,
  truncate,
} from '../commands/format.ts';
import type { Notice } from '../notices.ts';
import { parseTime } from '../time.ts';

/** In the data for programs; the rest is behind the link. */
const LISTED = 50;

/** Of a kind, in a message; a run of hundreds may have one each. All are in the report. */
const REMARKS = 20;
/** In one sentence; all are in the table. */
const NAMED = 6;
const NAME_WIDTH = 60;

const COLUMNS = [
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'STATUS' },
  { title: 'SIZE', right: true },
  { title: 'SENT', right: true },
  { title: 'TOOK', right: true },
  { title: 'WHAT' },
];

/** One sentence: `41 of 43 machines backed up, 1 failed, 1 not started in time, 3 left out`. */
export function runHeadline(run: Run): string {
  const counts = countsOf(run);
  const some = (number: number, what: string) => (number === 0 ? [] : [`${number} ${what}`]);
  if (run.request.dry_run) {
    const left = some(counts.skipped, 'left out');
    return [`${count(counts.selected, 'machine')} would be backed up`, ...left].join(', ');
  }
  return [
    `${counts.succeeded} of ${count(counts.selected, 'machine')} backed up`,
    ...some(counts.running, 'running'),
    ...some(counts.waiting, 'waiting'),
    ...some(counts.failed, 'failed'),
    ...some(counts.cancelled, 'cancelled'),
    ...some(counts.not_started, 'not started in time'),
    ...some(counts.skipped, 'left out'),
    ...some(run.problems.length, run.problems.length === 1 ? 'problem' : 'problems'),
  ].join(', ');
}

/** Seconds since it began, to its end, or else to `nowMs` or its last change. */
export function tookSeconds(run: Run, nowMs = parseTime(run.updated_at)): number {
  const endMs = run.finished_at === undefined ? nowMs : parseTime(run.finished_at);
  return Math.max(0, (endMs - parseTime(run.created_at)) / 1000);
}

/** Of its requests, a sum a currency; [] where nothing is known of it. */
export function costsOf({
  machines,
}: Pick<Run, 'machines'>): { amount: number; currency: string }[] {
  const costs = machines.flatMap(({ made }) => made?.estimated_cost ?? []);
  return [...Map.groupBy(costs, ({ currency }) => currency)].map(([currency, all]) => ({
    currency,
    amount: all.reduce((sum, { amount }) => sum + amount, 0),
  }));
}

/** Two figures that count: most are fractions of a cent. '' where nothing is known. */
function costsText(run: Run): string {
  const texts = costsOf(run).map(
    ({ amount, currency }) => `${Number(amount.toPrecision(2))} ${currency}`,
  );
  return texts.join(' + ');
}

function sumOf(run: Run, field: 'size_bytes' | 'sent_bytes'): number {
  return run.machines.reduce((sum, { made }) => sum + (made?.[field] ?? 0), 0);
}

function nameOf({ name, uuid }: RunMachine['vm']): string {
  return plain(name) || uuid;
}

function rowOf(machine: RunMachine): string[] {
  const { vm, status, made, error, virtual_size_bytes: size } = machine;
  const plan = size === undefined ? '' : `disks of ${formatBytes(size)}`;
  const what = error?.detail ?? machine.waiting_because ?? made?.mode ?? plan;
  return [
    nameOf(vm),
    vm.pool,
    status.replace('_', ' '),
    made === undefined ? '–' : formatBytes(made.size_bytes),
    made === undefined ? '–' : formatBytes(made.sent_bytes),
    made === undefined ? '–' : formatSeconds(made.duration_seconds),
    plain(what),
  ];
}

/** The mends, each once, with the machines they are for. */
function mendsOf({ machines }: Run): string[] {
  const byMend = new Map<string, string[]>();
  for (const { vm, error } of machines) {
    if (error === undefined) continue;
    const names = byMend.get(error.title) ?? [];
    byMend.set(error.title, [...names, nameOf(vm)]);
  }
  return [...byMend].map(([mend, names]) => `${namesOf(names)}: ${mend}`);
}

function namesOf(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  const named = names.slice(0, NAMED).map((name) => truncate(name, NAME_WIDTH));
  return `${named.join(', ')}${more}`;
}

function remarksOf({ machines }: Run): string[] {
  return machines.flatMap(({ vm, left_out: out, warnings }) =>
    [...out.map((text) => `left out: ${text}`), ...warnings].map(
      (text) => `${nameOf(vm)}: ${plain(text)}`,
    ),
  );
}

/** The whole report as lines of text. */
export function runReport(run: Run): string {
  const section = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `  ${line}`)];
  const state = run.request.dry_run ? 'dry run' : run.status;
  const { machines, skipped, problems, notes } = run;
  const cost = costsText(run);
  const total = `${formatBytes(sumOf(run, 'size_bytes'))}, ${formatBytes(sumOf(run, 'sent_bytes'))} sent${cost && `, requests for ${cost}`}`;
  const began = `begun ${run.created_at} by ${plain(run.triggered_by)}, nothing begins after ${run.deadline_at}`;
  const lines = [
    `${state}: ${runHeadline(run)}`,
    ...(run.request.dry_run
      ? []
      : [`run ${run.id}`, began, `${total}, ${formatSeconds(tookSeconds(run))}`]),
    ...(machines.length === 0 ? [] : ['', ...formatTable(COLUMNS, machines.map(rowOf))]),
    ...section('what to do', mendsOf(run)),
    ...section(
      'problems',
      problems.map(({ detail }) => plain(detail)),
    ),
    ...section(
      'machines left out',
      skipped.map(({ vm, reason }) => `${nameOf(vm)} (${vm.pool}): ${plain(reason)}`),
    ),
    ...section('disks and warnings', remarksOf(run)),
    ...section('notes', notes.map(plain)),
  ];
  return `${lines.join('\n')}\n`;
}

/** Where there is room for some rows only, these are they. */
function worstFirst(machines: readonly RunMachine[]): RunMachine[] {
  const isGood = ({ status }: RunMachine) => Number(status === 'succeeded');
  return machines.toSorted((a, b) => isGood(a) - isGood(b));
}

/** Of all others `error`: a part is no success, some machine has no backup of tonight. */
const SEVERITY = { succeeded: 'success', cancelled: 'warning' } as const;

function factsOf(name: string, values: readonly string[]): Notice['facts'] {
  const more = values.length - REMARKS;
  const told = [...values.slice(0, REMARKS), ...(more > 0 ? [`and ${more} more`] : [])];
  return told.map((value) => ({ name, value }));
}

/** What is told of a run that ended; undefined of one that goes on. */
export function runNotice(run: Run): Notice | undefined {
  if (!isRunEnded(run) || run.finished_at === undefined) return undefined;
  const problems = run.problems.map(({ detail, title }) => `${plain(detail)}: ${title}`);
  const [first, ...others] = [...mendsOf(run), ...problems];
  const more = others.length === 0 ? '' : ` (and ${count(others.length, 'more thing')} to do)`;
  return {
    id: `evt_run_${run.id}`,
    event: 'run.finished',
    at: run.finished_at,
    severity: SEVERITY[run.status as keyof typeof SEVERITY] ?? 'error',
    what: `Run ${run.status}: ${runHeadline(run)}.`,
    todo: first === undefined ? 'Nothing to do.' : `${first}${more}`,
    facts: [
      { name: 'Run', value: run.id },
      { name: 'Asked for by', value: plain(run.triggered_by) },
      { name: 'Took', value: formatSeconds(tookSeconds(run)) },
      { name: 'Size', value: formatBytes(sumOf(run, 'size_bytes')) },
      { name: 'Sent', value: formatBytes(sumOf(run, 'sent_bytes')) },
      ...(costsOf(run).length === 0 ? [] : [{ name: 'Requests', value: costsText(run) }]),
      ...factsOf('To do', others),
      ...factsOf('Remark', [...remarksOf(run), ...run.notes.map(plain)]),
    ],
    table: {
      columns: ['Machine', 'Pool', 'Status', 'Size', 'Sent', 'Took', 'What'],
      rows: [
        ...worstFirst(run.machines).map(rowOf),
        ...run.skipped.map(({ vm, reason }) => [
          ...[nameOf(vm), vm.pool, 'left out', '–', '–', '–'],
          plain(reason),
        ]),
      ],
    },
    about: run.id,
    data: {
      run_id: run.id,
      status: run.status,
      counts: countsOf(run),
      size_bytes: sumOf(run, 'size_bytes'),
      sent_bytes: sumOf(run, 'sent_bytes'),
      duration_seconds: tookSeconds(run),
      not_succeeded: run.machines
        .filter(({ status }) => status !== 'succeeded')
        .slice(0, LISTED)
        .map(({ vm, status, job_id, error }) => ({
          vm: { ...vm, name: vm.name.slice(0, 100) },
          status,
          ...(job_id === undefined ? {} : { job_id }),
          ...(error === undefined ? {} : { error_code: error.code }),
        })),
    },
  };
}
