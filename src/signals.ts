/** Signals and waits for work that several callers share, or that must outlive the one who asked. */
import type { Clock } from './ports.ts';

/** Never aborted: shared reads end by their adapter's own time-outs, not by one caller's leaving. */
export const NEVER: AbortSignal = new AbortController().signal;

/** `work`, or the signal's reason if that comes first; the work goes on, and how it ends is nobody's business then. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const leave = Promise.withResolvers<never>();
  const onAbort = () => leave.reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([leave.promise, work]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** What `work` comes to, or undefined after `ms`: it goes on then, and nobody hears of its failure here. */
export async function inTime<T>(
  clock: Pick<Clock, 'sleep'>,
  ms: number,
  work: Promise<T>,
): Promise<T | undefined> {
  const done = new AbortController();
  const late = clock.sleep(ms, { signal: done.signal }).then(
    () => undefined,
    () => undefined, // the work was faster
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
  }
}
