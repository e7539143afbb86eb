/**
 * What the supervisor watches and what it does about it: pure decisions, and the constants they rest on.
 *
 * A job or a run is watched from the moment the engine said 202 until its record in the bucket says that it ended. While
 * the container runs and somebody works on it there is nothing to decide. When it does not run, it is started again, a bounded number of times: the
 * engine itself ends a job that five instances began and none ended, so six starts let it say that itself, and the
 * supervisor only speaks for an engine that never gets so far. What is no failure of the job is not counted: a job that
 * a drain left queued (deploys, hosts that are restarted), a run that came further since the last start.
 */

export interface WatchedName {
  kind: 'job' | 'run';
  id: string;
}

/** As it lies in the Durable Object's storage. */
export interface Watched extends WatchedName {
  /** Starts of the container this job has had, the one it was begun in included. */
  starts: number;
  /** Of the last one, milliseconds since 1970. */
  startedAt: number;
  /** How far it was then: `Seen.milestone`. */
  milestone: number;
  /** Since when the container runs and nobody works on it, milliseconds since 1970; absent while somebody does. */
  idleSince?: number;
}

/** What its record says now. */
export interface Seen {
  ended: boolean;
  /** When an instance last wrote it. */
  updatedAt: string;
  /** Grows when a start was no failure of this job or run: nothing was lost by it. */
  milestone: number;
  /**
   * Whose lease it is, if it has not run out: an instance of this container, or another. `queue`: left there on purpose,
   * it waits in a queue that instances share.
   */
  holder: 'ours' | 'other' | 'queue' | 'nobody';
}

/** A start every `alarmMs` at first, then twice as long each time: a lack of capacity of some minutes is outlasted. */
export const LONGEST_PAUSE_MS = 10 * 60_000;

/**
 * An engine that can reach the bucket takes up what was left within two minutes of the end of its lease. What it leaves
 * alone for an hour it never will (too many newer jobs, a record it refuses), and its container would run for ever.
 */
export const UNATTENDED_MS = 60 * 60_000;

export type Step = 'forget' | 'wait' | 'start' | 'give_up';

/** What to do about one that is watched. `seen` is undefined when there is no such record (any more). */
export function nextStep(
  watched: Watched,
  seen: Seen | undefined,
  now: { running: boolean; nowMs: number; maxStarts: number; alarmMs: number },
): Step {
  if (seen === undefined || seen.ended) return 'forget';
  if (now.running) return isUnattended(watched, seen, now.nowMs) ? 'give_up' : 'wait';
  // another container took it over: its lease says that it lives
  if (seen.holder === 'other') return 'wait';
  if (now.nowMs < watched.startedAt + pauseMs(watched.starts, now.alarmMs)) return 'wait';
  if (watched.starts < now.maxStarts || seen.milestone > watched.milestone) return 'start';
  // its own last instance may not be dead for sure until its lease has run out
  return seen.holder === 'ours' ? 'wait' : 'give_up';
}

/** As it is remembered after a look: whether somebody works on it. */
export function lookedAt(
  watched: Watched,
  seen: Seen,
  { running, nowMs }: { running: boolean; nowMs: number },
): Watched {
  const { idleSince, ...rest } = watched;
  if (!running || seen.holder !== 'nobody') return idleSince === undefined ? watched : rest;
  return idleSince === undefined ? { ...watched, idleSince: nowMs } : watched;
}

function isUnattended({ idleSince }: Watched, { holder }: Seen, nowMs: number): boolean {
  return holder === 'nobody' && idleSince !== undefined && nowMs - idleSince >= UNATTENDED_MS;
}

/** As it is remembered after the container was started once more. */
export function startedAgain(watched: Watched, seen: Seen, nowMs: number): Watched {
  const counted = seen.milestone > watched.milestone ? 0 : 1;
  const { idleSince: _, ...rest } = watched;
  return {
    ...rest,
    starts: watched.starts + counted,
    startedAt: nowMs,
    milestone: Math.max(seen.milestone, watched.milestone),
  };
}

/** Between the last start and the next. */
export function pauseMs(starts: number, alarmMs: number): number {
  return Math.min(LONGEST_PAUSE_MS, alarmMs * 2 ** Math.max(0, starts - 1));
}

/** The job or run that a 202 names. */
export function nameIn(location: string | null): WatchedName | undefined {
  const [, kind, id] = /\/v1\/(job|run)s\/([0-9a-f-]{36})$/.exec(location ?? '') ?? [];
  return id === undefined ? undefined : { kind: kind === 'run' ? 'run' : 'job', id };
}
