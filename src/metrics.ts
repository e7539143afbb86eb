/**
 * What Prometheus sees: names, help and labels of every metric in one table, kept by prom-client.
 *
 * The engine and the adapters report through the Meter port by the short name (`store_requests_total`); what is not in
 * the table is counted as unknown, because a metric must never fail a backup (a test holds every name in src/ to the
 * table). What the bucket tells, of machines and pools, is in metrics-catalog.ts.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import {
  CATALOG_METRICS,
  type CatalogFigures,
  createCatalogGauges,
  PREFIX,
} from './metrics-catalog.ts';
import type { Clock, Meter } from './ports.ts';

type Kind = 'counter' | 'gauge' | 'histogram';
export interface MetricSpec {
  kind: Kind;
  /** The name shown, where it differs. */
  as?: string;
  help: string;
  labels: readonly string[];
  buckets?: readonly number[];
  /** Of a counter whose labels are all closed: begun at 0, since a series that begins with 1 is no increase to an alert. */
  known?: Readonly<Record<string, readonly string[]>>;
}

/** From one small request to one part on a slow line. */
const REQUEST_BUCKETS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** From a minute to a day. */
const BACKUP_BUCKETS = [10, 60, 300, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/** Every name the Meter port takes, with or without prefix and `_total`; what is shown has both. */
export const METRICS: Readonly<Record<string, MetricSpec>> = {
  backups: {
    kind: 'counter',
    help: 'Backups that ended',
    labels: ['mode', 'result'],
    known: { mode: ['full', 'delta'], result: ['succeeded', 'failed', 'cancelled'] },
  },
  backup_duration_seconds: {
    kind: 'histogram',
    help: 'Time a good backup took, from start to end',
    labels: ['pool'],
    buckets: BACKUP_BUCKETS,
  },
  jobs_running: { kind: 'gauge', help: 'Jobs at work in this instance', labels: [] },
  jobs_queued: { kind: 'gauge', help: 'Jobs waiting in this instance', labels: [] },
  queue_jobs: {
    kind: 'gauge',
    help: 'Jobs in the queue that instances share (XVAULT_QUEUE_URL), by state: waiting, active or delayed; * is every pool that is in no settings',
    labels: ['pool', 'state'],
  },
  queue_up: {
    kind: 'gauge',
    help: '1 when the queue that instances share answers, else 0; absent without one',
    labels: ['queue'],
  },
  job_retries: {
    kind: 'counter',
    help: 'Jobs that failed and are tried again',
    labels: ['code'],
  },
  runs: {
    kind: 'counter',
    help: 'Runs over many machines that ended in this instance, by how',
    labels: ['result'],
    known: { result: ['succeeded', 'partial', 'failed', 'cancelled'] },
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
    known: {
      kind: ['whole', 'sampled', 'restored'],
      outcome: ['ok', 'archive', 'index', 'restore'],
    },
  },
  last_good_renewals: {
    kind: 'counter',
    help: 'Last good backups copied out of rotation (renewed), such copies given up (released), and failures',
    labels: ['outcome'],
    known: { outcome: ['renewed', 'released', 'failed'] },
  },
  delta_bases: {
    kind: 'counter',
    help: 'Backups that could be deltas, by what became of the base: used, none or lost on the way',
    labels: ['outcome'],
    known: { outcome: ['used', 'none', 'lost'] },
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

export interface MetricsDeps {
  clock: Clock;
  version: string;
  /** Reads the catalogue; called at most once in five minutes. */
  figures?: () => Promise<CatalogFigures>;
  /** False: no series per machine, only the sums. */
  perMachine?: boolean;
}

export interface Metrics {
  meter: Meter;
  /** The page of GET /metrics. */
  render(): Promise<{ body: string; contentType: string }>;
}

/** Makes the metrics of this process. */
export function createMetrics(deps: MetricsDeps): Metrics {
  const { clock, version, figures, perMachine = true } = deps;
  const registry = new Registry();
  const known = new Map(
    Object.entries(METRICS).map(([name, spec]) => [name, createMetric(name, spec, registry)]),
  );
  const unknown = new Counter({
    name: `${PREFIX}unknown_metrics_total`,
    help: OWN.unknown_metrics.help,
    labelNames: ['name'],
    registers: [registry],
  });
  new Gauge({
    name: `${PREFIX}build_info`,
    help: OWN.build_info.help,
    labelNames: ['version'],
    registers: [registry],
  }).set({ version }, 1);
  const refresh =
    figures === undefined
      ? async () => {}
      : createCatalogGauges({ registry, clock, figures }, { perMachine });
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
  for (const labels of combinations(spec.known ?? {})) counter.inc(labels, 0);
  const count: Report = (value, labels) => counter.inc(only(labels), value);
  return { count, observe: count };
}

/** One of each label's values, in every way; none for no labels, which begin by themselves. */
function combinations(
  known: Readonly<Record<string, readonly string[]>>,
): Record<string, string>[] {
  const labels = Object.entries(known);
  if (labels.length === 0) return [];
  return labels.reduce<Record<string, string>[]>(
    (made, [label, values]) =>
      made.flatMap((one) => values.map((value) => ({ ...one, [label]: value }))),
    [{}],
  );
}

/** What is shown of the process itself and the meter, apart from the table. */
const OWN: Readonly<Record<'build_info' | 'unknown_metrics', MetricSpec>> = {
  build_info: { kind: 'gauge', help: 'Version of this instance', labels: ['version'] },
  unknown_metrics: {
    kind: 'counter',
    help: 'Reports under a name that is in no table: a bug',
    labels: ['name'],
  },
};

export interface ShownMetric {
  /** As it stands on the page. */
  name: string;
  kind: Kind;
  help: string;
  labels: readonly string[];
}

/** Every metric of the page, in its order. */
export function shownMetrics(): ShownMetric[] {
  const specs = [...Object.entries({ ...METRICS, ...OWN, ...CATALOG_METRICS })];
  return specs.map(([key, spec]) => {
    const { kind, help, labels } = spec;
    return { name: `${PREFIX}${shownName(key, spec)}`, kind, help, labels };
  });
}

/** The table's key for a reported name. */
export function metricKey(name: string): string {
  return name.replace(/^xvault_/, '').replace(/_total$/, '');
}

function shownName(name: string, { as, kind }: MetricSpec): string {
  const shown = as ?? name;
  return kind === 'counter' && !shown.endsWith('_total') ? `${shown}_total` : shown;
}
