/** Time of its own for work that must not hang: cleaning up, publishing, writing the last record, giving a lease back. */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock } from '../ports.ts';

/** Doubled each time, up to the longest. */
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** Runs `work` with a signal that is aborted after `ms`, whatever happened to the job's own signal. */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(ms, { signal: done.signal }).then(
    () =>
      deadline.abort(
        new BackupError(
          'store_unavailable',
          `wait for bucket or pool: no answer in time, limit_ms=${ms}`,
        ),
      ),
    () => undefined, // the work was faster
  );
  try {
    return await work(deadline.signal);
  } finally {
    done.abort();
    await timer;
  }
}

/**
 * Repeats `work` while it fails for a reason that may pass, until the signal ends it.
 *
 * Adapters have repeated each call already; this is for what is worth waiting minutes for. Errors: the work's last
 * own one: why it did not succeed says more than that its time was over.
 */
export async function insist<T>(
  clock: Clock,
  work: () => Promise<T>,
  { signal, onFailure }: Cancellable & { onFailure(error: BackupError): void },
): Promise<T> {
  let reason: unknown;
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_RETRY_MS)) {
    try {
      if (reason !== undefined) await clock.sleep(waitMs / 2, { signal });
      return await work();
    } catch (error) {
      if (signal.aborted) throw reason ?? error;
      if (!isBackupError(error) || error.retry !== 'later') throw error;
      reason = error;
      onFailure(error);
    }
  }
}
