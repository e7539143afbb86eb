/** Looking at one job, once or until it ends, from its record and what this process knows besides. */
import { isEnded, type Job } from '../catalog/record.ts';
import type { Cancellable } from '../ports.ts';
import { inTime } from '../signals.ts';
import type { Engine } from './context.ts';
import type { Service } from './service.ts';

/** How often a waiting caller looks at a record: it is read from the bucket at most once a second anyway. */
const WATCH_EVERY_MS = 500;
/** A lease is given back some requests after the last record; a bucket that is away must not hold the answer. */
export const GONE_LIMIT_MS = 5_000;

export interface Watch extends Pick<Service, 'getJob' | 'waitJob' | 'watchJob'> {
  /** The job with what it waits for now: that changes while its record does not. */
  shown(job: Job): Job;
}

/** What this process knows of the jobs it holds. */
export interface Held {
  waitingBecause(job: Job): string | undefined;
  gone(id: string): Promise<void>;
}

/** Whoever is told here that a job has ended finds its machine free: to be backed up again, or to be audited. */
export function createWatch({ jobs, clock }: Pick<Engine, 'jobs' | 'clock'>, held: Held): Watch {
  const shown = (job: Job): Job => {
    const reason = job.status === 'queued' ? held.waitingBecause(job) : undefined;
    return reason === undefined ? job : { ...job, waiting_because: reason };
  };
  const look = async (id: string): Promise<Job | undefined> => {
    const job = await jobs.read(id);
    if (job && isEnded(job)) await inTime(clock, GONE_LIMIT_MS, held.gone(id));
    return job && shown(job);
  };
  return {
    shown,
    getJob: look,
    waitJob: async (id, { timeoutMs }, { signal }) => {
      const until = clock.elapsed() + timeoutMs;
      for (;;) {
        const job = await look(id);
        if (job === undefined || isEnded(job) || clock.elapsed() >= until) return job;
        await clock.sleep(Math.min(WATCH_EVERY_MS, until - clock.elapsed()), { signal });
      }
    },
    watchJob: async function* (id: string, { signal }: Cancellable): AsyncGenerator<Job> {
      let seen: string | undefined;
      for (;;) {
        const job = await look(id);
        if (job === undefined) return;
        const version = versionOf(job);
        if (version !== seen) yield job;
        seen = version;
        if (isEnded(job)) return;
        await clock.sleep(WATCH_EVERY_MS, { signal });
      }
    },
  };
}

function versionOf({ updated_at, status, phase, cancel_requested, waiting_because }: Job): string {
  return JSON.stringify([updated_at, status, phase, cancel_requested, waiting_because]);
}
