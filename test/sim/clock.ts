/** A clock that only moves when told to: leases and time-outs are tested without waiting. */
import type { Clock } from '../../src/ports.ts';

export interface SimClock extends Clock {
  /** Moves time on, waking every sleeper whose time has come, in order. */
  advance(ms: number): Promise<void>;
  readonly sleepers: number;
}

interface Sleeper {
  at: number;
  wake(): void;
}

/** Starts at a fixed instant, so that runs repeat. */
export function createSimClock(startMs: number = Date.UTC(2026, 0, 5, 1, 0, 0)): SimClock {
  let now = startMs;
  let sleepers: Sleeper[] = [];
  const settle = async (): Promise<void> => {
    // let everything that was woken run until it waits again
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    now: () => now,
    elapsed: () => now - startMs,
    sleep: (ms, { signal }) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted();
        const onAbort = () => {
          sleepers = sleepers.filter((other) => other !== sleeper);
          reject(signal.reason);
        };
        const sleeper: Sleeper = {
          at: now + ms,
          wake: () => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          },
        };
        signal.addEventListener('abort', onAbort, { once: true });
        sleepers.push(sleeper);
      }),
    advance: async (ms) => {
      const until = now + ms;
      await settle();
      for (;;) {
        const next = sleepers.filter((s) => s.at <= until).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        now = Math.max(now, next.at);
        sleepers = sleepers.filter((other) => other !== next);
        next.wake();
        await settle();
      }
      now = until;
    },
    get sleepers() {
      return sleepers.length;
    },
  };
}
