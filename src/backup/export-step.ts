/**
 * The step that moves the bytes: opens the export, fills one upload, proves the archive, completes the object.
 *
 * The five proofs before an archive counts (docs/design.md): every expected disk seen to its full virtual size, every
 * checksum right, the end of the archive there, the XenAPI task a success, and the stored object of the size (and
 * checksum, where the store gives one) that was sent. An export cannot be resumed: a second try begins a new upload
 * from the same snapshot, aborts the first one's and takes a backup id of its own.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { SnapshotFacts, VmState } from '../ports.ts';
import type { OvaRewrite } from '../xva/types.ts';
import { poolOf, type StepContext } from './context.ts';
import { type BaseLoss, baseLoss, tellLoss } from './delta-blocks.ts';
import { chooseMode, fullMode, type Mode } from './delta-mode.ts';
import { discardUploads } from './discard-uploads.ts';
import { backupOf, type Moved, progressOf } from './export-result.ts';
import { siblingId } from './ids.ts';
import { findOurSnapshot, inspect, snapshotName } from './look.ts';
import { type Incoming, storeArchive } from './store-archive.ts';

/** One try: what is exported, and how. */
interface Try {
  job: Job;
  snapshot: SnapshotFacts;
  rewrite: OvaRewrite;
  mode: Mode;
}

/** Exports the job's snapshot into the bucket; the next phase publishes the result. */
export async function exportStep(given: Job, context: StepContext): Promise<Job> {
  const snapshot = await findOurSnapshot(given, context);
  if (snapshot === undefined) return snapshotGone(given);
  const job = await startAfresh(given, context);
  const vm = await inspect(job, context);
  const mode = await chooseMode(job, context);
  const first: Try = { job, snapshot, rewrite: rewriteFor(vm, snapshot), mode };
  try {
    const moved = await move(first, context);
    countBase(job, mode.base ? 'used' : 'none', context);
    return exported(job, vm, moved, context);
  } catch (error) {
    const lost = mode.base && baseLoss(error);
    if (!lost) throw error;
    countBase(job, 'lost', context);
    const second = await withoutBase(first, { lost, error }, context);
    return exported(second.job, vm, await move(second, context), context);
  }
}

/** An instance that failed, cleaned up and died before it could say so left the record here: a new one is made, once. */
function snapshotGone(job: Job): Job {
  const { snapshot_uuid: _, ...checkpoint } = job.checkpoint;
  if (checkpoint.snapshot_attempt !== job.attempt)
    return { ...job, phase: 'snapshotting', checkpoint };
  const told = `find snapshot of job=${job.id}: it is gone, somebody removed it from the pool`;
  throw new BackupError('snapshot_refused', told, { retry: 'later' });
}

function countBase({ request }: Job, outcome: string, { engine }: StepContext): void {
  if (request.mode !== 'full') engine.meter.count('delta_bases_total', 1, { outcome });
}

function exported(job: Job, vm: VmState, moved: Moved, context: StepContext): Job {
  const result = backupOf(job, vm, moved, context);
  return {
    ...job,
    phase: 'finishing',
    progress: progressOf(job, moved.readBytes, moved.counters, 100),
    checkpoint: { ...job.checkpoint, result },
  };
}

/** The base was lost on the way: everything again from the same snapshot, and nothing copied. */
async function withoutBase(
  { job: given, mode, ...rest }: Try,
  { lost, error }: { lost: BaseLoss; error: unknown },
  context: StepContext,
): Promise<Try> {
  const { engine, signal } = context;
  const id = mode.base?.backup.id;
  const check = lost === 'damaged' ? ` (to check it: xvault index ${id})` : '';
  const warning = `the backup ${id}, from which unchanged blocks were being copied, ${tellLoss(lost)}${check}: everything was sent instead`;
  engine.log.warn('base lost', {
    job_id: given.id,
    backup_id: id,
    error: toBackupError(error).message,
  });
  const job = await afresh(given, context);
  const warnings = [...job.checkpoint.warnings, warning];
  return {
    ...rest,
    job: { ...job, checkpoint: { ...job.checkpoint, warnings } },
    mode: fullMode(await engine.store.facts({ signal }))(`the base ${id} ${tellLoss(lost)}`),
  };
}

async function move({ job, snapshot, rewrite, mode }: Try, context: StepContext): Promise<Moved> {
  const pool = poolOf(context.engine, job.vm.pool);
  const wish = {
    snapshot: snapshot.ref,
    label: `xvault backup of ${job.vm.name}`,
    description: snapshotName(job),
  };
  const open: Incoming['open'] = (options) => pool.openExport(wish, options);
  const moved = await storeArchive({ job, disks: snapshot.disks, rewrite, mode, open }, context);
  context.engine.meter.count('pool_read_bytes_total', moved.readBytes, { pool: pool.name });
  return moved;
}

/** The archive shall read as the machine itself: its name and uuid, its disks' uuids and names. */
function rewriteFor(vm: VmState, snapshot: SnapshotFacts): OvaRewrite {
  const disks = new Map<string, { uuid: string; nameLabel: string }>();
  for (const disk of snapshot.disks) {
    const live =
      vm.disks.find((d) => d.vdiUuid === disk.snapshotOfUuid) ??
      vm.disks.find((d) => d.userdevice === disk.userdevice);
    if (live) disks.set(disk.vdiUuid, { uuid: live.vdiUuid, nameLabel: live.nameLabel });
  }
  return { nameLabel: vm.nameLabel, nameDescription: vm.nameDescription, vmUuid: vm.uuid, disks };
}

/**
 * After an earlier try: its upload is aborted, and this one gets a key of its own. The earlier one may have been
 * completed a moment before its instance died, or be completed yet by one that only slept.
 */
export async function startAfresh(job: Job, context: StepContext): Promise<Job> {
  const { upload_id: uploadId } = job.checkpoint;
  return uploadId === undefined && job.attempt === 1 ? job : afresh(job, context);
}

async function afresh(job: Job, context: StepContext): Promise<Job> {
  await discardUploads(job, context);
  const backup_id = siblingId(job.checkpoint.backup_id, context.engine.ids.uuid());
  return { ...job, checkpoint: { ...job.checkpoint, backup_id } };
}
