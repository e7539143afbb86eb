/** Time of its own for work that must not hang: cleaning up, writing the last record, giving a lease back. */
import { BackupError } from '../errors.ts';
import type { Clock } from '../ports.ts';

/** Runs `work` with a signal that is aborted after `ms`, whatever happened to the job's own signal. */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(ms, { signal: done.signal }).then(
    () => deadline.abort(new BackupError('store_unavailable', `finish within ms=${ms}`)),
    () => undefined, // the work was faster
  );
  try {
    return await work(deadline.signal);
  } finally {
    done.abort();
    await timer;
  }
}
