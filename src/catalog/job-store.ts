/**
 * Job records in the bucket: written by the instance that runs the job, read by all.
 *
 * Every write is conditional on the version read before, so two writers never overwrite each other unseen: the loser
 * reads again and decides. Reads for pollers go through a one-second cache: however often a job is polled, its
 * record is read at most once a second; an ended job does not change any more and is kept, once all who are to hear of its
 * end have been told, or a day later.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { parseTime } from '../time.ts';
import type { Keys } from './keys.ts';
import { isEnded, type Job, jobSchema } from './record.ts';
import type { Unreadable } from './unreadable.ts';

const FRESH_MS = 1000;
/** Records of 2–4 kB each: a few MiB at most. */
const CACHE_LIMIT = 2000;
/** Ids of some 80 bytes each. */
const ENDED_LIMIT = 100_000;
const CAS_ATTEMPTS = 5;
/** After that nobody tells of it any more. */
const TELLING_MS = 25 * 3_600_000;

export interface Versioned {
  job: Job;
  etag: string;
}

export interface JobStore {
  create(job: Job, options: Cancellable): Promise<Versioned>;
  /** Straight from the bucket. */
  load(id: string, options: Cancellable): Promise<Versioned | undefined>;
  /** Errors: `precondition_failed` when somebody wrote since `from` was read. */
  save(from: Versioned, job: Job, options: Cancellable): Promise<Versioned>;
  /** Reads, changes, writes; again when somebody was faster. `change` returns undefined to leave it as it is. */
  update(
    id: string,
    change: (job: Job) => Job | undefined,
    options: Cancellable,
  ): Promise<Job | undefined>;
  /** For pollers: at most a second old, settled jobs for ever. */
  read(id: string): Promise<Job | undefined>;
  /** The same for lists: undefined also for a record that cannot be read. */
  readable(id: string): Promise<Job | undefined>;
  /** Seen here to have ended, for good: who looks for what has not need not read it again. */
  hasEnded(id: string): boolean;
  /** How many records this process has created: a listing made before the last one lacks it. */
  readonly created: number;
  /** Ids of all records, newest first; the listing goes on where the last one stopped. */
  ids(options: Cancellable): Promise<string[]>;
}

interface Cached {
  job: Promise<Job | undefined>;
  readAt: number;
  ended: boolean;
}

export interface JobStoreDeps {
  store: ObjectStore;
  keys: Keys;
  clock: Clock;
  unreadable?: Unreadable;
  /** Called for each job first read or written here as ended, before whoever asked learns of it. */
  onEnd?: (job: Job) => void;
}

/** The job records under `keys.jobsPrefix` of `store`. */
export function createJobStore(deps: JobStoreDeps): JobStore {
  const { store, keys, clock, unreadable, onEnd } = deps;
  const cache = new Map<string, Cached>();
  const ended = createEnded(onEnd);
  const listIds = createIdList(store, keys);
  let created = 0;

  const remember = (id: string, job: Promise<Job | undefined>): Cached => {
    const entry: Cached = { job, readAt: clock.elapsed(), ended: false };
    cache.delete(id);
    cache.set(id, entry);
    const oldest = cache.keys().next();
    if (cache.size > CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    job.then(
      (found) => {
        entry.ended = found !== undefined && isSettled(found, clock.now());
        if (found !== undefined) ended.note(found);
      },
      () => cache.delete(id),
    );
    return entry;
  };

  async function load(id: string, { signal }: Cancellable): Promise<Versioned | undefined> {
    const key = keys.job(id);
    const get = async () => {
      const found = await store.get(key, { signal });
      return found && { job: parseJob(id, found.bytes), etag: found.etag };
    };
    return await (unreadable?.watch({ kind: 'job', id, key }, get) ?? get());
  }

  async function save(from: Versioned, job: Job, { signal }: Cancellable): Promise<Versioned> {
    const put = { signal, ifMatch: from.etag, contentType: 'application/json' };
    const { etag } = await store.put(keys.job(job.id), JSON.stringify(job), put);
    remember(job.id, Promise.resolve(job));
    return { job, etag };
  }

  const read: JobStore['read'] = (id) => {
    const entry = cache.get(id);
    if (entry && (entry.ended || clock.elapsed() - entry.readAt < FRESH_MS)) return entry.job;
    const found = load(id, { signal: NEVER });
    return remember(
      id,
      found.then((one) => one?.job),
    ).job;
  };

  return {
    load,
    save,
    read,
    hasEnded: ended.has,
    readable: async (id) => {
      try {
        return await read(id);
      } catch (error) {
        if (isBackupError(error, 'data_corrupt')) return undefined;
        throw error;
      }
    },
    create: async (job, { signal }) => {
      const put = { signal, ifAbsent: true, contentType: 'application/json' };
      const { etag } = await store.put(keys.job(job.id), JSON.stringify(job), put);
      remember(job.id, Promise.resolve(job));
      created += 1;
      return { job, etag };
    },
    update: async (id, change, options) => {
      for (let attempt = 1; ; attempt++) {
        const current = await load(id, options);
        if (current === undefined) return undefined;
        const changed = change(current.job);
        if (changed === undefined) return current.job;
        try {
          return (await save(current, changed, options)).job;
        } catch (error) {
          if (!isBackupError(error, 'precondition_failed') || attempt === CAS_ATTEMPTS) throw error;
        }
      }
    },
    ids: listIds,
    get created() {
      return created;
    },
  };
}

/** Which jobs were seen to have ended; `onEnd` hears of each once. */
function createEnded(onEnd: JobStoreDeps['onEnd']): {
  has(id: string): boolean;
  note(job: Job): void;
} {
  const ids = new Set<string>();
  return {
    has: (id) => ids.has(id),
    note: (job) => {
      if (!isEnded(job) || ids.has(job.id)) return;
      onEnd?.(job);
      if (ids.size < ENDED_LIMIT) ids.add(job.id);
    },
  };
}

/** Nobody writes it again: it ended, and who is told of that is written down. */
function isSettled(job: Job, nowMs: number): boolean {
  if (!isEnded(job)) return false;
  const isOwed = job.notifications?.some(({ owed }) => owed) ?? false;
  return !isOwed || nowMs - parseTime(job.finished_at ?? job.updated_at) > TELLING_MS;
}

/**
 * Lists ids incrementally: UUIDv7 keys sort by time, so only the tail is listed again.
 *
 * Instances' clocks differ, so a key may still appear a little below the newest seen: the tail begins `OVERLAP` keys
 * back. Records deleted by the bucket's rule stay in the list until the process ends; reading them says so.
 */
function createIdList(store: ObjectStore, keys: Keys): JobStore['ids'] {
  const OVERLAP = 500;
  let known: string[] = [];
  return async ({ signal }) => {
    const kept = known.slice(0, Math.max(0, known.length - OVERLAP));
    const last = kept.at(-1);
    let startAfter = last === undefined ? undefined : keys.job(last);
    const tail: string[] = [];
    do {
      const from = startAfter === undefined ? {} : { startAfter };
      const page = await store.list({ prefix: keys.jobsPrefix, ...from }, { signal });
      for (const { key } of page.objects) {
        const id = keys.parseJob(key);
        if (id !== undefined) tail.push(id);
      }
      startAfter = page.next;
    } while (startAfter !== undefined);
    known = [...kept, ...tail];
    return known.toReversed();
  };
}

function parseJob(id: string, bytes: Uint8Array): Job {
  try {
    return jobSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    throw new BackupError(
      'data_corrupt',
      `read job record job=${id}: it is damaged, or of a newer version`,
      { cause: error },
    );
  }
}
