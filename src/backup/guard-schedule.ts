/**
 * When the guard looks by itself: after each job, at the one machine it was about, and at all machines at the start of a
 * service and every six hours. Where nothing keeps running, jobs and `POST /v1/rotation/renew` are all there is.
 *
 * A look after a job is part of ending: a process that is told to stop waits for it as long as it would for a job, and one
 * that was started for this job until the copy is made: where nothing else of xvault runs, nobody else would make it.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { Engine } from './context.ts';
import type { Guard } from './guard.ts';
import type { GuardService } from './guard-service.ts';

/** Margins are days: a look that fails is made again many times. Each lists the bucket. */
const LOOK_EVERY_MS = 6 * 3_600_000;

export interface GuardSchedule extends GuardService {
  /** A job ended, well or not; the look is made in the background. */
  jobEnded(job: Job): void;
  /** Looks at all machines now, in the background. */
  soon(): void;
  /** Begins, in the background. */
  start(): void;
  /** Lets looks under way end within `drainMs`, then ends them. With `until` that time begins when it aborts. */
  stop(input: { drainMs: number; until?: AbortSignal | undefined }): Promise<void>;
}

/** Runs `guard` by request, by the clock and by jobs. */
export function createGuardSchedule(
  { clock, log }: Pick<Engine, 'clock' | 'log'>,
  guard: Guard,
): GuardSchedule {
  const stopping = new AbortController();
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
  const quietly = async (look: () => Promise<unknown>): Promise<void> => {
    try {
      await look();
    } catch (error) {
      if (stopped.signal.aborted) return;
      // nothing is lost: the next look finds the same
      log.warn('last good backups not looked at', { error: toBackupError(error).message });
    }
  };
  const all: GuardService['renewLastGood'] = async (input, { signal }) => {
    stopping.signal.throwIfAborted();
    return await track(guard.all(input, { signal: AbortSignal.any([signal, stopped.signal]) }));
  };
  const regularly = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await quietly(() => guard.all({ dryRun: false }, { signal: stopped.signal }));
      await clock.sleep(LOOK_EVERY_MS, { signal: stopping.signal }).catch(() => undefined); // stopping
    }
  };
  return {
    renewLastGood: all,
    jobEnded: ({ vm: { pool, uuid: vmUuid }, request }) => {
      if (stopped.signal.aborted || request.dry_run) return;
      const look = () => guard.look({ pool, vmUuid }, { signal: stopped.signal });
      void track(quietly(look));
    },
    soon: () => void track(quietly(() => guard.all({ dryRun: false }, { signal: stopped.signal }))),
    start: () => void track(regularly()),
    stop: async ({ drainMs, until }) => {
      const reason = new BackupError('draining', 'guard: this instance is shutting down');
      stopping.abort(reason);
      if (drainMs === 0 && until === undefined) stopped.abort(reason);
      if (underWay.size === 0) return;
      const done = new AbortController();
      const late = aborted(until, done.signal)
        .then(() => clock.sleep(drainMs, { signal: done.signal }))
        .then(() => stopped.abort(reason))
        .catch(() => undefined); // all ended in time
      await Promise.allSettled(underWay);
      done.abort();
      await late;
      stopped.abort(reason);
    },
  };
}

/** Resolves when `until` aborts, at once without it; rejects when it is not waited for any more. */
async function aborted(until: AbortSignal | undefined, done: AbortSignal): Promise<void> {
  if (until === undefined || until.aborted) return;
  await new Promise<void>((resolve, reject) => {
    until.addEventListener('abort', () => resolve(), { once: true, signal: done });
    done.addEventListener('abort', () => reject(done.reason), { once: true });
  });
}
