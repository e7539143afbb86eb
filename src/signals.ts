/** Signals for work that several callers share, or that must outlive the one who asked. */

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
