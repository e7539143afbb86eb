/**
 * Run records in the bucket: written by the instance that is at the run, read by all.
 *
 * As with jobs every write is conditional on the version read before. Runs are few (some a day), so they are listed as
 * often as somebody asks; one that is polled is read at most once a second, one that has ended once.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { Keys } from './keys.ts';
import { isRunEnded, type Run, runSchema } from './run.ts';
import type { Unreadable } from './unreadable.ts';

const FRESH_MS = 1000;
const CAS_ATTEMPTS = 5;
/** Of one machine some hundred bytes: a run of a thousand is half a megabyte. */
const CACHE_LIMIT = 50;

export interface VersionedRun {
  run: Run;
  etag: string;
}

export interface RunStore {
  /** Errors: `precondition_failed` when there is one of that id. */
  create(run: Run, options: Cancellable): Promise<VersionedRun>;
  /** Straight from the bucket. Errors: `data_corrupt`. */
  load(id: string, options: Cancellable): Promise<VersionedRun | undefined>;
  /** Errors: `precondition_failed` when somebody wrote since `from` was read. */
  save(from: VersionedRun, run: Run, options: Cancellable): Promise<VersionedRun>;
  /** Reads, changes, writes; again when somebody was faster. `change` returns undefined to leave it as it is. */
  update(
    id: string,
    change: (run: Run) => Run | undefined,
    options: Cancellable,
  ): Promise<Run | undefined>;
  /** For pollers: at most a second old. Errors: `data_corrupt`. */
  read(id: string): Promise<Run | undefined>;
  /** Ids newest first, of all or of those after `afterId`. */
  ids(input: { afterId?: string }, options: Cancellable): Promise<string[]>;
}

interface Cached {
  run: Promise<Run | undefined>;
  readAt: number;
  ended: boolean;
}

/** The run records under `keys.runsPrefix` of `store`. */
export function createRunStore(deps: {
  store: ObjectStore;
  keys: Keys;
  clock: Clock;
  unreadable?: Unreadable;
}): RunStore {
  const { store, keys, clock, unreadable } = deps;
  const cache = new Map<string, Cached>();

  const remember = (id: string, run: Promise<Run | undefined>): Promise<Run | undefined> => {
    const entry: Cached = { run, readAt: clock.elapsed(), ended: false };
    cache.delete(id);
    cache.set(id, entry);
    const oldest = cache.keys().next();
    if (cache.size > CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    run.then(
      (found) => {
        entry.ended = found !== undefined && isRunEnded(found);
      },
      () => cache.delete(id),
    );
    return run;
  };

  async function load(id: string, { signal }: Cancellable): Promise<VersionedRun | undefined> {
    const key = keys.run(id);
    const get = async () => {
      const found = await store.get(key, { signal });
      return found && { run: parseRun(id, found.bytes), etag: found.etag };
    };
    return await (unreadable?.watch({ kind: 'run', id, key }, get) ?? get());
  }

  async function put(run: Run, options: Cancellable & ({ ifAbsent: true } | { ifMatch: string })) {
    const json = { ...options, contentType: 'application/json' };
    const { etag } = await store.put(keys.run(run.id), JSON.stringify(run), json);
    await remember(run.id, Promise.resolve(run));
    return { run, etag };
  }

  const save: RunStore['save'] = async (from, run, { signal }) =>
    await put(run, { signal, ifMatch: from.etag });

  return {
    create: async (run, { signal }) => await put(run, { signal, ifAbsent: true }),
    load,
    save,
    update: async (id, change, options) => {
      for (let attempt = 1; ; attempt++) {
        const current = await load(id, options);
        if (current === undefined) return undefined;
        const changed = change(current.run);
        if (changed === undefined) return current.run;
        try {
          return (await save(current, changed, options)).run;
        } catch (error) {
          if (!isBackupError(error, 'precondition_failed') || attempt === CAS_ATTEMPTS) throw error;
        }
      }
    },
    read: (id) => {
      const entry = cache.get(id);
      if (entry && (entry.ended || clock.elapsed() - entry.readAt < FRESH_MS)) return entry.run;
      const found = load(id, { signal: NEVER });
      return remember(
        id,
        found.then((one) => one?.run),
      );
    },
    ids: async ({ afterId }, { signal }) => {
      const found: string[] = [];
      let startAfter = afterId === undefined ? undefined : keys.run(afterId);
      do {
        const from = startAfter === undefined ? {} : { startAfter };
        const page = await store.list({ prefix: keys.runsPrefix, ...from }, { signal });
        for (const { key } of page.objects) {
          const id = keys.parseRun(key);
          if (id !== undefined) found.push(id);
        }
        startAfter = page.next;
      } while (startAfter !== undefined);
      return found.toReversed();
    },
  };
}

function parseRun(id: string, bytes: Uint8Array): Run {
  try {
    return runSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    throw new BackupError(
      'data_corrupt',
      `read run record run=${id}: it is damaged, or of a newer version`,
      { cause: error },
    );
  }
}
