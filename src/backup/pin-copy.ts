/**
 * A copy of a backup under `pinned/`, out of the bucket's rotation: made and removed. The guard and pins both do it here.
 *
 * The store copies; no byte comes through the service. Order of making: pin.json, archive, index, and the record last, so
 * a copy that was cut off is never taken for a backup and tells by its pin.json whose it is. It is simply made again: what
 * was copied stays, unfinished uploads are aborted. Removing goes the other way round. Whoever calls holds the backup's
 * lease (`keys.lease(pool, backup id)`), so nobody else writes there.
 */
import type { HeldCopy, Holding } from '../catalog/holdings.ts';
import { PIN_FILE, type Pin } from '../catalog/pin.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts } from '../ports.ts';
import type { Engine } from './context.ts';

type Deps = Pick<Engine, 'store' | 'keys' | 'catalog'>;

const TYPES: Readonly<Record<string, string>> = {
  xva: 'application/x-xva',
  json: 'application/json',
};

/**
 * Makes the copy, or makes it whole; one that is whole already only gets this pin.json, unless it is to be made `anew` from
 * where it lies, or itself: rules over the whole bucket delete copies, too, by their age. `onProgress` is told of the
 * archive's bytes. Errors: `not_found` when the original is not whole and neither is the copy; the store's, as of `copy`.
 */
export async function pinCopy(
  { holding, pin, anew }: { holding: Holding; pin: Pin; anew?: HeldCopy | undefined },
  { store, keys, catalog }: Deps,
  options: Cancellable & { onProgress?: (copiedBytes: number) => void },
): Promise<void> {
  const { signal, onProgress } = options;
  const { original, pinned } = holding;
  const isThere = pinned.archive !== undefined && pinned.record !== undefined;
  const { archive, record, index } = anew ?? original;
  if (!isThere && (archive === undefined || record === undefined)) {
    throw new BackupError('not_found', `copy backup ${holding.backupId}: it is not there any more`);
  }
  const body = `${JSON.stringify(pin, undefined, 2)}\n`;
  const pinKey = keys.pinned(holding, PIN_FILE);
  await store.put(pinKey, body, { signal, contentType: 'application/json' });
  const isAsked = !isThere || anew !== undefined;
  if (isAsked && archive !== undefined && record !== undefined) {
    await abortUploads({ holding }, { store, keys }, { signal });
    const copy = async (from: ObjectFacts, told = {}) => {
      const to = keys.pinned(holding, from.key.slice(from.key.lastIndexOf('/') + 1));
      const input = { from, to, contentType: typeOf(to), anew: anew !== undefined };
      await store.copy(input, { signal, ...told });
    };
    await copy(archive, onProgress ? { onProgress } : {});
    // one made anew lies elsewhere and is found all the same; without any the archive is whole, too
    if (index !== undefined) await copy(index);
    await copy(record);
  }
  catalog.changed();
}

/**
 * Removes the copy; gone already is success. With `left` that pin.json stays instead of none: what is to be remembered of
 * it. Never touches the original.
 */
export async function removeCopy(
  { holding, left }: { holding: Holding; left?: Pin },
  { store, keys, catalog }: Deps,
  { signal }: Cancellable,
): Promise<void> {
  const { pinned } = holding;
  for (const object of [pinned.record, pinned.index, pinned.archive]) {
    if (object !== undefined) await store.delete(object.key, { signal });
  }
  await abortUploads({ holding }, { store, keys }, { signal });
  const pinKey = keys.pinned(holding, PIN_FILE);
  if (left === undefined) await store.delete(pinKey, { signal });
  else {
    const body = `${JSON.stringify(left, undefined, 2)}\n`;
    await store.put(pinKey, body, { signal, contentType: 'application/json' });
  }
  catalog.changed();
}

/** What a copy that was cut off has begun. */
async function abortUploads(
  { holding }: { holding: Holding },
  { store, keys }: Pick<Deps, 'store' | 'keys'>,
  options: Cancellable,
): Promise<void> {
  const uploads = await store.listUploads(keys.pinned(holding, ''), options);
  for (const upload of uploads) await store.abortUpload(upload, options);
}

function typeOf(key: string): string {
  return TYPES[key.slice(key.lastIndexOf('.') + 1)] ?? 'application/octet-stream';
}
