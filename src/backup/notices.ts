/**
 * Who hears of what the engine does, and when: jobs at their beginning and end, and what is no job's as it is found.
 *
 *   end of a job ─► written down with who is owed a notice ─► lease given back ─► told ─► written down who was
 *
 * A notice never fails a job, nor holds it: it is sent in the background, once the job's end is in the bucket. A process that
 * dies in between leaves "owed" in the record, and whoever finds that after GRACE_MS tells it, with the same id, once: so a
 * receiver hears of every end, and of few of them twice. A beginning is told by who began it, or not at all, and always
 * before the end. What is no job's is told at most once. What became of it is in the record, in the log and in the metrics.
 */
import type { JobStore } from '../catalog/job-store.ts';
import type { Notification } from '../catalog/notification.ts';
import { isEnded, type Job, lateChatOf } from '../catalog/record.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { Delivery, Notice, Notifier } from '../notices.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { endEvent, noticeOf, startEvent } from './job-notice.ts';
import { type ClaimNews, createNewsClaims } from './told-once.ts';

/** Its end waits for it. */
const START_ATTEMPTS = 2;
/** One small write, repeated when somebody else was faster. */
const WRITE_MS = 10_000;
/** What is owed for longer belongs to nobody any more: all tries of one notice take less than nine minutes. */
const GRACE_MS = 15 * 60_000;
/** Older news would confuse more than help. */
const STALE_MS = 24 * 3_600_000;
/** What is being told when the process is to end: time for a second try, less than a supervisor waits. */
const DRAIN_MS = 8_000;
/** More jobs than ever run at once. */
const STARTS_LIMIT = 1000;
/** Ends found owed and settled, so that no round looks at them again. */
const SETTLED_LIMIT = 2000;

export interface Notices {
  /** True for one of all who find this news today: who tells it. Errors: the store's. */
  claim: ClaimNews;
  /** Of what is no job's; in the background. */
  tell(notice: Notice): void;
  /** The job as its end is to be written: with who is owed a notice. One that has not ended is given back as it is. */
  owe(job: Job): Job;
  /** It began for the first time; in the background. */
  started(job: Job): void;
  /** Its end is written; in the background. */
  ended(job: Job): void;
  /** Tells what a process that died has not told of this job, if there is any. */
  takeOver(job: Job, options: Cancellable): Promise<void>;
  /** Gives what is being told a moment, then ends it: what is owed is left to the next instance. */
  drain(): Promise<void>;
}

export interface NoticesDeps extends Pick<Engine, 'jobs' | 'keys' | 'clock' | 'log' | 'tracer'> {
  notifier: Notifier;
  /** Where claims lie. */
  stateStore: ObjectStore;
}

/** The notices of one process. */
export function createNotices(deps: NoticesDeps): Notices {
  const { jobs, clock, log, notifier } = deps;
  const { track, send, signal, drain } = createBackground(deps);
  /** Of jobs of this process: what became of the notice of their beginning. */
  const starts = new Map<string, Promise<Delivery[]>>();
  const settled = new Set<string>();

  /** Tells an end to those it is owed to, and writes down what became of it. */
  const tellEnd = async (job: Job, targets: readonly string[]): Promise<void> => {
    const notice = noticeOf(job);
    if (notice === undefined) return;
    const began = (await starts.get(job.id)) ?? [];
    starts.delete(job.id);
    const told = await send(notice, { targets });
    const entries = [
      ...began.map((one) => entryOf(startEvent(job) ?? notice.event, { ...one, stopped: false })),
      ...told.map((one) => entryOf(notice.event, one)),
    ];
    if (entries.length === 0) return;
    await withDeadline(clock, WRITE_MS, (late) =>
      jobs.update(job.id, (found) => merged(found, entries), { signal: late }),
    );
  };

  /** The job's own span has ended: this is its sibling. */
  const tellTraced = (job: Job, targets: readonly string[]): Promise<void> => {
    const options = {
      parent: job.traceparent,
      root: true,
      attributes: { 'xvault.job.id': job.id },
    };
    return deps.tracer.span('tell end', options, () => tellEnd(job, targets));
  };

  return {
    claim: createNewsClaims(deps),
    tell: (notice) => {
      if (signal.aborted) return;
      const sending = send(notice, { targets: notifier.targets(notice) });
      track(sending, notice.id);
    },
    owe: (job) => withOwed(job, notifier),
    started: (job) => {
      const notice = isEnded(job) || signal.aborted ? undefined : noticeOf(job);
      const targets = notice === undefined ? [] : notifier.targets(notice);
      if (notice === undefined || targets.length === 0) return;
      const sending = send(notice, { targets, attempts: START_ATTEMPTS });
      // those of jobs that other instances took over are never asked for
      const oldest = starts.keys().next();
      if (starts.size >= STARTS_LIMIT && !oldest.done) starts.delete(oldest.value);
      starts.set(job.id, sending);
      track(sending, job.id);
    },
    ended: (job) => {
      const targets = owedBy(job);
      if (targets.length > 0 || starts.has(job.id)) track(tellTraced(job, targets), job.id);
    },
    takeOver: async (given, options) => {
      const known = (job: Job) => withUntold(job, notifier);
      const job = known(given);
      if (!isForgotten(job, clock.now()) || settled.has(job.id) || starts.has(job.id)) return;
      if (settled.size >= SETTLED_LIMIT) settled.clear();
      settled.add(job.id);
      const { claimed, owed } = await claim({ jobs, known }, job.id, options).catch((error) => {
        settled.delete(job.id); // the next look tries again
        throw error;
      });
      if (claimed === undefined || owed.length === 0) return;
      log.info('notice of a former instance is sent', { job_id: job.id, targets: owed });
      track(tellTraced(claimed, owed), job.id);
    },
    drain,
  };
}

/** Work nobody waits for, until the process is to end. */
function createBackground({ clock, log, notifier }: NoticesDeps) {
  const stopped = new AbortController();
  const { signal } = stopped;
  const underWay = new Set<Promise<unknown>>();
  return {
    signal,
    send: async (
      notice: Notice,
      input: { targets: readonly string[]; attempts?: number },
    ): Promise<Delivery[]> =>
      input.targets.length === 0 ? [] : await notifier.send(notice, input, { signal }),
    track: (work: Promise<unknown>, about: string): void => {
      const tracked = work
        .catch((error) => {
          // the job is as it is: who was told is only not written down
          log.warn('notice not recorded', { about, error: toBackupError(error).message });
        })
        .finally(() => underWay.delete(tracked));
      underWay.add(tracked);
    },
    drain: async (): Promise<void> => {
      const done = new AbortController();
      const stop = () =>
        stopped.abort(new BackupError('draining', 'notify: this instance is shutting down'));
      const late = clock
        .sleep(DRAIN_MS, { signal: done.signal })
        .then(stop)
        .catch(() => undefined); // all was told in time
      while (underWay.size > 0) await Promise.all(underWay);
      done.abort();
      await late;
      stop();
    },
  };
}

function withOwed(job: Job, notifier: Notifier): Job {
  const event = endEvent(job);
  if (event === undefined) return job;
  const owed = notifier
    .targets({ event, vm: job.vm, chat: lateChatOf(job) })
    .map((target): Notification => ({ event, target, ok: false, attempts: 0, owed: true }));
  return owed.length === 0 ? job : merged(job, owed);
}

/** Who kept the engine ended it, and knows nobody to tell: everybody is owed a notice who has none of its end. */
function withUntold(job: Job, notifier: Notifier): Job {
  const event = endEvent(job);
  const isTold = job.notifications?.some((one) => one.event === event);
  return isKeepersEnd(job) && !isTold ? withOwed(job, notifier) : job;
}

/** No engine ends a job with this code (src/cloudflare/supervisor.ts does). */
function isKeepersEnd({ status, error }: Job): boolean {
  return status === 'failed' && error?.code === 'engine_unavailable';
}

/** Written before it is told: should this process die, too, nobody hears of it a third time. */
async function claim(
  { jobs, known }: { jobs: JobStore; known(job: Job): Job },
  id: string,
  options: Cancellable,
) {
  let owed: string[] = [];
  const claimed = await jobs.update(
    id,
    (found) => {
      const job = known(found);
      owed = owedBy(job);
      return owed.length === 0 ? undefined : withoutOwed(job);
    },
    options,
  );
  return { claimed, owed };
}

/** Targets that have not been told of the job's end. */
function owedBy({ notifications = [] }: Job): string[] {
  return notifications.flatMap(({ owed, target }) => (owed ? [target] : []));
}

function isForgotten(job: Job, nowMs: number): boolean {
  if (job.finished_at === undefined || owedBy(job).length === 0) return false;
  const ageMs = nowMs - parseTime(job.finished_at);
  // nobody is telling the keeper's word already
  return ageMs > (isKeepersEnd(job) ? 0 : GRACE_MS) && ageMs < STALE_MS;
}

function entryOf(event: string, delivery: Delivery): Notification {
  const { target, ok, attempts, problem, stopped } = delivery;
  return {
    event,
    target,
    ok,
    attempts,
    ...(problem === undefined ? {} : { problem }),
    ...(stopped ? { owed: true as const } : {}),
  };
}

/** A later word about the same event and target takes the place of the earlier one. */
function merged(job: Job, entries: readonly Notification[]): Job {
  const isSame = (a: Notification, b: Notification) => a.event === b.event && a.target === b.target;
  const kept = (job.notifications ?? []).filter((old) => !entries.some((one) => isSame(old, one)));
  return { ...job, notifications: [...kept, ...entries] };
}

function withoutOwed(job: Job): Job {
  const notifications = (job.notifications ?? []).map(({ owed, ...entry }) =>
    owed ? { ...entry, problem: 'told by a later instance that did not say how it went' } : entry,
  );
  return { ...job, notifications };
}
