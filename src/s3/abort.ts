/** `work`, or the signal's reason if that comes first; the work goes on. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const leave = Promise.withResolvers<never>();
  const onAbort = () => leave.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, leave.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
