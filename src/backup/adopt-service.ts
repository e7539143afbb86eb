/** Taking archives in that were made by hand: the part of the service that starts such jobs. Only for who has the archive. */
import { type BackupRequest, backupRequestSchema, type Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Pool } from '../ports.ts';
import { parseTime } from '../time.ts';
import { type FoundArchive, type Identity, lookAtSource, rewriteOf } from './adopt-look.ts';
import { takenAt } from './adopt-steps.ts';
import type { AdoptSource } from './adopt-stream.ts';
import { checkClass } from './choose-class.ts';
import type { Engine } from './context.ts';
import { poolOf } from './context.ts';
import { findVm } from './find-vm.ts';
import { idAt } from './ids.ts';
import { type JobRunner, newJob } from './jobs.ts';

const UNKNOWN_MACHINE =
  'it was made from a snapshot, whose uuids are not the machine’s: to have later backups copy from it, adopt it with --vm';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface AdoptInput {
  source: AdoptSource;
  /** The pool's name in the settings; may be left out where there is one. */
  pool?: string | undefined;
  /** uuid or name of the machine it is a backup of; as the archive says unless given. */
  vm?: string | undefined;
  name?: string | undefined;
  retention: string;
  compression: BackupRequest['compression'];
  note?: string | undefined;
  triggeredBy: string;
}

export interface AdoptService {
  /**
   * Looks at the archive, and starts a job that stores it as a backup. It must be read by this process.
   * Errors: `data_corrupt`, `vm_not_supported`, `invalid_request`, `not_found`, `vm_ambiguous`, `job_conflict`, `limit_reached`,
   * `draining`, `store_*`.
   */
  startAdopt(input: AdoptInput, options: Cancellable): Promise<Job>;
}

/** Over the runner of this process. */
export function createAdoptService(
  engine: Engine,
  runner: Pick<JobRunner, 'begin' | 'gone'>,
): AdoptService {
  return {
    startAdopt: async (input, options) => {
      checkClass(input.retention, engine.retentionClasses);
      const pool = onlyPool(engine, input.pool);
      const { source } = input;
      const archive = await lookAtSource(source, options);
      const identity = await identityOf(engine, { vm: input.vm, pool }, options);
      const { rewrite, changes } = rewriteOf(archive, identity, input.name);
      const job = newAdoptJob(engine, { input, pool, archive, rewrite });
      const warnings = archive.isSnapshot && identity === undefined ? [UNKNOWN_MACHINE] : [];
      engine.adoptions.set(job.id, { source, archive, rewrite, changes, warnings });
      const forget = () => void engine.adoptions.delete(job.id);
      try {
        const begun = await runner.begin({}, options, async () => job);
        void runner.gone(job.id).then(forget);
        return begun;
      } catch (error) {
        forget();
        throw error;
      }
    },
  };
}

function newAdoptJob(
  engine: Engine,
  {
    input,
    pool,
    archive,
    rewrite,
  }: {
    input: AdoptInput;
    pool: string;
    archive: FoundArchive;
    rewrite: { vmUuid: string; nameLabel: string };
  },
): Job {
  const { retention, compression, note } = input;
  const request = backupRequestSchema.parse({
    mode: 'full',
    retention,
    compression,
    ...(note === undefined ? {} : { note }),
  });
  const vm = { uuid: rewrite.vmUuid, nameLabel: rewrite.nameLabel };
  const { triggeredBy } = input;
  const job = newJob(engine, { pool, srs: [], vm, request, triggeredBy, jobId: undefined });
  const at = takenAt(archive, input.source, engine.clock.now());
  return {
    ...job,
    kind: 'adopt',
    checkpoint: {
      ...job.checkpoint,
      // it sorts among the machine's backups by the time it is of, and is no younger than that
      backup_id: idAt(parseTime(at), engine.ids.uuid()),
    },
  };
}

function onlyPool({ pools }: Engine, wanted: string | undefined): string {
  if (wanted !== undefined) return wanted;
  const [only, ...others] = [...pools.keys()];
  if (only !== undefined && others.length === 0) return only;
  const known = [...pools.keys()].join(', ');
  throw new BackupError('invalid_request', `choose pool: name one with --pool (${known})`);
}

/** The machine on its pool, or no more than its uuid where it is not there any more. */
async function identityOf(
  engine: Engine,
  { vm: wanted, pool: poolName }: { vm: string | undefined; pool: string },
  options: Cancellable,
): Promise<Identity | undefined> {
  if (wanted === undefined) return undefined;
  const isUuid = UUID.test(wanted);
  if (isUuid && !engine.pools.has(poolName)) return { uuid: wanted };
  const pool: Pool = poolOf(engine, poolName);
  try {
    const { vm } = await findVm(engine, { vm: wanted, pool: pool.name }, options);
    const { uuid, nameLabel, nameDescription, disks } = await pool.inspectVm(vm.ref, options);
    return { uuid, nameLabel, nameDescription, disks };
  } catch (error) {
    if (isUuid && isBackupError(error, 'not_found')) return { uuid: wanted };
    throw error;
  }
}
