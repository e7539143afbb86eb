/**
 * Watches one export: is it still moving?
 *
 * Bytes show that it does; where none come (compression over empty disks, a slow disk), the task's own progress does,
 * asked every few seconds. Only while somebody waits for bytes is silence counted: when the bucket is slow, the silence is ours.
 */
import { BackupError } from '../errors.ts';
import { translateExport } from './errors.ts';
import type { Receiver } from './receiver.ts';
import { readTask, type TaskDeps, type TaskState } from './task.ts';

/** After the task failed, the host closes at once; if it does not (it is dead), we need not wait the stall time. */
const FAILED_TASK_MS = 30_000;

export interface WatchSettings {
  firstByteTimeoutMs: number;
  stallTimeoutMs: number;
  taskPollMs: number;
}

export interface Watch {
  /** The connection to look at; a redirect brings another. */
  follow(receiver: Receiver): void;
  /** 0..1, as last seen. */
  readonly progress: number;
  stop(): void;
}

/** Begins to watch. When the export stands still, the receiver fails with `source_truncated` or the task's error. */
export function createWatch(settings: WatchSettings, deps: TaskDeps, task: string): Watch {
  const stop = new AbortController();
  let receiver: Receiver | undefined;
  let progress = 0;
  const run = async () => {
    const silence = createSilence(deps);
    for (;;) {
      await deps.clock.sleep(settings.taskPollMs, { signal: stop.signal });
      const state = await readQuietly(deps, task, stop.signal);
      progress = Math.max(progress, state?.progress ?? 0);
      if (receiver === undefined) continue;
      const silentMs = silence({ receiver, progress });
      const error = verdict(settings, { silentMs, state, receiver });
      if (error === undefined) continue;
      receiver.fail(error);
      return;
    }
  };
  // The only way out besides a verdict is `stop`.
  void run().catch((error) => {
    if (!stop.signal.aborted) receiver?.fail(error);
  });
  return {
    follow: (next) => {
      receiver = next;
    },
    get progress() {
      return progress;
    },
    stop: () => stop.abort(),
  };
}

/** Milliseconds since anything moved, as long as somebody waits. */
function createSilence({ clock }: TaskDeps) {
  let last = { receivedBytes: -1, progress: 0, at: 0 };
  return ({ receiver, progress }: { receiver: Receiver; progress: number }): number => {
    const { receivedBytes } = receiver;
    const moved = receivedBytes !== last.receivedBytes || progress !== last.progress;
    if (moved || !receiver.waiting) last = { receivedBytes, progress, at: clock.elapsed() };
    return clock.elapsed() - last.at;
  };
}

function verdict(
  settings: WatchSettings,
  seen: { silentMs: number; state: TaskState | undefined; receiver: Receiver },
): Error | undefined {
  const { silentMs, state, receiver } = seen;
  const failed = state?.status === 'failure' || state?.status === 'cancelled';
  if (failed && silentMs >= Math.min(FAILED_TASK_MS, settings.stallTimeoutMs)) {
    const error = state.error;
    if (error !== undefined) return translateExport(error, 'export machine') as Error;
  }
  const limitMs =
    receiver.receivedBytes === 0 ? settings.firstByteTimeoutMs : settings.stallTimeoutMs;
  if (silentMs < limitMs) return undefined;
  return new BackupError(
    'source_truncated',
    'read export: neither bytes nor progress, the host seems to hang',
    { details: { silent_ms: Math.round(silentMs), received_bytes: receiver.receivedBytes } },
  );
}

/** A poll that fails says nothing about the export, whose connection is another one. */
async function readQuietly(
  deps: TaskDeps,
  task: string,
  signal: AbortSignal,
): Promise<TaskState | undefined> {
  try {
    return await readTask(deps, task, { signal });
  } catch (error) {
    signal.throwIfAborted();
    deps.log.debug('task of the export not readable for now', { reason: String(error) });
    return undefined;
  }
}
