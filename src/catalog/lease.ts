/**
 * One machine, one job: a small object in the bucket that says who works on it and until when.
 *
 * Taken by a conditional create, renewed and taken over by a conditional replace. Each write carries a lease id of
 * its own, so an answer that got lost is resolved by reading back (the store port does that). Clocks differ: a lease
 * is another's until `skewMs` after its end, and its owner stops believing in it the same span before.
 * On a store without conditional writes it only guards one instance against itself; `facts()` says so at start.
 */
import { z } from 'zod';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, Ids, ObjectStore, PutCondition } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';

/** Long enough for a slow store, short enough that a dead instance's machines are free again soon. */
export const LEASE_MS = 90_000;
/** Servers synchronised by NTP differ by far less; S3 itself refuses requests 15 minutes off. */
export const CLOCK_SKEW_MS = 15_000;

/** The end of a lease that nobody holds for now: by no clock in the future. */
const PARKED_AT_MS = 0;

/** The times of a lease; all instances on a bucket must have the same. */
export interface LeaseTiming {
  leaseMs: number;
  /** How much the clocks of two instances may differ. */
  skewMs: number;
  /** Two tries fit in before the owner stops believing in it. */
  renewEveryMs: number;
}

/** The times that belong to leases of `leaseMs`: of 90 s, 15 s for the clocks (never more), renewed every 25 s. */
export function leaseTiming(leaseMs: number = LEASE_MS): LeaseTiming {
  const skewMs = Math.min(CLOCK_SKEW_MS, Math.floor(leaseMs / 6));
  return { leaseMs, skewMs, renewEveryMs: Math.floor((leaseMs * 5) / 18) };
}

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
  /**
   * Leaves it there, expired: others may take it over for the same job at once, and for another job only when this one
   * has ended. Errors: `lease_lost` when somebody else has it.
   */
  park(options: Cancellable): Promise<void>;
}

export interface LeaseWish {
  key: string;
  jobId: string;
  /**
   * Asked about the other job whose lease has run out: one that has not ended has to be taken over first, in whose
   * record its former owner, should it wake, sees that it was replaced. Absent: any expired lease is free.
   */
  ended?: (jobId: string) => Promise<boolean>;
}

export interface LeaseHolder {
  jobId: string;
  owner: string;
  expiresAt: number;
  /** Past its end by more than the clocks may differ. */
  expired: boolean;
}

export interface Leases {
  readonly timing: LeaseTiming;
  /** Errors: `lease_held` with details job_id, and owner and expires_at unless nobody works on it (`isParked`). */
  take(input: LeaseWish, options: Cancellable): Promise<Lease>;
  look(key: string, options: Cancellable): Promise<LeaseHolder | undefined>;
  /** Every lease whose key begins so. Few exist: a machine has one only while a job of it waits or runs. */
  list(prefix: string, options: Cancellable): Promise<Map<string, LeaseHolder>>;
}

/** Left there on purpose: its job has not ended and waits for whoever goes on with it. */
export function isParked({ expiresAt }: Pick<LeaseHolder, 'expiresAt'>): boolean {
  return expiresAt === PARKED_AT_MS;
}

export interface LeaseDeps {
  store: ObjectStore;
  clock: Clock;
  ids: Ids;
}

interface Context extends LeaseDeps {
  owner: string;
  timing: LeaseTiming;
}

/** Leases owned by `owner` (one name an instance). */
export function createLeases(
  deps: LeaseDeps,
  settings: { owner: string; timing?: LeaseTiming },
): Leases {
  const { owner, timing = leaseTiming() } = settings;
  const context: Context = { ...deps, owner, timing };
  return {
    timing,
    take: async (input, options) => {
      const etag = await claim(context, input, options);
      return hold(context, { key: input.key, jobId: input.jobId, etag });
    },
    look: async (key, options) => (await read(context, key, options))?.holder,
    list: async (prefix, options) => await list(context, prefix, options),
  };
}

function hold(context: Context, taken: { key: string; jobId: string; etag: string }): Lease {
  const { store, clock, timing } = context;
  const { key, jobId } = taken;
  let { etag } = taken;
  let expiresAt = clock.now() + timing.leaseMs;
  const isOurs = (holder: LeaseHolder) => holder.owner === context.owner && holder.jobId === jobId;

  async function write(options: Cancellable, endsAt?: number): Promise<string> {
    const put = (ifMatch: string) =>
      store.put(key, body(context, jobId, endsAt), { ...options, ifMatch });
    try {
      return (await put(etag)).etag;
    } catch (error) {
      if (!isBackupError(error, 'precondition_failed')) throw error;
      // a renewal cut off half-way may have been written: owner and job together say whose it is
      const current = await read(context, key, options);
      if (current === undefined || !isOurs(current.holder)) throw error;
      return (await put(current.etag)).etag;
    }
  }

  async function writeMine(what: string, options: Cancellable, endsAt?: number): Promise<void> {
    const until = endsAt ?? clock.now() + timing.leaseMs;
    try {
      etag = await write(options, endsAt);
      expiresAt = until;
    } catch (error) {
      if (!isBackupError(error, 'precondition_failed')) throw error;
      throw new BackupError('lease_lost', `${what} lease key=${key}`, { cause: error });
    }
  }

  return {
    key,
    jobId,
    held: () => clock.now() < expiresAt - timing.skewMs,
    renew: (options) => writeMine('renew', options),
    park: (options) => writeMine('park', options, PARKED_AT_MS),
    release: async (options) => {
      const current = await read(context, key, options);
      if (current === undefined || !isOurs(current.holder)) return;
      await store.delete(key, { ...options, ifMatch: current.etag });
    },
  };
}

/** Creates the lease, or takes an expired one over. Errors: `lease_held`, whoever was faster. */
async function claim(
  context: Context,
  { key, jobId, ended }: LeaseWish,
  options: Cancellable,
): Promise<string> {
  const put = async (condition: PutCondition) =>
    (await context.store.put(key, body(context, jobId), { ...options, ...condition })).etag;
  try {
    return await put({ ifAbsent: true });
  } catch (error) {
    if (!isBackupError(error, 'precondition_failed')) throw error;
  }
  const current = await read(context, key, options);
  if (current && !current.holder.expired) throw held(key, current.holder);
  const other = current?.holder.jobId;
  if (current && other !== undefined && other !== jobId && ended && !(await ended(other))) {
    throw held(key, current.holder);
  }
  try {
    // gone means released between the two calls: one more honest try
    return await put(current ? { ifMatch: current.etag } : { ifAbsent: true });
  } catch (error) {
    if (!isBackupError(error, 'precondition_failed')) throw error;
    const winner = await read(context, key, options);
    throw winner
      ? held(key, winner.holder)
      : new BackupError('lease_held', `take lease key=${key}`);
  }
}

function body({ clock, ids, owner, timing }: Context, jobId: string, endsAt?: number): string {
  const expires_at = formatTime(endsAt ?? clock.now() + timing.leaseMs);
  return JSON.stringify({ version: 1, id: ids.uuid(), job_id: jobId, owner, expires_at });
}

async function read({ store, clock, timing }: Context, key: string, options: Cancellable) {
  const found = await store.get(key, options);
  if (found === undefined) return undefined;
  const lease = leaseSchema.safeParse(parseJson(found.bytes));
  if (!lease.success) {
    throw new BackupError('data_corrupt', `read lease key=${key}`, { cause: lease.error });
  }
  const { job_id: jobId, owner, expires_at } = lease.data;
  const expiresAt = parseTime(expires_at);
  const expired = clock.now() > expiresAt + timing.skewMs;
  return { etag: found.etag, holder: { jobId, owner, expiresAt, expired } };
}

async function list(context: Context, prefix: string, options: Cancellable) {
  const holders = new Map<string, LeaseHolder>();
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await context.store.list({ prefix, ...from }, options);
    for (const { key } of page.objects) {
      const found = await read(context, key, options);
      if (found) holders.set(key, found.holder); // else given back meanwhile
    }
    startAfter = page.next;
  } while (startAfter !== undefined);
  return holders;
}

function held(key: string, holder: LeaseHolder): BackupError {
  return new BackupError('lease_held', `take lease key=${key} job=${holder.jobId}`, {
    details: {
      job_id: holder.jobId,
      ...(isParked(holder)
        ? {}
        : { owner: holder.owner, expires_at: formatTime(holder.expiresAt) }),
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
