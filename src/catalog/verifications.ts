/**
 * The verifications of a bucket: found by one listing, each read once for as long as it does not change.
 *
 * What cannot be read counts as not there, since nothing hangs on it but what is told of a backup: rights given for an
 * earlier version do not name `verified/`, and a damaged object says nothing.
 */
import { isBackupError } from '../errors.ts';
import type { Cancellable, Clock, Log, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { Keys } from './keys.ts';
import {
  standing,
  type Verification,
  type VerifiedRecord,
  verifiedRecordSchema,
  withVerification,
} from './verified.ts';

/** Records of under 1 kB, as many as of backups. */
const CACHE_LIMIT = 5000;
/** GETs in flight while those of a page are read. */
const READ_PARALLEL = 16;
/** Two jobs may verify one backup in different ways; each tries again over what the other wrote. */
const KEEP_ATTEMPTS = 5;

export interface Verifications {
  /** The one that counts of each of these backups that has any. */
  of(backupIds: readonly string[], options: Cancellable): Promise<Map<string, Verification>>;
  /** Writes it beside those of other kinds. Errors: the store's. */
  keep(backupId: string, verification: Verification, options: Cancellable): Promise<void>;
  /** The next answer lists anew: something was written. */
  changed(): void;
}

interface Listing {
  /** Backup id → ETag. */
  etags: Promise<ReadonlyMap<string, string>>;
  readAt: number;
}

/** Over one bucket; a listing is kept for `ttlMs`. */
export function createVerifications(
  deps: { store: ObjectStore; keys: Keys; clock: Clock; log: Log },
  { ttlMs }: { ttlMs: number },
): Verifications {
  const { store, keys, clock, log } = deps;
  const cache = new Map<string, { etag: string; record: VerifiedRecord | undefined }>();
  let listing: Listing | undefined;

  const list = (): Promise<ReadonlyMap<string, string>> => {
    if (listing === undefined || clock.elapsed() - listing.readAt > ttlMs) {
      const fresh: Listing = { etags: listAll(store, keys), readAt: clock.elapsed() };
      listing = fresh;
      fresh.etags.catch(() => {
        if (listing === fresh) listing = undefined;
      });
    }
    return listing.etags;
  };

  const read = async (id: string, etag: string, options: Cancellable) => {
    const known = cache.get(id);
    if (known?.etag === etag) return known.record;
    const key = keys.verified(id);
    const record = await readOne(store, key, options).catch((error) => {
      if (!isBackupError(error, 'store_credentials')) throw error;
      log.warn('verification not read', { key, error: error.message });
      return undefined;
    });
    cache.delete(id);
    cache.set(id, { etag, record });
    const oldest = cache.keys().next();
    if (cache.size > CACHE_LIMIT && !oldest.done) cache.delete(oldest.value);
    return record;
  };

  return {
    of: async (backupIds, options) => {
      const etags = await list();
      const found = new Map<string, Verification>();
      const wanted = backupIds.filter((id) => etags.has(id));
      let next = 0;
      const worker = async () => {
        for (let id = wanted[next++]; id !== undefined; id = wanted[next++]) {
          const record = await read(id, etags.get(id) as string, options);
          const counts = record && standing(record);
          if (counts) found.set(id, counts);
        }
      };
      await Promise.all(Array.from({ length: READ_PARALLEL }, worker));
      return found;
    },
    keep: async (backupId, verification, { signal }) => {
      const key = keys.verified(backupId);
      for (let attempt = 1; ; attempt++) {
        const there = await store.get(key, { signal });
        const record = withVerification(there && parse(there.bytes), backupId, verification);
        const condition = there === undefined ? { ifAbsent: true } : { ifMatch: there.etag };
        try {
          const body = `${JSON.stringify(record, undefined, 2)}\n`;
          await store.put(key, body, { signal, ...condition, contentType: 'application/json' });
          listing = undefined;
          return;
        } catch (error) {
          if (!isBackupError(error, 'precondition_failed') || attempt === KEEP_ATTEMPTS)
            throw error;
        }
      }
    },
    changed: () => {
      listing = undefined;
    },
  };
}

async function listAll(store: ObjectStore, keys: Keys): Promise<Map<string, string>> {
  const etags = new Map<string, string>();
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await store.list({ prefix: keys.verifiedPrefix, ...from }, { signal: NEVER });
    for (const { key, etag } of page.objects) {
      const id = keys.parseVerified(key);
      if (id !== undefined) etags.set(id, etag);
    }
    startAfter = page.next;
  } while (startAfter !== undefined);
  return etags;
}

async function readOne(store: ObjectStore, key: string, { signal }: Cancellable) {
  const found = await store.get(key, { signal });
  return found && parse(found.bytes);
}

function parse(bytes: Uint8Array): VerifiedRecord | undefined {
  try {
    return verifiedRecordSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch {
    return undefined; // it says nothing; the next verification writes it anew
  }
}
