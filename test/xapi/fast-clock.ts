/** A clock that runs so many times faster: retries and watchdogs of minutes are tested in moments, in their real order. */
import { systemClock } from '../../src/clock.ts';
import type { Clock } from '../../src/ports.ts';

/** Every millisecond of the system is `factor` milliseconds here. */
export function createFastClock(factor: number): Clock {
  return {
    now: () => systemClock.now(),
    elapsed: () => systemClock.elapsed() * factor,
    sleep: (ms, options) => systemClock.sleep(ms / factor, options),
  };
}
