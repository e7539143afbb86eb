/**
 * Tells targets: each apart, so that one that is down keeps no other waiting, with bounded tries and a bounded line.
 *
 * A try that failed for a reason that may pass is made again after WAITS_MS; what the target asks for itself counts if that
 * is longer. A target that answers "no" is not asked again. Every failure is in the log and in the metrics; it is told, not
 * thrown: nothing hangs on a notice.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Delivery, Notice, Notifier } from '../notices.ts';
import { type NotifyTarget, wantedBy } from '../notify-targets.ts';
import type { Cancellable, Clock, Log, Meter } from '../ports.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import { reasonOf } from './answer.ts';
import { deliver, TRY_MS } from './deliver.ts';
import { withLink } from './page-link.ts';
import { tidied } from './wording.ts';

/** Before the second, third and fourth try: a hiccup, a restart, an upgrade. Nobody waits for hours: it would be no news. */
const WAITS_MS = [5_000, 60_000, 300_000];
const ATTEMPTS = WAITS_MS.length + 1;
/** A target may ask for more patience, but not for more than this. */
const MAX_WAIT_MS = 300_000;
/** Tries at one target at once. */
const AT_ONCE = 2;
/** Notices that wait for one target; more come only from a target that is down, and would all be late. */
const LINE_LIMIT = 200;

export interface NotifierDeps {
  clock: Clock;
  log: Log;
  meter: Meter;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
  /** Where people find the pages: messages link there. */
  publicUrl?: string | undefined;
}

interface Line {
  target: NotifyTarget;
  /** Notices under way. */
  length: number;
  free: number;
  /** Who waits for a turn, the first first. */
  waiting: Set<() => void>;
}

/** Nothing is opened before the first notice. */
export function createNotifier(targets: readonly NotifyTarget[], deps: NotifierDeps): Notifier {
  const lines = new Map(
    targets.map((target): [string, Line] => [
      target.name,
      { target, length: 0, free: AT_ONCE, waiting: new Set() },
    ]),
  );
  return {
    targets: (about) => wantedBy(targets, about),
    send: async (notice, input, { signal }) => {
      const tidy = withLink(tidied(notice), deps.publicUrl);
      const attempts = Math.min(ATTEMPTS, input.attempts ?? ATTEMPTS);
      const tell = async (name: string): Promise<Delivery> => {
        const line = lines.get(name);
        const failed = (problem: string): Delivery => ({
          target: name,
          ok: false,
          attempts: 0,
          problem,
        });
        // settings may have changed since it was written down who is to be told
        if (line === undefined) return failed('no target of this name is in the settings any more');
        if (line.length >= LINE_LIMIT) return failed(`${LINE_LIMIT} notices wait for it already`);
        line.length += 1;
        try {
          return await tellTraced(line, tidy, { ...deps, attempts, signal });
        } finally {
          line.length -= 1;
        }
      };
      const deliveries = await Promise.all(input.targets.map(tell));
      for (const delivery of deliveries) report(deps, notice, delivery);
      return deliveries;
    },
  };
}

type Context = NotifierDeps & Cancellable & { attempts: number };

/** Whom: by name, never by address, which is a secret. */
async function tellTraced(line: Line, notice: Notice, context: Context): Promise<Delivery> {
  const { tracer = NO_TRACER } = context;
  const { name, kind } = line.target;
  const attributes = {
    'xvault.target': name,
    'xvault.target.kind': kind,
    'xvault.event': notice.event,
  };
  return await tracer.span(`notify ${kind}`, { kind: 'client', attributes }, async (span) => {
    const told = await tellOne(line, notice, context);
    span.set({ 'xvault.attempts': told.attempts });
    if (!told.ok) span.fail(told.stopped ? 'draining' : 'notify_failed');
    return told;
  });
}

async function tellOne(line: Line, notice: Notice, context: Context): Promise<Delivery> {
  const { clock, log, attempts, signal } = context;
  const target = line.target.name;
  let problem = 'this instance was stopped before it could be told';
  for (let attempt = 1; ; attempt += 1) {
    const failure = await inTurn(line, context, () => tryOnce(line.target, notice, context));
    if (failure === undefined) return { target, ok: true, attempts: attempt };
    if (failure === 'stopped')
      return { target, ok: false, attempts: attempt - 1, problem, stopped: true };
    problem = failure.message;
    if (failure.retry !== 'later' || attempt >= attempts) {
      return { target, ok: false, attempts: attempt, problem };
    }
    log.info('notification is tried again', { target, event: notice.event, attempt, problem });
    const asked = Number(failure.details.retry_after_seconds ?? 0) * 1000;
    const waitMs = Math.max(WAITS_MS[attempt - 1] ?? MAX_WAIT_MS, Math.min(asked, MAX_WAIT_MS));
    await clock.sleep(waitMs, { signal }).catch(() => undefined); // told by the next turn
  }
}

/** undefined when it was told. */
async function tryOnce(
  target: NotifyTarget,
  notice: Notice,
  { clock, signal, tracer, publicUrl }: Context,
): Promise<BackupError | 'stopped' | undefined> {
  const late = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(TRY_MS, { signal: done.signal }).then(
    () => late.abort(),
    () => undefined, // it was answered
  );
  try {
    const traceparent = tracer?.active()?.traceparent;
    const both = AbortSignal.any([signal, late.signal]);
    await deliver(target, notice, { clock, signal: both, traceparent, publicUrl });
    return undefined;
  } catch (cause) {
    if (signal.aborted) return 'stopped';
    if (isBackupError(cause, 'notify_failed')) return cause;
    const reason = late.signal.aborted ? `no answer in ${TRY_MS / 1000} s` : reasonOf(cause);
    return new BackupError('notify_failed', reason, { retry: 'later', cause });
  } finally {
    done.abort();
    await timer;
  }
}

/** Tries of one target wait for each other, waits between them for nobody. */
async function inTurn<T>(
  line: Line,
  { signal }: Cancellable,
  work: () => Promise<T>,
): Promise<T | 'stopped'> {
  while (line.free === 0 && !signal.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const leave = () => resolve();
    line.waiting.add(leave);
    signal.addEventListener('abort', leave, { once: true });
    await promise;
    signal.removeEventListener('abort', leave);
    line.waiting.delete(leave);
  }
  if (signal.aborted) {
    callNext(line); // it may have been this one's turn
    return 'stopped';
  }
  line.free -= 1;
  try {
    return await work();
  } finally {
    line.free += 1;
    callNext(line);
  }
}

/** Whoever comes finds a turn free, or waits again. */
function callNext({ free, waiting }: Line): void {
  const [next] = waiting;
  if (next === undefined || free === 0) return;
  waiting.delete(next);
  next();
}

function report(
  { log, meter }: NotifierDeps,
  { event, id }: Notice,
  { target, ok, attempts, problem, stopped }: Delivery,
): void {
  // what is left to the next instance has not failed
  const outcome = ok ? 'ok' : stopped ? 'stopped' : 'failed';
  meter.count('notifications_total', 1, { target, outcome });
  const fields = { target, event, notice_id: id, attempts };
  if (ok) log.debug('notification sent', fields);
  else if (stopped) log.info('notification not sent: shutting down', fields);
  else log.warn('notification failed', { ...fields, problem });
}
