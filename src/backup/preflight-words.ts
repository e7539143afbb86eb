/** Words and sums the checks before a snapshot share. */
import { BackupError, type ErrorDetails } from '../errors.ts';
import type { DiskFacts, SrFacts } from '../ports.ts';

/** As people know the disk. */
export const label = (disk: DiskFacts) => `${disk.userdevice} "${disk.nameLabel}"`;

/** For details. */
export const nameDisk = (disk: DiskFacts) => ({
  vdi_uuid: disk.vdiUuid,
  name: disk.nameLabel,
  userdevice: disk.userdevice,
});

/** For details. */
export const nameSr = (sr: SrFacts) => ({ uuid: sr.uuid, name: sr.nameLabel, type: sr.type });

export const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** A refusal that passes by itself: the job is tried again no sooner than the details say. */
export function notNow(
  message: string,
  details: ErrorDetails & { retry_after_seconds: number },
): BackupError {
  return new BackupError('snapshot_refused', message, { details, retry: 'later' });
}
