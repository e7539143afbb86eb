/** What this process holds just now: timers, sockets, listeners, memory. Two looks with the same work between show a leak. */
import { getEventListeners } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { NEVER } from '../../src/signals.ts';

/** What a garbage collector leaves to chance. */
export const NOISE_BYTES = 4 * 1024 * 1024;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

export interface Held {
  /** Who sleeps on a simulated clock. */
  sleepers: number;
  /** Of the one signal that lives as long as the process. */
  listeners: number;
  /** By kind, as Node calls them. */
  resources: Record<string, number>;
  heapBytes: number;
}

/** Collects garbage and looks. */
export async function holding({ sleepers }: { sleepers: number }): Promise<Held> {
  // finalizers of signals run in turns of their own
  for (let turn = 0; turn < 5; turn++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) {
    // one a turn, ours
    if (name !== 'Immediate') resources[name] = (resources[name] ?? 0) + 1;
  }
  // what lies in ArrayBuffers is part of external
  const { heapUsed, external } = process.memoryUsage();
  return {
    sleepers,
    listeners: getEventListeners(NEVER, 'abort').length,
    resources,
    heapBytes: heapUsed + external,
  };
}
