/**
 * Starts a job and stays with it to its end.
 *
 * Ctrl-C asks for the job to be cancelled and goes on watching, since cleaning up takes a moment and its end is what
 * one wants to know; a second one ends the program at once. Who is told to leave (`run`, SIGTERM) ends with the job as it is.
 */
import { systemClock } from '../clock.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { JobView } from '../http/views.ts';
import type { Clock } from '../ports.ts';
import { parseTime } from '../time.ts';
import type { ServiceClient, Wishes } from './client.ts';
import type { Terminal } from './command.ts';
import { type ExitCode, exitCodeOf } from './exit-code.ts';
import { plain } from './format.ts';
import { createProgressView } from './progress.ts';

/** Snapshot removal may have to wait for a busy host; longer than that nobody waits at a prompt. */
const CANCEL_LIMIT_MS = 180_000;

/** A start that met another instance's lease is tried again so often. */
const AGAIN_MS = 5000;
/** After its end: clocks differ, and what was left is looked for once a minute. */
const TAKE_OVER_MS = 90_000;

/** What is told when the process is asked to leave. */
export const LEAVING = 'stopping: what is under way is left to the next xvault run, or a service';

export interface FollowInput {
  client: ServiceClient;
  terminal: Terminal;
  signal: AbortSignal;
  /** Aborted when the job is to be left as it is to the next process. */
  leave?: AbortSignal;
  /** Called with the job whenever it changed. */
  seen?(job: JobView): void;
  /** With it, a start waits for a lease that nobody renews: its holder was killed, and this process will go on with the job. */
  waitForLease?: Clock;
  /** Whether a job that an earlier run left, and that has ended here, is the backup that is asked for now. */
  isAnswer?(left: JobView): boolean;
}

/** Runs one backup to its end, with progress. */
export async function backUp(
  input: FollowInput,
  wish: { vm: string; wishes: Wishes },
): Promise<JobView> {
  const { client } = input;
  const signal = AbortSignal.any([input.signal, ...(input.leave ? [input.leave] : [])]);
  return await runToEnd(input, () => client.startBackup(wish, { signal }));
}

/**
 * Starts a job and stays with it to its end, with progress.
 *
 * One in its way that a killed run left was taken over by this very process when the client was opened. It is
 * finished first: refusing the new one because of it would also end it, since it lives no longer than the process.
 */
export async function runToEnd(
  input: FollowInput,
  start: () => Promise<JobView>,
): Promise<JobView> {
  const { client, terminal, signal } = input;
  let answer: JobView | undefined;
  const started = await startWhenFree(input, start).catch(async (error: unknown) => {
    const left = await takenOver(client, error, signal);
    if (left === undefined) throw error;
    terminal.err(`first the job that an earlier run left: ${left.id}\n`);
    const ended = await follow(input, left);
    if (!isOver(ended) || input.isAnswer?.(ended)) {
      answer = ended;
      return ended;
    }
    signal.throwIfAborted();
    return await start();
  });
  return started === answer ? started : await follow(input, started);
}

/** A killed process looks like a slow one until its lease has run out. Who renews it lives, and is a conflict. */
async function startWhenFree(
  { client, terminal, signal, leave, waitForLease: clock }: FollowInput,
  start: () => Promise<JobView>,
): Promise<JobView> {
  const stop = AbortSignal.any([signal, ...(leave ? [leave] : [])]);
  let first: Holder | undefined;
  for (;;) {
    try {
      return await start();
    } catch (error) {
      const now = holderOf(error);
      if (clock === undefined || now === undefined || now.owner === client.instance) throw error;
      if (first === undefined) {
        terminal.err(`${plain(now.owner)} is at it: waiting whether its lease is renewed\n`);
      } else if (now.owner !== first.owner || now.expiresAtMs > first.expiresAtMs) throw error;
      first ??= now;
      if (clock.now() > first.expiresAtMs + TAKE_OVER_MS) throw error;
    }
    await clock.sleep(AGAIN_MS, { signal: stop });
  }
}

interface Holder {
  owner: string;
  expiresAtMs: number;
}

function holderOf(error: unknown): Holder | undefined {
  if (!isBackupError(error, 'job_conflict')) return undefined;
  const { owner, expires_at: expiresAt } = error.details;
  if (typeof owner !== 'string' || typeof expiresAt !== 'string') return undefined;
  return { owner, expiresAtMs: parseTime(expiresAt) };
}

/** The job in the way, if it is this process that works on it. */
async function takenOver(
  client: ServiceClient,
  error: unknown,
  signal: AbortSignal,
): Promise<JobView | undefined> {
  if (!isBackupError(error, 'job_conflict') || client.instance === undefined) return undefined;
  const { job_id: id, owner } = error.details;
  if (owner !== client.instance || typeof id !== 'string') return undefined;
  for await (const job of client.watchJob(id, { signal })) return job;
  return undefined;
}

/** Watches a job to its end, with progress. Errors: `not_found` when it vanishes. */
export async function follow(input: FollowInput, started: JobView): Promise<JobView> {
  const { client, terminal, signal, leave } = input;
  const view = createProgressView(terminal, systemClock);
  const watching = new AbortController();
  let cancelling: Promise<unknown> = Promise.resolve();
  const cancel = () => {
    terminal.err('\ncancelling; Ctrl-C again leaves at once\n');
    const limit = AbortSignal.timeout(CANCEL_LIMIT_MS);
    limit.addEventListener('abort', () => watching.abort(signal.reason));
    cancelling = client.cancelJob(started.id, { signal: limit });
    cancelling.catch((error) => watching.abort(error));
  };
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  const stopWatching = () => watching.abort(leave?.reason);
  if (leave?.aborted) stopWatching();
  else leave?.addEventListener('abort', stopWatching, { once: true });
  let last = started;
  const look = (job: JobView): void => {
    last = job;
    input.seen?.(job);
  };
  try {
    look(started);
    view.update(started);
    for await (const job of client.watchJob(started.id, { signal: watching.signal })) {
      look(job);
      if (isOver(job)) break;
      view.update(job);
    }
    await cancelling;
    if (!isOver(last)) throw new BackupError('not_found', `find job, id=${started.id}`);
    view.end(last);
    return last;
  } catch (error) {
    if (!leave?.aborted) throw error;
    terminal.err(`\n${LEAVING}\n`);
    await client.left?.();
    for await (const job of client.watchJob(started.id, { signal })) {
      look(job);
      break;
    }
    return last;
  } finally {
    signal.removeEventListener('abort', cancel);
    leave?.removeEventListener('abort', stopWatching);
  }
}

/** The exit code for how a job ended, or was left. */
export function jobExitCode(job: JobView): ExitCode {
  if (job.status === 'succeeded') return 0;
  if (!isOver(job)) return 143;
  return job.status === 'cancelled' ? 130 : exitCodeOf(job.error?.code);
}

function isOver({ status }: JobView): boolean {
  return status !== 'queued' && status !== 'running';
}
