/**
 * Jobs that have not ended, found by their leases: of whatever age, and however many came after them.
 *
 * Every job that waits or runs has a lease, also one that a drain or a crash left (parked, or run out). Records are looked
 * through from the newest on and only so far; a sweep finds those beyond. When the shared queue may have lost jobs they are
 * found here at once.
 */
import { isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { SharedQueue } from '../queue-port.ts';
import type { Engine } from './context.ts';

/** Ids of the jobs that leases name, once after each doubt of the shared queue; none otherwise. */
export function createLeasedJobs(
  { leases, keys, log }: Engine,
  { shared, onDoubt }: { shared?: SharedQueue | undefined; onDoubt?: (() => void) | undefined },
) {
  let inDoubt = true;
  shared?.onDoubt(() => {
    inDoubt = true;
    onDoubt?.();
  });
  return async (options: Cancellable): Promise<string[]> => {
    if (!inDoubt || shared?.problem !== undefined) return [];
    inDoubt = false;
    try {
      const holders = await leases.list(keys.leasesPrefix, options);
      return [...holders.values()].map(({ jobId }) => jobId);
    } catch (error) {
      inDoubt = true;
      if (!isBackupError(error, 'data_corrupt')) throw error;
      log.warn('jobs of all leases not looked at', { error: error.message });
      return []; // the newest are looked at all the same
    }
  };
}
