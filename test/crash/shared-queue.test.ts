/**
 * Five processes that share a queue on a real Redis, killed at random while hundreds of jobs are asked for, Redis wiped in the
 * middle: every accepted job is done, each once, and the listing is exactly the complete backups.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isEnded, type Job } from '../../src/catalog/record.ts';
import { systemClock } from '../../src/clock.ts';
import { NEVER } from '../../src/signals.ts';
import { settingsFor, startProgram } from '../e2e/program.ts';
import { type RedisServer, redisMissing, startRedis } from '../servers/redis.ts';
import { type Cluster, type Instance, machines, type Seen, startCluster } from './cluster.ts';
import { createRandom, type Random } from './random.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const MIB = 1_048_576;
const INSTANCES = 5;
/** A job costs half a second of CPU, a start two: the default form 25 s, the long one seven minutes. */
const STORM = LONG ? { jobs: 500, machines: 50, kills: 25 } : { jobs: 16, machines: 8, kills: 2 };
/** Asked for at once, by several callers. */
const CALLERS = 8;
const skip = redisMissing();

/** Machines of one small disk: a job is a handful of requests. */
const small = (count: number) => machines(count, MIB);

function settings(redis: RedisServer, more: Record<string, string> = {}): Record<string, string> {
  const common = { XVAULT_LEASE_SECONDS: '12', XVAULT_LOG_LEVEL: 'info' };
  return { XVAULT_QUEUE_URL: redis.url, ...common, ...more };
}

const { seed } = createRandom();

test(`seed ${seed}: ${INSTANCES} instances, ${STORM.jobs} jobs, ${STORM.kills} kills, one FLUSHALL`, {
  skip,
}, async (t) => {
  const random = createRandom(seed);
  await using redis = await startRedis();
  await using cluster = await startCluster(small(STORM.machines));
  const exports = countExports(cluster);
  const seen = followJobs(cluster);
  const env = settings(redis, { XVAULT_CONCURRENCY: '4' });
  const names = Array.from({ length: INSTANCES }, (_, index) => `i${index}`);
  const live = await Promise.all(names.map((name) => cluster.start(name, env)));
  const [accepted] = await Promise.all([
    request({ live, random }),
    trouble(cluster, { live, random, redis, env, seen }),
  ]);
  await cluster.until('the end of all jobs', () => accepted.every((id) => seen.ended.has(id)));
  const jobs = new Map(cluster.jobs().map((job) => [job.id, job]));
  assert.deepEqual(
    accepted.filter((id) => !jobs.has(id)),
    [],
    'no accepted job is lost',
  );
  assert.ok(accepted.length >= STORM.jobs);
  for (const { status, error, attempt } of jobs.values()) {
    // five instances died with it: then it is given up, in words
    assert.ok(status === 'succeeded' || attempt > 5, JSON.stringify(error));
  }
  assert.deepEqual(exports.overlaps, [], 'no machine twice at once');
  const again = [...jobs.values()].reduce((sum, { attempt }) => sum + attempt - 1, 0);
  const good = [...jobs.values()].filter(({ status }) => status === 'succeeded');
  assert.ok(exports.completed() >= good.length, 'one export a job at least');
  assert.ok(exports.completed() <= good.length + again, 'and another only for one taken over');
  // one that listed nothing yet: what others made is seen when a listing is half a minute old
  await cluster.check(await cluster.start('asked'));
  await noneLeftIn(redis);
  t.diagnostic(`${jobs.size} jobs, ${again} taken over, ${exports.completed()} exports`);
});

test('a process that sleeps beyond its lock in the queue, but not beyond its lease, keeps its job', {
  skip,
}, async () => {
  await using redis = await startRedis();
  await using cluster = await startCluster(small(1));
  const exports = countExports(cluster);
  const env = settings(redis, { XVAULT_LEASE_SECONDS: '45' });
  const sleeper = await cluster.start('sleeper', env);
  const released = Promise.withResolvers<void>();
  const unwatch = cluster.watch(({ name, done }) => {
    if (name !== '/export' || done) return undefined;
    unwatch();
    sleeper.pause();
    return released.promise;
  });
  const id = await sleeper.backUp('m0');
  assert.ok(id);
  await cluster.until('sleep', () => sleeper.paused);
  const other = await cluster.start('other', env);
  // as if the lock had run out: nobody waits for it
  for (const key of await redis.client.keys('*:lock')) await redis.client.del(key);
  await other.program.saw('turn of a job that another instance is at');
  sleeper.wake();
  released.resolve();
  const ended = await cluster.ended(id);
  assert.deepEqual([ended.status, ended.attempt], ['succeeded', 1], JSON.stringify(ended.error));
  assert.equal(exports.completed(), 1);
  await cluster.check(sleeper);
});

for (const withRedis of LONG ? [true, false] : [true]) {
  const how = withRedis ? 'on Redis' : 'without Redis';
  const isSkipped = withRedis ? skip : false;
  test(`run --waiting does what a service left, tells of it and ends, ${how}`, {
    skip: isSkipped,
  }, async () => {
    await using redis = withRedis ? await startRedis() : undefined;
    await using cluster = await startCluster(small(3));
    const env = redis === undefined ? {} : settings(redis);
    const service = await cluster.start('service', { ...env, XVAULT_CONCURRENCY: '1' });
    const released = Promise.withResolvers<void>();
    const unwatch = cluster.watch(({ name, done }) => {
      return name === '/export' && !done ? released.promise : undefined;
    });
    const ids: (string | undefined)[] = [];
    for (const machine of ['m0', 'm1', 'm2']) ids.push(await service.backUp(machine));
    await cluster.until('one to export', () =>
      cluster.jobs().some(({ phase }) => phase === 'exporting'),
    );
    service.kill();
    await service.program.ended;
    await cluster.expireLeases();
    unwatch();
    released.resolve();
    const { sim, s3 } = cluster;
    const run = {
      ...settingsFor(sim, s3),
      XVAULT_LEASE_SECONDS: '12',
      XVAULT_LOG_LEVEL: 'info',
      ...env,
    };
    const program = startProgram(['run', '--waiting', '--json'], run);
    assert.equal(await program.ended, 0, program.output.err);
    const { jobs } = JSON.parse(program.output.out);
    const told = jobs.map((job: Job) => [job.id, job.status]).sort();
    assert.deepEqual(told, ids.map((id) => [id, 'succeeded']).sort());
    const nothing = startProgram(['run', '--waiting', '--json'], run);
    assert.equal(await nothing.ended, 0, nothing.output.err);
    assert.equal(nothing.output.out, '{"jobs":[]}\n');
    const asked = await cluster.start('asked');
    await cluster.check(asked);
  });
}

/** Several callers ask random instances for random machines until enough were accepted. */
async function request({ live, random }: { live: Instance[]; random: Random }): Promise<string[]> {
  const accepted: string[] = [];
  const caller = async (): Promise<void> => {
    while (accepted.length < STORM.jobs) {
      const id = await random.pick(live).backUp(`m${random.between(0, STORM.machines - 1)}`);
      if (id !== undefined) accepted.push(id);
      else await systemClock.sleep(20, { signal: NEVER });
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  assert.equal(new Set(accepted).size, accepted.length);
  return accepted;
}

/** Kills a random instance every so many jobs that ended and starts another in its place; wipes Redis half-way. */
async function trouble(
  cluster: Cluster,
  input: {
    live: Instance[];
    random: Random;
    redis: RedisServer;
    env: Record<string, string>;
    seen: { ended: Set<string> };
  },
): Promise<void> {
  const { live, random, redis, env, seen } = input;
  const every = Math.floor(STORM.jobs / (STORM.kills + 2));
  for (let done = 1; done <= STORM.kills; done++) {
    await cluster.until(`${done * every} ends`, () => seen.ended.size >= done * every);
    const index = random.between(0, live.length - 1);
    const victim = live[index] as Instance;
    victim.kill();
    await victim.program.ended;
    await cluster.expireLeases();
    live[index] = await cluster.start(victim.name, env);
    if (done === Math.ceil(STORM.kills / 2)) await redis.wipe();
  }
}

/** By what is written: reading all records at each request would cost more than the jobs. */
function followJobs({ watch }: Pick<Cluster, 'watch'>): { ended: Set<string> } {
  const ended = new Set<string>();
  watch(({ job }) => void (job && isEnded(job) && ended.add(job.id)));
  return { ended };
}

interface Exports {
  /** Of one machine at a time. */
  overlaps: string[];
  completed(): number;
}

function countExports({ watch }: Pick<Cluster, 'watch'>): Exports {
  const overlaps: string[] = [];
  const running = new Map<string, number>();
  let completed = 0;
  watch(({ name, key, done }: Seen) => {
    if (name !== '/export') return;
    const count = (running.get(key) ?? 0) + (done ? -1 : 1);
    running.set(key, count);
    if (count > 1) overlaps.push(key);
    if (done) completed += 1;
  });
  return { overlaps, completed: () => completed };
}

/** No job waits, runs or holds a slot in Redis. */
async function noneLeftIn({ client }: RedisServer): Promise<void> {
  const left: string[] = [];
  for (const key of await client.keys('*')) {
    const isList = /:(wait|active|prioritized|delayed|held)$/.test(key);
    if (isList) left.push(key);
  }
  assert.deepEqual(left, [], 'nothing waits or runs in Redis');
}
