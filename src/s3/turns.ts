/**
 * Turns at filling parts: of many uploads only two read at a time, as long as they read fast.
 *
 * Bytes that were just read are in the processor's cache when their part is encrypted and sent, if not much else was read in
 * between. Sixteen exports at once, each filling a part of 8 MiB, read 128 MiB in between, and touched all of the budget: with two
 * at a time the same exports take 100 MiB less (docs/performance.md).
 *
 * A turn holds nobody up for long: it ends with the part, and while somebody waits and the thread is idle, whoever has waited
 * longest for his next piece loses it. He goes on, and another begins. So slow hosts are read all at once, and nobody can wait
 * for himself. (Time alone says little: on a busy machine everybody is slow. Only a silence of MOST_SILENT_MS counts as it is.)
 * Turns are given first come, first served.
 */
import { performance } from 'node:perf_hooks';
import type { Cancellable, Clock } from '../ports.ts';
import { NEVER } from '../signals.ts';

/** One that waits for bytes, and one that has some. */
const MOST = 2;

/** How often it is looked at, as long as somebody waits: 200 more that read in a second, which is more than one thread can do. */
const LOOK_MS = 5;

/** Of the time since the last look; more, and the thread could do with another one that reads. */
const MOST_IDLE = 1 / 4;

/** Without a piece for so long, a turn is lost however busy the thread is with other things: the host may be gone. */
const MOST_SILENT_MS = 250;

export interface Turn {
  /** A piece was read. */
  moved(): void;
  /** The part is full, or given up. A second call does nothing. */
  end(): void;
}

export interface Turns {
  /** Waits for a turn. Cancel: its place goes to the next. */
  take(options: Cancellable): Promise<Turn>;
}

/** The turns of one process. `idleMs`: how long its thread has waited for anything to do, ever. */
export function createTurns({
  clock,
  idleMs = () => performance.eventLoopUtilization().idle,
}: {
  clock: Pick<Clock, 'elapsed' | 'sleep'>;
  idleMs?: () => number;
}): Turns {
  /** When each moved; whoever moved last is the last one. */
  const holders = new Map<Turn, number>();
  const waiters: ((turn: Turn) => void)[] = [];
  let isWatching = false;

  const begin = (): Turn => {
    const turn: Turn = {
      moved: () => {
        if (holders.delete(turn)) holders.set(turn, clock.elapsed());
      },
      end: () => {
        if (holders.delete(turn)) admit();
      },
    };
    holders.set(turn, clock.elapsed());
    return turn;
  };
  const admit = (): void => {
    while (holders.size < MOST) {
      const next = waiters.shift();
      if (next === undefined) return;
      next(begin());
    }
  };
  const watch = async (): Promise<void> => {
    isWatching = true;
    while (waiters.length > 0) {
      const [startedAt, idleAtStartMs] = [clock.elapsed(), idleMs()];
      await clock.sleep(LOOK_MS, { signal: NEVER });
      const now = clock.elapsed();
      const isIdle = idleMs() - idleAtStartMs > (now - startedAt) * MOST_IDLE;
      const [slowest] = holders;
      if (slowest === undefined) continue;
      const [turn, movedAt] = slowest;
      if (isIdle || now - movedAt >= MOST_SILENT_MS) turn.end();
    }
    isWatching = false;
  };

  return {
    take: async ({ signal }) => {
      signal.throwIfAborted();
      if (waiters.length === 0 && holders.size < MOST) return begin();
      const { promise, resolve, reject } = Promise.withResolvers<Turn>();
      const onAbort = () => {
        const at = waiters.indexOf(resolve);
        if (at !== -1) waiters.splice(at, 1); // else it has its turn, and will see the signal itself
        reject(signal.reason);
      };
      waiters.push(resolve);
      signal.addEventListener('abort', onAbort, { once: true });
      if (!isWatching) void watch();
      try {
        return await promise;
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
    },
  };
}
