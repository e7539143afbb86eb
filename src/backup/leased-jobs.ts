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

/**
 * Gives `look` the ids of the jobs that leases name, until it went well once after each doubt of the shared queue; none
 * otherwise. Errors: those of `look`, `store_*`.
 */
export function createLeasedJobs(
  { leases, keys, log }: Pick<Engine, 'leases' | 'keys' | 'log'>,
  {
    shared,
    onDoubt,
  }: {
    shared?: Pick<SharedQueue, 'onDoubt' | 'problem'> | undefined;
    onDoubt?: (() => void) | undefined;
  },
) {
  let inDoubt = true;
  shared?.onDoubt(() => {
    inDoubt = true;
    onDoubt?.();
  });
  const list = async (options: Cancellable): Promise<string[]> => {
    try {
      const holders = await leases.list(keys.leasesPrefix, options);
      return [...holders.values()].map(({ jobId }) => jobId);
    } catch (error) {
      if (!isBackupError(error, 'data_corrupt')) throw error;
      inDoubt = true;
      log.warn('jobs of all leases not looked at', { error: error.message });
      return []; // the newest are looked at all the same
    }
  };
  return async (look: (ids: readonly string[]) => Promise<void>, options: Cancellable) => {
    if (!inDoubt || shared?.problem !== undefined) return await look([]);
    inDoubt = false; // before it is looked: a doubt that comes meanwhile counts
    try {
      await look(await list(options));
    } catch (error) {
      inDoubt = true;
      throw error;
    }
  };
}
