/**
 * One night in simulated time: the machines of a scenario, begun in production's order by production's queue and its limits,
 * their bytes moved by the model of scale-model.ts.
 *
 * One queue for all instances, as with XVAULT_QUEUE_URL; a job goes to the instance with the fewest. Every machine is read whole, a
 * delta too: what it saves is sending (docs/delta.md). Deterministic: the same scenario gives the same night.
 */
import assert from 'node:assert/strict';
import { createQueue, type Queue } from '../src/backup/queue.ts';
import { machineKey, nextMachine, orderMachines } from '../src/backup/runs-plan.ts';
import type { RunMachine } from '../src/catalog/run.ts';
import { divide, type Flow, ITSELF, type Use } from './scale-model.ts';
import { GIB, makeWorld, type Scenario, type SimMachine } from './scale-scenario.ts';

export type Kind = 'full' | 'delta';

/** What a night, or a part of it, hangs on. */
export const BOTTLENECKS = [
  'pools',
  'line',
  'CPU',
  'instances’ network',
  'S3 requests',
  'job slots',
  'last machines',
] as const;
export type Bottleneck = (typeof BOTTLENECKS)[number];

export interface Night {
  hours: number;
  /** What it hung on for the longest time. */
  first: Bottleneck;
  /** Share of the night that hung on each. */
  shares: Record<Bottleneck, number>;
  readBytes: number;
  sentBytes: number;
  cpuSeconds: number;
  requests: number;
  /** Most of any limit that was in use at any instant; never above 1. */
  fullest: number;
  mostAtOnce: number;
}

/** What a machine's backup takes. */
export interface Work {
  machine: SimMachine;
  sentByRead: number;
  cpuPerByte: number;
  requestsPerByte: number;
}

/** What backing up one machine takes, as measured or supposed. */
export function workOf(machine: SimMachine, kind: Kind, scenario: Scenario): Work {
  const { cpu_s_per_gib, delta_cpu, sent_by_changed } = scenario;
  const { full_requests_per_gib, delta_requests_per_gib } = scenario;
  if (kind === 'full') {
    const requestsPerByte = full_requests_per_gib / GIB;
    return { machine, sentByRead: 1, cpuPerByte: cpu_s_per_gib / GIB, requestsPerByte };
  }
  const { nothing, all } = delta_cpu;
  return {
    machine,
    sentByRead: Math.min(1, machine.changed * sent_by_changed),
    cpuPerByte: (cpu_s_per_gib * (nothing + (all - nothing) * machine.changed)) / GIB,
    requestsPerByte: delta_requests_per_gib / GIB,
  };
}

/** The limits all jobs share, one after another: line, requests, then each instance's, then each host's. */
function limitsOf(scenario: Scenario) {
  const { instances, pools, hosts_per_pool } = scenario;
  const repeat = (times: number, value: number) => Array.from({ length: times }, () => value);
  const network = (scenario.instance_gbit_s * 1e9) / 8;
  const names: Bottleneck[] = [
    'line',
    'S3 requests',
    ...Array.from({ length: instances }, () => 'CPU' as const),
    ...Array.from({ length: 2 * instances }, () => 'instances’ network' as const),
    ...Array.from({ length: pools * hosts_per_pool }, () => 'pools' as const),
  ];
  const capacities = [
    ((scenario.line_gbit_s * 1e9) / 8) * scenario.line_share,
    scenario.s3_requests_s,
    ...repeat(instances, scenario.instance_cores),
    ...repeat(2 * instances, network),
    ...repeat(pools * hosts_per_pool, scenario.host_mb_s * 1e6),
  ];
  const usesOf = ({ machine, ...work }: Work, instance: number): Use[] => [
    { limit: 0, perByte: work.sentByRead },
    { limit: 1, perByte: work.requestsPerByte },
    { limit: 2 + instance, perByte: work.cpuPerByte },
    { limit: 2 + instances + instance, perByte: 1 },
    { limit: 2 + 2 * instances + instance, perByte: work.sentByRead },
    { limit: 2 + 3 * instances + machine.host, perByte: 1 },
  ];
  return { names, capacities, usesOf };
}

interface Job extends Flow {
  work: Work;
  instance: number;
  phase: 'before' | 'moving' | 'after';
  /** Seconds of a phase without bytes, or bytes. */
  left: number;
  movedBytes: number;
  end(): void;
}

/** The machines as a run sees them, in the order it begins them: all have a backup of yesterday. */
function planned(machines: readonly SimMachine[]): RunMachine[] {
  const seen = machines.map(
    ({ name, pool, sr, sizeBytes }): RunMachine => ({
      vm: { uuid: name, name, pool: `pool-${pool}` },
      status: 'waiting',
      virtual_size_bytes: Math.round(sizeBytes),
      left_out: [],
      srs: [{ uuid: `sr-${sr}`, name: `sr-${sr}` }],
      warnings: [],
    }),
  );
  const lastGoodMs = new Map(seen.map((machine) => [machineKey(machine), 0]));
  return orderMachines(seen, { lastGoodMs, nowMs: 86_400_000 });
}

/** The next machine that may begin; what a place waits for is asked once for all that are alike. */
function next(waiting: RunMachine[], queue: Queue, total: number): RunMachine | undefined {
  if (queue.running >= total) return undefined;
  const known = new Map<string, string | undefined>();
  const reason: Queue['reason'] = (place) => {
    const key = place.srs[0]?.uuid ?? '';
    if (!known.has(key)) known.set(key, queue.reason(place));
    return known.get(key);
  };
  const never = () => false;
  return nextMachine(waiting, { reason, isPausing: never, isDue: never })?.machine;
}

/** A night with these machines, or those of the scenario. */
export async function simulateNight(
  scenario: Scenario,
  kind: Kind,
  world = makeWorld(scenario),
): Promise<Night> {
  const { instances, concurrency } = scenario;
  const total = instances * concurrency;
  const queue = createQueue({
    total,
    perPool: scenario.concurrency_per_pool,
    perSr: scenario.concurrency_per_sr,
    waiting: world.machines.length,
  });
  const limits = limitsOf(scenario);
  const byName = new Map(world.machines.map((machine) => [machine.name, machine]));
  const waiting = planned(world.machines);
  const jobs = new Set<Job>();
  const atWork = new Int32Array(instances);
  const sums = createSums();

  const begin = (chosen: RunMachine): void => {
    waiting.splice(waiting.indexOf(chosen), 1);
    const machine = byName.get(chosen.vm.name) as SimMachine;
    const work = workOf(machine, kind, scenario);
    const instance = atWork.indexOf(Math.min(...atWork));
    atWork[instance] = (atWork[instance] as number) + 1;
    const { promise, resolve } = Promise.withResolvers<void>();
    const connections = scenario.s3_connections_per_job * scenario.s3_connection_mb_s * 1e6;
    const job: Job = {
      work,
      instance,
      uses: limits.usesOf(work, instance),
      mostBytesPerSecond: Math.min(
        world.srBytesPerSecond[machine.sr] as number,
        connections / work.sentByRead,
      ),
      phase: 'before',
      left: scenario.before_s,
      movedBytes: 0,
      end: () => {
        atWork[instance] = (atWork[instance] as number) - 1;
        resolve();
      },
    };
    jobs.add(job);
    queue.add({ id: machine.name, pool: chosen.vm.pool, srs: chosen.srs, run: () => promise });
  };

  const beginAll = (): void => {
    for (let one = next(waiting, queue, total); one; one = next(waiting, queue, total)) begin(one);
  };

  beginAll();
  while (jobs.size > 0) {
    assert.equal(queue.running, jobs.size, 'what is begun runs at once');
    const moving = [...jobs].filter(({ phase }) => phase === 'moving');
    const division = divide(moving, limits.capacities);
    const rates = new Map(moving.map((job, i) => [job, division.bytesPerSecond[i] as number]));
    const rateOf = (job: Job) => rates.get(job) ?? 1;
    const seconds = Math.min(...[...jobs].map((job) => job.left / rateOf(job)));
    const held = [...division.heldBy].map((by) =>
      by === ITSELF ? 'pools' : (limits.names[by] as Bottleneck),
    );
    const why = bottleneck(held, { waiting: waiting.length, full: jobs.size >= total });
    sums.add({ seconds, why, division, capacities: limits.capacities, atOnce: jobs.size });
    let ended = false;
    for (const job of jobs) {
      const done = job.left / rateOf(job) <= seconds * (1 + 1e-12);
      if (job.phase === 'moving') job.movedBytes += rateOf(job) * seconds;
      job.left = done ? 0 : job.left - rateOf(job) * seconds;
      if (!done) continue;
      ended = advance(job, scenario) || ended;
      if (job.phase !== 'after' || job.left > 0) continue;
      jobs.delete(job);
      sums.ended(job);
      job.end();
    }
    if (!ended) continue;
    // the queue learns of ends by promises
    await new Promise((resolve) => setImmediate(resolve));
    beginAll();
  }
  return sums.night();
}

/** To its next phase that takes time; true when it has ended. */
function advance(job: Job, { after_s }: Scenario): boolean {
  if (job.phase === 'after') return true;
  if (job.phase === 'before') {
    job.phase = 'moving';
    job.left = job.work.machine.sizeBytes;
    return false;
  }
  job.phase = 'after';
  job.left = after_s;
  return after_s === 0;
}

/** A limit that holds half of the streams is what the night hangs on; else that no more of them run. */
function bottleneck(
  held: readonly Bottleneck[],
  { waiting, full }: { waiting: number; full: boolean },
): Bottleneck {
  const shared = held.filter((by) => by !== 'pools');
  const [most] = BOTTLENECKS.toSorted((a, b) => countOf(shared, b) - countOf(shared, a));
  if (most !== undefined && shared.length > 0 && shared.length * 2 >= held.length) return most;
  if (waiting === 0) return 'last machines';
  return full ? 'job slots' : 'pools';
}

function countOf(held: readonly Bottleneck[], one: Bottleneck): number {
  return held.filter((by) => by === one).length;
}

function createSums() {
  const seconds = new Map<Bottleneck, number>();
  let all = 0;
  let fullest = 0;
  let mostAtOnce = 0;
  const sums = { readBytes: 0, sentBytes: 0, cpuSeconds: 0, requests: 0 };
  return {
    add: (step: {
      seconds: number;
      why: Bottleneck;
      division: { used: Float64Array };
      capacities: readonly number[];
      atOnce: number;
    }): void => {
      all += step.seconds;
      seconds.set(step.why, (seconds.get(step.why) ?? 0) + step.seconds);
      mostAtOnce = Math.max(mostAtOnce, step.atOnce);
      for (let limit = 0; limit < step.capacities.length; limit += 1) {
        const used = step.division.used[limit] as number;
        if (used > 0) fullest = Math.max(fullest, used / (step.capacities[limit] as number));
      }
    },
    ended: ({ work, movedBytes }: Job): void => {
      sums.readBytes += movedBytes;
      sums.sentBytes += movedBytes * work.sentByRead;
      sums.cpuSeconds += movedBytes * work.cpuPerByte;
      sums.requests += movedBytes * work.requestsPerByte;
    },
    night: (): Night => {
      const shares = Object.fromEntries(
        BOTTLENECKS.map((one) => [one, (seconds.get(one) ?? 0) / all]),
      ) as Night['shares'];
      const [first = 'pools'] = BOTTLENECKS.toSorted((a, b) => shares[b] - shares[a]);
      return { hours: all / 3600, first, shares, ...sums, fullest, mostAtOnce };
    },
  };
}
