/**
 * Records of backups, remembered by a Worker for as long as it lives.
 *
 * A front door starts anew with each request, so a status of a thousand machines reads a thousand records each time. They are
 * written once and never again (keys of `backups/`, docs/design.md), so their bytes may be kept; that one is still there is told
 * by the listing, which is asked every time. Plain bytes may outlive a request, what is still on its way may not.
 */
import type { Keys } from '../catalog/keys.ts';
import type { ObjectStore } from '../ports.ts';

/** Of the 128 MB a Worker has: the records of some five thousand machines. */
const MAX_BYTES = 16 * 1_048_576;

type Got = NonNullable<Awaited<ReturnType<ObjectStore['get']>>>;

export interface RecordCache {
  /** The same store, which reads each record of a backup once. */
  over(store: ObjectStore, keys: Keys): ObjectStore;
}

/** Forgets the oldest when it is full. */
export function createRecordCache(maxBytes: number = MAX_BYTES): RecordCache {
  const known = new Map<string, Got>();
  let heldBytes = 0;

  const remember = (key: string, got: Got): void => {
    if (known.has(key) || got.bytes.length > maxBytes) return;
    known.set(key, got);
    heldBytes += got.bytes.length;
    for (const [oldest, { bytes }] of known) {
      if (heldBytes <= maxBytes) break;
      known.delete(oldest);
      heldBytes -= bytes.length;
    }
  };

  return {
    over: (store, keys) => ({
      ...store,
      get: async (key, options) => {
        if (options.range !== undefined || keys.parseRecord(key) === undefined) {
          return await store.get(key, options);
        }
        options.signal.throwIfAborted();
        const found = known.get(key) ?? (await store.get(key, options));
        if (found !== undefined) remember(key, found);
        return found;
      },
    }),
  };
}
