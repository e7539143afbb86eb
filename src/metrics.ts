/**
 * What Prometheus sees: names, help and labels of every metric in one table, kept by prom-client.
 *
 * The engine and the adapters report through the Meter port by the short name (`store_requests_total`); what is not in
 * the table is counted as unknown, because a metric must never fail a backup (a test holds every name in src/ to the
 * table). Figures per machine come from the catalogue, so that every instance tells the same; they are read at most
 * once in five minutes, since each read costs requests to the bucket.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Clock, Meter } from './ports.ts';

const PREFIX = 'xvault_';
const CATALOGUE_TTL_MS = 300_000;

type Kind = 'counter' | 'gauge' | 'histogram';
interface MetricSpec {
  kind: Kind;
  /** The name shown, where it differs. */
  as?: string;
  help: string;
  labels: readonly string[];
  buckets?: readonly number[];
}

/** From one small request to one part on a slow line. */
const REQUEST_BUCKETS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** From a minute to a day. */
const BACKUP_BUCKETS = [10, 60, 300, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/** Every name the Meter port takes, with or without prefix and `_total`; what is shown has both. */
export const METRICS: Readonly<Record<string, MetricSpec>> = {
  backups: { kind: 'counter', help: 'Backups that ended', labels: ['mode', 'result'] },
  backup_duration_seconds: {
    kind: 'histogram',
    help: 'Time a good backup took, from start to end',
    labels: ['pool'],
    buckets: BACKUP_BUCKETS,
  },
  jobs_running: { kind: 'gauge', help: 'Jobs at work in this instance', labels: [] },
  jobs_queued: { kind: 'gauge', help: 'Jobs waiting in this instance', labels: [] },
  job_retries: {
    kind: 'counter',
    help: 'Jobs that failed and are tried again',
    labels: ['code'],
  },
  runs: {
    kind: 'counter',
    help: 'Runs over many machines that ended in this instance, by how',
    labels: ['result'],
  },
  runs_running: { kind: 'gauge', help: 'Runs this instance is at', labels: [] },
  unreadable_records: {
    kind: 'gauge',
    help: 'Records in the bucket that cannot be read, as far as this instance looked',
    labels: ['kind'],
  },
  pool_read_bytes: { kind: 'counter', help: 'Bytes read from pools', labels: ['pool'] },
  pool_logins: { kind: 'counter', help: 'Logins at pools', labels: ['pool'] },
  pool_call_failures: { kind: 'counter', help: 'XenAPI calls that failed', labels: ['pool'] },
  leftover_snapshots: {
    kind: 'gauge',
    help: 'Snapshots and disks of no running job that carry our name, as of the last sweep',
    labels: ['pool'],
  },
  unfinished_uploads: {
    kind: 'gauge',
    help: 'Unfinished uploads of no running job, as of the last sweep',
    labels: [],
  },
  leftovers_removed: {
    kind: 'counter',
    help: 'What dead runs had left and a sweep removed',
    labels: ['kind'],
  },
  hook_calls: {
    kind: 'counter',
    help: 'Calls of guest hooks, repeats not counted',
    labels: ['hook', 'outcome'],
  },
  notifications: {
    kind: 'counter',
    help: 'Notices to the targets of XVAULT_NOTIFY_FILE, repeats not counted',
    labels: ['target', 'outcome'],
  },
  verifications: {
    kind: 'counter',
    help: 'Verifications of backups, by kind and by what was found: ok, or the part that is damaged',
    labels: ['kind', 'outcome'],
  },
  last_good_renewals: {
    kind: 'counter',
    help: 'Last good backups copied out of rotation (renewed), such copies given up (released), and failures',
    labels: ['outcome'],
  },
  delta_bases: {
    kind: 'counter',
    help: 'Backups that could be deltas, by what became of the base: used, none or lost on the way',
    labels: ['outcome'],
  },
  delta_blocks_read_back: {
    kind: 'counter',
    help: 'Blocks read back where copied and sent bytes meet',
    labels: [],
  },
  store_sent_bytes: { kind: 'counter', help: 'Bytes sent to the store', labels: [] },
  store_copied_bytes: { kind: 'counter', help: 'Bytes copied in the store', labels: [] },
  store_requests: {
    kind: 'counter',
    help: 'Requests to the store',
    labels: ['operation', 'outcome'],
  },
  store_request_seconds: {
    as: 'store_request_duration_seconds',
    kind: 'histogram',
    help: 'Time of requests to the store',
    labels: ['operation'],
    buckets: REQUEST_BUCKETS,
  },
  store_retries: {
    kind: 'counter',
    help: 'Requests to the store made again',
    labels: ['operation'],
  },
};

/** What the catalogue tells of one machine. */
export interface MachineFigures {
  pool: string;
  vmUuid: string;
  vmName: string;
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

export interface MetricsDeps {
  clock: Clock;
  version: string;
  /** Reads the catalogue; called at most once in five minutes. */
  machines?: () => Promise<MachineFigures[]>;
}

export interface Metrics {
  meter: Meter;
  /** The page of GET /metrics. */
  render(): Promise<{ body: string; contentType: string }>;
}

/** Makes the metrics of this process. */
export function createMetrics({ clock, version, machines }: MetricsDeps): Metrics {
  const registry = new Registry();
  const known = new Map(
    Object.entries(METRICS).map(([name, spec]) => [name, createMetric(name, spec, registry)]),
  );
  const unknown = new Counter({
    name: `${PREFIX}unknown_metrics_total`,
    help: 'Reports under a name that is in no table: a bug',
    labelNames: ['name'],
    registers: [registry],
  });
  new Gauge({
    name: `${PREFIX}build_info`,
    help: 'Version of this instance',
    labelNames: ['version'],
    registers: [registry],
  }).set({ version }, 1);
  const refresh =
    machines === undefined ? async () => {} : createMachineGauges(registry, clock, machines);
  const reporter =
    (how: keyof Metric): Meter['count'] =>
    (name, value, labels = {}) => {
      const key = metricKey(name);
      const metric = known.get(key);
      if (metric === undefined) unknown.inc({ name: key });
      else metric[how](value, labels);
    };
  return {
    meter: { count: reporter('count'), observe: reporter('observe') },
    render: async () => {
      await refresh();
      return { body: await registry.metrics(), contentType: registry.contentType };
    },
  };
}

type Report = (value: number, labels: Readonly<Record<string, string>>) => void;

interface Metric {
  count: Report;
  observe: Report;
}

function createMetric(name: string, spec: MetricSpec, registry: Registry): Metric {
  const common = {
    name: `${PREFIX}${shownName(name, spec)}`,
    help: spec.help,
    labelNames: [...spec.labels],
    registers: [registry],
  };
  // prom-client throws on a label it was not told of; only the table's labels are passed on.
  const only = (labels: Readonly<Record<string, string>>) =>
    Object.fromEntries(spec.labels.map((label) => [label, labels[label] ?? '']));
  if (spec.kind === 'histogram') {
    const histogram = new Histogram({ ...common, buckets: [...(spec.buckets ?? [])] });
    const observe: Report = (value, labels) => histogram.observe(only(labels), value);
    return { count: observe, observe };
  }
  if (spec.kind === 'gauge') {
    // counted up and down, or seen as it is
    const gauge = new Gauge(common);
    return {
      count: (value, labels) => gauge.inc(only(labels), value),
      observe: (value, labels) => gauge.set(only(labels), value),
    };
  }
  const counter = new Counter(common);
  const count: Report = (value, labels) => counter.inc(only(labels), value);
  return { count, observe: count };
}

/** The table's key for a reported name. */
export function metricKey(name: string): string {
  return name.replace(/^xvault_/, '').replace(/_total$/, '');
}

function shownName(name: string, { as, kind }: MetricSpec): string {
  const shown = as ?? name;
  return kind === 'counter' && !shown.endsWith('_total') ? `${shown}_total` : shown;
}

const MACHINE_LABELS = ['pool', 'vm_uuid', 'vm_name'] as const;
const MACHINE_GAUGES: Readonly<
  Record<string, { help: string; of(figures: MachineFigures): number | undefined }>
> = {
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
    of: ({ lastSucceeded }) => (lastSucceeded === undefined ? undefined : Number(lastSucceeded)),
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
    of: ({ isGuarded }) => (isGuarded === undefined ? undefined : Number(isGuarded)),
  },
  backup_last_verified_timestamp_seconds: {
    help: 'When the newest good backup was last verified without a fault',
    of: (figures) => figures.verifiedAtSeconds,
  },
  backup_damaged: {
    help: '1 when a verification found the newest backup damaged, else 0',
    of: ({ isDamaged }) => (isDamaged === undefined ? undefined : Number(isDamaged)),
  },
};

function createMachineGauges(
  registry: Registry,
  clock: Clock,
  machines: () => Promise<MachineFigures[]>,
): () => Promise<void> {
  const options = { labelNames: [...MACHINE_LABELS], registers: [registry] };
  const gauges = Object.entries(MACHINE_GAUGES).map(([name, { help, of }]) => ({
    gauge: new Gauge({ ...options, name: `${PREFIX}${name}`, help }),
    of,
  }));
  const age = new Gauge({
    name: `${PREFIX}catalog_age_seconds`,
    help: 'Since the figures per machine were read from the bucket',
    registers: [registry],
  });
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;
  const read = async () => {
    const all = await machines();
    for (const { gauge, of } of gauges) {
      gauge.reset();
      for (const figures of all) {
        const value = of(figures);
        const { pool, vmUuid: vm_uuid, vmName: vm_name } = figures;
        if (value !== undefined) gauge.set({ pool, vm_uuid, vm_name }, value);
      }
    }
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
