/**
 * What the simulated night supposes, each figure with where it comes from, and the machines that follow from it by a seed.
 *
 * `measured` is of this project (docs/performance.md), `published` is of others (xapi-project/xen-api, vatesfr/xen-orchestra: 50
 * to 270 MB/s an export), `documented` is a vendor's, `supposed` is a guess: put your own there.
 */
import { z } from 'zod';
import { createRandom } from '../test/crash/random.ts';

const positive = z.number().positive();
const count = z.int().positive();

/** Every figure of the model; bytes and seconds unless the name says otherwise. */
export const scenarioSchema = z.strictObject({
  seed: z.int().default(1),
  vms: count.default(2000),
  pools: count.default(20),
  hosts_per_pool: count.default(3),
  srs_per_pool: count.default(4),
  /** Stored data of a machine: log-normal, within the limits. */
  size_gib: z
    .strictObject({
      median: positive,
      sigma: z.number().nonnegative(),
      least: positive,
      most: positive,
    })
    .default({ median: 40, sigma: 1, least: 4, most: 2048 }),
  /** Share of a machine's blocks that change in a day: log-normal. */
  changed: z
    .strictObject({ median: positive, sigma: z.number().nonnegative(), most: positive.max(1) })
    .default({ median: 0.05, sigma: 0.8, most: 0.6 }),
  /** One export, by its storage: somewhere between, as often half as twice. */
  export_mb_s: z
    .strictObject({ least: positive, most: positive })
    .default({ least: 50, most: 270 }),
  /** All exports of one host: its dom0 encrypts and compares. */
  host_mb_s: positive.default(270),
  line_gbit_s: positive.default(10),
  /** What of a line is payload. */
  line_share: positive.max(1).default(0.94),
  instance_gbit_s: positive.default(10),
  /** Of one process: nearly all of it is one thread. */
  instance_cores: positive.default(1),
  instances: count.default(8),
  concurrency: count.default(4),
  concurrency_per_pool: count.default(2),
  concurrency_per_sr: count.default(1),
  /** https on both ends, many at once. */
  cpu_s_per_gib: positive.default(1.61),
  /** Of that, when nothing changed, and when everything did: comparing beside sending. */
  delta_cpu: z
    .strictObject({ nothing: positive, all: positive })
    .default({ nothing: 0.63, all: 1.02 }),
  /** Bytes sent for each changed one. */
  sent_by_changed: z.number().min(1).default(1.17),
  full_requests_per_gib: positive.default(64.2),
  delta_requests_per_gib: positive.default(30.7),
  s3_connection_mb_s: positive.default(85),
  s3_connections_per_job: count.default(4),
  s3_requests_s: positive.default(3500),
  /** Snapshot and looking, before the first byte; proving, publishing and removing after the last. */
  before_s: z.number().nonnegative().default(30),
  after_s: z.number().nonnegative().default(15),
  window_h: positive.default(8),
  keep_days: positive.default(14),
  egress_per_gb: z.number().nonnegative().default(0.09),
});
export type Scenario = z.output<typeof scenarioSchema>;

type Origin = 'measured' | 'published' | 'documented' | 'supposed';

/** Where each figure comes from. */
export const ORIGINS: Record<Exclude<keyof Scenario, 'seed'>, [Origin, string]> = {
  vms: ['supposed', 'the size asked about'],
  pools: ['supposed', 'the size asked about'],
  hosts_per_pool: ['supposed', ''],
  srs_per_pool: ['supposed', 'a machine lies on one of them'],
  size_gib: ['supposed', 'stored data, not virtual size; log-normal'],
  changed: [
    'supposed',
    'log-normal, about 7 % on average; the one known case has 8 % (performance.md)',
  ],
  export_mb_s: [
    'published',
    'xen-api#2735, #3854 and the XCP-ng forum: 50 to 270 MB/s; drawn for each storage',
  ],
  host_mb_s: ['supposed', 'as one export at its best: dom0 is the bottleneck'],
  line_gbit_s: [
    'supposed',
    'between the instances and the bucket; exports come over the local network',
  ],
  line_share: ['supposed', 'frames, TCP and TLS take the rest'],
  instance_gbit_s: ['supposed', 'both directions alike'],
  instance_cores: ['measured', 'one process gains little by a second core (performance.md)'],
  instances: ['supposed', 'of the sensitivity table'],
  concurrency: ['documented', 'the default of XVAULT_CONCURRENCY; of each instance'],
  concurrency_per_pool: [
    'documented',
    'the default of XVAULT_CONCURRENCY_PER_POOL; over all instances (a shared queue)',
  ],
  concurrency_per_sr: [
    'documented',
    'the default of XVAULT_CONCURRENCY_PER_SR; over all instances',
  ],
  cpu_s_per_gib: ['measured', '16 exports at once, https on both ends'],
  delta_cpu: ['measured', 'by that of a full, 1 % and everything changed'],
  sent_by_changed: ['measured', 'the seed case, run'],
  full_requests_per_gib: ['measured', 'of the archive'],
  delta_requests_per_gib: ['measured', 'the seed case, run; the whole one needs fewer'],
  s3_connection_mb_s: ['documented', 'AWS, performance guidelines: 85 to 90 MB/s a request'],
  s3_connections_per_job: ['supposed', 'parts in flight, XVAULT_MEMORY_MIB being shared'],
  s3_requests_s: ['documented', 'AWS: 3,500 writes a second and prefix'],
  before_s: ['supposed', 'a snapshot on busy storage'],
  after_s: ['supposed', ''],
  window_h: ['supposed', ''],
  keep_days: ['documented', 'the default of XVAULT_RETENTION_DAYS, daily'],
  egress_per_gb: ['supposed', 'USD; a usual list price for bytes out of a cloud'],
};

export const GIB = 1024 ** 3;

/** One machine of the night. */
export interface SimMachine {
  name: string;
  pool: number;
  host: number;
  sr: number;
  sizeBytes: number;
  /** Share of its blocks. */
  changed: number;
}

/** The machines, and the rate of one export from each storage; the same for the same seed. */
export function makeWorld(scenario: Scenario): {
  machines: SimMachine[];
  srBytesPerSecond: number[];
} {
  const { vms, pools, hosts_per_pool, srs_per_pool, size_gib, changed, export_mb_s } = scenario;
  const random = createRandom(scenario.seed);
  const unit = () => (random.between(0, 0xffff_fffe) + 0.5) / 0xffff_ffff;
  const normal = () => Math.sqrt(-2 * Math.log(unit())) * Math.cos(2 * Math.PI * unit());
  const spread = Math.log(export_mb_s.most / export_mb_s.least);
  const srBytesPerSecond = Array.from(
    { length: pools * srs_per_pool },
    () => export_mb_s.least * Math.exp(spread * unit()) * 1e6,
  );
  const machines = Array.from({ length: vms }, (_, index): SimMachine => {
    const pool = index % pools;
    const gib = size_gib.median * Math.exp(size_gib.sigma * normal());
    return {
      name: `vm-${String(index).padStart(5, '0')}`,
      pool,
      host: pool * hosts_per_pool + random.between(0, hosts_per_pool - 1),
      sr: pool * srs_per_pool + random.between(0, srs_per_pool - 1),
      sizeBytes: Math.min(size_gib.most, Math.max(size_gib.least, gib)) * GIB,
      changed: Math.min(changed.most, changed.median * Math.exp(changed.sigma * normal())),
    };
  });
  return { machines, srBytesPerSecond };
}
