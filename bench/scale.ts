/**
 * How many instances a large site needs, what it hangs on first, and what it costs: nights in simulated time.
 *
 * `npm run bench -- --only scale`, with other figures by `--vms`, `--pools` or `--scenario file.json` (the fields of
 * scale-scenario.ts, any of them). Production's queue and order decide what runs; rates, sizes and limits are suppositions with
 * their sources, printed beside the result. docs/scaling.md has the usual ones.
 */
import { costOf } from '../src/backup/delta-cost.ts';
import { DEFAULT_PRICES } from '../src/prices.ts';
import type { BenchInput, Section, Table } from './report.ts';
import { type Kind, type Night, simulateNight, workOf } from './scale-night.ts';
import { GIB, makeWorld, ORIGINS, type Scenario, scenarioSchema } from './scale-scenario.ts';

const INSTANCES = [1, 2, 4, 8, 16];
const NIGHTS: { kind: Kind; line_gbit_s: number }[] = [
  { kind: 'full', line_gbit_s: 10 },
  { kind: 'delta', line_gbit_s: 1 },
  { kind: 'delta', line_gbit_s: 10 },
];
/** Limits raised for a site of this size; the defaults are for one pool or two. */
const RAISED = { concurrency: 16, concurrency_per_pool: 6, concurrency_per_sr: 2 };
const MONTH_DAYS = 30;
const TIB = 1024 * GIB;

/** The tables of the simulated nights. */
export async function simulateScale(input: Pick<BenchInput, 'scenario' | 'log'>): Promise<Section> {
  const usual = scenarioSchema.parse(input.scenario);
  const raised = { ...usual, ...RAISED, ...input.scenario };
  const tables = [
    await hoursTable('With the limits as they are by default', usual, input),
    await hoursTable(`With ${settingsText(raised)}`, raised, input),
    aloneTable(raised),
    await sensitivityTable(raised, input),
    costTable(usual),
    suppositions(usual),
  ];
  const notes = [
    `**Bold**: within ${usual.window_h} hours. Beside the hours: what they hang on for the longest time.`,
  ];
  return { name: 'scale', tables, targets: [], notes };
}

function settingsText(scenario: Scenario): string {
  const { concurrency, concurrency_per_pool, concurrency_per_sr } = scenario;
  return `XVAULT_CONCURRENCY=${concurrency}, _PER_POOL=${concurrency_per_pool}, _PER_SR=${concurrency_per_sr}`;
}

async function hoursTable(
  title: string,
  scenario: Scenario,
  { log }: Pick<BenchInput, 'log'>,
): Promise<Table> {
  const world = makeWorld(scenario);
  const rows: string[][] = [];
  for (const instances of INSTANCES) {
    const row = [String(instances)];
    for (const { kind, line_gbit_s } of NIGHTS) {
      const night = await simulateNight({ ...scenario, instances, line_gbit_s }, kind, world);
      row.push(hoursText(night, scenario));
    }
    log(`${instances} instances: ${row.slice(1).join(' | ')}`);
    rows.push(row);
  }
  const columns = NIGHTS.map(({ kind, line_gbit_s }) => `${kind}, ${line_gbit_s} Gbit/s`);
  return { title, columns: ['instances', ...columns], rows };
}

function hoursText({ hours, first }: Night, { window_h }: Scenario): string {
  const text = `${hours.toFixed(1)} h`;
  return `${hours <= window_h ? `**${text}**` : text}, ${first}`;
}

/** What each limit would need if it were the only one: no schedule is better. */
export function aloneHours(scenario: Scenario, kind: Kind): Record<string, number> {
  const { machines, srBytesPerSecond } = makeWorld(scenario);
  const works = machines.map((machine) => workOf(machine, kind, scenario));
  const sum = (of: (work: (typeof works)[number]) => number) =>
    works.reduce((total, work) => total + of(work), 0);
  const most = (by: 'host' | 'sr', rate: (at: number) => number) => {
    const bytes = new Map<number, number>();
    for (const one of machines) bytes.set(one[by], (bytes.get(one[by]) ?? 0) + one.sizeBytes);
    return Math.max(...[...bytes].map(([at, total]) => total / rate(at)));
  };
  const read = sum(({ machine }) => machine.sizeBytes);
  const sent = sum(({ machine, sentByRead }) => machine.sizeBytes * sentByRead);
  const cpu = sum(({ machine, cpuPerByte }) => machine.sizeBytes * cpuPerByte);
  const requests = sum(({ machine, requestsPerByte }) => machine.sizeBytes * requestsPerByte);
  const line = (gbit: number) => (gbit / 8) * 1e9 * scenario.line_share;
  const slots = (instances: number) => instances * scenario.concurrency;
  const fixed = machines.length * (scenario.before_s + scenario.after_s);
  const streams = machines.reduce(
    (total, { sr, sizeBytes }) => total + sizeBytes / (srBytesPerSecond[sr] as number),
    fixed,
  );
  const seconds = {
    'line of 1 Gbit/s': sent / line(1),
    'line of 10 Gbit/s': sent / line(10),
    'CPU of 1 instance': cpu / scenario.instance_cores,
    'CPU of 8 instances': cpu / (8 * scenario.instance_cores),
    'network of 1 instance': read / ((scenario.instance_gbit_s * 1e9) / 8),
    'job slots of 1 instance': streams / slots(1),
    'job slots of 8 instances': streams / slots(8),
    'exports of all pools': streams / (scenario.pools * scenario.concurrency_per_pool),
    'the slowest storage': most(
      'sr',
      (at) => (srBytesPerSecond[at] as number) * scenario.concurrency_per_sr,
    ),
    'the busiest host': most('host', () => scenario.host_mb_s * 1e6),
    'the longest machine': Math.max(
      ...machines.map(({ sr, sizeBytes }) => sizeBytes / (srBytesPerSecond[sr] as number)),
    ),
    'requests a bucket takes': requests / scenario.s3_requests_s,
  };
  return Object.fromEntries(Object.entries(seconds).map(([name, value]) => [name, value / 3600]));
}

function aloneTable(scenario: Scenario): Table {
  const [full, delta] = [aloneHours(scenario, 'full'), aloneHours(scenario, 'delta')];
  const rows = Object.entries(full).map(([name, hours]) => [name, hours, delta[name] ?? 0]);
  const title = `Hours each limit would need if it were the only one, ${settingsText(scenario)}`;
  return { title, columns: ['limit', 'full', 'delta'], rows };
}

async function sensitivityTable(
  scenario: Scenario,
  { log }: Pick<BenchInput, 'log'>,
): Promise<Table> {
  const { export_mb_s, size_gib, changed, concurrency_per_pool } = scenario;
  const { least, most } = export_mb_s;
  const cases: [string, Partial<Scenario>][] = [
    ['as above', {}],
    ['exports half as fast', { export_mb_s: { least: least / 2, most: most / 2 } }],
    ['exports twice as fast', { export_mb_s: { least: least * 2, most: most * 2 } }],
    ['twice the data', { size_gib: { ...size_gib, median: size_gib.median * 2 } }],
    ['twice the changes', { changed: { ...changed, median: Math.min(1, changed.median * 2) } }],
    ['half the exports a pool', { concurrency_per_pool: Math.ceil(concurrency_per_pool / 2) }],
    ['half as much again of CPU', { cpu_s_per_gib: scenario.cpu_s_per_gib * 1.5 }],
    ['five minutes a snapshot', { before_s: 300 }],
    ['the line at 2 Gbit/s', { line_gbit_s: 2 }],
  ];
  const rows: (string | number)[][] = [];
  for (const [name, change] of cases) {
    const night = await simulateNight({ ...scenario, ...change }, 'delta');
    log(`${name}: ${night.hours.toFixed(1)} h`);
    rows.push([name, night.hours, night.first, night.mostAtOnce]);
  }
  const { instances, line_gbit_s } = scenario;
  const title = `If a supposition is wrong: delta night, ${instances} instances, ${line_gbit_s} Gbit/s`;
  return { title, columns: ['supposed', 'hours', 'hangs on', 'most jobs at once'], rows };
}

function costTable(scenario: Scenario): Table {
  const prices = DEFAULT_PRICES;
  const { machines } = makeWorld(scenario);
  const storedBytes = machines.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
  const night = (kind: Kind, nights: number) => {
    const works = machines.map((machine) => workOf(machine, kind, scenario));
    const of = (what: (work: (typeof works)[number]) => number) =>
      nights * works.reduce((total, work) => total + what(work) * work.machine.sizeBytes, 0);
    const sentBytes = of(({ sentByRead }) => sentByRead);
    const requests = Math.round(of(({ requestsPerByte }) => requestsPerByte));
    const copiedBytes = nights * storedBytes - sentBytes;
    const sent = { requests, uploadRequests: requests, sentBytes, copiedBytes };
    const counters = { ...sent, copyRequests: 0, joinedBytes: 0, retries: 0 };
    return [sentBytes / TIB, requests / 1e6, costOf({ counters, reads: 0 }, prices).amount];
  };
  const keptBytes = storedBytes * scenario.keep_days;
  const perGib = prices.stored_per_gb_month?.STANDARD ?? 0;
  const rows: (string | number)[][] = [
    ['a full night', ...night('full', 1)],
    ['a delta night', ...night('delta', 1)],
    [`${MONTH_DAYS} delta nights`, ...night('delta', MONTH_DAYS)],
    [
      `a month of storage: ${scenario.keep_days} whole backups of each, ${(keptBytes / TIB).toFixed(0)} TiB`,
      '–',
      '–',
      (keptBytes / GIB) * perGib,
    ],
    [
      'every machine fetched once out of the cloud',
      '–',
      '–',
      (storedBytes / 1e9) * scenario.egress_per_gb,
    ],
  ];
  const title = `What it costs, ${prices.as_of}`;
  return { title, columns: ['what', 'TiB sent', 'million requests', prices.currency], rows };
}

function suppositions(scenario: Scenario): Table {
  const rows = Object.entries(ORIGINS).map(([name, [origin, source]]) => {
    const value = scenario[name as keyof Scenario];
    const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
    return [`\`${name}\``, `\`${text}\``, origin, source];
  });
  return {
    title: 'What is supposed',
    columns: ['figure', 'value', 'is', 'from'],
    rows,
  };
}
