/**
 * Which backup a delta is compared with and copied from: the newest one of the machine that surely serves.
 *
 * Of any retention class, for a copy is a copy; but not one that the bucket may remove before the job ends, whose
 * archive is not what was stored, lies in a class that cannot be read at once, or whose index says nothing usable. What was
 * passed over, and why, is told in the result.
 */
import type { BackupEntry } from '../catalog/backups.ts';
import type { Backup, Job } from '../catalog/record.ts';
import { isDamaged } from '../catalog/verified.ts';
import type { ObjectFacts } from '../ports.ts';
import { COMPRESSION } from '../xva/frames.ts';
import type { BlocksIndex } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { insist, withDeadline } from './deadline.ts';
import { type Expiry, readExpiry } from './expiry.ts';
import { findIndex, lookAtArchive } from './find-index.ts';

export interface Base {
  /** Its `index_key` is that of the index which was found usable: perhaps one made anew. */
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
  const verified = (await engine.verifications.of([backup.id], { signal })).get(backup.id);
  if (isDamaged(verified)) return 'a verification found it damaged';
  const archive = await lookAtArchive(backup, { engine, signal });
  if ('why' in archive) return archive.why;
  if (expiry(backup, archive) - engine.clock.now() < neededMs(job)) {
    return 'the bucket may remove it before the job ends';
  }
  const found = await findIndex(backup, { engine, signal });
  if (found.index === undefined) return `${found.why}; to make it anew: xvault index ${backup.id}`;
  const { index, key } = found;
  // offsets in frames are no offsets of blocks: never to be mixed up, whatever a record says
  if ((index.frames !== undefined) !== (backup.compression === 'zstd')) {
    return 'its index is that of another archive';
  }
  if (index.frames !== undefined && index.frames.parameters !== COMPRESSION.parameters) {
    return 'it was compressed by another version or level of zstd';
  }
  return { backup: { ...backup, index_key: key }, index, archive };
}

function neededMs({ progress }: Job): number {
  const slowMs = ((progress.total_bytes ?? 0) / SLOW_BYTES_PER_SECOND) * 1000;
  return Math.min(slowMs, LONGEST_MS) + SPARE_MS;
}
