/**
 * What dead runs left in the bucket: unfinished uploads, staging objects, expired leases, objects of the probe.
 *
 * Nothing that is whole is touched under `backups/`: aborting an upload deletes no object, and an upload that was
 * completed meanwhile is no upload any more. A job holds its machine's lease before it begins to upload, so with
 * the lease free, or another job's, and the own job ended or unknown for long, nobody writes there.
 */
import type { Lease } from '../catalog/lease.ts';
import { isEnded } from '../catalog/record.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts, ObjectStore } from '../ports.ts';
import type { Engine } from './context.ts';
import { judge, type Leftover, UNKNOWN_AGE_MS } from './leftover.ts';
import type { Owner, Owners } from './owner.ts';
import { findCopies } from './sweep-copies.ts';

/** The probe takes seconds, two minutes at most. */
const PROBE_AGE_MS = 3600_000;
/** Pages of 1000 keys of one kind looked at in one sweep; the next goes on when these are gone. */
const MAX_PAGES = 20;
/** Newest records asked for the upload they remember, where the store cannot list uploads. */
const REMEMBERED_WINDOW = 500;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface BucketDeps {
  engine: Engine;
  /** Where jobs and leases lie. */
  stateStore: ObjectStore;
  /** Uploads aborted by their remembered id: a store that cannot list them cannot tell that they are gone, either. */
  aborted: Set<string>;
}

/** Everything found in the bucket, with a verdict each. Errors: `store_*`. */
export async function findInBucket(
  deps: BucketDeps,
  owners: Owners,
  options: Cancellable,
): Promise<Leftover[]> {
  const { engine, stateStore } = deps;
  const stores = [...new Set([engine.store, stateStore])];
  const found = [
    ...(await findUploads(deps, owners, options)),
    ...(await findStaged(engine, owners, options)),
    ...(await findCopies(engine, options)),
    ...(await findLeases(deps, owners, options)),
  ];
  // begun no earlier: one that fails while nobody waits for it yet would end the process
  const probes = stores.map((store) => findProbes(engine, store, options));
  return [...found, ...(await Promise.all(probes)).flat()];
}

async function findUploads(
  deps: BucketDeps,
  owners: Owners,
  options: Cancellable,
): Promise<Leftover[]> {
  const { store, keys } = deps.engine;
  const { listsUploads } = await store.facts(options);
  if (listsUploads === false) return await findRemembered(deps, options);
  const listed = [
    ...(await store.listUploads(keys.backupsPrefix, options)),
    ...(await store.listUploads(keys.stagingPrefix, options)),
  ];
  const found: Leftover[] = [];
  for (const upload of listed) {
    const owner = await ownerOfKey(deps.engine, { key: upload.key, owners }, options);
    if (owner === undefined) continue; // no key of our grammar: somebody else's
    const createdAt = upload.initiated > 0 ? upload.initiated : undefined;
    const ageMs = ageOf(deps.engine, createdAt);
    found.push({
      kind: 'upload',
      id: upload.uploadId,
      name: upload.key,
      owner,
      createdAt,
      verdict: judge(owner, { ageMs, unknownAgeMs: UNKNOWN_AGE_MS }),
      remove: (removing) => store.abortUpload(upload, removing),
    });
  }
  return found;
}

async function ownerOfKey(
  { keys }: Engine,
  { key, owners }: { key: string; owners: Owners },
  options: Cancellable,
): Promise<Owner | undefined> {
  const jobId = keys.parseStaging(key);
  if (jobId !== undefined) return await owners.ofJob(jobId, options);
  const parts = keys.parseArchive(key);
  if (parts === undefined || !UUID.test(parts.vmUuid) || !UUID.test(parts.backupId))
    return undefined;
  return await owners.ofBackup(parts, options);
}

/** Where uploads cannot be listed, the records of jobs that ended badly tell what may be left. */
async function findRemembered(
  { engine, aborted }: BucketDeps,
  options: Cancellable,
): Promise<Leftover[]> {
  const { store, jobs } = engine;
  const ids = (await jobs.ids(options)).slice(0, REMEMBERED_WINDOW);
  const found: Leftover[] = [];
  for (const id of ids) {
    options.signal.throwIfAborted();
    const job = await jobs.read(id).catch((error) => {
      if (isBackupError(error, 'data_corrupt')) return undefined;
      throw error;
    });
    if (job === undefined || !isEnded(job) || job.status === 'succeeded') continue;
    const { archive_key: key, upload_id: uploadId } = job.checkpoint;
    if (key === undefined || uploadId === undefined || aborted.has(uploadId)) continue;
    found.push({
      kind: 'upload',
      id: uploadId,
      name: key,
      owner: { state: 'ended', jobId: id, job },
      verdict: {
        remove: true,
        reason: `its job has ended: ${job.status}; this store cannot list uploads, it may be gone already`,
      },
      remove: async (removing) => {
        await store.abortUpload({ key, uploadId }, removing);
        aborted.add(uploadId);
      },
    });
  }
  return found;
}

/** Parts of outsized archives: one finding for each job. */
async function findStaged(
  engine: Engine,
  owners: Owners,
  options: Cancellable,
): Promise<Leftover[]> {
  const { store, keys } = engine;
  const byJob = new Map<string, ObjectFacts[]>();
  for await (const object of listAll(store, keys.stagingPrefix, options)) {
    const jobId = keys.parseStaging(object.key);
    if (jobId === undefined) continue;
    byJob.set(jobId, [...(byJob.get(jobId) ?? []), object]);
  }
  const found: Leftover[] = [];
  for (const [jobId, objects] of byJob) {
    const owner = await owners.ofJob(jobId, options);
    const createdAt = Math.max(...objects.map(({ lastModified }) => lastModified));
    found.push({
      kind: 'staging',
      id: keys.staging(jobId),
      name: `${objects.length} objects`,
      owner,
      createdAt,
      verdict: judge(owner, { ageMs: ageOf(engine, createdAt), unknownAgeMs: UNKNOWN_AGE_MS }),
      remove: async (removing) => {
        for (const { key } of objects) await store.delete(key, removing);
      },
    });
  }
  return found;
}

/** A lease in its time is nobody's leftover; an expired one of an ended job waits for the machine's next backup. */
async function findLeases(
  { engine, stateStore }: BucketDeps,
  owners: Owners,
  options: Cancellable,
): Promise<Leftover[]> {
  const { keys, leases } = engine;
  const found: Leftover[] = [];
  for await (const { key } of listAll(stateStore, keys.leasesPrefix, options)) {
    const at = keys.parseLease(key);
    const holder = at && (await leases.look(key, options));
    if (at === undefined || holder === undefined || !holder.expired) continue;
    const { jobId, expiresAt } = holder;
    const owner = await owners.ofJob(jobId, options);
    found.push({
      kind: 'lease',
      pool: at.pool,
      id: key,
      name: at.vmUuid,
      owner,
      createdAt: expiresAt,
      verdict: judge(owner, { ageMs: ageOf(engine, expiresAt), unknownAgeMs: UNKNOWN_AGE_MS }),
      remove: async (removing) => {
        // taken first, by a conditional write: not every store can delete under a condition
        const lease = await takeFree(engine, { key, jobId }, removing);
        await lease?.release(removing);
      },
    });
  }
  return found;
}

async function takeFree(
  { leases }: Engine,
  input: { key: string; jobId: string },
  options: Cancellable,
): Promise<Lease | undefined> {
  try {
    return await leases.take(input, options);
  } catch (error) {
    if (isBackupError(error, 'lease_held')) return undefined; // a new job has it: no leftover any more
    throw error;
  }
}

/** What an instance that died in its first seconds left of its trial of the bucket. */
async function findProbes(
  engine: Engine,
  store: ObjectStore,
  options: Cancellable,
): Promise<Leftover[]> {
  const { probePrefix } = engine.keys;
  const found: Leftover[] = [];
  const add = (
    item: { id: string; name: string; createdAt: number },
    remove: Leftover['remove'],
  ) => {
    const old = (ageOf(engine, item.createdAt) ?? 0) >= PROBE_AGE_MS;
    const reason = old
      ? 'a trial of the bucket that was cut off'
      : 'a trial of the bucket, just now';
    const owner: Owner = { state: 'unknown' };
    found.push({ kind: 'probe', ...item, owner, verdict: { remove: old, reason }, remove });
  };
  for await (const { key, lastModified } of listAll(store, probePrefix, options)) {
    const item = { id: key, name: key, createdAt: lastModified };
    add(item, (removing) => store.delete(key, removing));
  }
  for (const upload of await store.listUploads(probePrefix, options)) {
    const item = { id: upload.uploadId, name: upload.key, createdAt: upload.initiated };
    add(item, (removing) => store.abortUpload(upload, removing));
  }
  return found;
}

async function* listAll(
  store: ObjectStore,
  prefix: string,
  options: Cancellable,
): AsyncGenerator<ObjectFacts> {
  let startAfter: string | undefined;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await store.list({ prefix, ...from }, options);
    yield* page.objects;
    startAfter = page.next;
    if (startAfter === undefined) return;
  }
}

function ageOf({ clock }: Engine, createdAt: number | undefined): number | undefined {
  return createdAt === undefined || createdAt <= 0 ? undefined : clock.now() - createdAt;
}
