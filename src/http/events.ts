/**
 * A job as server-sent events (WHATWG HTML, 9.2): `state`, then `progress` and `phase` as they come, then `end`.
 *
 * No log is kept: a reconnect gets `state` again and goes on. `state` and `end` carry the whole job, `phase` its
 * status, phase and attempt, `progress` the counters, at most every two seconds and never older than the next event.
 * A comment every 15 s keeps proxies from cutting the line. The stream is pulled: a reader that does not read costs
 * no memory, it only sees fewer, newer events.
 */
import { isEnded, type Job } from '../catalog/record.ts';
import type { Cancellable, Clock } from '../ports.ts';
import { jobView } from './views.ts';

export const PROGRESS_EVERY_MS = 2_000;
export const KEEP_ALIVE_MS = 15_000;
const RECONNECT_MS = 5_000;

const TICK = Symbol('tick');

/** Event texts for the jobs `watched` yields, ending after `end` or when the watch ends. */
export async function* jobEvents(
  watched: AsyncIterable<Job>,
  { clock }: { clock: Clock },
  { signal }: Cancellable,
): AsyncGenerator<string, void, undefined> {
  const source = watched[Symbol.asyncIterator]();
  let coming = ahead(source);
  let shownStage: string | undefined;
  let shownProgress = '';
  let progressAt = Number.NEGATIVE_INFINITY;
  /** The newest counters not shown yet. */
  let pending: string | undefined;
  try {
    for (;;) {
      const dueMs = progressAt + PROGRESS_EVERY_MS - clock.elapsed();
      const waitMs = pending === undefined ? KEEP_ALIVE_MS : Math.max(0, dueMs);
      const next = await orTick(coming, waitMs, { clock, signal });
      if (next === TICK) {
        if (pending === undefined) yield ': keep-alive\n\n';
        else {
          yield event('progress', pending);
          shownProgress = pending;
          pending = undefined;
          progressAt = clock.elapsed();
        }
        continue;
      }
      if (next.done) return;
      const view = jobView(next.value);
      const progress = JSON.stringify(view.progress);
      if (shownStage === undefined) {
        yield `retry: ${RECONNECT_MS}\n${event('state', JSON.stringify(view))}`;
        shownProgress = progress;
      }
      if (isEnded(next.value)) {
        yield event('end', JSON.stringify(view));
        return;
      }
      const stage = stageOf(next.value);
      if (shownStage !== undefined && stage !== shownStage) yield event('phase', stage);
      shownStage = stage;
      pending = progress === shownProgress ? undefined : progress;
      coming = ahead(source);
    }
  } finally {
    await source.return?.();
  }
}

/** The next job, asked for before it is wanted: it may fail while the reader of the stream pauses. */
function ahead(source: AsyncIterator<Job>): Promise<IteratorResult<Job>> {
  const next = source.next();
  next.catch(() => undefined); // reported by whoever awaits it
  return next;
}

/** The response body; a reader that leaves ends the generator through `abort`. */
export function eventStream(
  events: AsyncGenerator<string, void, undefined>,
  hooks: { abort: () => void; ended: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      try {
        const next = await events.next();
        if (!next.done) return controller.enqueue(encoder.encode(next.value));
        hooks.ended();
        controller.close();
      } catch (error) {
        hooks.ended();
        throw error; // errors the stream: the client sees a cut line and reconnects
      }
    },
    cancel: () => {
      hooks.abort();
      hooks.ended();
    },
  });
}

function stageOf({ status, phase, attempt }: Job): string {
  return JSON.stringify({ status, phase, attempt });
}

function event(name: string, data: string): string {
  return `event: ${name}\ndata: ${data}\n\n`;
}

/** The promise, or TICK after `ms`. */
async function orTick<T>(
  promise: Promise<T>,
  ms: number,
  { clock, signal }: { clock: Clock } & Cancellable,
): Promise<T | typeof TICK> {
  const stop = new AbortController();
  const tick = clock
    .sleep(ms, { signal: AbortSignal.any([signal, stop.signal]) })
    .then((): typeof TICK => TICK);
  // once the race is decided the sleep is stopped, and its rejection is nobody's business
  tick.catch(() => undefined);
  try {
    return await Promise.race([promise, tick]);
  } finally {
    stop.abort();
  }
}
