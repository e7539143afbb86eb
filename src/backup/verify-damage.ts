/** What errors say of a backup that was looked at again, and whom else that concerns. */
import type { Backup, Job } from '../catalog/record.ts';
import type { Verification } from '../catalog/verified.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { StepContext } from './context.ts';
import { backupIdOf } from './verify-archive.ts';

/** Later backups looked at for who copied from a damaged one: more than any class keeps. */
const MOST_HEIRS = 1000;

export type Problem = NonNullable<Verification['problem']>;

/** An index that cannot be used, of an archive that can. */
export function indexDamage(
  { id, index_key: key }: Backup,
  { why, isCold }: { why?: string; isCold?: true },
): BackupError {
  if (isCold) return new BackupError('store_refused', `verify backup ${id}: ${why}`);
  return new BackupError(
    'data_corrupt',
    `verify backup ${id}: ${why}, key=${key}; to make it anew: xvault index ${id}`,
    { details: { part: 'index', key } },
  );
}

/** What an error says of the backup, if it says anything: it names the object that is damaged or gone. */
export function problemIn(error: unknown): Problem | undefined {
  if (!isBackupError(error, 'data_corrupt', 'not_found')) return undefined;
  const { part, key, copied_by: heirs, ...details } = error.details;
  if (typeof key !== 'string') return undefined;
  return {
    part: part === 'index' ? 'index' : 'archive',
    code: error.code,
    detail: error.message,
    key,
    ...(Array.isArray(heirs) ? { copied_by: heirs } : {}),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}

/** Damage of an archive, told with the later backups that copied from it: ranges are copied as they are, unseen. */
export async function withHeirs(
  thrown: unknown,
  job: Job,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Promise<unknown> {
  if (problemIn(thrown)?.part !== 'archive') return thrown;
  const { code, message, details } = thrown as BackupError;
  const id = backupIdOf(job);
  const entries = await engine.catalog.entries({ vmUuid: job.vm.uuid });
  const later = entries.filter(({ backupId }) => backupId > id).slice(-MOST_HEIRS);
  const records = await engine.catalog.records(later, { signal });
  const heirs = new Set([id]);
  for (const { id: one, base } of records.reverse()) {
    if (base && heirs.has(base.backup_id)) heirs.add(one);
  }
  heirs.delete(id);
  if (heirs.size === 0) return thrown;
  const told = `${message}; later backups that copied from it (${heirs.size}) may hold the same: verify them, too`;
  return new BackupError(code, told, {
    details: { ...details, copied_by: [...heirs] },
    cause: thrown,
  });
}
