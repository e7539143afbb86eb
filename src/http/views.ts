/**
 * Records as the API shows them: what only the engine needs left out, links and per cent put in.
 *
 * Links are paths, so they are right behind any proxy that keeps paths.
 */
import type { ListedBackup } from '../backup/service.ts';
import { type Checkpoint, isEnded, type Job, type Progress } from '../catalog/record.ts';

export type BackupView = ListedBackup & {
  links: { self: string; xva: string; job: string; vm: string };
};

export type JobView = Omit<Job, 'checkpoint' | 'result' | 'request'> & {
  checkpoint?: never;
  /** Only of backups: the others' says nothing. */
  request?: Job['request'];
  result?: BackupView;
  links: { self: string; events: string; vm: string; cancel?: string; backup?: string };
};

/** A running job never shows 100 %: the zeros that are not exported make the total an upper bound. */
const MAX_RUNNING_PERCENT = 99;

/** A job without its checkpoint. */
export function jobView(job: Job): JobView {
  const { checkpoint: _, result, request, ...shown } = job satisfies { checkpoint: Checkpoint };
  const backupId = result?.id ?? job.backup_id;
  const self = `/v1/jobs/${job.id}`;
  return {
    ...shown,
    ...(job.kind === 'backup' ? { request } : {}),
    progress: { ...job.progress, ...percentOf(job) },
    ...(result === undefined ? {} : { result: backupView(result) }),
    links: {
      self,
      events: `${self}/events`,
      vm: vmLink(job.vm.uuid),
      ...(isEnded(job) ? {} : { cancel: `${self}/cancel` }),
      ...(backupId === undefined ? {} : { backup: `/v1/backups/${backupId}` }),
    },
  };
}

/** A backup with its links. */
export function backupView(backup: ListedBackup): BackupView {
  const self = `/v1/backups/${backup.id}`;
  return {
    ...backup,
    links: {
      self,
      xva: `${self}/xva`,
      job: `/v1/jobs/${backup.job_id}`,
      vm: vmLink(backup.vm.uuid),
    },
  };
}

function vmLink(uuid: string): string {
  return `/v1/vms/${encodeURIComponent(uuid)}/backups`;
}

function percentOf(job: Job): Pick<Progress, 'percent'> {
  if (job.status === 'succeeded') return { percent: 100 };
  const { percent, read_bytes, total_bytes } = job.progress;
  if (percent !== undefined) return { percent };
  if (total_bytes === undefined || total_bytes === 0) return {};
  const exact = (read_bytes / total_bytes) * 100;
  return { percent: Math.min(MAX_RUNNING_PERCENT, Math.round(exact * 10) / 10) };
}
