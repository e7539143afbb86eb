/** The figures of machines and pools that /metrics shows, from the catalogue. */
import type { Service, StatusReport } from '../backup/service.ts';
import type { CatalogFigures, MachineFigures } from '../metrics-catalog.ts';
import type { Cancellable } from '../ports.ts';

/** Records read at once; each may be a request to the bucket. */
const READS_AT_ONCE = 8;

/** Reads them: one status, then, where each machine is shown, its newest good backup. */
export async function readCatalogFigures(
  service: Pick<Service, 'status' | 'getBackup'>,
  input: { maxAgeSeconds: number; pools: readonly string[]; perMachine: boolean },
  options: Cancellable,
): Promise<CatalogFigures> {
  const { maxAgeSeconds, pools, perMachine } = input;
  const report = await service.status({ maxAgeSeconds }, options);
  return {
    machines: perMachine
      ? await readMachines(service, report, options)
      : report.vms.map((entry) => statusFigures(entry, report)),
    pools: pools.map((name) => ({ name, isReachable: !report.unreachable_pools.includes(name) })),
    goneAtRisk: report.gone_at_risk?.length ?? 0,
  };
}

async function readMachines(
  service: Pick<Service, 'getBackup'>,
  report: StatusReport,
  options: Cancellable,
): Promise<MachineFigures[]> {
  const figures: MachineFigures[] = [];
  const pending = [...report.vms];
  const reader = async (): Promise<void> => {
    for (let entry = pending.shift(); entry !== undefined; entry = pending.shift()) {
      figures.push(await withBackup(service, { entry, report }, options));
    }
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, reader));
  return figures;
}

/** What the status alone tells. */
function statusFigures(entry: StatusReport['vms'][number], report: StatusReport): MachineFigures {
  const { vm, last_backup_at: at, last_job: job, verified, status } = entry;
  const figures: MachineFigures = {
    pool: vm.pool,
    vmUuid: vm.uuid,
    vmName: vm.name,
    status,
    maxAgeSeconds: entry.max_age_seconds ?? report.max_age_seconds,
  };
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
  return figures;
}

async function withBackup(
  service: Pick<Service, 'getBackup'>,
  { entry, report }: { entry: StatusReport['vms'][number]; report: StatusReport },
  options: Cancellable,
): Promise<MachineFigures> {
  const figures = statusFigures(entry, report);
  const { last_backup_id: id } = entry;
  const backup = id === undefined ? undefined : await service.getBackup(id, options);
  if (backup !== undefined) {
    figures.durationSeconds = backup.duration_seconds;
    figures.sizeBytes = backup.archive.size_bytes;
    figures.sentBytes = backup.sent_bytes;
    figures.copiedBytes = backup.copied_bytes;
  }
  return figures;
}
