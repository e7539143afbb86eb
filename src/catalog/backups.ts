/**
 * Which backups the bucket holds: found by listing, never remembered anywhere else.
 *
 * A backup exists when its archive and its `backup.json` are both listed (a rule may delete one a day before the
 * other). The listing is kept for `ttlMs`; records never change once written, so they are cached by id. Ids are
 * UUIDv7: newest first is descending order of ids.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { BackupKeyParts, Keys } from './keys.ts';
import { type Backup, backupSchema } from './record.ts';
import type { Unreadable } from './unreadable.ts';

/** Records of about 2 kB. */
const RECORD_CACHE_LIMIT = 5000;
/** GETs in flight while a page of records is read. */
const READ_PARALLEL = 16;

export interface BackupEntry extends BackupKeyParts {
  archiveKey: string;
  sizeBytes: number;
}

export interface BackupFilter {
  vmUuid?: string;
  pool?: string;
  retention?: string;
}

export interface BackupCatalog {
  /** Complete backups, newest first. */
  entries(filter: BackupFilter): Promise<BackupEntry[]>;
  /** undefined when no complete backup has that id. A miss lists again at once: it may have just been written. */
  find(id: string): Promise<BackupEntry | undefined>;
  /** The records of `entries`, in their order; one deleted meanwhile, or that cannot be read, is left out. */
  records(entries: readonly BackupEntry[], options: Cancellable): Promise<Backup[]>;
  /** The record; undefined when it was deleted meanwhile. Errors: `data_corrupt`. */
  record(entry: BackupEntry, options: Cancellable): Promise<Backup | undefined>;
  /** The newest entry of every machine, keyed `pool/vm uuid`. */
  newest(): Promise<Map<string, BackupEntry>>;
  /** The newest record of every machine that can be read: nobody can tell whether any other is a good backup. */
  newestReadable(options: Cancellable): Promise<Map<string, Backup>>;
  publish(backup: Backup, options: Cancellable): Promise<void>;
  /** Seconds since the bucket was last listed. */
  ageSeconds(): number | undefined;
}

interface Listing {
  entries: Promise<BackupEntry[]>;
  readAt: number;
}

/** The catalogue of one bucket. */
export function createBackupCatalog(
  deps: { store: ObjectStore; keys: Keys; clock: Clock; unreadable?: Unreadable },
  settings: { ttlMs: number },
): BackupCatalog {
  const { store, keys, clock, unreadable } = deps;
  let listing: Listing | undefined;
  const cache = new Map<string, Backup>();

  function list(maxAgeMs: number): Promise<BackupEntry[]> {
    if (listing === undefined || clock.elapsed() - listing.readAt > maxAgeMs) {
      const fresh: Listing = { entries: listAll(store, keys), readAt: clock.elapsed() };
      listing = fresh;
      fresh.entries.catch(() => {
        if (listing === fresh) listing = undefined;
      });
    }
    return listing.entries;
  }

  async function readRecord(entry: BackupEntry, { signal }: Cancellable) {
    const known = cache.get(entry.backupId);
    if (known) return known;
    const key = keys.record(entry);
    const get = async () => {
      const found = await store.get(key, { signal });
      return found && parseBackup(entry.backupId, found.bytes);
    };
    const about = { kind: 'backup', id: entry.backupId, key } as const;
    const record = await (unreadable?.watch(about, get) ?? get());
    if (record === undefined) return undefined;
    cache.set(entry.backupId, record);
    const oldest = cache.keys().next();
    if (cache.size > RECORD_CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    return record;
  }

  async function readAll(entries: readonly BackupEntry[], options: Cancellable): Promise<Backup[]> {
    const found = await mapParallel(entries, (entry) =>
      unlessUnreadable(readRecord(entry, options)),
    );
    return found.filter((record) => record !== undefined);
  }

  return {
    entries: async (filter) => (await list(settings.ttlMs)).filter((entry) => fits(entry, filter)),
    find: async (id) => {
      const of = (all: BackupEntry[]) => all.find((entry) => entry.backupId === id);
      return of(await list(settings.ttlMs)) ?? of(await list(1000));
    },
    records: readAll,
    record: readRecord,
    newestReadable: async (options) =>
      newestOf(await list(settings.ttlMs), (some) => readAll(some, options)),
    newest: async () => {
      const newest = new Map<string, BackupEntry>();
      for (const entry of await list(settings.ttlMs)) {
        const key = `${entry.pool}/${entry.vmUuid}`;
        if (!newest.has(key)) newest.set(key, entry);
      }
      return newest;
    },
    publish: async (backup, { signal }) => {
      const key = keys.record({
        retention: backup.retention,
        pool: backup.vm.pool,
        vmUuid: backup.vm.uuid,
        backupId: backup.id,
      });
      const body = `${JSON.stringify(backup, undefined, 2)}\n`;
      try {
        await store.put(key, body, { signal, ifAbsent: true, contentType: 'application/json' });
      } catch (error) {
        if (!isBackupError(error, 'precondition_failed')) throw error;
        // published before a crash, by this very job: ids are never used twice. A store may also refuse without reason
        const found = await store.get(key, { signal });
        if (found === undefined) throw error;
        parseBackup(backup.id, found.bytes);
      }
      listing = undefined;
    },
    ageSeconds: () => (listing ? (clock.elapsed() - listing.readAt) / 1000 : undefined),
  };
}

function fits(entry: BackupEntry, { vmUuid, pool, retention }: BackupFilter): boolean {
  return (
    (vmUuid === undefined || entry.vmUuid === vmUuid) &&
    (pool === undefined || entry.pool === pool) &&
    (retention === undefined || entry.retention === retention)
  );
}

/** Reads the newest of each machine; where that cannot be read the one before it, and so on. */
async function newestOf(
  all: readonly BackupEntry[],
  read: (some: BackupEntry[]) => Promise<Backup[]>,
): Promise<Map<string, Backup>> {
  const newest = new Map<string, Backup>();
  const left = Map.groupBy(all, machineOf);
  for (let back = 0; left.size > 0; back++) {
    const candidates = [...left.values()].flatMap((entries) => entries[back] ?? []);
    for (const record of await read(candidates)) {
      newest.set(`${record.vm.pool}/${record.vm.uuid}`, record);
    }
    for (const [machine, entries] of left) {
      if (newest.has(machine) || back + 1 >= entries.length) left.delete(machine);
    }
  }
  return newest;
}

function machineOf({ pool, vmUuid }: BackupEntry): string {
  return `${pool}/${vmUuid}`;
}

async function unlessUnreadable<T>(record: Promise<T>): Promise<T | undefined> {
  try {
    return await record;
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return undefined; // remembered by whoever read it
    throw error;
  }
}

async function listAll(store: ObjectStore, keys: Keys) {
  const folders = new Map<string, Partial<BackupEntry> & { hasRecord?: boolean }>();
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await store.list({ prefix: keys.backupsPrefix, ...from }, { signal: NEVER });
    for (const { key, sizeBytes } of page.objects) {
      const folder = key.slice(0, key.lastIndexOf('/'));
      const entry = folders.get(folder) ?? {};
      folders.set(folder, entry);
      if (key.endsWith('.xva')) Object.assign(entry, { archiveKey: key, sizeBytes });
      const parts = keys.parseRecord(key);
      if (parts) Object.assign(entry, parts, { hasRecord: true });
    }
    startAfter = page.next;
  } while (startAfter !== undefined);
  const complete: BackupEntry[] = [];
  for (const { hasRecord, ...entry } of folders.values()) {
    if (hasRecord && entry.archiveKey !== undefined) complete.push(entry as BackupEntry);
  }
  return complete.sort((a, b) => (a.backupId < b.backupId ? 1 : -1));
}

async function mapParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T);
  };
  await Promise.all(Array.from({ length: Math.min(READ_PARALLEL, items.length) }, worker));
  return results;
}

function parseBackup(id: string, bytes: Uint8Array): Backup {
  try {
    return backupSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    throw new BackupError(
      'data_corrupt',
      `read backup record backup=${id}: it is damaged, or of a newer version`,
      { cause: error },
    );
  }
}
