/**
 * Which waiting job may start: so many at once in all, per pool, and per SR.
 *
 * First come, first served within a priority, except that a job whose pool or SR is busy lets those behind it pass: it
 * keeps its place.
 * One that needs several SRs could be passed for ever, one of them being busy all the time; after some passes they are
 * kept free for it.
 */

import type { QueuePlace } from '../queue-port.ts';

/** Jobs on an SR that pass one that waits for it and for another: more would starve it, fewer leave SRs idle often. */
const MAX_PASSES = 10;

export interface QueueLimits {
  total: number;
  perPool: number;
  perSr: number;
  /** Waiting jobs; beyond it a new one is refused. */
  waiting: number;
}

export interface QueueItem extends QueuePlace {
  id: string;
  /** 1 comes first; the last unless given. */
  priority?: number;
  /** Runs the job; must not reject. */
  run(): Promise<void>;
}

export interface Queue {
  readonly full: boolean;
  readonly waiting: number;
  readonly running: number;
  add(item: QueueItem): void;
  /** It waits or runs. */
  has(id: string): boolean;
  /** What one like this would wait for now; undefined when it could start. */
  reason(place: QueuePlace): string | undefined;
  /** What this one waits for; undefined when it is not waiting here. */
  reasonOf(id: string): string | undefined;
  /** Takes a waiting job out, so that a cancelled one can end at once. False when it is not waiting. */
  remove(id: string): boolean;
  /** Takes all waiting jobs out. */
  withdraw(): QueueItem[];
  /** Resolves when nothing runs or waits any more. */
  idle(): Promise<void>;
}

/** An empty queue with these limits. */
export function createQueue(limits: QueueLimits): Queue {
  let waiting: QueueItem[] = [];
  const running = new Set<QueueItem>();
  let idlers: (() => void)[] = [];
  const passes = new WeakMap<QueueItem, number>();

  const reason = (place: QueuePlace): string | undefined => {
    const full = (count: number, limit: number, where: string, setting: string) =>
      count < limit ? undefined : `${count} of ${limit} jobs run ${where} (${setting})`;
    const peers = [...running].filter((other) => other.pool === place.pool);
    for (const { uuid, name } of place.srs) {
      const there = peers.filter((other) => other.srs.some((sr) => sr.uuid === uuid)).length;
      const found = full(there, limits.perSr, `on SR ${name}`, 'XVAULT_CONCURRENCY_PER_SR');
      if (found !== undefined) return found;
    }
    return (
      full(peers.length, limits.perPool, `on pool ${place.pool}`, 'XVAULT_CONCURRENCY_PER_POOL') ??
      full(running.size, limits.total, 'in this instance', 'XVAULT_CONCURRENCY')
    );
  };

  const start = (item: QueueItem): void => {
    waiting = waiting.filter((other) => other !== item);
    running.add(item);
    void item.run().finally(() => {
      running.delete(item);
      dispatch();
    });
  };

  const dispatch = (): void => {
    // only they can be passed on one of their own SRs
    const needsSeveral: QueueItem[] = [];
    for (const item of waiting) {
      const passed = needsSeveral.filter((earlier) => sharesSr(earlier, item));
      const isKeptFree = passed.some((earlier) => (passes.get(earlier) ?? 0) >= MAX_PASSES);
      if (isKeptFree || reason(item) !== undefined) {
        if (item.srs.length > 1) needsSeveral.push(item);
      } else {
        for (const earlier of passed) passes.set(earlier, (passes.get(earlier) ?? 0) + 1);
        start(item);
      }
    }
    if (running.size > 0 || waiting.length > 0) return;
    for (const wake of idlers) wake();
    idlers = [];
  };

  return {
    get full() {
      return waiting.length >= limits.waiting;
    },
    get waiting() {
      return waiting.length;
    },
    get running() {
      return running.size;
    },
    add: (item) => {
      const behind = waiting.findIndex((other) => rank(other) > rank(item));
      waiting.splice(behind < 0 ? waiting.length : behind, 0, item);
      dispatch();
    },
    has: (id) => [...running, ...waiting].some((item) => item.id === id),
    reason,
    reasonOf: (id) => {
      const item = waiting.find((other) => other.id === id);
      return item && reason(item);
    },
    remove: (id) => {
      const item = waiting.find((other) => other.id === id);
      waiting = waiting.filter((other) => other !== item);
      if (item) dispatch();
      return item !== undefined;
    },
    withdraw: () => {
      const all = waiting;
      waiting = [];
      return all;
    },
    idle: () =>
      new Promise((resolve) => {
        idlers.push(resolve);
        dispatch();
      }),
  };
}

function rank({ priority = Number.MAX_SAFE_INTEGER }: QueueItem): number {
  return priority;
}

function sharesSr(a: QueuePlace, b: QueuePlace): boolean {
  return a.pool === b.pool && a.srs.some(({ uuid }) => b.srs.some((other) => other.uuid === uuid));
}
