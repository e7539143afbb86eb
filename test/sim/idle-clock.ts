/**
 * A clock that moves on when everything else has come to rest: hours pass in moments, in their real order.
 *
 * Client and servers live in one process, so nothing happens while no event comes in: after a few quiet turns of the
 * event loop the next sleeper is due. Whatever work there is takes no time, as on an infinitely fast machine; a busy
 * one makes a run slower, never different. Not for anything that waits for another process or by a real timer.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as later, setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../src/ports.ts';
import { createEcho, type Echo } from './echo.ts';

/** Turns of the event loop without an event after which nothing moves any more. */
const QUIET_TURNS = 4;
/** A step as long as a time-out is the one that could be wrong: a busy system may hold packets and threads back. */
const LONG_STEP_MS = 5_000;
const HELD_BACK_MS = 2;
/** Nobody sleeps: whoever is about to will have begun by then. */
const NOBODY_LOOKS = 500;

export interface IdleClock extends Clock {
  /** Lets time pass until `work` has ended. Throws when that takes longer than `limitMs`, or when nobody sleeps any more. */
  drive<T>(work: Promise<T>, options: { limitMs: number }): Promise<T>;
  /** The clock of one process: after `stop` nobody wakes there any more. */
  branch(): Clock & { stop(): void };
}

interface Sleeper {
  at: number;
  wake(): void;
}

/** Starts at a fixed instant, so that runs repeat. */
export function createIdleClock(startMs: number = Date.UTC(2026, 0, 5, 1, 0, 0)): IdleClock {
  const sleepers = new Set<Sleeper>();
  let elapsedMs = 0;
  const sleep = (ms: number, { signal }: { signal: AbortSignal }, own: Set<Sleeper>) =>
    new Promise<void>((resolve, reject) => {
      signal.throwIfAborted();
      const leave = () => {
        own.delete(sleeper);
        sleepers.delete(sleeper);
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = () => {
        leave();
        reject(signal.reason);
      };
      const wake = () => {
        leave();
        resolve();
      };
      const sleeper: Sleeper = { at: elapsedMs + Math.max(0, ms), wake };
      signal.addEventListener('abort', onAbort, { once: true });
      own.add(sleeper);
      sleepers.add(sleeper);
    });
  const next = (): Sleeper | undefined => {
    let first: Sleeper | undefined;
    for (const one of sleepers) if (first === undefined || one.at < first.at) first = one;
    return first;
  };
  let echo: Echo | undefined;
  /** What the system owes us has come: packets on their way, files being read, names looked up. */
  const nothingComes = async (isOver: () => boolean) => {
    echo ??= await createEcho();
    await later(HELD_BACK_MS);
    await echo.ping();
    for (let looks = 0; isSystemBusy() && !isOver() && looks < NOBODY_LOOKS; looks += 1) {
      await later(HELD_BACK_MS);
    }
    await quiet(isOver);
  };
  const step = async (isOver: () => boolean): Promise<boolean> => {
    await quiet(isOver);
    for (let looks = 0; next() === undefined && !isOver(); looks += 1) {
      if (looks === NOBODY_LOOKS) return false;
      await later(HELD_BACK_MS);
    }
    if ((next()?.at ?? 0) - elapsedMs >= LONG_STEP_MS) await nothingComes(isOver);
    const due = next();
    if (isOver() || due === undefined) return true;
    elapsedMs = Math.max(elapsedMs, due.at);
    due.wake();
    return true;
  };
  const base: Clock = {
    now: () => startMs + elapsedMs,
    elapsed: () => elapsedMs,
    sleep: (ms, options) => sleep(ms, options, new Set()),
  };
  return {
    ...base,
    branch: () => {
      const own = new Set<Sleeper>();
      let stopped = false;
      return {
        ...base,
        sleep: (ms, options) => (stopped ? new Promise(() => {}) : sleep(ms, options, own)),
        stop: () => {
          stopped = true;
          for (const sleeper of own) sleepers.delete(sleeper);
        },
      };
    },
    drive: async (work, { limitMs }) => {
      const startedAt = elapsedMs;
      let over = false;
      const settled = work.finally(() => {
        over = true;
      });
      settled.catch(() => undefined); // told below
      while (!over) {
        const moved = await step(() => over);
        if (over) break;
        if (!moved) throw new Error('nothing moves any more and nobody sleeps: a wait without end');
        if (elapsedMs - startedAt > limitMs) throw new Error(`still not over after ${limitMs} ms`);
      }
      return await settled;
    },
  };
}

/** Files being read, names being looked up, connections being made: what a busy system takes its time for. */
const OWED = ['FSReqPromise', 'FSReqCallback', 'GetAddrInfoReqWrap', 'ConnectWrap'];

function isSystemBusy(): boolean {
  return process.getActiveResourcesInfo().some((name) => OWED.includes(name));
}

function events(): number {
  return performance.nodeTiming.uvMetricsInfo.events;
}

/** Resolves after some turns in a row without an event, or as soon as `isOver`. */
async function quiet(isOver: () => boolean): Promise<void> {
  let seen = events();
  for (let left = QUIET_TURNS; left > 0 && !isOver(); left -= 1) {
    await turn();
    const now = events();
    if (now !== seen) left = QUIET_TURNS + 1;
    seen = now;
  }
}
