/**
 * A clock for calls of guests: time-outs come when the test says so, waits between tries are over at once.
 *
 * So no test depends on how fast the machine is, and none waits.
 */
import { systemClock } from '../../src/clock.ts';
import type { Clock } from '../../src/ports.ts';

export interface HookClock extends Clock {
  /** The time-outs that run now are over. */
  expire(): void;
}

/** Sleeps of `timeoutMs` are time-outs, all others waits. */
export function createHookClock(timeoutMs: number): HookClock {
  const running = new Set<() => void>();
  return {
    now: systemClock.now,
    elapsed: systemClock.elapsed,
    sleep: async (ms, { signal }) => {
      signal.throwIfAborted();
      if (ms !== timeoutMs) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const leave = () => reject(signal.reason);
      signal.addEventListener('abort', leave, { once: true });
      running.add(resolve);
      try {
        await promise;
      } finally {
        running.delete(resolve);
        signal.removeEventListener('abort', leave);
      }
    },
    expire: () => {
      for (const resolve of running) resolve();
    },
  };
}
