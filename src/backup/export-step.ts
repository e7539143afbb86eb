/**
 * The step that moves the bytes: opens the export, fills one upload, proves the archive, completes the object.
 *
 * The five proofs before an archive counts (docs/design.md): every expected disk seen to its full virtual size, every
 * checksum right, the end of the archive there, the XenAPI task a success, and the stored object of the size (and
 * checksum, where the store gives one) that was sent. An export cannot be resumed: a second try begins a new upload
 * from the same snapshot, aborts the first one's and takes a backup id of its own.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError, blameBase, toBackupError } from '../errors.ts';
import type { ObjectUpload, SnapshotFacts, StoredObject, VmState } from '../ports.ts';
import { decodeIndex } from '../xva/blocks-index.ts';
import { createDigestKey } from '../xva/hash.ts';
import type { DiskTotals, Normaliser, OvaRewrite } from '../xva/types.ts';
import { poolOf, type StepContext } from './context.ts';
import { type BaseLoss, baseLoss, createBaseBlocks, tellLoss } from './delta-blocks.ts';
import { chooseMode, fullMode, type Mode } from './delta-mode.ts';
import { checkSeams } from './delta-seams.ts';
import { discardUploads } from './discard-uploads.ts';
import { exportArchive } from './export-archive.ts';
import { backupOf, type Moved, percentOf, progressOf } from './export-result.ts';
import { siblingId } from './ids.ts';
import { findOurSnapshot, inspect, snapshotName } from './look.ts';
import { createPacking, type Packing } from './packing.ts';
import { createPartPlan } from './plan.ts';
import { maxArchiveBytes } from './size.ts';

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
  const { engine, signal } = context;
  const { base, order } = mode;
  const parts = {
    retention: job.request.retention,
    pool: job.vm.pool,
    vmUuid: job.vm.uuid,
    backupId: job.checkpoint.backup_id,
  };
  const key = engine.keys.archive(parts, job.vm.name);
  const indexKey = engine.keys.index(parts);
  const digestKey = base?.index.digestKey ?? createDigestKey();
  const normaliser = await engine.createNormaliser({ rewrite, order, digestKey });
  const blocks =
    base && createBaseBlocks(engine.store, { index: base.index, indexKey: base.backup.index_key });
  await using upload = await engine.store.beginUpload(
    {
      key,
      contentType: job.request.compression === 'zstd' ? 'application/zstd' : 'application/x-xva',
      stagingPrefix: engine.keys.staging(job.id),
      maxBytes: maxArchiveBytes(snapshot.disks, job.request.compression),
      ...(base && { base: base.archive, createPlan: createPartPlan }),
    },
    { signal },
  );
  await context.remember({
    backup_id: parts.backupId,
    archive_key: key,
    upload_id: upload.uploadId,
  });
  const packing = createPacking({ upload, blocks }, job.request.compression);
  const isArranged = order === 'device';
  const read = await exportInto(
    { job, snapshot, upload, normaliser, packing, isArranged },
    context,
  );
  proveDisks(normaliser.totals(), snapshot);
  const indexBytes = normaliser.index(packing.frames());
  await engine.store.put(indexKey, indexBytes, { signal, patient: true });
  const stored = await upload.complete({ signal });
  const seamReads = await lookAtSeams({ key, stored, indexBytes }, context).catch((error) => {
    throw base ? blameBase(error) : error;
  });
  engine.meter.count('pool_read_bytes_total', read.readBytes, { pool: job.vm.pool });
  return {
    ...read,
    mode,
    stored,
    plainBytes: packing.plainBytes,
    ovaSha256: packing.ovaSha256,
    counters: upload.counters,
    reads: (blocks?.reads ?? 0) + seamReads,
    normaliser,
    indexKey,
    archiveKey: key,
  };
}

/** The bytes of one export, committed to the upload. */
async function exportInto(
  input: Pick<Try, 'job' | 'snapshot'> & {
    upload: ObjectUpload;
    normaliser: Normaliser;
    packing: Packing;
    isArranged: boolean;
  },
  context: StepContext,
): Promise<Pick<Moved, 'readBytes' | 'exportMs' | 'host'>> {
  const { job, upload } = input;
  const { engine, signal } = context;
  await using source = await poolOf(engine, job.vm.pool).openExport(
    {
      snapshot: input.snapshot.ref,
      label: `xvault backup of ${job.vm.name}`,
      description: snapshotName(job),
    },
    { signal },
  );
  const startedAt = engine.clock.elapsed();
  const onRead = (readBytes: number) => {
    const percent = percentOf(job, readBytes, source.taskProgress);
    context.report(progressOf(job, readBytes, upload.counters, percent));
  };
  const readBytes = await exportArchive({ ...input, source, onRead }, { signal });
  return {
    readBytes,
    exportMs: engine.clock.elapsed() - startedAt,
    host: {
      address: source.host.address,
      product_version: source.host.productVersion,
      xapi_version: source.host.xapiVersion,
    },
  };
}

/** A store that proves the whole object by its checksum need not be asked. */
async function lookAtSeams(
  { key, stored, indexBytes }: { key: string; stored: StoredObject; indexBytes: Uint8Array },
  { engine, signal }: StepContext,
): Promise<number> {
  const { seams = [], checksum } = stored;
  const percent = engine.delta.seamCheckPercent;
  if (checksum !== undefined || seams.length === 0 || percent === 0) return 0;
  const hash = await engine.hasher();
  const index = decodeIndex(indexBytes, hash);
  const reads = await checkSeams(
    { store: engine.store, key, seams, percent, index, indexBytes, hash },
    { signal },
  );
  engine.meter.count('delta_blocks_read_back_total', reads);
  return reads;
}

/** Every disk of the snapshot must be in the archive with its size, and no other. */
function proveDisks(totals: readonly DiskTotals[], snapshot: SnapshotFacts): void {
  const seen = new Map(totals.map(({ disk }) => [disk.vdiUuid, disk.virtualSizeBytes]));
  for (const disk of snapshot.disks) {
    const size = seen.get(disk.vdiUuid);
    if (size === disk.virtualSizeBytes) {
      seen.delete(disk.vdiUuid);
      continue;
    }
    throw new BackupError(
      'data_corrupt',
      `prove archive: disk ${disk.userdevice} of ${disk.virtualSizeBytes} bytes is ${size === undefined ? 'not in it' : `${size} bytes in it`}`,
      { details: { vdi_uuid: disk.vdiUuid, userdevice: disk.userdevice } },
    );
  }
  if (seen.size === 0) return;
  throw new BackupError(
    'data_corrupt',
    'prove archive: it holds a disk the snapshot does not have',
    {
      details: { vdi_uuids: [...seen.keys()] },
    },
  );
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
async function startAfresh(job: Job, context: StepContext): Promise<Job> {
  const { upload_id: uploadId } = job.checkpoint;
  return uploadId === undefined && job.attempt === 1 ? job : afresh(job, context);
}

async function afresh(job: Job, context: StepContext): Promise<Job> {
  await discardUploads(job, context);
  const backup_id = siblingId(job.checkpoint.backup_id, context.engine.ids.uuid());
  return { ...job, checkpoint: { ...job.checkpoint, backup_id } };
}
