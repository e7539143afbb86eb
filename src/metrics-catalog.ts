/**
 * What the bucket and the pools tell of machines, as metrics: every instance shows the same.
 *
 * Read at most once in five minutes, since each read costs requests to the bucket. Sums by pool are always there; the series per
 * machine (labels pool, vm_uuid, vm_name; one of each kind a machine, however many backups it has) can be left out by a setting.
 * Times are instants, not ages, so that a figure that is old does not look young.
 */
import { Gauge, type Registry } from 'prom-client';
import type { Clock } from './ports.ts';

export const PREFIX = 'xvault_';
const CATALOGUE_TTL_MS = 300_000;

const STATUSES = ['ok', 'warning', 'critical'] as const;

/** What the catalogue tells of one machine. */
export interface MachineFigures {
  pool: string;
  vmUuid: string;
  vmName: string;
  status: (typeof STATUSES)[number];
  /** An older backup is overdue. */
  maxAgeSeconds: number;
  lastSuccessAtSeconds?: number;
  lastCompletionAtSeconds?: number;
  lastSucceeded?: boolean;
  durationSeconds?: number;
  sizeBytes?: number;
  sentBytes?: number;
  copiedBytes?: number;
  verifiedAtSeconds?: number;
  isDamaged?: boolean;
  /** When the bucket deletes the newest good backup. */
  expiresAtSeconds?: number;
  /** False: it will be deleted within the margin, and nothing keeps it. */
  isGuarded?: boolean;
}

export interface CatalogFigures {
  machines: MachineFigures[];
  pools: { name: string; isReachable: boolean }[];
  /** Machines on no pool any more whose last good backup is about to be deleted. */
  goneAtRisk: number;
}

interface GaugeSpec {
  kind: 'gauge';
  help: string;
  labels: readonly string[];
}

type Value<Of> = (figures: Of) => number | undefined;

/** A boolean as 1 or 0. */
function flag(value: boolean | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}

const PER_MACHINE: Readonly<Record<string, { help: string; of: Value<MachineFigures> }>> = {
  backup_max_age_seconds: {
    help: 'Age from which the newest good backup is overdue; there for every machine that should have one',
    of: (figures) => figures.maxAgeSeconds,
  },
  backup_last_success_timestamp_seconds: {
    help: 'Snapshot time of the newest good backup',
    of: (figures) => figures.lastSuccessAtSeconds,
  },
  backup_last_completion_timestamp_seconds: {
    help: 'When the last backup job ended, well or not',
    of: (figures) => figures.lastCompletionAtSeconds,
  },
  backup_last_result: {
    help: '1 when the last backup job succeeded, else 0',
    of: (figures) => flag(figures.lastSucceeded),
  },
  backup_last_duration_seconds: {
    help: 'Time the newest good backup took',
    of: (figures) => figures.durationSeconds,
  },
  backup_last_size_bytes: {
    help: 'Size of the newest good backup',
    of: (figures) => figures.sizeBytes,
  },
  backup_last_sent_bytes: {
    help: 'Bytes sent for the newest good backup',
    of: (figures) => figures.sentBytes,
  },
  backup_last_copied_bytes: {
    help: 'Bytes copied in the store for the newest good backup',
    of: (figures) => figures.copiedBytes,
  },
  backup_expires_timestamp_seconds: {
    help: 'When the rules of the bucket delete the newest good backup; absent when none does',
    of: (figures) => figures.expiresAtSeconds,
  },
  backup_guarded: {
    help: '0 when the rules delete the newest good backup soon and nothing keeps it, else 1',
    of: (figures) => flag(figures.isGuarded),
  },
  backup_last_verified_timestamp_seconds: {
    help: 'When the newest good backup was last verified without a fault',
    of: (figures) => figures.verifiedAtSeconds,
  },
  backup_damaged: {
    help: '1 when a verification found the newest backup damaged, else 0',
    of: (figures) => flag(figures.isDamaged),
  },
};

const MACHINE_LABELS = ['pool', 'vm_uuid', 'vm_name'] as const;

const SUMS = {
  machines: {
    kind: 'gauge',
    help: 'Machines that should have a backup, by how it stands with them, as /v1/status has it',
    labels: ['pool', 'status'],
  },
  oldest_backup_timestamp_seconds: {
    kind: 'gauge',
    help: 'The oldest of the newest good backups of all machines',
    labels: ['pool'],
  },
  machines_gone_at_risk: {
    kind: 'gauge',
    help: 'Machines on no pool any more whose last good backup is about to be deleted',
    labels: [],
  },
  pool_up: { kind: 'gauge', help: '1 when the pool listed its machines, else 0', labels: ['pool'] },
  catalog_age_seconds: {
    kind: 'gauge',
    help: 'Since the figures of machines and pools were read',
    labels: [],
  },
} as const satisfies Record<string, GaugeSpec>;

/** The metrics of this file, as the table of the others has them. */
export const CATALOG_METRICS: Readonly<Record<string, GaugeSpec>> = {
  ...SUMS,
  ...Object.fromEntries(
    Object.entries(PER_MACHINE).map(([name, { help }]) => [
      name,
      { kind: 'gauge' as const, help, labels: MACHINE_LABELS },
    ]),
  ),
};

interface GaugeDeps {
  registry: Registry;
  clock: Clock;
  figures: () => Promise<CatalogFigures>;
}

/** Registers them; what it returns brings them up to date before a page is made. */
export function createCatalogGauges(
  { registry, clock, figures }: GaugeDeps,
  { perMachine }: { perMachine: boolean },
): () => Promise<void> {
  const gaugeOf = (name: string) => {
    const { help, labels } = CATALOG_METRICS[name] as GaugeSpec;
    const labelNames = [...labels];
    return new Gauge({ name: `${PREFIX}${name}`, help, labelNames, registers: [registry] });
  };
  const machineGauges = perMachine
    ? Object.entries(PER_MACHINE).map(([name, { of }]) => ({ gauge: gaugeOf(name), of }))
    : [];
  const age = gaugeOf('catalog_age_seconds');
  const sums = {
    machines: gaugeOf('machines'),
    oldest: gaugeOf('oldest_backup_timestamp_seconds'),
    gone: gaugeOf('machines_gone_at_risk'),
    poolUp: gaugeOf('pool_up'),
  };
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;
  const read = async () => {
    const now = await figures();
    for (const { gauge, of } of machineGauges) setEach(gauge, now.machines, of);
    setSums(sums, now);
    readAt = clock.elapsed();
  };
  return async () => {
    if (clock.elapsed() - readAt >= CATALOGUE_TTL_MS && reading === undefined) {
      reading = read()
        // A bucket that does not answer leaves the old figures, and their age says so.
        .catch(() => undefined)
        .finally(() => {
          reading = undefined;
        });
    }
    // Only the first scrape waits: later ones get the figures there are.
    if (readAt === Number.NEGATIVE_INFINITY) await reading;
    age.set((clock.elapsed() - readAt) / 1000);
  };
}

function setEach(
  gauge: Gauge,
  machines: readonly MachineFigures[],
  of: Value<MachineFigures>,
): void {
  gauge.reset();
  for (const figures of machines) {
    const value = of(figures);
    const { pool, vmUuid: vm_uuid, vmName: vm_name } = figures;
    if (value !== undefined) gauge.set({ pool, vm_uuid, vm_name }, value);
  }
}

function setSums(
  gauges: Record<'machines' | 'oldest' | 'gone' | 'poolUp', Gauge>,
  { machines, pools, goneAtRisk }: CatalogFigures,
): void {
  for (const gauge of Object.values(gauges)) gauge.reset();
  const names = new Set([...pools.map(({ name }) => name), ...machines.map(({ pool }) => pool)]);
  for (const pool of names) {
    const here = machines.filter((machine) => machine.pool === pool);
    for (const status of STATUSES) {
      const number = here.filter((machine) => machine.status === status).length;
      gauges.machines.set({ pool, status }, number);
    }
    const times = here.flatMap(({ lastSuccessAtSeconds: at }) => (at === undefined ? [] : [at]));
    if (times.length > 0)
      gauges.oldest.set(
        { pool },
        times.reduce((a, b) => Math.min(a, b)),
      );
  }
  gauges.gone.set(goneAtRisk);
  for (const { name: pool, isReachable } of pools) {
    gauges.poolUp.set({ pool }, Number(isReachable));
  }
}
