/**
 * The step that moves the bytes: opens the export, fills one upload, proves the archive, completes the object.
 *
 * The five proofs before an archive counts (docs/design.md): every expected disk seen to its full virtual size, every
 * checksum right, the end of the archive there, the XenAPI task a success, and the stored object of the size (and
 * checksum, where the store gives one) that was sent. An export cannot be resumed: a second try begins a new upload
 * from the same snapshot, aborts the first one's and takes a backup id of its own.
 */
import type { Backup, Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { SnapshotFacts, StoredObject, UploadCounters, VmState } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { DiskTotals, Normaliser, OvaRewrite } from '../xva/types.ts';
import { modeReason } from './check-request.ts';
import { poolOf, type StepContext } from './context.ts';
import { discardUploads } from './discard-uploads.ts';
import { exportArchive } from './export-archive.ts';
import { siblingId } from './ids.ts';
import { findOurSnapshot, inspect, snapshotName } from './look.ts';
import { maxArchiveBytes } from './size.ts';

interface Moved {
  readBytes: number;
  exportMs: number;
  host: Backup['host'];
  stored: StoredObject;
  counters: Readonly<UploadCounters>;
  normaliser: Normaliser;
  indexKey: string;
  archiveKey: string;
}

/** Exports the job's snapshot into the bucket; the next phase publishes the result. */
export async function exportStep(given: Job, context: StepContext): Promise<Job> {
  const snapshot = await findOurSnapshot(given, context);
  if (snapshot === undefined) {
    throw new BackupError('snapshot_refused', `find snapshot of job=${given.id}: it is gone`, {
      retry: 'later',
    });
  }
  const job = await startAfresh(given, context);
  const vm = await inspect(job, context);
  const moved = await move(job, snapshot, rewriteFor(vm, snapshot), context);
  const result = backupOf(job, vm, moved, context);
  return {
    ...job,
    phase: 'finishing',
    progress: progressOf(job, moved.readBytes, moved.counters, 100),
    checkpoint: { ...job.checkpoint, result },
  };
}

async function move(
  job: Job,
  snapshot: SnapshotFacts,
  rewrite: OvaRewrite,
  context: StepContext,
): Promise<Moved> {
  const { engine, signal } = context;
  const parts = {
    retention: job.request.retention,
    pool: job.vm.pool,
    vmUuid: job.vm.uuid,
    backupId: job.checkpoint.backup_id,
  };
  const key = engine.keys.archive(parts, job.vm.name);
  const normaliser = await engine.createNormaliser(rewrite);
  await using upload = await engine.store.beginUpload(
    {
      key,
      contentType: 'application/x-xva',
      stagingPrefix: engine.keys.staging(job.id),
      maxBytes: maxArchiveBytes(snapshot.disks),
    },
    { signal },
  );
  await context.remember({
    backup_id: parts.backupId,
    archive_key: key,
    upload_id: upload.uploadId,
  });
  const pool = poolOf(engine, job.vm.pool);
  await using source = await pool.openExport(
    {
      snapshot: snapshot.ref,
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
  const readBytes = await exportArchive({ source, upload, normaliser, onRead }, { signal });
  const exportMs = engine.clock.elapsed() - startedAt;
  proveDisks(normaliser.totals(), snapshot);
  const indexKey = engine.keys.index(parts);
  await engine.store.put(indexKey, normaliser.index(), { signal, patient: true });
  const stored = await upload.complete({ signal });
  engine.meter.count('pool_read_bytes_total', readBytes, { pool: job.vm.pool });
  return {
    readBytes,
    exportMs,
    host: {
      address: source.host.address,
      product_version: source.host.productVersion,
      xapi_version: source.host.xapiVersion,
    },
    stored,
    counters: upload.counters,
    normaliser,
    indexKey,
    archiveKey: key,
  };
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
  const { upload_id: uploadId, backup_id: earlierId } = job.checkpoint;
  if (uploadId === undefined && job.attempt === 1) return job;
  await discardUploads(job, context);
  const backup_id = siblingId(earlierId, context.engine.ids.uuid());
  return { ...job, checkpoint: { ...job.checkpoint, backup_id } };
}

function backupOf(job: Job, vm: VmState, moved: Moved, { engine }: StepContext): Backup {
  const { normaliser, stored, counters } = moved;
  const now = engine.clock.now();
  return {
    version: 1,
    id: job.checkpoint.backup_id,
    job_id: job.id,
    vm: job.vm,
    retention: job.request.retention,
    mode: 'full',
    mode_reason: modeReason(job.request),
    compression: 'none',
    created_at: job.checkpoint.snapshot_at ?? formatTime(now),
    finished_at: formatTime(now),
    archive: {
      key: moved.archiveKey,
      size_bytes: stored.sizeBytes,
      etag: stored.etag,
      content_digest: normaliser.contentDigest(),
      ...(stored.checksum ? { checksum: stored.checksum } : {}),
    },
    index_key: moved.indexKey,
    disks: normaliser.totals().map(({ disk, storedBlocks, storedBytes }) => ({
      index: disk.index,
      archive_id: disk.archiveId,
      vdi_uuid: disk.liveVdiUuid,
      name: disk.nameLabel,
      userdevice: disk.userdevice,
      virtual_size_bytes: disk.virtualSizeBytes,
      stored_bytes: storedBytes,
      stored_blocks: storedBlocks,
    })),
    excluded_disks: job.checkpoint.excluded_disks,
    power_state: vm.powerState,
    ...(job.checkpoint.consistency ? { consistency: job.checkpoint.consistency } : {}),
    read_bytes: moved.readBytes,
    sent_bytes: counters.sentBytes,
    copied_bytes: counters.copiedBytes,
    // clocks are set, and another instance's differs: never below zero, which no reader would take
    duration_seconds: Math.max(0, now - parseTime(job.started_at ?? job.created_at)) / 1000,
    export_seconds: Math.round(moved.exportMs) / 1000,
    host: moved.host,
    ...(job.request.note === undefined ? {} : { note: job.request.note }),
    triggered_by: job.triggered_by,
    warnings: job.checkpoint.warnings,
  };
}

function progressOf(
  job: Job,
  readBytes: number,
  counters: Readonly<UploadCounters>,
  percent: number,
): Job['progress'] {
  return {
    ...job.progress,
    read_bytes: readBytes,
    sent_bytes: counters.sentBytes,
    copied_bytes: counters.copiedBytes,
    percent,
  };
}

/** The task counts disks read, zeros included; bytes read are a lower bound while it says nothing. */
function percentOf(job: Job, readBytes: number, taskProgress: number): number {
  const total = job.progress.total_bytes ?? 0;
  const byBytes = total > 0 ? readBytes / total : 0;
  return Math.min(99, Math.round(Math.max(byBytes, taskProgress) * 1000) / 10);
}
