/** Work that comes again and again until it is stopped. */
import { isBackupError } from '../errors.ts';
import type { Clock } from '../ports.ts';

/** Calls `work` every `everyMs` after its last end, until `stop`. Errors: those of `work`, which ends the repeating. */
export async function repeat(
  clock: Clock,
  everyMs: number,
  stop: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  while (!stop.aborted) {
    try {
      await clock.sleep(everyMs, { signal: stop });
    } catch (error) {
      if (stop.aborted || isBackupError(error, 'cancelled')) return;
      throw error;
    }
    await work();
  }
}
