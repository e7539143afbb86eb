/**
 * Ending within a grace: schedulers send SIGTERM and kill soon after, some after five seconds.
 *
 * Ctrl-C is a person who wants the work undone: it is cancelled and cleaned up, however long that takes. SIGTERM is a machine that
 * takes the process away: what runs is stopped, cleaned up as far as the time goes, and left to the next one. Before the grace is
 * over the leases are given back, whatever hangs, and at its end the process ends: an expired lease costs the next one minutes.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Clock } from '../ports.ts';
import type { ExitCode } from './exit-code.ts';

/** What is kept of the grace for giving leases back and ending, and no more of it than that share. */
const RESERVE_MS = 2000;
const RESERVE_SHARE = 0.4;
/** Of the reserve: the last of it is for the end of the process. */
const END_SHARE = 0.25;

const MIN_GRACE_MS = 1000;
const MAX_GRACE_MS = 3_600_000;

export interface Stops {
  /** Ctrl-C. */
  cancel: AbortSignal;
  /** SIGTERM. */
  leave: AbortSignal;
}

/** The two wishes the signal of an invocation stands for; one that names no signal is a wish to cancel. */
export function stopsOf(signal: AbortSignal): Stops {
  const cancel = new AbortController();
  const leave = new AbortController();
  const sort = () => {
    const { reason } = signal;
    const isTermination = isBackupError(reason) && reason.details.signal === 'SIGTERM';
    (isTermination ? leave : cancel).abort(reason);
  };
  if (signal.aborted) sort();
  else signal.addEventListener('abort', sort, { once: true });
  return { cancel: cancel.signal, leave: leave.signal };
}

/** The grace an option asks for: 5s, 30 or 2m. Errors: `invalid_request`. */
export function parseGrace(text: string): number {
  const [, amount, unit] = /^(\d{1,4})([sm]?)$/.exec(text) ?? [];
  const ms = Number(amount) * (unit === 'm' ? 60_000 : 1000);
  if (ms >= MIN_GRACE_MS && ms <= MAX_GRACE_MS) return ms;
  throw new BackupError('invalid_request', 'read --grace: a time such as 5s or 2m, up to 60m');
}

/** How long after the wish what runs may take to stop by itself, of this grace. */
export function leaveAfterMs(graceMs: number): number {
  return graceMs - reserveMs(graceMs);
}

function reserveMs(graceMs: number): number {
  return Math.min(RESERVE_MS, graceMs * RESERVE_SHARE);
}

/**
 * Does the work; from the wish to leave on no longer than the grace. `late` is called when the work is left under way, and
 * its answer is the exit code.
 */
export async function withinGrace(
  { leave, graceMs, clock }: { leave: AbortSignal; graceMs: number; clock: Clock },
  work: () => Promise<number>,
  late: () => ExitCode,
): Promise<number> {
  const done = new AbortController();
  const asked = new Promise<void>((resolve) => {
    if (leave.aborted) resolve();
    else leave.addEventListener('abort', () => resolve(), { once: true, signal: done.signal });
  });
  const limitMs = graceMs - reserveMs(graceMs) * END_SHARE;
  const over = asked.then(() => clock.sleep(limitMs, { signal: done.signal })).then(late);
  over.catch(() => undefined); // the work was faster
  try {
    return await Promise.race([work(), over]);
  } finally {
    done.abort();
  }
}
