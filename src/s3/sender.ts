/**
 * Runs jobs (sending one part, copying one piece) at most `limit` at a time; the first failure stops them all.
 *
 * Jobs run under the sender's own signal, not their creator's: a part goes on while the writer fills the next.
 * The queue is bounded by `room`: who adds a job waits first until no more than `limit` are pending, so there are
 * never more than `limit` + 1.
 */
import assert from 'node:assert/strict';
import type { Cancellable } from '../ports.ts';

export type Job = (options: Cancellable) => Promise<void>;

export interface Sender {
  /** Aborted, with the error as reason, by the first failure or by `stop`. */
  readonly signal: AbortSignal;
  /** Starts the job when its turn comes. */
  add(job: Job): void;
  /** Waits until at most `limit` jobs are pending. Errors: the first failure. */
  room(options: Cancellable): Promise<void>;
  /** Waits until none is pending. Errors: the first failure. */
  drain(options: Cancellable): Promise<void>;
  /** Aborts what runs, drops what waits and resolves when nothing runs any more. */
  stop(reason: unknown): Promise<void>;
}

interface Waiter {
  most: number;
  resolve(): void;
}

/** Makes a sender; see the head of the file. `limit` is asked each time: it may change, and is never below 1. */
export function createSender({ limit }: { limit: () => number }): Sender {
  assert(limit() >= 1, `limit=${limit()}`);
  const controller = new AbortController();
  const { signal } = controller;
  const queue: Job[] = [];
  const waiters = new Set<Waiter>();
  let running = 0;

  function start(): void {
    while (running < limit() && !signal.aborted) {
      const job = queue.shift();
      if (job === undefined) return;
      running += 1;
      void run(job);
    }
  }

  async function run(job: Job): Promise<void> {
    try {
      await job({ signal });
    } catch (error) {
      fail(error); // Kept as the signal's reason: every later call throws it.
    }
    running -= 1;
    start();
    for (const waiter of waiters) {
      if (running + queue.length <= waiter.most) waiter.resolve();
    }
  }

  function fail(reason: unknown): void {
    queue.length = 0;
    controller.abort(reason);
  }

  async function waitFor(most: number, callers: AbortSignal | undefined): Promise<void> {
    while (running + queue.length > most) {
      const change = Promise.withResolvers<void>();
      const waiter = { most, resolve: change.resolve };
      const onAbort = () => change.resolve();
      waiters.add(waiter);
      callers?.addEventListener('abort', onAbort, { once: true });
      try {
        await change.promise;
      } finally {
        waiters.delete(waiter);
        callers?.removeEventListener('abort', onAbort);
      }
      callers?.throwIfAborted();
    }
  }

  return {
    signal,
    add: (job) => {
      signal.throwIfAborted();
      queue.push(job);
      start();
    },
    room: async (options) => {
      const both = AbortSignal.any([options.signal, signal]);
      both.throwIfAborted();
      await waitFor(limit(), both);
    },
    drain: async (options) => {
      const both = AbortSignal.any([options.signal, signal]);
      both.throwIfAborted();
      await waitFor(0, both);
      signal.throwIfAborted();
    },
    stop: async (reason) => {
      fail(reason);
      await waitFor(0, undefined);
    },
  };
}
