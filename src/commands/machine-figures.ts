/** The figures per machine that /metrics shows, from the catalogue. */
import type { Service, StatusReport } from '../backup/service.ts';
import type { MachineFigures } from '../metrics.ts';
import type { Cancellable } from '../ports.ts';

/** Records read at once; each may be a request to the bucket. */
const READS_AT_ONCE = 8;

/** Reads them: one status, then the newest good backup of each machine. */
export async function readMachineFigures(
  service: Pick<Service, 'status' | 'getBackup'>,
  input: { maxAgeSeconds: number },
  options: Cancellable,
): Promise<MachineFigures[]> {
  const { vms } = await service.status(input, options);
  const figures: MachineFigures[] = [];
  const pending = [...vms];
  const reader = async (): Promise<void> => {
    for (let entry = pending.shift(); entry !== undefined; entry = pending.shift()) {
      figures.push(await figuresOf(service, entry, options));
    }
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, reader));
  return figures;
}

async function figuresOf(
  service: Pick<Service, 'getBackup'>,
  entry: StatusReport['vms'][number],
  options: Cancellable,
): Promise<MachineFigures> {
  const { vm, last_backup_id: id, last_backup_at: at, last_job: job, verified } = entry;
  const figures: MachineFigures = { pool: vm.pool, vmUuid: vm.uuid, vmName: vm.name };
  if (verified?.ok) figures.verifiedAtSeconds = Date.parse(verified.at) / 1000;
  if (entry.damaged_backup_id !== undefined) figures.isDamaged = true;
  else if (at !== undefined) figures.isDamaged = false;
  if (at !== undefined) figures.lastSuccessAtSeconds = Date.parse(at) / 1000;
  if (entry.expires_at !== undefined) {
    figures.expiresAtSeconds = Date.parse(entry.expires_at) / 1000;
  }
  if (entry.guard !== undefined) figures.isGuarded = entry.guard !== 'due';
  if (job?.finished_at !== undefined) {
    figures.lastCompletionAtSeconds = Date.parse(job.finished_at) / 1000;
    figures.lastSucceeded = job.status === 'succeeded';
  }
  const backup = id === undefined ? undefined : await service.getBackup(id, options);
  if (backup !== undefined) {
    figures.durationSeconds = backup.duration_seconds;
    figures.sizeBytes = backup.archive.size_bytes;
    figures.sentBytes = backup.sent_bytes;
    figures.copiedBytes = backup.copied_bytes;
  }
  return figures;
}
