/** What errors say of a backup that was looked at again. */
import type { Backup } from '../catalog/record.ts';
import type { Verification } from '../catalog/verified.ts';
import { BackupError, isBackupError } from '../errors.ts';

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
  const { part, key, ...details } = error.details;
  if (typeof key !== 'string') return undefined;
  return {
    part: part === 'index' ? 'index' : 'archive',
    code: error.code,
    detail: error.message,
    key,
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}
