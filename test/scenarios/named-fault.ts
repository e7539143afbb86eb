/** What every named fault has, and what faults are armed with. */
import type { ErrorCode, Retry } from '../../src/errors.ts';
import type { Random } from '../crash/random.ts';
import type { Ground, Seen, Watcher } from './ground.ts';

/** How a job ends: well, or with this code. */
export type Ending = 'succeeded' | ErrorCode;

/** The machine the job is for, as far as places on its disks are drawn. */
export interface Target {
  /** Blocks of its first disk. */
  blocks: number;
}

export interface NamedFault {
  /** What happens, as an operator would put it. */
  what: string;
  /** How a job that meets it, and nothing else, may end. */
  ends: readonly Ending[];
  /** What the sentence in a failed job names. */
  says?: RegExp;
  retry?: Retry;
  /**
   * With it something may stay that a sweep finds, or that the pool drops by itself: a task or a session whose reference was
   * in an answer that got lost, an upload that could not be aborted.
   */
  leaves?: true;
  /** Where and how strongly it strikes follows from the draws; every part of it is over by itself, or when cleared. */
  arm(on: Ground, draw: Random, target: Target): void;
}

/** A watcher for the first request that fits. */
export function once(on: Ground, fits: (seen: Seen) => boolean, act: Watcher): void {
  const unwatch = on.watch((seen) => {
    if (!fits(seen)) return undefined;
    unwatch();
    on.strike();
    return act(seen);
  });
}

/** True from the first time it is asked, for so long by the clock of all. */
export function lasting(on: Ground, ms: number): () => boolean {
  let until: number | undefined;
  return () => {
    until ??= on.clock.elapsed() + ms;
    return on.clock.elapsed() < until;
  };
}

/** Waits; given up when the ground is gone. */
export async function pause(on: Ground, ms: number): Promise<void> {
  await on.clock.sleep(ms, { signal: new AbortController().signal });
}
