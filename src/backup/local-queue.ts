/**
 * The queue of one process: the port of queue-port.ts over the rules of queue.ts.
 *
 * What waits for a time of its own (the next attempt of a job that failed) sleeps here and comes back to its place in the
 * order when that time has come.
 */
import type { Clock } from '../ports.ts';
import type { JobQueue, Ticket, TurnEnd } from '../queue-port.ts';
import { createQueue, type QueueLimits } from './queue.ts';

type Turn = (ticket: Ticket) => Promise<TurnEnd>;

/** Empty at first; jobs wait until it is served. */
export function createLocalQueue(clock: Clock, limits: QueueLimits): JobQueue {
  const queue = createQueue(limits);
  /** What waits for its time, or for somebody to serve it. */
  const sleeping = new Map<string, AbortController>();
  const unserved = new Map<string, Ticket>();
  let serve: Turn | undefined;
  let stopped = false;

  const enter = (ticket: Ticket, turn: Turn): void => {
    queue.add({ ...ticket, run: async () => again(ticket, await turn(ticket)) });
  };

  const sleep = async (ticket: Ticket, ms: number): Promise<void> => {
    const awake = new AbortController();
    sleeping.set(ticket.id, awake);
    try {
      await clock.sleep(ms, { signal: awake.signal });
    } catch {
      return; // removed, or stopped
    }
    sleeping.delete(ticket.id);
    place({ ...ticket, notBeforeMs: undefined });
  };

  const place = (ticket: Ticket): void => {
    const { id, notBeforeMs } = ticket;
    if (stopped) return;
    if (notBeforeMs !== undefined) void sleep(ticket, Math.max(0, notBeforeMs - clock.now()));
    else if (serve === undefined) unserved.set(id, ticket);
    else enter(ticket, serve);
  };

  const again = (ticket: Ticket, end: TurnEnd): void => {
    if (end !== 'done') place({ ...ticket, notBeforeMs: end.againAtMs });
  };

  return {
    add: async (ticket) => {
      if (stopped) return false;
      const isKnown = sleeping.has(ticket.id) || unserved.has(ticket.id) || queue.has(ticket.id);
      if (!isKnown) place(ticket);
      return true;
    },
    remove: async ({ id }) => {
      const asleep = sleeping.get(id);
      asleep?.abort();
      sleeping.delete(id);
      return unserved.delete(id) || asleep !== undefined || queue.remove(id);
    },
    serve: (turn) => {
      serve = turn;
      const inOrder = [...unserved.values()].sort((a, b) => a.priority - b.priority);
      for (const ticket of inOrder) enter(ticket, turn);
      unserved.clear();
    },
    reason: queue.reason,
    reasonOf: queue.reasonOf,
    get full() {
      return queue.full;
    },
    get waiting() {
      return queue.waiting + unserved.size;
    },
    get running() {
      return queue.running;
    },
    stop: () => {
      stopped = true;
      for (const awake of sleeping.values()) awake.abort();
      sleeping.clear();
      unserved.clear();
      queue.withdraw();
    },
    idle: queue.idle,
  };
}
