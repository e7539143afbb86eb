/** Looking at backups again, on request: the part of the service that starts such jobs. */
import type { Job } from '../catalog/record.ts';
import type { VerifyWish } from '../catalog/verified.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import { type JobRunner, newJobAbout } from './jobs.ts';

export interface VerifyInput {
  backupId: string;
  wish: VerifyWish;
  triggeredBy: string;
  /** As for a backup. */
  jobId?: string | undefined;
}

export interface VerifyService {
  /**
   * Starts a job that reads a backup's archive, all of it or a sample, and keeps with the backup what it found.
   * Errors: `not_found`, `job_conflict` (details.job_id), `limit_reached`, `draining`, `store_*`.
   */
  startVerify(input: VerifyInput, options: Cancellable): Promise<Job>;
}

/** Over the runner of this process. */
export function createVerifyService(
  engine: Engine,
  runner: Pick<JobRunner, 'begin'>,
): VerifyService {
  return {
    startVerify: (input, options) =>
      runner.begin(input, options, async () => ({
        ...(await newJobAbout(engine, input, options)),
        kind: 'verify',
        verify: input.wish,
      })),
  };
}
