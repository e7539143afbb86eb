/** Signals for work that several callers share, or that must outlive the one who asked. */

/** Never aborted: shared reads end by their adapter's own time-outs, not by one caller's leaving. */
export const NEVER: AbortSignal = new AbortController().signal;
