/**
 * What a copy out of rotation that was cut off left below `pinned/`: unfinished uploads, and objects without a record.
 *
 * Whoever copies holds the backup's lease, so with the lease free nobody does, and an unfinished upload is waste. Objects
 * without a record wait a week: a job that is tried again, or the guard, goes on with them. Each is looked at again under the
 * lease before anything goes; what has a record, and what only says that a backup was released, is never touched.
 */
import { type Holding, isWhole, machineName, readHoldings } from '../catalog/holdings.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import type { Leftover, Verdict } from './leftover.ts';
import { removeCopy } from './pin-copy.ts';

/** Longer than jobs are tried again, and than the guard takes to look. */
const HALF_AGE_MS = 7 * 86_400_000;

type Place = Pick<Holding, 'pool' | 'vmUuid' | 'backupId'>;

/** Errors: `store_*`. */
export async function findCopies(engine: Engine, options: Cancellable): Promise<Leftover[]> {
  return [...(await findUploads(engine, options)), ...(await findHalves(engine, options))];
}

async function findUploads(engine: Engine, options: Cancellable): Promise<Leftover[]> {
  const { store, keys, clock } = engine;
  const found: Leftover[] = [];
  for (const upload of await store.listUploads(keys.pinnedPrefix, options)) {
    const place = keys.parsePinned(upload.key);
    if (place === undefined) continue; // no key of our grammar: somebody else's
    const createdAt = upload.initiated > 0 ? upload.initiated : clock.now();
    found.push({
      kind: 'upload',
      pool: place.pool,
      id: upload.uploadId,
      name: upload.key,
      owner: { state: 'unknown' },
      createdAt,
      verdict: (await isHeld(engine, place, options)) ?? {
        remove: true,
        reason: 'a copy that was cut off: nobody works on this backup',
      },
      remove: (removing) =>
        underLease(engine, place, removing, () => store.abortUpload(upload, removing)),
    });
  }
  return found;
}

async function findHalves(engine: Engine, options: Cancellable): Promise<Leftover[]> {
  const found: Leftover[] = [];
  for (const holding of [...(await engine.catalog.holdings()).values()].flat()) {
    const createdAt = halfSince(holding);
    if (createdAt === undefined) continue;
    const isOld = engine.clock.now() - createdAt >= HALF_AGE_MS;
    const reason = isOld
      ? 'a copy that was cut off a week ago: without a record it is no backup'
      : 'a copy that was cut off less than a week ago: it may be gone on with';
    const { pool, backupId } = holding;
    found.push({
      kind: 'copy',
      pool,
      id: engine.keys.pinned(holding, ''),
      name: backupId,
      owner: { state: 'unknown' },
      createdAt,
      verdict: (await isHeld(engine, holding, options)) ?? { remove: isOld, reason },
      remove: (removing) =>
        underLease(engine, holding, removing, async () => {
          const machine = await readHoldings(engine, holding, removing);
          const now = machine.get(machineName(holding))?.find((one) => one.backupId === backupId);
          if (now === undefined || halfSince(now) === undefined) return;
          await removeCopy({ holding: now }, engine, removing);
        }),
    });
  }
  return found;
}

/** When the last of its objects came; undefined of a copy that is whole, or of a mark alone. */
function halfSince({ pinned }: Holding): number | undefined {
  const objects = [pinned.archive, pinned.index].filter((one) => one !== undefined);
  if (isWhole(pinned) || objects.length === 0) return undefined;
  return Math.max(...objects.map(({ lastModified }) => lastModified));
}

async function isHeld(
  { leases, keys }: Engine,
  { pool, backupId }: Place,
  options: Cancellable,
): Promise<Verdict | undefined> {
  const holder = await leases.look(keys.lease(pool, backupId), options);
  if (holder === undefined || holder.expired) return undefined;
  return { remove: false, reason: 'somebody works on this backup' };
}

/** Nothing is done when somebody has it meanwhile. */
async function underLease(
  { leases, keys, ids }: Engine,
  { pool, backupId }: Place,
  options: Cancellable,
  work: () => Promise<void>,
): Promise<void> {
  const key = keys.lease(pool, backupId);
  const lease = await leases.take({ key, jobId: ids.uuid() }, options).catch((error) => {
    if (isBackupError(error, 'lease_held')) return undefined;
    throw error;
  });
  if (lease === undefined) return;
  try {
    await work();
  } finally {
    await lease.release(options);
  }
}
