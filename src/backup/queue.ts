/**
 * Which waiting job may start: so many at once in all, per pool, and per SR.
 *
 * First come, first served, except that a job whose pool or SR is busy lets those behind it pass: it keeps its place.
 */
export interface QueueLimits {
  total: number;
  perPool: number;
  perSr: number;
  /** Waiting jobs; beyond it a new one is refused. */
  waiting: number;
}

export interface QueueItem {
  id: string;
  pool: string;
  srs: readonly string[];
  /** Runs the job; must not reject. */
  run(): Promise<void>;
}

export interface Queue {
  readonly full: boolean;
  readonly waiting: number;
  readonly running: number;
  add(item: QueueItem): void;
  /** Starts a waiting job out of turn, so that a cancelled one can end at once. False when it is not waiting. */
  startNow(id: string): boolean;
  /** Resolves when nothing runs or waits any more. */
  idle(): Promise<void>;
}

/** An empty queue with these limits. */
export function createQueue(limits: QueueLimits): Queue {
  let waiting: QueueItem[] = [];
  const running = new Set<QueueItem>();
  let idlers: (() => void)[] = [];

  const fits = (item: QueueItem): boolean => {
    const peers = [...running].filter((other) => other.pool === item.pool);
    if (running.size >= limits.total || peers.length >= limits.perPool) return false;
    return item.srs.every(
      (sr) => peers.filter((other) => other.srs.includes(sr)).length < limits.perSr,
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
    for (const item of waiting) if (fits(item)) start(item);
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
      waiting.push(item);
      dispatch();
    },
    startNow: (id) => {
      const item = waiting.find((other) => other.id === id);
      if (item) start(item);
      return item !== undefined;
    },
    idle: () =>
      new Promise((resolve) => {
        idlers.push(resolve);
        dispatch();
      }),
  };
}
