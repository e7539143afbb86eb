/**
 * Instances of the engine that share a queue on a real Redis: the machines' pool is a script, the bucket is memory.
 *
 * Exports are held by the test, so what runs at once is counted, not timed; nothing waits longer than it takes.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createService, type RunningService } from '../../src/backup/create-service.ts';
import { backupRequestSchema, isEnded, type Job, jobSchema } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { BackupError } from '../../src/errors.ts';
import { createRedisQueue } from '../../src/queue/redis.ts';
import type { SharedQueue } from '../../src/queue-port.ts';
import { createSecret } from '../../src/secret.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { until } from '../conformance/job-queue.ts';
import { createTestLog, silentMeter } from '../e2e/world.ts';
import { nextId } from '../records.ts';
import { type RedisServer, redisMissing, startRedis } from '../servers/redis.ts';
import { createMemoryStore } from '../sim/memory-store.ts';
import { keys, options } from './engine-world.ts';
import { createScriptedPool } from './scripted-pool.ts';

const HASHER = await loadHasher();
/** Longer than any test: on a busy machine one that is renewed late would give a job a second attempt. */
const LEASE_MS = 60_000;
/** What ends in Redis when an instance is silent; nothing but time hangs on it. */
const LOCK_MS = 1_000;
/** Longer than it takes, after Redis was found empty, until jobs may begin: a sixth of the lock and a second. */
const SETTLED_MS = 1_500;
const request = backupRequestSchema.parse({});
const skip = redisMissing();

interface Instance {
  service: RunningService;
  queue: SharedQueue;
}

interface Limits {
  total: number;
  perPool: number;
}

interface World {
  redis: RedisServer;
  open(name: string, limits?: Partial<Limits>): Promise<Instance>;
  start(instance: Instance, machine: number): Promise<Job>;
  record(id: string): Job;
  jobs(): Job[];
  /** Exports that are held, by their number. */
  held: Set<number>;
  /** How many exports were begun. */
  begun(): number;
  /** The most that were held at once. */
  most(): number;
  /** Lets one go on. */
  go(): void;
  /** Lets one fail for a reason that may pass. */
  fail(): void;
  /** From now on none is held. */
  openGate(): void;
  logs: string[];
  ended(ids: readonly string[]): Promise<void>;
  nothingLeft(): Promise<void>;
}

async function setUp(t: TestContext, machines = 12): Promise<World> {
  const redis = await startRedis();
  const specs = Array.from({ length: machines }, (_, index) => ({
    name: `m${index}`,
    uuid: nextId(),
  }));
  const pool = createScriptedPool(specs);
  const store = createMemoryStore(systemClock);
  const log = createTestLog();
  const name = systemIds.uuid();
  const gate = createGate(pool);
  const all: Instance[] = [];
  t.after(async () => {
    gate.openGate();
    await Promise.all(all.map(({ service }) => service.drain({ drainMs: 0 })));
    await Promise.all(all.map(({ queue }) => queue.close()));
    await redis[Symbol.asyncDispose]();
  });
  const record = (id: string): Job =>
    jobSchema.parse(JSON.parse(String(store.objects.get(keys.job(id))?.bytes)));
  const jobs = () =>
    [...store.objects.keys()].flatMap((key) => {
      const id = keys.parseJob(key);
      return id === undefined ? [] : [record(id)];
    });
  const open: World['open'] = async (instance, { total = 4, perPool = 8 } = {}) => {
    const queue = createRedisQueue(
      { clock: systemClock, log, meter: silentMeter },
      {
        url: createSecret(redis.url),
        name,
        instance,
        pools: ['dc1'],
        limits: { total, perPool, perSr: 8, waiting: 1000 },
        lockMs: LOCK_MS,
      },
    );
    const service = createService(
      {
        pools: [pool],
        store,
        stateStore: store,
        clock: systemClock,
        ids: { uuid: nextId },
        log,
        meter: silentMeter,
        loadHasher: async () => HASHER,
        queue,
      },
      {
        prefix: 'xv',
        concurrency: total,
        concurrencyPerPool: perPool,
        concurrencyPerSr: 8,
        queueLimit: 1000,
        retentionClasses: ['daily'],
        instance,
        leaseMs: LEASE_MS,
        retry: { attempts: 3, firstPauseMs: 2_000 },
      },
    );
    all.push({ service, queue });
    await service.start();
    await until(
      'the queue',
      () => queue.problem === undefined,
      () => queue.problem,
    );
    return { service, queue };
  };
  const allEnded = async (ids: readonly string[]) =>
    await until(
      'all jobs to end',
      () => ids.every((id) => isEnded(record(id))),
      () => [jobs().map(({ status, attempt }) => [status, attempt]), log.lines.slice(-20)],
    );
  return {
    ...gate,
    redis,
    open,
    record,
    jobs,
    logs: log.lines,
    ended: allEnded,
    start: ({ service }, machine) =>
      service.startBackup({ vm: `m${machine}`, request, triggeredBy: 'test' }, options),
    nothingLeft: async () => {
      const leases = () =>
        [...store.objects.keys()].filter((key) => key.startsWith(keys.leasesPrefix));
      await until('the leases', () => leases().length === 0, leases);
      const listed = [...store.objects.keys()].filter((key) => key.endsWith('/backup.json'));
      const good = jobs().filter(({ status }) => status === 'succeeded');
      assert.equal(listed.length, good.length, 'each is listed once');
      assert.deepEqual(pool.snapshots, []);
    },
  };
}

/** Holds each export until it is let go. */
function createGate(pool: ReturnType<typeof createScriptedPool>) {
  const held = new Set<number>();
  const goes = new Map<number, PromiseWithResolvers<void>>();
  let isOpen = false;
  let most = 0;
  let begun = 0;
  pool.onCall = async (operation, signal) => {
    if (operation !== 'openExport') return;
    begun += 1;
    const id = begun;
    if (isOpen) return;
    held.add(id);
    most = Math.max(most, held.size);
    const gate = Promise.withResolvers<void>();
    goes.set(id, gate);
    signal.addEventListener('abort', () => gate.reject(signal.reason), { once: true });
    await gate.promise.finally(() => held.delete(id));
  };
  const first = () => goes.get([...held][0] ?? 0);
  const go = () => first()?.resolve();
  const fail = () => first()?.reject(new BackupError('source_failed', 'export: by the test'));
  const openGate = () => {
    isOpen = true;
    for (const id of held) goes.get(id)?.resolve();
  };
  return { held, begun: () => begun, most: () => most, go, fail, openGate };
}

const range = (count: number) => Array.from({ length: count }, (_, index) => index);

for (const [count, perPool, expected] of [
  [1, 8, 1],
  [3, 8, 3],
  [5, 4, 4],
] as const) {
  test(`${count} instances of one job each, ${perPool} on the pool: ${expected} exports at once`, {
    skip,
  }, async (t) => {
    const world = await setUp(t);
    const instances: Instance[] = [];
    for (const index of range(count)) {
      instances.push(await world.open(`i${index}`, { total: 1, perPool }));
    }
    const asked = instances[0] as Instance;
    const jobs = await Promise.all(range(8).map((machine) => world.start(asked, machine)));
    await until(
      'them to run',
      () => world.held.size === expected,
      () => world.logs.slice(-9),
    );
    // each that ends makes room for one, and never for two
    for (const done of range(4)) {
      world.go();
      await until('the next', () => world.begun() === expected + done + 1);
    }
    assert.equal(world.most(), expected);
    world.openGate();
    await world.ended(jobs.map(({ id }) => id));
    assert.equal(world.begun(), jobs.length, 'each exported once');
    await world.nothingLeft();
  });
}

test('Redis is wiped while jobs run, wait and pause: each is done once, and the pool carries no more', {
  skip,
}, async (t) => {
  const world = await setUp(t);
  const [a, b] = [await world.open('a', { perPool: 2 }), await world.open('b', { perPool: 2 })];
  const jobs = await Promise.all(
    range(8).map((machine) => world.start(machine % 2 ? a : b, machine)),
  );
  await until('two to run', () => world.held.size === 2);
  await world.redis.wipe();
  await until(
    'the others to be queued again',
    () => a.queue.waiting >= 6,
    () => world.logs.slice(-9),
  );
  await systemClock.sleep(SETTLED_MS, options);
  assert.equal(world.most(), 2, 'what ran when it was wiped still counts');
  world.openGate();
  await world.ended(jobs.map(({ id }) => id));
  assert.equal(world.begun(), jobs.length, 'each exported once');
  assert.ok(world.jobs().every(({ status, attempt }) => status === 'succeeded' && attempt === 1));
  await world.nothingLeft();
});

test('Redis goes away under load and comes back empty: what runs goes on, what is asked for meanwhile is done', {
  skip,
}, async (t) => {
  const world = await setUp(t);
  const [a, b] = [await world.open('a', { perPool: 3 }), await world.open('b', { perPool: 3 })];
  const before = await Promise.all(range(5).map((machine) => world.start(a, machine)));
  await until('three to run', () => world.held.size === 3);
  await world.redis.stop();
  await until(
    'it to be seen',
    () => a.queue.problem !== undefined && b.queue.problem !== undefined,
  );
  assert.match((await a.service.readiness(options)).checks.queue?.output ?? '', /away/);
  const meanwhile = await world.start(b, 10);
  assert.match(meanwhile.waiting_because ?? '', /shared queue is away/);
  world.go();
  await until('one to end without Redis', () => world.jobs().some(isEnded));
  await world.redis.start();
  await until(
    'it to be back',
    () => a.queue.problem === undefined && b.queue.problem === undefined,
  );
  world.openGate();
  await world.ended([...before, meanwhile].map(({ id }) => id));
  assert.equal(world.begun(), 6, 'each exported once');
  assert.ok(world.jobs().every(({ status, attempt }) => status === 'succeeded' && attempt === 1));
  await world.nothingLeft();
});

test('what a job waits for is told by every instance, as it is now', { skip }, async (t) => {
  const world = await setUp(t);
  const [a, b] = [await world.open('a', { perPool: 1 }), await world.open('b', { perPool: 1 })];
  await world.start(a, 0);
  await until('it to run', () => world.held.size === 1);
  await world.redis.stop();
  await until('it to be seen', () => b.queue.problem !== undefined);
  const { id } = await world.start(b, 1);
  await world.redis.start();
  for (const { service } of [a, b]) {
    const told: (string | undefined)[] = [];
    for (let tries = 0; !/^1 jobs run on pool/.test(told.at(-1) ?? ''); tries++) {
      assert.ok(tries < 400, `told in vain: ${told.slice(-3)}`);
      await systemClock.sleep(50, options);
      told.push((await service.getJob(id, options))?.waiting_because);
    }
  }
});

test('a job that waits is cancelled by any instance, at once; a second one of its machine is refused', {
  skip,
}, async (t) => {
  const world = await setUp(t);
  const [a, b] = [await world.open('a', { perPool: 1 }), await world.open('b', { perPool: 1 })];
  const first = await world.start(a, 0);
  await until('it to run', () => world.held.size === 1);
  const second = await world.start(a, 1);
  await assert.rejects(world.start(b, 1), ({ code, message, details }) => {
    assert.equal(code, 'job_conflict');
    assert.match(message, /one waits for its turn for .* already/);
    // nobody works on it, so no lease ends
    assert.deepEqual(
      [details.job_id, details.owner, details.expires_at],
      [second.id, undefined, undefined],
    );
    return true;
  });
  await b.service.cancelJob(second.id, options);
  await until('its end', () => world.record(second.id).status === 'cancelled');
  const third = await world.start(b, 1);
  // and one that runs, through the other instance
  await b.service.cancelJob(first.id, options);
  world.openGate();
  await world.ended([first.id, third.id]);
  assert.equal(world.record(third.id).status, 'succeeded');
  await world.nothingLeft();
});

test('a job that fails for a reason that may pass waits in Redis, and another instance makes its next attempt', {
  skip,
}, async (t) => {
  const world = await setUp(t);
  const a = await world.open('a');
  const job = await world.start(a, 0);
  await until('it to run', () => world.held.size === 1);
  const b = await world.open('b');
  world.fail();
  await until(
    'it to wait',
    () => world.record(job.id).status === 'queued',
    () => world.logs.slice(-9),
  );
  assert.equal(world.record(job.id).last_error?.code, 'source_failed');
  // whoever began it is gone by then
  await a.service.drain({ drainMs: 0 });
  await until(
    'its next attempt',
    () => world.begun() === 2,
    () => world.logs.slice(-9),
  );
  assert.equal(b.queue.running, 1);
  world.openGate();
  await world.ended([job.id]);
  const { status, attempt } = world.record(job.id);
  assert.deepEqual([status, attempt], ['succeeded', 2]);
  await world.nothingLeft();
});

test('an instance that is drained gives its job to another', { skip }, async (t) => {
  const world = await setUp(t);
  const a = await world.open('a');
  const job = await world.start(a, 0);
  await until('it to run', () => world.held.size === 1);
  const b = await world.open('b');
  await a.service.drain({ drainMs: 0 });
  await until(
    'it to run again',
    () => world.begun() === 2,
    () => world.logs.slice(-9),
  );
  assert.match(world.record(job.id).instance ?? '', /^b/);
  await assert.rejects(world.start(a, 1), { code: 'draining' });
  assert.equal(b.queue.running, 1);
  world.openGate();
  await world.ended([job.id]);
  assert.equal(world.record(job.id).status, 'succeeded');
  await world.nothingLeft();
});

test('500 jobs on five instances, Redis wiped three times: each is done once', {
  skip,
}, async (t) => {
  const MACHINES = 100;
  const world = await setUp(t, MACHINES);
  world.openGate();
  const instances: Instance[] = [];
  for (const index of range(5)) instances.push(await world.open(`i${index}`));
  const accepted: string[] = [];
  for (const round of range(5)) {
    const starts = range(MACHINES).map(async (machine) => {
      const job = await world.start(instances[(machine + round) % 5] as Instance, machine);
      accepted.push(job.id);
    });
    await Promise.all(starts);
    if (round % 2 === 0) await world.redis.wipe();
    await world.ended(accepted.slice(-MACHINES));
  }
  assert.equal(new Set(accepted).size, 500);
  assert.equal(world.begun(), 500, 'each exported once');
  assert.ok(world.jobs().every(({ status, attempt }) => status === 'succeeded' && attempt === 1));
  await world.nothingLeft();
});
