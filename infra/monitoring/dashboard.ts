/**
 * The Grafana dashboard, made from a table of panels: `npm run docs` writes dashboard.json, which people import.
 *
 * The first row answers "can everything be restored", the second what it costs, the third whether the service works. Queries name
 * only metrics there are (a test says so) and leave the instance out where every instance tells the same.
 */

interface Query {
  expr: string;
  legend?: string;
}

interface Panel {
  title: string;
  kind: 'stat' | 'timeseries' | 'table' | 'row';
  unit?: string;
  width?: number;
  height?: number;
  queries?: readonly Query[];
  /** Of a stat: red from here on. */
  redFrom?: number;
}

/** Grafana's grid. */
const COLUMNS = 24;

const MACHINE = 'max by (pool, vm_uuid, vm_name)';
const POOL = '{pool=~"$pool"}';
const byMachine = (name: string) => `${MACHINE} (xvault_${name}${POOL})`;

const PANELS: readonly Panel[] = [
  { title: 'Can everything be restored?', kind: 'row' },
  ...(['critical', 'warning', 'ok'] as const).map(
    (status): Panel => ({
      title: `Machines ${status}`,
      kind: 'stat',
      width: 4,
      ...(status === 'ok' ? {} : { redFrom: 1 }),
      queries: [{ expr: `sum(max by (pool) (xvault_machines{status="${status}",pool=~"$pool"}))` }],
    }),
  ),
  {
    title: 'Oldest of the newest good backups',
    kind: 'stat',
    width: 4,
    unit: 's',
    redFrom: 180_000,
    queries: [{ expr: `time() - min(xvault_oldest_backup_timestamp_seconds${POOL})` }],
  },
  {
    title: 'Pools that answer',
    kind: 'stat',
    width: 4,
    queries: [{ expr: `max by (pool) (xvault_pool_up${POOL})`, legend: '{{pool}}' }],
  },
  {
    title: 'Figures read',
    kind: 'stat',
    width: 4,
    unit: 's',
    redFrom: 3600,
    queries: [{ expr: 'min(xvault_catalog_age_seconds)' }],
  },
  {
    title: 'Age of the newest good backup',
    kind: 'table',
    unit: 's',
    width: 12,
    height: 9,
    queries: [
      { expr: `sort_desc(time() - ${byMachine('backup_last_success_timestamp_seconds')})` },
    ],
  },
  {
    title: 'Time until the bucket deletes the newest good backup',
    kind: 'table',
    unit: 's',
    width: 12,
    height: 9,
    queries: [{ expr: `sort(${byMachine('backup_expires_timestamp_seconds')} - time())` }],
  },
  {
    title: 'Not as it should be: failed, damaged, not kept',
    kind: 'timeseries',
    queries: [
      { expr: `${byMachine('backup_last_result')} == 0`, legend: 'failed: {{vm_name}}' },
      { expr: `${byMachine('backup_damaged')} == 1`, legend: 'damaged: {{vm_name}}' },
      { expr: `${byMachine('backup_guarded')} == 0`, legend: 'not kept: {{vm_name}}' },
    ],
  },
  {
    title: 'Left behind',
    kind: 'timeseries',
    queries: [
      { expr: `max by (pool) (xvault_leftover_snapshots${POOL})`, legend: 'snapshots, {{pool}}' },
      { expr: 'max(xvault_unfinished_uploads)', legend: 'uploads' },
      { expr: 'max by (kind) (xvault_unreadable_records)', legend: 'unreadable, {{kind}}' },
    ],
  },
  { title: 'What it costs', kind: 'row' },
  {
    title: 'Bytes a second',
    kind: 'timeseries',
    unit: 'Bps',
    queries: [
      { expr: `sum(rate(xvault_pool_read_bytes_total${POOL}[5m]))`, legend: 'read from pools' },
      { expr: 'sum(rate(xvault_store_sent_bytes_total[5m]))', legend: 'sent' },
      { expr: 'sum(rate(xvault_store_copied_bytes_total[5m]))', legend: 'copied in the store' },
    ],
  },
  {
    title: 'Requests to the store a second',
    kind: 'timeseries',
    unit: 'reqps',
    queries: [
      {
        expr: 'sum by (operation, outcome) (rate(xvault_store_requests_total[5m]))',
        legend: '{{operation}} {{outcome}}',
      },
    ],
  },
  {
    title: 'Size of the newest good backup',
    kind: 'timeseries',
    unit: 'bytes',
    queries: [{ expr: byMachine('backup_last_size_bytes'), legend: '{{vm_name}}' }],
  },
  {
    title: 'Sent for the newest good backup',
    kind: 'timeseries',
    unit: 'bytes',
    queries: [{ expr: byMachine('backup_last_sent_bytes'), legend: '{{vm_name}}' }],
  },
  { title: 'Does it work?', kind: 'row' },
  {
    title: 'Jobs',
    kind: 'timeseries',
    queries: [
      { expr: 'sum(xvault_jobs_running)', legend: 'at work' },
      { expr: 'sum(xvault_jobs_queued)', legend: 'waiting' },
      { expr: 'sum(xvault_runs_running)', legend: 'runs' },
    ],
  },
  {
    title: 'Queue that instances share',
    kind: 'timeseries',
    queries: [
      { expr: 'max by (pool, state) (xvault_queue_jobs)', legend: '{{pool}} {{state}}' },
      { expr: 'min(xvault_queue_up)', legend: 'up' },
    ],
  },
  {
    title: 'Backups that ended, an hour',
    kind: 'timeseries',
    queries: [
      {
        expr: 'sum by (mode, result) (increase(xvault_backups_total[1h]))',
        legend: '{{mode}} {{result}}',
      },
    ],
  },
  {
    title: 'Time of a backup, median and nine in ten',
    kind: 'timeseries',
    unit: 's',
    queries: [0.5, 0.9].map((share) => ({
      expr: `histogram_quantile(${share}, sum by (le) (rate(xvault_backup_duration_seconds_bucket${POOL}[1d])))`,
      legend: `${share * 100} %`,
    })),
  },
  {
    title: 'Time of a request to the store, nine in ten',
    kind: 'timeseries',
    unit: 's',
    queries: [
      {
        expr: 'histogram_quantile(0.9, sum by (operation, le) (rate(xvault_store_request_duration_seconds_bucket[15m])))',
        legend: '{{operation}}',
      },
    ],
  },
];

const DATASOURCE = { type: 'prometheus', uid: '$datasource' };

/** dashboard.json. */
export function dashboardJson(): string {
  let x = 0;
  let y = 0;
  let rowHeight = 0;
  const panels = PANELS.map((panel, at) => {
    const isRow = panel.kind === 'row';
    const w = isRow ? COLUMNS : (panel.width ?? COLUMNS / 2);
    const h = isRow ? 1 : (panel.height ?? (panel.kind === 'stat' ? 4 : 8));
    if (x + w > COLUMNS) {
      x = 0;
      y += rowHeight;
      rowHeight = 0;
    }
    const gridPos = { x, y, w, h };
    x += w;
    rowHeight = Math.max(rowHeight, h);
    return { id: at + 1, title: panel.title, type: panel.kind, gridPos, ...panelBody(panel) };
  });
  const dashboard = {
    title: 'xvault',
    uid: 'xvault',
    tags: ['backup', 'xen'],
    schemaVersion: 39,
    editable: true,
    refresh: '1m',
    time: { from: 'now-7d', to: 'now' },
    templating: { list: VARIABLES },
    panels,
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

const VARIABLES = [
  { name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus' },
  {
    name: 'pool',
    label: 'Pool',
    type: 'query',
    datasource: DATASOURCE,
    query: 'label_values(xvault_machines, pool)',
    refresh: 2,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
  },
];

function panelBody({ kind, unit, queries, redFrom }: Panel): Record<string, unknown> {
  if (queries === undefined) return { collapsed: false, panels: [] };
  const isTable = kind === 'table';
  const steps = [
    { color: 'green', value: null },
    ...(redFrom === undefined ? [] : [{ color: 'red', value: redFrom }]),
  ];
  return {
    datasource: DATASOURCE,
    fieldConfig: {
      defaults: { unit: unit ?? 'short', min: 0, thresholds: { mode: 'absolute', steps } },
      overrides: [],
    },
    targets: queries.map(({ expr, legend }, at) => ({
      refId: String.fromCharCode(65 + at),
      datasource: DATASOURCE,
      expr,
      ...(legend === undefined ? {} : { legendFormat: legend }),
      ...(isTable ? { instant: true, range: false, format: 'table' } : {}),
    })),
    ...(isTable ? { transformations: HIDE_TIME } : {}),
  };
}

const HIDE_TIME = [{ id: 'organize', options: { excludeByName: { Time: true, vm_uuid: true } } }];
