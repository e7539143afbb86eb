/**
 * Which backups the bucket holds: found by listing, never remembered anywhere else.
 *
 * A backup exists when its archive and its `backup.json` are both listed (a rule may delete one a day before the
 * other), in rotation or below `pinned/`. It is one backup though both are there; where only the copy is left, its record
 * comes with the copy's keys, so whoever reads archive or index need not know. The listing is kept for `ttlMs`; records
 * never change once written, so they are cached by id. Ids are UUIDv7: newest first is descending order of ids.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { type HeldCopy, type Holding, isWhole, readHoldings } from './holdings.ts';
import type { BackupKeyParts, Keys } from './keys.ts';
import { type Backup, backupSchema } from './record.ts';
import type { Unreadable } from './unreadable.ts';

/** Records of about 2 kB. */
const RECORD_CACHE_LIMIT = 5000;
/** GETs in flight while a page of records is read. */
const READ_PARALLEL = 16;

export interface BackupEntry extends BackupKeyParts {
  archiveKey: string;
  recordKey: string;
  sizeBytes: number;
  /** All that is there of it. */
  holding: Holding;
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
  /** What the listing says of every backup, halves too, keyed as `newest`; each list newest first. */
  holdings(): Promise<Map<string, Holding[]>>;
  publish(backup: Backup, options: Cancellable): Promise<void>;
  /** The next answer lists anew: something was written or removed. */
  changed(): void;
  /** Seconds since the bucket was last listed. */
  ageSeconds(): number | undefined;
}

interface Listing {
  holdings: Promise<Map<string, Holding[]>>;
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

  function look(maxAgeMs: number): Listing {
    if (listing === undefined || clock.elapsed() - listing.readAt > maxAgeMs) {
      const holdings = readHoldings({ store, keys }, undefined, { signal: NEVER });
      const fresh: Listing = {
        holdings,
        entries: holdings.then((found) => entriesOf(found, readAt)),
        readAt: clock.elapsed(),
      };
      listing = fresh;
      fresh.entries.catch(() => {
        if (listing === fresh) listing = undefined;
      });
    }
    return listing;
  }
  const list = (maxAgeMs: number) => look(maxAgeMs).entries;

  async function readAt(
    { backupId: id, record: key }: { backupId: string; record: string },
    { signal }: Cancellable,
  ): Promise<Backup | undefined> {
    const known = cache.get(id);
    if (known) return known;
    const get = async () => {
      const found = await store.get(key, { signal });
      return found && parseBackup(id, found.bytes);
    };
    const about = { kind: 'backup', id, key } as const;
    const record = await (unreadable?.watch(about, get) ?? get());
    if (record === undefined) return undefined;
    cache.set(id, record);
    const oldest = cache.keys().next();
    if (cache.size > RECORD_CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    return record;
  }

  async function readRecord(entry: BackupEntry, options: Cancellable) {
    const { backupId, recordKey: record } = entry;
    const backup = await readAt({ backupId, record }, options);
    return backup && asHeld(backup, entry.holding);
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
    holdings: () => look(settings.ttlMs).holdings,
    publish: async (backup, options) => {
      await publishRecord({ store, keys }, backup, options);
      listing = undefined;
    },
    changed: () => {
      listing = undefined;
    },
    ageSeconds: () => (listing ? (clock.elapsed() - listing.readAt) / 1000 : undefined),
  };
}

async function publishRecord(
  { store, keys }: { store: ObjectStore; keys: Keys },
  backup: Backup,
  { signal }: Cancellable,
): Promise<void> {
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

type ReadAt = (
  where: { backupId: string; record: string },
  options: Cancellable,
) => Promise<Backup | undefined>;

/** Newest first. Of a copy alone the record tells the class: its key does not. */
async function entriesOf(
  holdings: ReadonlyMap<string, Holding[]>,
  readAt: ReadAt,
): Promise<BackupEntry[]> {
  const all = [...holdings.values()].flat();
  const entries = await mapParallel(all, async (holding) => {
    const { pool, vmUuid, backupId } = holding;
    const copy = copyInUse(holding);
    if (copy === undefined) return undefined;
    const record = copy.record.key;
    const { retention = '' } =
      holding.retention !== undefined
        ? holding
        : ((await unlessUnreadable(readAt({ backupId, record }, { signal: NEVER }))) ?? {});
    const { key: archiveKey, sizeBytes } = copy.archive;
    return { retention, pool, vmUuid, backupId, archiveKey, recordKey: record, sizeBytes, holding };
  });
  return entries
    .filter((entry) => entry !== undefined)
    .sort((a, b) => (a.backupId < b.backupId ? 1 : -1));
}

/** The one out of rotation first: rules may delete the other at any moment. */
function copyInUse({ original, pinned }: Holding) {
  return [pinned, original].find(isWhole);
}

/** With the keys of the copy that is there. */
function asHeld(backup: Backup, holding: Holding): Backup {
  const copy: HeldCopy | undefined = copyInUse(holding);
  if (copy?.archive === undefined || copy === holding.original) return backup;
  const { key, etag } = copy.archive;
  const archive = { ...backup.archive, key, etag };
  return { ...backup, archive, index_key: copy.index?.key ?? backup.index_key };
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
