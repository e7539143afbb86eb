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
  /** The records of `entries`, in their order; one deleted meanwhile is left out. */
  records(entries: readonly BackupEntry[], options: Cancellable): Promise<Backup[]>;
  /** The newest entry of every machine, keyed `pool/vm uuid`. */
  newest(): Promise<Map<string, BackupEntry>>;
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
  deps: { store: ObjectStore; keys: Keys; clock: Clock },
  settings: { ttlMs: number },
): BackupCatalog {
  const { store, keys, clock } = deps;
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
    const found = await store.get(keys.record(entry), { signal });
    if (found === undefined) return undefined;
    const record = parseBackup(entry.backupId, found.bytes);
    cache.set(entry.backupId, record);
    const oldest = cache.keys().next();
    if (cache.size > RECORD_CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    return record;
  }

  return {
    entries: async (filter) => {
      const all = await list(settings.ttlMs);
      return all.filter(
        (entry) =>
          (filter.vmUuid === undefined || entry.vmUuid === filter.vmUuid) &&
          (filter.pool === undefined || entry.pool === filter.pool) &&
          (filter.retention === undefined || entry.retention === filter.retention),
      );
    },
    find: async (id) => {
      const of = (all: BackupEntry[]) => all.find((entry) => entry.backupId === id);
      return of(await list(settings.ttlMs)) ?? of(await list(1000));
    },
    records: async (entries, options) => {
      const found = await mapParallel(entries, (entry) => readRecord(entry, options));
      return found.filter((record) => record !== undefined);
    },
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
        // published before a crash, by this very job: ids are never used twice
        if (!isBackupError(error, 'precondition_failed')) throw error;
      }
      listing = undefined;
    },
    ageSeconds: () => (listing ? (clock.elapsed() - listing.readAt) / 1000 : undefined),
  };
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
    throw new BackupError('data_corrupt', `read backup record backup=${id}`, { cause: error });
  }
}
