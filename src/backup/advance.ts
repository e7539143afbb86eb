/**
 * The life of a job, one bounded, repeatable step a phase. Of a backup (for other kinds see STEPS):
 *
 *   preparing ─► snapshotting ─► exporting ─► finishing ─► cleaning ─► ended
 *        └────────────┴─────────────┴────────────┴──(error)──▲
 *
 * A step takes the job's record and returns the next one; the driver writes it to the bucket in between. A process
 * may die anywhere: whoever takes the job over begins the same step again, so each looks first for what an earlier
 * try left (the snapshot carries the job's id in its name, the upload's id is in the checkpoint). Finishing and cleaning
 * have time of their own: a cancel that comes so late changes nothing any more.
 */
import { problemOf } from '../catalog/problem.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { PoolFacts } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import { adoptArchive, prepareAdopt } from './adopt-steps.ts';
import { withClass } from './choose-class.ts';
import { removeLeftovers, removeOurSnapshots } from './clean.ts';
import { poolOf, type StepContext } from './context.ts';
import { insist } from './deadline.ts';
import { chooseMode } from './delta-mode.ts';
import { discardUploads } from './discard-uploads.ts';
import { exportStep } from './export-step.ts';
import { isGuestHeld, releaseGuest } from './guest.ts';
import { prepareIndex, rebuildIndex } from './index-steps.ts';
import { inspect, snapshotName } from './look.ts';
import { copyOut, preparePin } from './pin-steps.ts';
import { type Preflight, type PreflightInput, preflight } from './preflight.ts';
import { planQuiesce } from './quiesce.ts';
import { cleanRestore, importRestore, prepareRestore, verifyRestore } from './restore-steps.ts';
import { maxArchiveBytes } from './size.ts';
import { snapshotStep } from './snapshot-step.ts';
import { bootTest, cleanTest, importTest, prepareTest } from './verify-boot.ts';
import { prepareVerify, verifyArchive } from './verify-steps.ts';

type Step = (job: Job, context: StepContext) => Promise<Job>;

/**
 * What each kind of job does in each of its phases. All begin with preparing, go through cleaning whatever happened, and
 * end there; a failed attempt begins with preparing again.
 */
const STEPS: Record<Job['kind'], Partial<Record<Job['phase'], Step>>> = {
  backup: {
    preparing: prepare,
    snapshotting: snapshotStep,
    exporting: exportStep,
    finishing: publish,
    cleaning: clean,
  },
  index: { preparing: prepareIndex, verifying: rebuildIndex, cleaning: end },
  restore: {
    preparing: prepareRestore,
    importing: importRestore,
    verifying: verifyRestore,
    cleaning: endRestore,
  },
  adopt: {
    preparing: prepareAdopt,
    exporting: adoptArchive,
    finishing: publish,
    cleaning: endAdopt,
  },
  pin: { preparing: preparePin, exporting: copyOut, cleaning: end },
  restore_test: {
    preparing: prepareTest,
    importing: importTest,
    verifying: bootTest,
    cleaning: endTest,
  },
  verify: { preparing: prepareVerify, verifying: verifyArchive, cleaning: end },
};

/** Does the job's next step. Errors: the step's; `failed` says what to do with them. */
export async function advance(job: Job, context: StepContext): Promise<Job> {
  if (isEnded(job)) return job;
  const step = STEPS[job.kind][job.phase];
  if (step) return step(job, context);
  throw new BackupError('internal', `advance ${job.kind} job=${job.id} in phase=${job.phase}`);
}

/** The job after a step failed: on to cleaning, with the problem inside. A second failure while cleaning ends it. */
export function failed(job: Job, thrown: unknown, context: StepContext): Job {
  const { clock } = context.engine;
  const error = toBackupError(thrown);
  if (job.phase !== 'cleaning') {
    return { ...job, phase: 'cleaning', error: problemOf(error, { jobId: job.id }) };
  }
  const what =
    job.kind === 'restore' || job.kind === 'restore_test'
      ? `what carries xvault:restore=${job.id} in its other_config`
      : `the snapshot ${snapshotName(job)}`;
  const left = `${what} may be left on pool ${job.vm.pool} (${error.message}): the next sweep removes it`;
  return endOf(job, formatTime(clock.now()), left);
}

async function prepare(given: Job, context: StepContext): Promise<Job> {
  const { engine, signal } = context;
  const job = await withClass(given, context);
  let vm = await inspect(job, context);
  if (!job.request.dry_run && (await removeLeftovers(job, vm.ref, context))) {
    vm = await inspect(job, context);
  }
  const pool = poolOf(engine, job.vm.pool);
  const facts = await pool.facts({ signal });
  const { warnings: unquiesced } = planQuiesce(job.request, { vm, pool: facts });
  const verdict = preflight({
    vm,
    pool: facts,
    excludeDisks: job.request.exclude_disks,
    ...(await lastExport(job, context)),
  });
  const warnings = [...verdict.warnings, ...compressionWarnings(job, facts)];
  const prepared: Job = {
    ...job,
    vm: { ...job.vm, name: vm.nameLabel },
    progress: { ...job.progress, total_bytes: verdict.totalBytes },
    checkpoint: {
      ...job.checkpoint,
      vm_ref: vm.ref,
      excluded_disks: excludedOf(verdict),
      warnings,
    },
  };
  if (!job.request.dry_run) return { ...prepared, phase: 'snapshotting' };
  return {
    ...prepared,
    phase: 'cleaning',
    dry_run: {
      disks: verdict.disks.map((disk) => ({
        vdi_uuid: disk.vdiUuid,
        name: disk.nameLabel,
        userdevice: disk.userdevice,
        virtual_size_bytes: disk.virtualSizeBytes,
      })),
      excluded_disks: excludedOf(verdict),
      max_archive_bytes: maxArchiveBytes(verdict.disks, job.request.compression),
      estimated_bytes: verdict.estimatedBytes,
      ...(await foreseen(prepared, verdict, context)),
      warnings: [...warnings, ...unquiesced],
    },
  };
}

async function publish(job: Job, { engine, signal }: StepContext): Promise<Job> {
  const { result } = job.checkpoint;
  if (result === undefined) throw new BackupError('internal', `publish job=${job.id}: no result`);
  const onFailure = ({ message }: Error) =>
    engine.log.warn('backup not published yet', { job_id: job.id, error: message });
  await insist(engine.clock, () => engine.catalog.publish(result, { signal }), {
    signal,
    onFailure,
  });
  return { ...job, phase: 'cleaning' };
}

async function clean(given: Job, context: StepContext): Promise<Job> {
  const now = () => formatTime(context.engine.clock.now());
  if (given.request.dry_run) return endOf(given, now());
  // an instance died between the hooks: the guest waits no longer than it takes to call it
  const held = isGuestHeld(given);
  const [released, removed] = await Promise.allSettled([
    releaseGuest(given, { taken: false }, context),
    removeOurSnapshots(given, context),
  ]);
  if (released.status === 'rejected') throw released.reason;
  const job = released.value;
  if (held) await context.remember({ hooks: job.checkpoint.hooks });
  if (removed.status === 'rejected') throw removed.reason;
  if (job.error) await abandonUploads(job, context);
  return endOf(job, now());
}

async function endRestore(job: Job, context: StepContext): Promise<Job> {
  const left = await cleanRestore(job, context);
  return endOf(job, formatTime(context.engine.clock.now()), left);
}

async function endTest(job: Job, context: StepContext): Promise<Job> {
  const left = await cleanTest(job, context);
  return endOf(job, formatTime(context.engine.clock.now()), left);
}

/** Nothing of it is on a pool. */
async function endAdopt(job: Job, context: StepContext): Promise<Job> {
  if (job.error) await abandonUploads(job, context);
  return end(job, context);
}

/** Of a kind that leaves nothing behind. */
async function end(job: Job, { engine }: StepContext): Promise<Job> {
  return endOf(job, formatTime(engine.clock.now()));
}

/** A failed step has aborted its own upload, if it could, and if it was not that of an instance that died. */
async function abandonUploads(job: Job, context: StepContext): Promise<void> {
  if (job.attempt === 1 && job.checkpoint.upload_id === undefined) return;
  try {
    await discardUploads(job, context);
  } catch (error) {
    // why the job failed says more; the sweep finds what is left
    const { message } = toBackupError(error);
    context.engine.log.warn('unfinished upload not aborted', { job_id: job.id, error: message });
  }
}

function endOf(job: Job, finishedAt: string, leftover?: string): Job {
  const ended = { ...job, finished_at: finishedAt };
  if (job.error) {
    const status = job.error.code === 'cancelled' ? 'cancelled' : 'failed';
    const told = [job.error.detail, job.checkpoint.hooks?.problem, leftover].filter(Boolean);
    return { ...ended, status, error: { ...job.error, detail: told.join('; ') } };
  }
  const { result } = job.checkpoint;
  if (result === undefined) return { ...ended, status: 'succeeded' };
  const warnings = leftover ? [...result.warnings, leftover] : result.warnings;
  const progress = { ...job.progress, percent: 100 };
  return { ...ended, status: 'succeeded', progress, result: { ...result, warnings } };
}

async function lastExport(
  job: Job,
  { engine, signal }: StepContext,
): Promise<Pick<PreflightInput, 'lastRate' | 'lastFinishedAt'>> {
  try {
    const filter = { vmUuid: job.vm.uuid, pool: job.vm.pool };
    const [newest] = await engine.catalog.entries(filter);
    const [record] = newest ? await engine.catalog.records([newest], { signal }) : [];
    if (!record) return {};
    const lastFinishedAt = parseTime(record.finished_at);
    if (record.export_seconds < 1) return { lastFinishedAt };
    return { lastFinishedAt, lastRate: record.read_bytes / record.export_seconds };
  } catch (error) {
    // only an estimate hangs on it: an unreadable old record must not stop a new backup
    if (isBackupError(error, 'data_corrupt')) return {};
    throw error;
  }
}

/** Whoever needs the archive should not find out then. */
function compressionWarnings({ request }: Job, { features }: PoolFacts): string[] {
  if (request.compression === 'none' || features.zstdExport) return [];
  return [
    'this pool is too old to import zstd archives: decompress with zstd -d before a restore on it',
  ];
}

/** What a backup begun now would be, and would send. */
async function foreseen(job: Job, { estimatedBytes }: Preflight, context: StepContext) {
  const { mode, reason, base } = await chooseMode(job, context);
  if (base === undefined) {
    const plain = { mode, mode_reason: reason };
    // how well a machine's blocks are compressed is not known beforehand
    const isKnown = job.request.compression === 'none';
    return isKnown ? { ...plain, estimated_sent_bytes: estimatedBytes } : plain;
  }
  return {
    mode,
    mode_reason: reason,
    base: { backup_id: base.backup.id, reason: base.reason },
    // what changes from day to day is alike; after a full nothing is known of it yet
    ...(base.backup.mode === 'delta' ? { estimated_sent_bytes: base.backup.sent_bytes } : {}),
  };
}

function excludedOf(verdict: Preflight): Job['checkpoint']['excluded_disks'] {
  return verdict.excluded.map(({ disk, reason }) => ({
    vdi_uuid: disk.vdiUuid,
    name: disk.nameLabel,
    userdevice: disk.userdevice,
    virtual_size_bytes: disk.virtualSizeBytes,
    reason,
  }));
}
