/**
 * Whether a failed job is tried again, and when. Pure: the ended job in, the waiting one out.
 *
 * Adapters have repeated each call already, steps what is worth minutes; this is for what passes in minutes to hours: a
 * pool that restarts, a chain that is coalesced, a machine that migrates. Only errors that say `later` themselves are
 * tried again. The job has cleaned up by then: no snapshot stays over a pause, and the next attempt begins with
 * preparing. All it must remember lies in its record, so any instance can go on after the pause.
 */
import type { Job } from '../catalog/record.ts';
import { formatTime } from '../time.ts';

export interface RetryPolicy {
  /** Of one job in all; 1 tries nothing again. */
  attempts: number;
  firstPauseMs: number;
}

/** Minutes at first, an hour soon: 1, 4, 16, 60, 60 … */
const PAUSE_FACTOR = 4;
const LONGEST_PAUSE_MS = 3_600_000;

/** The job waiting for its next attempt; undefined when it stays failed. */
export function tryAgain(ended: Job, policy: RetryPolicy, nowMs: number): Job | undefined {
  const { error, checkpoint } = ended;
  if (ended.status !== 'failed' || error?.retry !== 'later') return undefined;
  // who asks what would be done wants to know now; who cancels wants no more attempts
  if (ended.request.dry_run || ended.cancel_requested) return undefined;
  const failures = (checkpoint.failures ?? 0) + 1;
  if (failures >= policy.attempts) return undefined;
  const at = formatTime(nowMs + pauseMs(ended, failures, policy));
  const { finished_at: _, started_at: _2, instance: _3, error: _4, ...rest } = ended;
  return {
    ...rest,
    status: 'queued',
    phase: 'preparing',
    progress: { read_bytes: 0, sent_bytes: 0, copied_bytes: 0 },
    attempt: ended.attempt + 1,
    next_attempt_at: at,
    last_error: error,
    waiting_because: `attempt ${failures} of ${policy.attempts} failed (${error.code}); the next begins at ${at}`,
    checkpoint: startOver(checkpoint, failures),
  };
}

/** What the error asks for, if that is longer. Interrupted by a shutdown, the next instance may begin at once. */
function pauseMs({ error }: Job, failures: number, { firstPauseMs }: RetryPolicy): number {
  if (error?.code === 'draining') return 0;
  const wished = error?.details?.retry_after_seconds;
  const wishedMs = typeof wished === 'number' ? wished * 1000 : 0;
  const own = firstPauseMs * PAUSE_FACTOR ** (failures - 1);
  return Math.min(LONGEST_PAUSE_MS, Math.max(own, wishedMs));
}

/**
 * The upload stays known, in case it could not be aborted, and so do the guest's rounds: it takes a number that comes
 * twice for a repeated call. One that could not be released is owed it again; whatever else was found out may be different now.
 */
function startOver(checkpoint: Job['checkpoint'], failures: number): Job['checkpoint'] {
  const { backup_id, archive_key, upload_id, srs, former_instances, verify } = checkpoint;
  const { hooks: rounds } = checkpoint;
  const hooks = rounds && { ...rounds, owed: rounds.owed || rounds.problem !== undefined };
  const kept = { archive_key, upload_id, srs, former_instances, hooks, verify };
  const known = Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined));
  return { backup_id, ...known, excluded_disks: [], warnings: [], failures };
}
