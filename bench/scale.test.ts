/** The simulated night against what can be calculated by hand, and against what must hold whatever is supposed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../test/crash/random.ts';
import { aloneHours } from './scale.ts';
import { divide, type Flow, ITSELF } from './scale-model.ts';
import { simulateNight, workOf } from './scale-night.ts';
import { GIB, makeWorld, ORIGINS, scenarioSchema } from './scale-scenario.ts';

const flow = (mostBytesPerSecond: number, ...limits: number[]): Flow => ({
  mostBytesPerSecond,
  uses: limits.map((limit) => ({ limit, perByte: 1 })),
});
const near = (is: number, wanted: number, what?: string) =>
  assert.ok(Math.abs(is - wanted) <= 1e-6 * wanted, `${what ?? ''} ${is}, wanted ${wanted}`);

test('a limit is shared alike, and what one does not need is left to the others', () => {
  const { bytesPerSecond, heldBy } = divide(
    [flow(10, 0), flow(1000, 0), flow(1000, 0, 1)],
    [100, 30],
  );
  assert.deepEqual([...bytesPerSecond], [10, 60, 30]);
  assert.deepEqual([...heldBy], [ITSELF, 0, 1]);
});

test('who takes more of a limit for a byte gets the same rate, and uses more', () => {
  const heavy: Flow = { mostBytesPerSecond: 1000, uses: [{ limit: 0, perByte: 3 }] };
  const { bytesPerSecond, used } = divide([heavy, flow(1000, 0)], [100]);
  assert.deepEqual([...bytesPerSecond], [25, 25]);
  assert.deepEqual([...used], [100]);
});

test('of a thousand drawn divisions none exceeds a limit, and whoever is held is held by a full one', () => {
  const random = createRandom(7);
  for (let round = 0; round < 1000; round += 1) {
    const capacities = Array.from({ length: random.between(1, 6) }, () => random.between(1, 500));
    const flows = Array.from({ length: random.between(1, 12) }, (): Flow => {
      const limits = capacities.map((_, limit) => limit).filter(() => random.between(0, 1) === 1);
      const uses = limits.map((limit) => ({ limit, perByte: random.between(1, 9) / 3 }));
      return { mostBytesPerSecond: random.between(1, 300), uses };
    });
    const { bytesPerSecond, heldBy, used } = divide(flows, capacities);
    for (const [limit, capacity] of capacities.entries()) {
      assert.ok((used[limit] as number) <= capacity * (1 + 1e-9));
    }
    for (const [at, by] of heldBy.entries()) {
      if (by === ITSELF) near(bytesPerSecond[at] as number, flows[at]?.mostBytesPerSecond ?? 0);
      else near(used[by] as number, capacities[by] as number);
    }
  }
});

/** Ten machines of 10 GiB on one storage of one host, and no limit but those a case sets. */
const plain = (over: Record<string, unknown> = {}) =>
  scenarioSchema.parse({
    vms: 10,
    pools: 1,
    hosts_per_pool: 1,
    srs_per_pool: 1,
    size_gib: { median: 10, sigma: 0, least: 1, most: 100 },
    changed: { median: 0.1, sigma: 0, most: 1 },
    export_mb_s: { least: 100, most: 100 },
    host_mb_s: 1e6,
    line_gbit_s: 1e6,
    line_share: 1,
    instance_gbit_s: 1e6,
    instance_cores: 1e6,
    instances: 1,
    concurrency: 10,
    concurrency_per_pool: 10,
    concurrency_per_sr: 10,
    s3_connection_mb_s: 1e6,
    s3_requests_s: 1e9,
    ...over,
  });

test('nights that can be calculated by hand', async () => {
  const oneMs = (10 * GIB) / 100e6;
  const cases: [string, Record<string, unknown>, number][] = [
    ['all at once', {}, 45 + oneMs],
    ['one after another on the storage', { concurrency_per_sr: 1 }, 10 * (45 + oneMs)],
    ['two at once in the pool', { concurrency_per_pool: 2 }, 5 * (45 + oneMs)],
    ['one slot in each of five instances', { instances: 5, concurrency: 1 }, 2 * (45 + oneMs)],
    ['a line of 80 Mbit/s', { line_gbit_s: 0.08 }, 45 + (100 * GIB) / 10e6],
    ['a host of 200 MB/s', { host_mb_s: 200 }, 45 + (100 * GIB) / 200e6],
    ['a core and 2 s/GiB', { instance_cores: 1, cpu_s_per_gib: 2 }, 45 + 200],
    ['four requests a second', { s3_requests_s: 4, full_requests_per_gib: 64 }, 45 + 1600],
    ['connections of 5 MB/s', { s3_connection_mb_s: 5 }, 45 + (10 * GIB) / 20e6],
  ];
  for (const [name, over, seconds] of cases) {
    const { hours, fullest } = await simulateNight(plain(over), 'full');
    near(hours * 3600, seconds, name);
    assert.ok(fullest <= 1 + 1e-9, name);
  }
});

test('a delta is read whole and sends what changed: its line is the narrower one', async () => {
  const scenario = plain({ line_gbit_s: 0.008, sent_by_changed: 1.5 });
  const { hours, readBytes, sentBytes } = await simulateNight(scenario, 'delta');
  near(readBytes, 100 * GIB);
  near(sentBytes, 15 * GIB);
  near(hours * 3600, 45 + (15 * GIB) / 1e6);
});

test('of a drawn night every byte is moved once, no limit exceeded, none of its bounds beaten', async () => {
  const scenario = scenarioSchema.parse({ vms: 300, pools: 5, instances: 3, line_gbit_s: 2 });
  const world = makeWorld(scenario);
  for (const kind of ['full', 'delta'] as const) {
    const night = await simulateNight(scenario, kind, world);
    const works = world.machines.map((machine) => workOf(machine, kind, scenario));
    const sum = (of: (work: (typeof works)[number]) => number) =>
      works.reduce((total, work) => total + of(work) * work.machine.sizeBytes, 0);
    near(
      night.readBytes,
      sum(() => 1),
    );
    near(
      night.sentBytes,
      sum(({ sentByRead }) => sentByRead),
    );
    near(
      night.cpuSeconds,
      sum(({ cpuPerByte }) => cpuPerByte),
    );
    assert.ok(night.fullest <= 1 + 1e-9);
    assert.equal(night.mostAtOnce, 10, 'two a pool');
    near(
      Object.values(night.shares).reduce((a, b) => a + b),
      1,
    );
    const bounds = aloneHours(scenario, kind);
    for (const name of ['exports of all pools', 'the slowest storage', 'the longest machine']) {
      assert.ok((bounds[name] ?? Number.NaN) <= night.hours, name);
    }
    assert.deepEqual(await simulateNight(scenario, kind), night, 'the same seed, the same night');
  }
});

test('every figure that is supposed says where it comes from', () => {
  const { seed: _, ...figures } = scenarioSchema.parse({});
  assert.deepEqual(Object.keys(ORIGINS).sort(), Object.keys(figures).sort());
  assert.throws(() => scenarioSchema.parse({ machines: 5 }), /machines/);
});
