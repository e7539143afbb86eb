/**
 * The jobs this process holds, wherever their turns come from: what those of a queue of one process (local-jobs.ts) and
 * those of a shared one (shared-jobs.ts) have in common.
 *
 * Held means that the job's lease is kept here. It is let go last of all, and whoever waits for that hears of it.
 */
import type { Versioned } from '../catalog/job-store.ts';
import type { Lease } from '../catalog/lease.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { JobQueue } from '../queue-port.ts';
import { inTime } from '../signals.ts';
import type { Engine } from './context.ts';
import { type KeptLease, keepLease } from './keep-lease.ts';
import type { JobSettings, Outcome } from './run-job.ts';

/** The jobs this process holds. */
export interface HeldJobs {
  has(id: string): boolean;
  /** Resolves when the job is held no more: its lease is given back. */
  gone(id: string): Promise<void>;
  /** What a job that waits waits for now; undefined where its record knows better. */
  waitingBecause(job: Job): string | undefined;
  /** Takes the job in; it starts when its pause is over and the limits allow. */
  add(state: Versioned, lease: Lease): Promise<void>;
  /** Stops it, whatever it is doing. One that is not here is nobody's business here. */
  cancel(id: string): void;
  /** Leaves what waits, lets what runs end within `drainMs`, then stops it and waits for its clean-up. */
  drain(input: { drainMs: number }): Promise<void>;
  readonly draining: boolean;
}

/** One that is held here. */
export interface Held {
  controller: AbortController;
  lease: KeptLease;
  gone: PromiseWithResolvers<void>;
}

export interface Holding<More> {
  /** By id. */
  readonly live: ReadonlyMap<string, Held & More>;
  /** Keeps its lease from now on. */
  hold(id: string, lease: Lease, more: More): Held & More;
  /** Ends that. One whose lease is parked stays the machine's only job. */
  letGo(id: string, how: 'giveBack' | 'park'): Promise<void>;
  /** Says how it went to whoever wants to know. */
  tell(outcome: Outcome): void;
  /** Work for a job that has no turn: left, or ended out of turn. A drain waits for it. */
  track(work: Promise<unknown>): void;
  /** As HeldJobs says; what waits is the caller's to leave, in `leave`. */
  drain(input: { drainMs: number }, leave?: () => void): Promise<void>;
  isDraining(): boolean;
}

/** Holds none at first; `queue` is where their turns come from. */
export function createHolding<More extends object>(
  engine: Engine,
  { onEnded, onLeaseLost }: JobSettings,
  queue: Pick<JobQueue, 'stop' | 'idle'>,
): Holding<More> {
  const { clock, notices } = engine;
  const live = new Map<string, Held & More>();
  const elsewhere = new Set<Promise<unknown>>();
  let draining = false;
  return {
    live,
    hold: (id, lease, more) => {
      const controller = new AbortController();
      const kept = keepLease(engine, lease, controller);
      const held = { controller, lease: kept, gone: Promise.withResolvers<void>(), ...more };
      live.set(id, held);
      return held;
    },
    letGo: async (id, how) => {
      const held = live.get(id);
      await held?.lease[how]();
      live.delete(id);
      held?.gone.resolve();
    },
    tell: ({ ended, error }) => {
      if (isBackupError(error, 'lease_lost')) onLeaseLost?.();
      if (ended === undefined) return;
      onEnded?.(ended);
      notices?.ended(ended);
    },
    track: (work) => {
      const tracked = work.finally(() => elsewhere.delete(tracked));
      elsewhere.add(tracked);
    },
    drain: async ({ drainMs }, leave) => {
      draining = true;
      queue.stop();
      leave?.();
      const idle = queue.idle().then(() => true);
      if ((await inTime(clock, drainMs, idle)) === undefined) stopAll(live);
      await idle;
      await Promise.all(elsewhere);
    },
    isDraining: () => draining,
  };
}

function stopAll(live: ReadonlyMap<string, Held>): void {
  for (const { controller } of live.values()) {
    controller.abort(new BackupError('draining', 'stop job: this instance is shutting down'));
  }
}
