/**
 * How many answers may be held back at once: waiting GETs, waiting POSTs and event streams.
 *
 * Each costs a socket and a watcher of a job, so their number has a limit. A wait beyond it is answered at once
 * (Prefer is a request, not an order); an event stream beyond it is refused with limit_reached.
 */
import { BackupError } from '../errors.ts';

/** A held answer costs some 20 KiB: 500 of them stay below 10 MiB. */
export const MAX_HOLDS = 500;

export interface Holds {
  readonly open: number;
  /** Takes a place if one is free. The returned function gives it back; a second call does nothing. */
  tryTake(): (() => void) | undefined;
  /** Errors: `limit_reached`. */
  take(): () => void;
}

/** Counts places up to `limit`. */
export function createHolds(limit: number = MAX_HOLDS): Holds {
  let open = 0;
  const tryTake = () => {
    if (open >= limit) return undefined;
    open++;
    let taken = true;
    return () => {
      if (taken) open--;
      taken = false;
    };
  };
  return {
    get open() {
      return open;
    },
    tryTake,
    take: () => {
      const release = tryTake();
      if (release) return release;
      throw new BackupError('limit_reached', `hold another answer open: ${limit} are open already`);
    },
  };
}
