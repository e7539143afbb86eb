/** Work that comes again and again until it is stopped. */
import type { Clock } from '../ports.ts';

/** Calls `work` every `everyMs` after its last end, until `stop`. Errors: those of `work`, which ends the repeating. */
export async function repeat(
  clock: Clock,
  everyMs: number,
  stop: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  while (await pause(clock, everyMs, stop)) await work();
}

/** True after `ms`, false when it was stopped before. */
export async function pause(clock: Clock, ms: number, stop: AbortSignal): Promise<boolean> {
  try {
    await clock.sleep(ms, { signal: stop });
    return true;
  } catch (error) {
    if (stop.aborted) return false;
    throw error;
  }
}
