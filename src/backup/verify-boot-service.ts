/** Trying a backup out, on request: the part of the service that starts such jobs. */
import type { Job } from '../catalog/record.ts';
import { restoreRequestSchema } from '../catalog/restore.ts';
import type { RestoreTestWish } from '../catalog/verified.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { describeOva } from '../xva/ova-facts.ts';
import type { Engine } from './context.ts';
import type { JobRunner } from './jobs.ts';
import { readOva } from './restore-ova.ts';
import { newRestoreJob } from './restore-service.ts';
import { findArchive } from './verify-archive.ts';
import { checkVerdict } from './verify-boot-verdict.ts';

/** XenAPI takes longer ones; people do not. */
const MAX_NAME = 200;

export interface RestoreTestInput {
  backupId: string;
  wish: RestoreTestWish;
  triggeredBy: string;
  /** As for a backup. */
  jobId?: string | undefined;
}

export interface RestoreTestService {
  /**
   * Starts a job that restores a backup under another name and without a network, starts it, waits for its guest and removes it.
   * Errors: as `startRestore`; `invalid_request` for a verdict that the settings do not allow.
   */
  startRestoreTest(input: RestoreTestInput, options: Cancellable): Promise<Job>;
}

/** Over the runner of this process. */
export function createRestoreTestService(
  engine: Engine,
  runner: Pick<JobRunner, 'begin'>,
): RestoreTestService {
  return {
    startRestoreTest: (input, options) =>
      runner.begin(input, options, () => newTestJob(engine, input, options)),
  };
}

async function newTestJob(
  engine: Engine,
  { wish, ...input }: RestoreTestInput,
  options: Cancellable,
): Promise<Job> {
  await checkVerdict(wish, engine.hooks, options);
  const stored = await findArchive({ id: '', backup_id: input.backupId }, { engine, ...options });
  const facts = describeOva(await readOva(stored, engine.store, options));
  if (facts.disks.length === 0) {
    throw new BackupError(
      'vm_not_supported',
      'test restore: a machine without disks starts nothing',
    );
  }
  // every one by its uuid: what is the same network here would be taken otherwise, and two guests of one name would meet
  const used = facts.networks.filter(({ id }) =>
    facts.interfaces.some(({ networkId }) => networkId === id),
  );
  const { pool, sr } = wish;
  const request = restoreRequestSchema.parse({
    ...(pool === undefined ? {} : { pool }),
    ...(sr === undefined ? {} : { sr }),
    name: `xvault restore test of ${stored.backup.vm.name}`.slice(0, MAX_NAME),
    networks: Object.fromEntries(used.map(({ uuid }) => [uuid, 'none'])),
  });
  const job = await newRestoreJob(engine, { ...input, request }, options);
  return { ...job, kind: 'restore_test', restore_test: wish };
}
