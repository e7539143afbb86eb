/**
 * Keeps a job's lease from the moment it is taken until it is given back, whatever the job does meanwhile.
 *
 * It runs apart from steps and record writes: a step that ends, a record that is written slowly or a job that waits
 * in the queue must not let the lease run out. When it is lost, or could not be renewed for so long that another
 * instance may take it, the job is stopped with `lease_lost`.
 */
import type { Lease } from '../catalog/lease.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import { CLEANUP_MS, type Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { pause } from './repeat.ts';

/**
 * A try takes at most this part of the time between two renewals, and the next begins so much later: of 25 s, two
 * tries of 22.5 s end before the owner stops believing in a lease of 90 s (after 75 s).
 */
const TRY_SHARE = 0.9;
const PAUSE_SHARE = 0.1;
/** A job that is left has this long to end what it began; then its lease is given back under it. */
const LEAVE_MS = 500;

export interface KeptLease {
  /** False once another instance may have it: nothing may be begun any more. */
  held(): boolean;
  /** Aborted with `lease_lost`, whatever else the job was stopped for before: not even cleaning up is ours any more. */
  readonly lost: AbortSignal;
  /** Stops renewing and gives the lease back; a second call does nothing. Never throws. */
  giveBack(): Promise<void>;
  /** Stops renewing and leaves it expired, so that any instance may go on with the job. Never throws. */
  park(): Promise<void>;
}

/** Begins to renew `lease`; aborts `controller` when it is lost. */
export function keepLease(engine: Engine, lease: Lease, controller: AbortController): KeptLease {
  const stop = new AbortController();
  const lost = new AbortController();
  lost.signal.addEventListener('abort', () => controller.abort(lost.signal.reason));
  // it lives longer than the request that began the job
  const renewing = engine.tracer.outside(() =>
    renew(engine, lease, { controller: lost, stop: stop.signal }),
  );
  const endBy = (end: typeof release) => async (): Promise<void> => {
    if (stop.signal.aborted) return;
    stop.abort();
    // a renewal under way would write the lease again after it was deleted
    await renewing;
    await end(engine, lease);
  };
  const giveBack = endBy(release);
  onLeaving(engine, stop.signal, () => {
    lost.abort(left(lease));
    // a pool that hangs may hold the step: the process ends in a moment, and then as good as now
    const settled = engine.clock.sleep(LEAVE_MS, { signal: stop.signal });
    void settled.then(giveBack, () => undefined); // it ended by itself
  });
  return { held: lease.held, lost: lost.signal, giveBack, park: endBy(park) };
}

function onLeaving({ leaving }: Engine, stop: AbortSignal, leave: () => void): void {
  if (leaving?.aborted) leave();
  else leaving?.addEventListener('abort', leave, { once: true, signal: stop });
}

/** What a job stops with that this process has no time to stop properly: its record stays, and is gone on with. */
function left({ jobId }: Pick<Lease, 'jobId'>): BackupError {
  return new BackupError(
    'lease_lost',
    `leave job=${jobId} to the next instance: this process ends`,
  );
}

async function renew(
  engine: Engine,
  lease: Lease,
  { controller, stop }: { controller: AbortController; stop: AbortSignal },
): Promise<void> {
  const { renewEveryMs } = engine.leases.timing;
  const limitMs = renewEveryMs * TRY_SHARE;
  for (let waitMs = renewEveryMs; await pause(engine.clock, waitMs, stop); ) {
    // this process slept: the job stops before anything is asked
    if (!lease.held()) return controller.abort(expired(lease));
    try {
      await withDeadline(engine.clock, limitMs, (signal) =>
        lease.renew({ signal: AbortSignal.any([signal, controller.signal]) }),
      );
      waitMs = renewEveryMs;
    } catch (error) {
      const { message } = toBackupError(error);
      engine.log.warn('lease not renewed', { job_id: lease.jobId, error: message });
      if (isBackupError(error, 'lease_lost')) return controller.abort(error);
      if (!lease.held()) return controller.abort(expired(lease, error));
      waitMs = renewEveryMs * PAUSE_SHARE;
    }
  }
}

/** Gives a lease back in its own time. */
export async function release(engine: Engine, lease: Lease): Promise<void> {
  try {
    await withDeadline(engine.clock, CLEANUP_MS, (signal) => lease.release({ signal }));
  } catch (error) {
    // it runs out by itself; until then the machine is only blocked, never backed up twice
    const { message } = toBackupError(error);
    engine.log.warn('lease not released', { job_id: lease.jobId, error: message });
  }
}

/** Leaves a lease to whoever gets the job's next turn. */
export async function park(engine: Engine, lease: Lease): Promise<void> {
  try {
    await withDeadline(engine.clock, CLEANUP_MS, (signal) => lease.park({ signal }));
  } catch (error) {
    // it runs out by itself: the job goes on that much later
    const { message } = toBackupError(error);
    engine.log.warn('lease not parked', { job_id: lease.jobId, error: message });
  }
}

/** What a job ends with here when its lease was not renewed in time. */
export function expired({ jobId }: Pick<Lease, 'jobId'>, cause?: unknown): BackupError {
  return new BackupError('lease_lost', `renew lease in time job=${jobId}`, { cause });
}
