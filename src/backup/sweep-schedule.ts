/**
 * When a service sweeps by itself: at its start, every hour, and when one of its jobs lost its lease.
 *
 * A job that lost its lease may have had a call under way that made something after its successor had looked. Stopping
 * ends a sweep at once, since whatever it did not reach is found by the next.
 */
import { BackupError, toBackupError } from '../errors.ts';
import type { Engine } from './context.ts';
import type { Service } from './service.ts';
import type { Sweep } from './sweep.ts';

/** Leftovers cost space, not safety: an hour is soon enough, and a listing an hour costs nothing. */
const SWEEP_EVERY_MS = 3600_000;

export interface SweepSchedule {
  sweep: Service['sweep'];
  /** Begins, in the background. */
  start(): void;
  /** One sweep now, in the background. */
  soon(): void;
  /** Ends a sweep under way and waits for that. */
  stop(): Promise<void>;
}

/** Runs `sweep` by request and by the clock. */
export function createSweepSchedule(
  { clock, log }: Pick<Engine, 'clock' | 'log'>,
  sweep: Sweep,
): SweepSchedule {
  const stopped = new AbortController();
  const underWay = new Set<Promise<unknown>>();
  const track = <T>(work: Promise<T>): Promise<T> => {
    const forget = () => {
      underWay.delete(work);
    };
    underWay.add(work);
    work.then(forget, forget);
    return work;
  };
  const run: Service['sweep'] = async (input, { signal }) => {
    stopped.signal.throwIfAborted();
    return await track(sweep(input, { signal: AbortSignal.any([signal, stopped.signal]) }));
  };
  const quietly = async (): Promise<void> => {
    try {
      await run({ dryRun: false }, { signal: stopped.signal });
    } catch (error) {
      if (stopped.signal.aborted) return;
      // nothing is lost: the next round finds it again
      log.warn('sweep failed', { error: toBackupError(error).message });
    }
  };
  const hourly = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await quietly();
      await clock.sleep(SWEEP_EVERY_MS, { signal: stopped.signal }).catch(() => undefined); // stopped
    }
  };
  return {
    sweep: run,
    start: () => void track(hourly()),
    soon: () => void track(quietly()),
    stop: async () => {
      stopped.abort(new BackupError('draining', 'sweep: this instance is shutting down'));
      await Promise.allSettled(underWay);
    },
  };
}
