/** What an export becomes: the backup's record, and the job's progress on the way there. */
import type { Backup, Job } from '../catalog/record.ts';
import type { StoredObject, UploadCounters } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Normaliser } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { costOf, requestsOf } from './delta-cost.ts';
import type { Mode } from './delta-mode.ts';

/** A whole archive in the bucket, proved, and how it came there. */
export interface Moved {
  mode: Mode;
  readBytes: number;
  exportMs: number;
  host: Backup['host'];
  stored: StoredObject;
  /** Before compression, if there was any. */
  plainBytes: number | undefined;
  ovaSha256: string;
  counters: Readonly<UploadCounters>;
  /** Ranges of the base's index, and of the archive itself, that were read. */
  reads: number;
  normaliser: Normaliser;
  indexKey: string;
  archiveKey: string;
}

/** The record of the job's backup, to be published. */
export function backupOf(
  job: Job,
  vm: { powerState: string },
  moved: Moved,
  { engine }: StepContext,
): Backup {
  const { mode, normaliser, stored, counters } = moved;
  const now = engine.clock.now();
  return {
    version: 1,
    id: job.checkpoint.backup_id,
    job_id: job.id,
    vm: job.vm,
    retention: job.request.retention,
    ...(job.checkpoint.retention_reason
      ? { retention_reason: job.checkpoint.retention_reason }
      : {}),
    mode: mode.mode,
    mode_reason: mode.reason,
    compression: job.request.compression,
    created_at: job.checkpoint.snapshot_at ?? formatTime(now),
    finished_at: formatTime(now),
    archive: {
      key: moved.archiveKey,
      size_bytes: stored.sizeBytes,
      ...(moved.plainBytes === undefined ? {} : { uncompressed_bytes: moved.plainBytes }),
      etag: stored.etag,
      content_digest: normaliser.contentDigest(),
      ova_sha256: moved.ovaSha256,
      ...(stored.checksum ? { checksum: stored.checksum } : {}),
      ...(stored.lockedUntil ? { locked_until: formatTime(stored.lockedUntil) } : {}),
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
    ...(mode.base && { base: { backup_id: mode.base.backup.id, reason: mode.base.reason } }),
    sent_ratio: Math.round((counters.sentBytes / stored.sizeBytes) * 1e6) / 1e6,
    requests: requestsOf(moved),
    estimated_cost: costOf(moved, engine.delta.prices),
    // clocks are set, and another instance's differs: never below zero, which no reader would take
    duration_seconds: Math.max(0, now - parseTime(job.started_at ?? job.created_at)) / 1000,
    export_seconds: Math.round(moved.exportMs) / 1000,
    host: moved.host,
    ...(job.request.note === undefined ? {} : { note: job.request.note }),
    triggered_by: job.triggered_by,
    warnings: job.checkpoint.warnings,
  };
}

/** How far an export is. */
export function progressOf(
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
export function percentOf(job: Job, readBytes: number, taskProgress: number): number {
  const total = job.progress.total_bytes ?? 0;
  const byBytes = total > 0 ? readBytes / total : 0;
  return Math.min(99, Math.round(Math.max(byBytes, taskProgress) * 1000) / 10);
}
