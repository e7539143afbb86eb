/**
 * Long calls: `Async.X` gives a task at once, which is asked until it ends.
 *
 * Asked, not awaited by events: one event.from would hold a connection, and a task that vanished sends none. A task that
 * is gone (a restart of xapi forgets all of them) leaves the outcome unknown, which is never success. Tasks belong to
 * whoever made them and stay for an hour, so each is destroyed when it was read.
 * Source: xen-api ocaml/xapi/xapi_task.ml, db_gc_util.ml.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Clock, Log } from '../ports.ts';
import type { XapiParam } from './codec.ts';
import { isXapiError, XapiError } from './errors.ts';
import { float, text, texts, toRecord } from './fields.ts';
import type { Redactor } from './redact.ts';
import type { Session } from './session.ts';

const FIRST_POLL_MS = 50;
const MAX_POLL_MS = 2_000;
/** xapi itself waits up to 2 h for a machine that is busy; after that something is stuck. */
const TASK_LIMIT_MS = 3 * 3600_000;
/** The pool may be away for a moment while its task goes on. */
const UNREACHABLE_MS = 5 * 60_000;
/** Cancelling is noticed within 10 s of progress; cleaning up must not hold a job for ever. */
const CANCEL_MS = 15_000;

/** A call that is under way when its caller leaves is answered within milliseconds, or the pool hangs. */
const ANSWER_MS = 3_000;

export type TaskStatus = 'pending' | 'success' | 'failure' | 'cancelled';

export interface TaskState {
  status: TaskStatus;
  /** 0..1; -1 as long as nobody took the task. */
  progress: number;
  result: string;
  error: XapiError | undefined;
}

export interface TaskDeps {
  session: Session;
  clock: Clock;
  log: Log;
  redactor: Redactor;
}

/** A task as it is now; undefined when it is gone. */
export async function readTask(
  { session, redactor }: TaskDeps,
  task: string,
  options: { signal: AbortSignal },
): Promise<TaskState | undefined> {
  try {
    const record = toRecord(await session.call('task.get_record', [task], options));
    const [code, ...params] = texts(record, 'error_info').map(redactor.text);
    const status = text(record, 'status');
    return {
      status: isStatus(status) ? status : 'pending',
      progress: float(record, 'progress'),
      result: text(record, 'result'),
      error: code === undefined ? undefined : new XapiError(code, params),
    };
  } catch (error) {
    if (isXapiError(error, 'HANDLE_INVALID')) return undefined;
    throw error;
  }
}

function isStatus(status: string): status is TaskStatus {
  return ['pending', 'success', 'failure', 'cancelled'].includes(status);
}

/**
 * Asks until the task is over; undefined when it vanished or is still pending after `limitMs`.
 *
 * A pool that does not answer for a while is borne, up to a limit.
 */
export async function awaitTask(
  deps: TaskDeps,
  input: { task: string; limitMs: number; onState?(state: TaskState): void },
  options: { signal: AbortSignal },
): Promise<TaskState | undefined> {
  const { task, limitMs, onState } = input;
  const { clock } = deps;
  const startedAt = clock.elapsed();
  let answeredAt = startedAt;
  for (let waitMs = FIRST_POLL_MS; ; waitMs = Math.min(waitMs * 1.5, MAX_POLL_MS)) {
    try {
      const state = await readTask(deps, task, options);
      if (state === undefined || state.status !== 'pending') return state;
      onState?.(state);
      answeredAt = clock.elapsed();
    } catch (error) {
      const awayMs = clock.elapsed() - answeredAt;
      if (!isBackupError(error, 'pool_unavailable') || awayMs > UNREACHABLE_MS) throw error;
      deps.log.info('task not readable for now', { reason: error.message });
    }
    if (clock.elapsed() - startedAt >= limitMs) return undefined;
    await clock.sleep(waitMs, options);
  }
}

/**
 * Runs a long call and returns the text of its result.
 *
 * Errors: XapiError as the task says; `pool_unavailable` when the outcome is unknown. Cancel: the task is cancelled and
 * destroyed; what it made before is not undone.
 */
export async function runTask(
  deps: TaskDeps,
  { method, params }: { method: string; params: readonly XapiParam[] },
  options: { signal: AbortSignal },
): Promise<string> {
  const task = await startTask(deps, { method: `Async.${method}`, params }, options);
  let over = false;
  try {
    const state = await awaitTask(deps, { task, limitMs: TASK_LIMIT_MS }, options);
    over = state !== undefined;
    if (state?.status === 'success') return state.result;
    if (state?.status === 'cancelled') throw state.error ?? new XapiError('TASK_CANCELLED', [task]);
    if (state?.status === 'failure') throw state.error ?? new XapiError('INTERNAL_ERROR', []);
    throw new BackupError(
      'pool_unavailable',
      `wait for the task of ${method}: it is gone or stuck`,
      {
        details: { method, task },
      },
    );
  } finally {
    await dropTask(deps, { task, over });
  }
}

/**
 * Makes a call that answers with a new task of ours.
 *
 * Cancel: waits a moment for the answer, since without it nobody could end the task, and drops it.
 */
export async function startTask(
  deps: TaskDeps,
  { method, params }: { method: string; params: readonly XapiParam[] },
  { signal }: { signal: AbortSignal },
): Promise<string> {
  signal.throwIfAborted();
  const answered = new AbortController();
  const late = new AbortController();
  const onAbort = () => {
    deps.clock.sleep(ANSWER_MS, { signal: answered.signal }).then(
      () => late.abort(signal.reason),
      () => undefined, // answered in time
    );
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const task = String(await deps.session.call(method, params, { signal: late.signal }));
    if (signal.aborted) await dropTask(deps, { task, over: false });
    signal.throwIfAborted();
    return task;
  } finally {
    signal.removeEventListener('abort', onAbort);
    answered.abort();
  }
}

/** Cancels a task that is not over, waits for its end (a little, unless told), and destroys it; never throws. The end, if it was seen. */
export async function dropTask(
  deps: TaskDeps,
  { task, over, patienceMs = CANCEL_MS / 2 }: { task: string; over: boolean; patienceMs?: number },
): Promise<TaskState | undefined> {
  const signal = AbortSignal.timeout(patienceMs + CANCEL_MS / 2);
  const { session, log, redactor } = deps;
  let end: TaskState | undefined;
  try {
    if (!over) {
      await session.call('task.cancel', [task], { signal }).catch(gone);
      end = await awaitTask(deps, { task, limitMs: patienceMs }, { signal });
    }
    await session.call('task.destroy', [task], { signal }).catch(gone);
  } catch (error) {
    // The pool drops ended tasks by itself after an hour; the caller has a better error to tell.
    log.warn('task not cleaned up', { task, reason: String(redactor.error(error)) });
  }
  return end;
}

/** Over, gone, or not cancellable any more: nothing to do. */
function gone(error: unknown): void {
  if (!isXapiError(error)) throw error;
}

/**
 * The same for a task that may take as long as it moves; a state still `pending` means that it stood still for `stallMs`.
 *
 * Until its progress is above 0 it may take `beginMs`.
 */
export async function awaitMoving(
  deps: TaskDeps,
  input: { task: string; beginMs: number; stallMs: number; onProgress?(progress: number): void },
  options: { signal: AbortSignal },
): Promise<TaskState | undefined> {
  const { task, beginMs, stallMs, onProgress } = input;
  let progress = 0;
  for (;;) {
    const before = progress;
    const onState = (state: TaskState) => {
      if (state.progress > progress) onProgress?.(state.progress);
      progress = Math.max(progress, state.progress);
    };
    const limitMs = before > 0 ? stallMs : beginMs;
    const state =
      (await awaitTask(deps, { task, limitMs, onState }, options)) ??
      (await readTask(deps, task, options));
    if (state?.status !== 'pending' || progress === before) return state;
  }
}

/** The reference inside a task's result, `<value>OpaqueRef:…</value>`. */
export function resultRef(result: string): string {
  const found = /OpaqueRef:[^<\s]+/.exec(result)?.[0];
  if (found !== undefined) return found;
  throw new BackupError('pool_unavailable', 'read result of the task: no reference in it');
}

/** All references inside a task's result, `<value><array><data><value>OpaqueRef:…`. */
export function resultRefs(result: string): string[] {
  return result.match(/OpaqueRef:[^<\s]+/g) ?? [];
}
