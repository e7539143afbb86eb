/**
 * Which backup a delta is compared with and copied from: the newest one of the machine that surely serves.
 *
 * Of any retention class, for a copy is a copy; but not one that the bucket may remove before the job ends, whose
 * archive is not what was stored, lies in a class that cannot be read at once, or whose index says nothing usable. What was
 * passed over, and why, is told in the result.
 */
import type { BackupEntry } from '../catalog/backups.ts';
import type { Backup, Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts, ObjectStore } from '../ports.ts';
import { openIndex } from '../xva/blocks-index.ts';
import { COMPRESSION, createFrameMap } from '../xva/frames.ts';
import type { BlocksIndex } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { insist, withDeadline } from './deadline.ts';
import { type Expiry, readExpiry } from './expiry.ts';

export interface Base {
  backup: Backup;
  /** Without its entries, which are read as they are needed. */
  index: BlocksIndex;
  archive: ObjectFacts;
  /** Why this one. */
  reason: string;
}

/** A base, or why there is none. */
export type BaseChoice = { base: Base } | { base?: undefined; reason: string };

/** Looking at one costs some small requests; what is older than five backups holds little that is still the same. */
const MOST_LOOKED_AT = 5;
/** The rate a job is believed to reach at least, for the time its base must last. */
const SLOW_BYTES_PER_SECOND = 50 * 1024 * 1024;
/** XenAPI ends an export after a day; the queue and the end of the job take some more. */
const LONGEST_MS = 24 * 3_600_000;
const SPARE_MS = 3_600_000;
/** Classes whose objects must be restored before they can be read (or copied). */
const COLD = new Set(['GLACIER', 'DEEP_ARCHIVE', 'ARCHIVE']);

/** Without a base everything would be sent: worth a wait of minutes for a store that is away for a moment. */
const PATIENCE_MS = 120_000;

/** Looks from the newest backup on. Errors: the store's, when it stays away. */
export async function chooseBase(job: Job, context: StepContext): Promise<BaseChoice> {
  const { engine } = context;
  const onFailure = ({ message }: Error) =>
    engine.log.info('base not looked at yet', { job_id: job.id, error: message });
  return await withDeadline(engine.clock, PATIENCE_MS, async (deadline) => {
    const signal = AbortSignal.any([context.signal, deadline]);
    try {
      return await insist(engine.clock, () => look(job, { ...context, signal }), {
        signal,
        onFailure,
      });
    } catch (error) {
      context.signal.throwIfAborted();
      throw error;
    }
  });
}

async function look(job: Job, context: StepContext): Promise<BaseChoice> {
  const { catalog } = context.engine;
  const entries = await catalog.entries({ vmUuid: job.vm.uuid, pool: job.vm.pool });
  if (entries.length === 0) return { reason: 'no backup of this machine yet' };
  const { store, delta } = context.engine;
  const expiry = await readExpiry(store, delta.retentionDays, { signal: context.signal });
  const passed: string[] = [];
  for (const entry of entries.slice(0, MOST_LOOKED_AT)) {
    const found = await lookAt(entry, { job, expiry }, context);
    if (typeof found === 'string') {
      passed.push(`${entry.backupId} (${found})`);
      continue;
    }
    const reason =
      passed.length === 0
        ? 'the newest backup of this machine'
        : `the newest that can be used; passed over: ${passed.join(', ')}`;
    return { base: { ...found, reason } };
  }
  return { reason: `no earlier backup can be copied from: ${passed.join(', ')}` };
}

/** The base, or why this one is none. */
async function lookAt(
  entry: BackupEntry,
  { job, expiry }: { job: Job; expiry: Expiry },
  { engine, signal }: StepContext,
): Promise<Omit<Base, 'reason'> | string> {
  const [backup] = await engine.catalog.records([entry], { signal });
  if (backup === undefined) return 'its record is gone or cannot be read';
  if (backup.compression !== job.request.compression) {
    return `its compression is ${backup.compression}`;
  }
  const archive = await engine.store.head(backup.archive.key, { signal });
  if (archive === undefined) return 'its archive is gone';
  const { size_bytes: size, etag } = backup.archive;
  if (archive.sizeBytes !== size || bare(archive.etag) !== bare(etag)) {
    return 'its archive is not the one that was stored';
  }
  if (archive.storageClass !== undefined && COLD.has(archive.storageClass)) {
    return `its archive lies in ${archive.storageClass}`;
  }
  if (expiry(backup, archive) - engine.clock.now() < neededMs(job)) {
    return 'the bucket may remove it before the job ends';
  }
  const index = await readIndex(backup, { engine, signal });
  return typeof index === 'string' ? index : { backup, index, archive };
}

async function readIndex(
  { index_key: key, archive }: Backup,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Promise<BlocksIndex | string> {
  const facts = await engine.store.head(key, { signal });
  if (facts === undefined) return 'its index is gone';
  try {
    const { sizeBytes } = facts;
    const index = await openIndex(rangesOf(engine.store, key, { signal }), {
      sizeBytes,
      hash: await engine.hasher(),
    });
    const { frames } = index;
    if (frames !== undefined && frames.parameters !== COMPRESSION.parameters) {
      return 'it was compressed by another version or level of zstd';
    }
    const archiveBytes = frames ? createFrameMap(index).archiveBytes : index.archiveBytes;
    const isOf =
      hex(index.contentDigest) === archive.content_digest && archiveBytes === archive.size_bytes;
    return isOf ? index : 'its index is that of another archive';
  } catch (error) {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    return error.details.index === 'old'
      ? 'its index is of an older version'
      : 'its index is damaged';
  }
}

/** Reads ranges of one small object, as the codec asks for them. */
export function rangesOf(store: ObjectStore, key: string, { signal }: Cancellable) {
  return async (range: { offset: number; length: number }): Promise<Uint8Array> => {
    const found = await store.get(key, { signal, range });
    if (found) return found.bytes;
    throw new BackupError('data_corrupt', `read ${key}: it is gone`);
  };
}

function neededMs({ progress }: Job): number {
  const slowMs = ((progress.total_bytes ?? 0) / SLOW_BYTES_PER_SECOND) * 1000;
  return Math.min(slowMs, LONGEST_MS) + SPARE_MS;
}

/** Some stores quote an ETag in one answer and not in another. */
const bare = (etag: string) => etag.replaceAll('"', '');
const hex = (digest: bigint) => digest.toString(16).padStart(16, '0');
