/**
 * Progress of a job in words: bytes, rate, time left.
 *
 * The total is an upper bound (zeros are not exported), so the time left is "at most". The rate is that of the last
 * fifteen seconds: a mean since the start hides a line that has become slow.
 */
import type { IndexResult } from '../catalog/record.ts';
import type { Verification } from '../catalog/verified.ts';
import type { JobView } from '../http/views.ts';
import type { Clock } from '../ports.ts';
import type { Terminal } from './command.ts';
import { count, formatBytes, formatSeconds, formatShare, pad, plain } from './format.ts';
import { styler } from './help.ts';
import { createLiveLines } from './live-lines.ts';

const RATE_WINDOW_MS = 15_000;
/** Without a terminal: one line a minute says that it lives. */
const PLAIN_EVERY_MS = 60_000;
const BAR_WIDTH = 24;

const PHASES: Record<string, string> = {
  preparing: 'preparing',
  snapshotting: 'snapshot',
  exporting: 'exporting',
  finishing: 'finishing',
  cleaning: 'cleaning up',
  importing: 'importing',
  verifying: 'verifying',
};

/** Phases in which bytes go by. */
const COUNTED = ['exporting', 'importing', 'verifying'];

/** Bytes a second over the last fifteen seconds. */
export interface RateMeter {
  add(bytes: number): void;
  perSecond(): number | undefined;
}

/** Starts empty; two readings are needed for a rate. */
export function createRateMeter(clock: Pick<Clock, 'elapsed'>): RateMeter {
  let samples: { at: number; bytes: number }[] = [];
  return {
    add: (bytes) => {
      const at = clock.elapsed();
      // One sample before the window stays: a rate needs its beginning.
      const from = samples.findLastIndex((sample) => sample.at <= at - RATE_WINDOW_MS);
      samples = [...samples.slice(Math.max(0, from)), { at, bytes }];
    },
    perSecond: () => {
      const first = samples[0];
      const last = samples.at(-1);
      if (first === undefined || last === undefined || last.at - first.at < 500) return undefined;
      return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.at - first.at));
    },
  };
}

/** `[██████░░░░░░]  45 %`; the fraction may be unknown. */
export function bar(fraction: number | undefined, width = BAR_WIDTH): string {
  if (fraction === undefined) return '·'.repeat(width);
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * width * 8);
  const full = Math.floor(eighths / 8);
  const part = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8] ?? '';
  return pad('█'.repeat(full) + part, width).replaceAll(' ', '░');
}

/** What a running job is at, without its name. */
export function progressText(job: JobView, rate: number | undefined): string {
  if (job.status === 'queued') {
    const { waiting_because: why } = job;
    return why === undefined ? 'waiting' : `waiting: ${plain(why)}`;
  }
  const phase = job.cancel_requested ? 'stopping' : (PHASES[job.phase] ?? job.phase);
  if (!COUNTED.includes(job.phase)) return phase;
  const { read_bytes: read, total_bytes: total } = job.progress;
  if (read === 0) return phase;
  const parts = [`${phase}  ${formatBytes(read)}`];
  if (rate === undefined || rate === 0) return parts.join('  ');
  parts.push(`${formatBytes(rate)}/s`);
  if (total !== undefined && total > read) {
    parts.push(`at most ${formatSeconds((total - read) / rate)} left`);
  }
  return parts.join('  ');
}

/** How a job ended, in one line. */
export function endText(job: JobView): string {
  const name = plain(job.vm.name) || job.vm.uuid;
  const { result, error } = job;
  if (result !== undefined) {
    const { size_bytes: size, uncompressed_bytes: plainSize } = result.archive;
    const packed = plainSize === undefined ? '' : ` (${formatShare(size, plainSize)} by zstd)`;
    const sent = result.copied_bytes > 0 ? `, ${formatBytes(result.sent_bytes)} sent` : '';
    return `${name}: ${formatBytes(size)}${packed} in ${formatSeconds(result.duration_seconds)}${sent}, backup ${result.id}`;
  }
  if (job.verified !== undefined) return `${name}: ${verifiedText(job, job.verified)}`;
  if (job.index !== undefined) return `${name}: ${indexText(job, job.index)}`;
  if (job.kind === 'restore' && error === undefined) return `${name}: ${restoreText(job)}`;
  if (job.dry_run !== undefined) {
    const { disks, excluded_disks: excluded, estimated_bytes: estimate } = job.dry_run;
    const { mode, estimated_sent_bytes: sent } = job.dry_run;
    const packed = job.request?.compression === 'zstd' ? ' before compression' : '';
    const without = excluded.length === 0 ? '' : `, ${excluded.length} left out`;
    const less = mode === 'full' || sent === undefined ? '' : `, about ${formatBytes(sent)} sent`;
    return `${name}: would back up ${count(disks.length, 'disk')}${without}, about ${formatBytes(estimate)}${packed}${less}`;
  }
  return `${name}: ${job.status}${error === undefined ? '' : `: ${plain(error.detail)} (${error.code})`}`;
}

const FOUND: Record<IndexResult['found'], string> = {
  right: 'right',
  missing: 'missing',
  damaged: 'damaged',
  old: 'of an older version',
};

/** What an index job found and did. */
function indexText({ progress, backup_id: id }: JobView, index: IndexResult): string {
  const read = `${count(index.stored_blocks, 'block')} of backup ${id} are right (${formatBytes(progress.read_bytes)} read)`;
  const wrote = index.written ? `, a new one is at ${plain(index.key)}` : ' already';
  return `${read}; its index was ${FOUND[index.found]}${wrote}`;
}

/** What a verify job looked at; one that found fault has failed, and its problem says it. */
function verifiedText({ backup_id: id }: JobView, { percent, ...seen }: Verification): string {
  if (seen.kind === 'restored') {
    return `backup ${id} was restored, started, seen to work and removed again`;
  }
  const read = `${count(seen.checked_blocks, 'block')} checked, ${formatBytes(seen.read_bytes)} read`;
  return percent === 100
    ? `backup ${id} is what was stored (${read})`
    : `${percent} % of backup ${id} are what was stored (${read})`;
}

/** What a restore made, or would make. */
function restoreText({ restored, restore_plan: plan, status }: JobView): string {
  if (plan === undefined) return status;
  const size = formatBytes(plan.disks.reduce((sum, disk) => sum + disk.virtual_size_bytes, 0));
  const what = `${plain(plan.name)} on ${plain(plan.pool)}, ${count(plan.disks.length, 'disk')} of ${size}`;
  if (restored === undefined) return `would be restored as ${what}`;
  const uuid = restored.vm?.uuid ?? restored.disks[0]?.vdi_uuid ?? '';
  const state = restored.started ? ', started' : '';
  return `restored as ${what} in ${formatSeconds(restored.duration_seconds)}${state}: ${uuid}`;
}

/** Full or delta, why, and what that took. */
export function modeText(job: JobView): string | undefined {
  const made = job.result ?? job.dry_run;
  if (made === undefined) return undefined;
  const why = `${made.mode}: ${plain(made.mode_reason)}`;
  const { requests, estimated_cost: cost } = job.result ?? {};
  if (requests === undefined || cost === undefined) return why;
  const amount = cost.amount === 0 ? '' : `, about ${cost.amount} ${plain(cost.currency)}`;
  return `${why}; ${count(requests.total, 'request')}${amount}`;
}

/** Where a restore put things, and how. */
function restoreLines({ restore_plan: plan, status }: JobView): string[] {
  if (plan === undefined || status !== 'succeeded') return [];
  return [
    `${plan.via}: ${plain(plan.via_reason)}`,
    ...plan.disks.map((disk) => `disk ${plain(disk.userdevice)} on ${plain(disk.sr.name)}`),
    ...plan.networks.map(
      ({ device, to, because }) =>
        `interface ${plain(device)} on ${to ? plain(to.name) : 'nothing'} (${plain(because)})`,
    ),
  ];
}

function warningsOf({ result, dry_run: dryRun, restored, restore_plan: plan }: JobView): string[] {
  return (result ?? dryRun ?? restored ?? plan)?.warnings ?? [];
}

/** What a job that ended has to say beside its end: mode and cost, what was changed, warnings, what was left out. */
export function detailLines(
  job: JobView,
  style: ReturnType<typeof styler> = styler(false),
): string[] {
  const mode = modeText(job);
  const excluded = job.result?.excluded_disks ?? job.dry_run?.excluded_disks ?? [];
  return [
    ...(mode === undefined ? [] : [mode]),
    ...(job.result?.adopted?.changes ?? []).map((change) => `changed: ${plain(change)}`),
    ...restoreLines(job),
    ...warningsOf(job).map((warning) => `${style('yellow', 'warning:')} ${plain(warning)}`),
    ...excluded.map(
      ({ name, vdi_uuid: uuid, reason }) => `left out: ${plain(name) || uuid}: ${plain(reason)}`,
    ),
  ];
}

export interface ProgressView {
  update(job: JobView): void;
  end(job: JobView): void;
}

/** Shows one job on stderr: a bar on a terminal, else a line for each phase and one a minute. */
export function createProgressView(terminal: Terminal, clock: Clock): ProgressView {
  const style = styler(terminal.color);
  const rate = createRateMeter(clock);
  const lines = createLiveLines(terminal);
  let plainAt = Number.NEGATIVE_INFINITY;
  let plainPhase = '';
  const mark = (job: JobView) => {
    if (job.status === 'succeeded') return style('green', '✓');
    return job.status === 'cancelled' ? style('yellow', '–') : style('red', '✗');
  };
  return {
    update: (job) => {
      rate.add(job.progress.read_bytes);
      const text = progressText(job, rate.perSecond());
      if (terminal.errIsTty) {
        const percent = job.progress.percent;
        const shown = percent === undefined ? undefined : percent / 100;
        lines.draw([`${plain(job.vm.name)}  ${style('cyan', bar(shown))}  ${text}`]);
        return;
      }
      const phase = `${job.status} ${job.phase}`;
      if (phase === plainPhase && clock.elapsed() - plainAt < PLAIN_EVERY_MS) return;
      [plainPhase, plainAt] = [phase, clock.elapsed()];
      terminal.err(`${plain(job.vm.name)}: ${text}\n`);
    },
    end: (job) => {
      if (terminal.errIsTty) lines.clear();
      terminal.err(`${mark(job)} ${endText(job)}\n`);
      for (const line of detailLines(job, style)) terminal.err(`  ${line}\n`);
    },
  };
}
