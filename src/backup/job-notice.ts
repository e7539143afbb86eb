/**
 * A job in the words of a notice: one sentence what happened, one what to do, and the figures behind it. Pure.
 *
 * The mend of a failure is that of its error code, unless more is known here. What programs are given is a choice of the
 * record's fields, not the record: it is small, and nothing gets into it that nobody thought of.
 */
import { isEnded, type Job } from '../catalog/record.ts';
import { formatBytes, formatSeconds } from '../commands/format.ts';
import { ERROR_CODES, type ErrorCode } from '../errors.ts';
import type { Notice, NoticeEvent } from '../notices.ts';
import { parseTime } from '../time.ts';

/** Of a list in a notice; the record has all. */
const LIST_LIMIT = 20;
const TEXT_LIMIT = 500;

type Topic = 'backup' | 'restore' | 'verify';
/** The other kinds are housekeeping: nobody is told. */
const TOPICS: Partial<Record<Job['kind'], Topic>> = {
  backup: 'backup',
  restore: 'restore',
  verify: 'verify',
  restore_test: 'verify',
};

/** The event of its beginning; undefined for jobs nobody is told of. */
export function startEvent(job: Job): NoticeEvent | undefined {
  const topic = topicOf(job);
  return topic && `${topic}.started`;
}

/** The event of its end; undefined before it, and for jobs nobody is told of. */
export function endEvent(job: Job): NoticeEvent | undefined {
  const topic = topicOf(job);
  const { status } = job;
  if (topic === undefined || status === 'queued' || status === 'running') return undefined;
  return `${topic}.${status}`;
}

/** What is told of the job as it is now: its end once it has ended, else its beginning. */
export function noticeOf(job: Job): Notice | undefined {
  const event = isEnded(job) ? endEvent(job) : startEvent(job);
  if (event === undefined) return undefined;
  const warnings = warningsOf(job);
  return {
    id: `evt_${job.id}_${event}`,
    event,
    at: (isEnded(job) ? job.finished_at : job.started_at) ?? job.updated_at,
    severity: severityOf(job, warnings),
    what: whatOf(job),
    todo: todoOf(job, warnings),
    facts: factsOf(job, warnings),
    about: job.id,
    vm: job.vm,
    data: dataOf(job, warnings),
  };
}

/** Who asks what would be done is told by the answer. */
function topicOf(job: Job): Topic | undefined {
  const isDry = job.request.dry_run || job.restore?.dry_run === true;
  return isDry ? undefined : TOPICS[job.kind];
}

function severityOf(job: Job, warnings: readonly string[]): Notice['severity'] {
  if (job.status === 'failed') return 'error';
  if (job.status === 'cancelled') return 'warning';
  if (!isEnded(job)) return 'info';
  return warnings.length > 0 ? 'warning' : 'success';
}

function subjectOf(job: Job): string {
  if (job.kind === 'verify') return `Verification of a backup of ${job.vm.name}`;
  if (job.kind === 'restore_test') return `Restore test of a backup of ${job.vm.name}`;
  return `${job.kind === 'restore' ? 'Restore' : 'Backup'} of ${job.vm.name}`;
}

function whatOf(job: Job): string {
  const subject = subjectOf(job);
  if (!isEnded(job)) return `${subject} started.`;
  if (job.status === 'cancelled') return `${subject} was cancelled.`;
  if (job.error) return `${subject} failed: ${cut(job.error.detail)}.`;
  const { result, restored, verified } = job;
  if (result) {
    const size = formatBytes(result.archive.size_bytes);
    const sent = formatBytes(result.sent_bytes);
    const time = formatSeconds(result.duration_seconds);
    return `${subject} succeeded: ${size} in ${time}, ${sent} of it sent.`;
  }
  if (restored) {
    const made = restored.vm === undefined ? 'its disk' : restored.vm.name;
    const is = restored.started ? 'runs' : 'is';
    return `${subject} succeeded: ${made} ${is} on pool ${restored.pool}.`;
  }
  if (verified) {
    const share = verified.kind === 'sampled' ? ` (${verified.percent} % of it looked at)` : '';
    return `${subject} succeeded: it is what was stored${share}.`;
  }
  return `${subject} succeeded.`;
}

function todoOf(job: Job, warnings: readonly string[]): string {
  if (job.status === 'cancelled') return 'If that was not meant, start it again.';
  if (!job.error) {
    return warnings.length === 0 ? 'Nothing to do.' : 'Read its warnings, below.';
  }
  if (topicOf(job) === 'verify' && job.verified?.ok === false) {
    return `Back ${job.vm.name} up now with mode full, and restore from another backup until then.`;
  }
  return mendOf(job.error.code);
}

/** What the table of errors says to do. */
function mendOf(code: string): string {
  return ERROR_CODES[code as ErrorCode] ?? 'Look at the job.';
}

function warningsOf({ result, restored, checkpoint, error }: Job): readonly string[] {
  // of a job that failed the error says what matters
  if (error) return [];
  return result?.warnings ?? restored?.warnings ?? checkpoint.warnings;
}

function factsOf(job: Job, warnings: readonly string[]): Notice['facts'] {
  const { result, error } = job;
  const skipped = skippedOf(job).map(({ name, reason }) => `${name} (${reason})`);
  const facts: [string, string | undefined][] = [
    ['Machine', `${job.vm.name} (${job.vm.uuid})`],
    ['Pool', job.vm.pool],
    ['Backup', result?.id ?? job.backup_id],
    ['Mode', result && `${result.mode}: ${result.mode_reason}`],
    ['Kept as', result?.retention],
    ['Size', result && formatBytes(result.archive.size_bytes)],
    ['Sent', result && formatBytes(result.sent_bytes)],
    ['Copied in the bucket', result && formatBytes(result.copied_bytes)],
    ['Took', durationOf(job)],
    ['Left out', skipped.length === 0 ? undefined : skipped.join('; ')],
    ['Warnings', warnings.length === 0 ? undefined : limited(warnings).join('; ')],
    ['Error', error?.code],
    ['Attempt', job.attempt === 1 ? undefined : String(job.attempt)],
    ['Asked for by', job.triggered_by],
    ['Job', job.id],
  ];
  return facts.flatMap(([name, value]) => (value === undefined ? [] : [{ name, value }]));
}

function durationOf({ result, restored, started_at: from, finished_at: to }: Job) {
  const seconds = result?.duration_seconds ?? restored?.duration_seconds;
  if (seconds !== undefined) return formatSeconds(seconds);
  if (from === undefined || to === undefined) return undefined;
  return formatSeconds((parseTime(to) - parseTime(from)) / 1000);
}

function skippedOf({ result, checkpoint }: Job): { name: string; reason: string }[] {
  const disks = result?.excluded_disks ?? checkpoint.excluded_disks;
  return disks.slice(0, LIST_LIMIT).map(({ name, userdevice, reason }) => ({
    name: name === '' ? `disk ${userdevice}` : name,
    reason,
  }));
}

function dataOf(job: Job, warnings: readonly string[]): Notice['data'] {
  const { result, error, restored, verified } = job;
  const backupId = result?.id ?? job.backup_id;
  return compact({
    job: compact({
      id: job.id,
      kind: job.kind,
      status: job.status,
      attempt: job.attempt,
      triggered_by: job.triggered_by,
      created_at: job.created_at,
      started_at: job.started_at,
      finished_at: job.finished_at,
    }),
    vm: job.vm,
    backup_id: backupId,
    backup: result && {
      retention: result.retention,
      mode: result.mode,
      mode_reason: cut(result.mode_reason),
      size_bytes: result.archive.size_bytes,
      sent_bytes: result.sent_bytes,
      copied_bytes: result.copied_bytes,
      duration_seconds: result.duration_seconds,
      created_at: result.created_at,
      excluded_disks: skippedOf(job),
    },
    restored:
      restored && compact({ pool: restored.pool, vm: restored.vm, started: restored.started }),
    verified:
      verified && compact({ ok: verified.ok, kind: verified.kind, percent: verified.percent }),
    warnings: warnings.length === 0 ? undefined : limited(warnings),
    error: error && compact({ code: error.code, detail: cut(error.detail), retry: error.retry }),
    links: compact({
      job: `/v1/jobs/${job.id}`,
      backup: backupId === undefined ? undefined : `/v1/backups/${backupId}`,
    }),
  });
}

function limited(texts: readonly string[]): string[] {
  const shown = texts.slice(0, LIST_LIMIT).map(cut);
  const more = texts.length - shown.length;
  return more > 0 ? [...shown, `and ${more} more`] : shown;
}

/** A sentence of its own ends with its own stop. */
function cut(text: string): string {
  const one = text.replace(/\s+/g, ' ').trim().replace(/\.$/, '');
  return one.length > TEXT_LIMIT ? `${one.slice(0, TEXT_LIMIT)}…` : one;
}

function compact(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
