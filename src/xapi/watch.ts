/**
 * Watches one transfer: is it still moving?
 *
 * Bytes show that it does; where none come (compression over empty disks, a slow disk), the task's own progress does,
 * asked every few seconds. Only while somebody waits for the host is silence counted: when the bucket is slow, the silence is ours.
 */
import { BackupError } from '../errors.ts';
import type { Direction } from './direction.ts';
import { translateTransfer } from './import-errors.ts';
import { readTask, type TaskDeps, type TaskState } from './task.ts';

/** After an export's task failed, what is left to read comes at once; if not (the host is dead), we need not wait the stall time. */
const FAILED_TASK_MS = 30_000;

export interface WatchSettings {
  firstByteTimeoutMs: number;
  stallTimeoutMs: number;
  taskPollMs: number;
}

/** One end of a connection. */
export interface Watched {
  /** Read from the host, or taken by it. */
  readonly movedBytes: number;
  /** Somebody waits for the host right now. */
  readonly waiting: boolean;
  /** Ends everything with this error. */
  fail(error: Error): void;
}

export interface Watch {
  /** The connection to look at; a redirect brings another. */
  follow(watched: Watched): void;
  /** 0..1, as last seen. */
  readonly progress: number;
  stop(): void;
}

/** Begins to watch. When the transfer stands still, its connection fails with the direction's `broken` or the task's error. */
export function createWatch(
  settings: WatchSettings & { direction: Direction },
  deps: TaskDeps,
  task: string,
): Watch {
  const stop = new AbortController();
  let watched: Watched | undefined;
  let progress = 0;
  const run = async () => {
    const silence = createSilence(deps);
    for (;;) {
      await deps.clock.sleep(settings.taskPollMs, { signal: stop.signal });
      const state = await readQuietly(deps, task, stop.signal);
      progress = Math.max(progress, state?.progress ?? 0);
      if (watched === undefined) continue;
      const silentMs = silence({ watched, progress });
      const error = verdict(settings, { silentMs, state, watched, progress });
      if (error === undefined) continue;
      watched.fail(error);
      return;
    }
  };
  // The only way out besides a verdict is `stop`.
  void run().catch((error) => {
    if (!stop.signal.aborted) watched?.fail(error);
  });
  return {
    follow: (next) => {
      watched = next;
    },
    get progress() {
      return progress;
    },
    stop: () => stop.abort(),
  };
}

/** Milliseconds since anything moved, as long as somebody waits. */
function createSilence({ clock }: TaskDeps) {
  let last = { movedBytes: -1, progress: 0, at: 0 };
  return ({ watched, progress }: { watched: Watched; progress: number }): number => {
    const { movedBytes } = watched;
    const moved = movedBytes !== last.movedBytes || progress !== last.progress;
    if (moved || !watched.waiting) last = { movedBytes, progress, at: clock.elapsed() };
    return clock.elapsed() - last.at;
  };
}

function verdict(
  settings: WatchSettings & { direction: Direction },
  seen: { silentMs: number; state: TaskState | undefined; watched: Watched; progress: number },
): Error | undefined {
  const { direction, firstByteTimeoutMs, stallTimeoutMs } = settings;
  const { silentMs, state, watched, progress } = seen;
  const reads = direction.method === 'GET';
  const failed = state?.status === 'failure' || state?.status === 'cancelled';
  // What is sent after an import has failed goes nowhere.
  if (failed && silentMs >= (reads ? Math.min(FAILED_TASK_MS, stallTimeoutMs) : 0)) {
    const error = state.error;
    if (error !== undefined) return translateTransfer(direction, error) as Error;
  }
  // An import is answered at once; then the host makes the disks, while what we send fills the sockets' memory.
  const begun = reads ? watched.movedBytes > 0 : watched.movedBytes === 0 || progress > 0;
  if (silentMs < (begun ? stallTimeoutMs : firstByteTimeoutMs)) return undefined;
  const verb = reads ? 'read export' : 'send import';
  const details = { silent_ms: Math.round(silentMs), moved_bytes: watched.movedBytes };
  const message = `${verb}: neither bytes nor progress, the host seems to hang`;
  return new BackupError(direction.broken, message, { details });
}

/** A poll that fails says nothing about the transfer, whose connection is another one. */
async function readQuietly(
  deps: TaskDeps,
  task: string,
  signal: AbortSignal,
): Promise<TaskState | undefined> {
  try {
    return await readTask(deps, task, { signal });
  } catch (error) {
    signal.throwIfAborted();
    deps.log.debug('task not readable for now', { reason: String(error) });
    return undefined;
  }
}
