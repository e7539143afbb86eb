/** What the supervisor needs from its Durable Object, and how it is told to go about it. */
import { BackupError } from '../errors.ts';
import type { Clock, Log } from '../ports.ts';
import type { ContainerPort } from './container.ts';
import type { Records } from './records.ts';

/** The part of a Durable Object's storage that is used; each call is atomic, and kept before the next answer leaves. */
export interface SupervisorStorage {
  get<T>(key: string): Promise<T | undefined>;
  put<T>(key: string, value: T): Promise<void>;
  delete(key: string): Promise<boolean>;
  list<T>(options: { prefix: string }): Promise<Map<string, T>>;
  deleteAll(): Promise<void>;
  getAlarm(): Promise<number | null>;
  setAlarm(atMs: number): Promise<void>;
  deleteAlarm(): Promise<void>;
}

export interface SupervisorDeps {
  /** undefined where the platform runs none. */
  container: ContainerPort | undefined;
  storage: SupervisorStorage;
  records: Records;
  clock: Clock;
  log: Log;
}

/** With a container. */
export type Deps = SupervisorDeps & { container: ContainerPort };

export interface SupervisorSettings {
  /** What the container is started with. */
  env: Readonly<Record<string, string>>;
  /** Between two looks while something is watched, or the container runs. */
  alarmMs: number;
  /** It is stopped when nothing was watched and nobody asked for so long. */
  idleMs: number;
  /** How long a request waits for the container to answer. */
  readyMs: number;
  /** Between SIGTERM and the end the hard way, of a container with nothing to do. */
  graceMs: number;
  /** Starts of the container a job may have. */
  maxStarts: number;
}

/** What is not done after `ms` is left, and its signal aborted. Errors: `engine_unavailable`. */
export async function limited<T>(
  clock: Clock,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(ms, { signal: done.signal }).then(() => {
    const late = new BackupError('engine_unavailable', `look at engine: no answer after ${ms} ms`);
    over.abort(late);
    throw late;
  });
  timer.catch(() => {}); // it is only looked at when the work is not done first
  try {
    return await Promise.race([work(over.signal), timer]);
  } finally {
    done.abort();
  }
}

/** What the platform throws may be anything. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
