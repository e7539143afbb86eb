/**
 * One machine, one job: a small object in the bucket that says who works on it and until when.
 *
 * Taken by a conditional create, renewed and taken over by a conditional replace. Each write carries a lease id of
 * its own, so an answer that got lost is resolved by reading back (the store port does that). Clocks differ: a lease
 * is another's until `CLOCK_SKEW_MS` after its end, and its owner stops believing in it the same span before.
 * On a store without conditional writes it only guards one instance against itself; `facts()` says so at start.
 */
import { z } from 'zod';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, Ids, ObjectStore } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';

/** Long enough for a slow store, short enough that a dead instance's machines are free again soon. */
export const LEASE_MS = 90_000;
export const RENEW_EVERY_MS = 25_000;
/** Servers synchronised by NTP differ by far less; S3 itself refuses requests 15 minutes off. */
export const CLOCK_SKEW_MS = 15_000;

const leaseSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  job_id: z.string(),
  owner: z.string(),
  expires_at: z.iso.datetime(),
});

export interface Lease {
  readonly key: string;
  readonly jobId: string;
  /** False once renewing came too late: the holder must stop before another begins. */
  held(): boolean;
  /** Errors: `lease_lost` when somebody else has it. */
  renew(options: Cancellable): Promise<void>;
  /** Gives it back; another's is left alone. */
  release(options: Cancellable): Promise<void>;
}

export interface LeaseHolder {
  jobId: string;
  owner: string;
  expiresAt: number;
  /** Past its end by more than the clocks may differ. */
  expired: boolean;
}

export interface Leases {
  /** Errors: `lease_held` with details job_id, owner, expires_at. */
  take(input: { key: string; jobId: string }, options: Cancellable): Promise<Lease>;
  look(key: string, options: Cancellable): Promise<LeaseHolder | undefined>;
}

export interface LeaseDeps {
  store: ObjectStore;
  clock: Clock;
  ids: Ids;
}

/** Leases owned by `owner` (one name an instance). */
export function createLeases(deps: LeaseDeps, settings: { owner: string }): Leases {
  const { store, clock, ids } = deps;

  const body = (jobId: string, expiresAt: number) =>
    JSON.stringify({
      version: 1,
      id: ids.uuid(),
      job_id: jobId,
      owner: settings.owner,
      expires_at: formatTime(expiresAt),
    });

  async function read(key: string, { signal }: Cancellable) {
    const found = await store.get(key, { signal });
    if (found === undefined) return undefined;
    const lease = leaseSchema.safeParse(parseJson(found.bytes));
    if (!lease.success) {
      throw new BackupError('data_corrupt', `read lease key=${key}`, { cause: lease.error });
    }
    const expiresAt = parseTime(lease.data.expires_at);
    return {
      etag: found.etag,
      holder: {
        jobId: lease.data.job_id,
        owner: lease.data.owner,
        expiresAt,
        expired: clock.now() > expiresAt + CLOCK_SKEW_MS,
      },
    };
  }

  async function claim(key: string, jobId: string, { signal }: Cancellable): Promise<string> {
    const fresh = () => body(jobId, clock.now() + LEASE_MS);
    try {
      return (await store.put(key, fresh(), { signal, ifAbsent: true })).etag;
    } catch (error) {
      if (!isBackupError(error, 'precondition_failed')) throw error;
    }
    const current = await read(key, { signal });
    if (current === undefined) {
      // released between the two calls: one more honest try, then say it is busy
      return (await store.put(key, fresh(), { signal, ifAbsent: true })).etag;
    }
    if (!current.holder.expired) throw held(key, current.holder);
    return (await store.put(key, fresh(), { signal, ifMatch: current.etag })).etag;
  }

  return {
    take: async ({ key, jobId }, options) => {
      let etag: string;
      let expiresAt = clock.now() + LEASE_MS;
      try {
        etag = await claim(key, jobId, options);
      } catch (error) {
        if (!isBackupError(error, 'precondition_failed')) throw error;
        const winner = await read(key, options);
        throw winner
          ? held(key, winner.holder)
          : new BackupError('lease_held', `take lease key=${key}`);
      }
      return {
        key,
        jobId,
        held: () => clock.now() < expiresAt - CLOCK_SKEW_MS,
        renew: async ({ signal }) => {
          const until = clock.now() + LEASE_MS;
          try {
            etag = (await store.put(key, body(jobId, until), { signal, ifMatch: etag })).etag;
            expiresAt = until;
          } catch (error) {
            if (!isBackupError(error, 'precondition_failed')) throw error;
            throw new BackupError('lease_lost', `renew lease key=${key}`, { cause: error });
          }
        },
        release: async ({ signal }) => {
          const current = await read(key, { signal });
          if (current === undefined || current.etag !== etag) return;
          await store.delete(key, { signal, ifMatch: etag });
        },
      };
    },
    look: async (key, options) => (await read(key, options))?.holder,
  };
}

function held(key: string, holder: LeaseHolder): BackupError {
  return new BackupError('lease_held', `take lease key=${key} job=${holder.jobId}`, {
    details: {
      job_id: holder.jobId,
      owner: holder.owner,
      expires_at: formatTime(holder.expiresAt),
    },
  });
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined; // the schema check reports it
  }
}
