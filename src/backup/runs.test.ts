/** Runs on the engine with a scripted pool and simulated time: order, deadline, cancel, and what a crash leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  connect,
  type EngineWorld,
  keys,
  LEASE_OVER_MS,
  options,
  setUp,
} from '../../test/backup/engine-world.ts';
import { createScriptedPool, type ScriptedMachine } from '../../test/backup/scripted-pool.ts';
import { nextId } from '../../test/records.ts';
import { backupRequestSchema } from '../catalog/record.ts';
import { isRunEnded, type Run, runRequestSchema, runSchema } from '../catalog/run.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import type { RunningService } from './create-service.ts';
import { selectRun } from './runs-request.ts';

function machines(count: number): ScriptedMachine[] {
  return Array.from({ length: count }, (_, at) => ({
    name: `vm-${at}`,
    uuid: `00000000-0000-4000-8000-00000000000${at}`,
  }));
}

const ask = (over: object) => runRequestSchema.parse({ select: { all: true }, ...over });

const startRun = (service: RunningService, over: object = {}, runId?: string) =>
  service.startRun({ request: ask(over), triggeredBy: 'nightly', runId }, options);

function recordOf({ store }: EngineWorld, id: string): Run {
  const bytes = store.objects.get(keys.run(id))?.bytes ?? Buffer.alloc(0);
  return runSchema.parse(JSON.parse(bytes.toString('utf8')));
}

async function ended(world: EngineWorld, id: string): Promise<Run> {
  for (let round = 0; round < 300; round++) {
    const run = recordOf(world, id);
    if (isRunEnded(run)) return run;
    await world.clock.advance(5000);
  }
  throw new Error(`run does not end: ${JSON.stringify(recordOf(world, id))}`);
}

const statuses = (run: Run) => run.machines.map(({ vm, status }) => `${vm.name} ${status}`).sort();
const jobsIn = ({ store }: EngineWorld) =>
  [...store.objects.keys()].filter((key) => key.startsWith(keys.jobsPrefix));
const leasesIn = ({ store }: EngineWorld) =>
  [...store.objects.keys()].filter((key) => key.startsWith(keys.leasesPrefix));

test('every machine is backed up once, within the limits, and the run says what it took', async () => {
  const world = setUp({ concurrency: 2, queueLimit: 1 }, {}, createScriptedPool(machines(6)));
  const a = world.instance('a');
  const { id, status } = await startRun(a);
  assert.equal(status, 'queued');
  const run = await ended(world, id);
  assert.equal(run.status, 'succeeded');
  assert.equal(world.backups().length, 6);
  assert.equal(jobsIn(world).length, 6);
  for (const { made, job_id, started_at, finished_at } of run.machines) {
    assert.ok(made && job_id && started_at && finished_at);
    assert.ok(made.size_bytes > 0);
  }
  assert.equal((await a.getRun(id, options))?.status, 'succeeded');
  assert.deepEqual(leasesIn(world), []);
  assert.equal(world.counts.get('runs_running'), 0);
  assert.equal(world.counts.get('runs_total'), 1);
});

/** Every export takes a minute. */
function slow({ pool, clock }: EngineWorld): void {
  pool.onCall = async (operation, signal) => {
    if (operation === 'openExport') await clock.sleep(60_000, { signal });
  };
}

test('an instance that dies half-way leaves a run that another ends, no machine twice', async () => {
  const world = setUp({ concurrency: 2 }, {}, createScriptedPool(machines(6)));
  slow(world);
  const wire = connect(world.store);
  const a = world.instance('a', wire.store);
  const { id } = await startRun(a);
  await world.until('two exports', () => world.pool.snapshots.length === 2);
  await world.clock.advance(90_000);
  wire.cut(true);
  const b = world.instance('b');
  await world.clock.advance(LEASE_OVER_MS);
  await b.start();
  const run = await ended(world, id);
  assert.deepEqual([run.status, run.instance], ['succeeded', 'b']);
  assert.equal(world.backups().length, 6);
  assert.equal(jobsIn(world).length, 6);
  wire.cut(false);
  await world.clock.advance(60_000);
  assert.equal(jobsIn(world).length, 6, 'the one that was cut off begins nothing more');
  await b.drain({ drainMs: 0 });
});

/** The bucket behind a connection that breaks for good at the `limit`-th request. */
function breaking(store: ObjectStore, limit: number): { store: ObjectStore; used: () => number } {
  let used = 0;
  const guarded = new Proxy(store, {
    get: (target, name: keyof ObjectStore) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => {
        used += 1;
        if (used < limit) return method(...args);
        // every other time it was carried out, and only the answer got lost
        const done = used === limit && limit % 2 === 0 ? method(...args) : undefined;
        const lost = () => Promise.reject(new BackupError('store_unavailable', 'reach the bucket'));
        return Promise.resolve(done).then(lost, lost);
      };
    },
  });
  return { store: guarded, used: () => used };
}

async function cutAt(limit: number): Promise<boolean> {
  const world = setUp({ concurrency: 1 }, {}, createScriptedPool(machines(2)));
  const wire = breaking(world.store, limit);
  const a = world.instance('a', wire.store);
  const id = nextId();
  const starting = startRun(a, {}, id).catch(() => undefined);
  await world.clock.advance(30_000);
  const broke = wire.used() >= limit;
  await world.clock.advance(LEASE_OVER_MS);
  const b = world.instance('b');
  await b.start();
  await world.clock.advance(LEASE_OVER_MS);
  // whoever got no answer asks again with the same id
  if (!world.store.objects.has(keys.run(id))) await startRun(b, {}, id);
  const run = await ended(world, id);
  const seen = { limit, status: run.status, jobs: jobsIn(world).length };
  assert.deepEqual(seen, { limit, status: 'succeeded', jobs: 2 });
  assert.equal(world.backups().length, 2, `cut at request ${limit}`);
  await b.drain({ drainMs: 0 });
  await world.clock.advance(60_000);
  await starting;
  return broke;
}

test('cut off from the bucket at any of its requests, a run is ended by another, each machine once', async () => {
  let limit = 1;
  while (await cutAt(limit)) limit += 1;
  assert.ok(limit > 20, `${limit} requests`);
});

test('a start that arrives when another instance has long begun that machine begins nothing', async () => {
  const world = setUp({}, {}, createScriptedPool(machines(1)));
  const gate = Promise.withResolvers<void>();
  let isLate = false;
  const late = new Proxy(world.store, {
    get: (target, name: keyof ObjectStore) => {
      const method = target[name] as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]) => {
        if (isLate) throw new BackupError('store_unavailable', 'reach the bucket');
        isLate = name === 'put' && String(args[0]).startsWith(keys.jobsPrefix);
        if (!isLate) return await method(...args);
        await gate.promise;
        // it was on its way all the time: nobody calls it back
        return await method(...args.slice(0, 2), { ...(args[2] as object), ...options });
      };
    },
  });
  const a = world.instance('a', late);
  const { id } = await startRun(a);
  await world.until('the start that hangs', () => isLate);
  const b = world.instance('b');
  await world.clock.advance(LEASE_OVER_MS);
  await b.start();
  assert.equal((await ended(world, id)).instance, 'b');
  gate.resolve();
  await world.clock.advance(300_000);
  assert.deepEqual([world.backups().length, jobsIn(world).length], [1, 1]);
  await b.drain({ drainMs: 0 });
});

test('what has not begun by the deadline is told, not begun; what runs is let end', async () => {
  const world = setUp({ concurrency: 1 }, {}, createScriptedPool(machines(4)));
  slow(world);
  const a = world.instance('a');
  const { id, deadline_at } = await startRun(a, { deadline: '90s' });
  assert.equal(parseTime(deadline_at), world.clock.now() + 90_000);
  const run = await ended(world, id);
  assert.equal(run.status, 'partial');
  assert.deepEqual(
    run.machines.map(({ status }) => status),
    ['succeeded', 'succeeded', 'not_started', 'not_started'],
  );
  assert.match(run.machines[3]?.error?.detail ?? '', /before the deadline/);
  assert.equal(jobsIn(world).length, 2);
});

test('a cancel, also through another instance, ends what runs and begins nothing more', async () => {
  const world = setUp({ concurrency: 1 }, {}, createScriptedPool(machines(3)));
  slow(world);
  const a = world.instance('a');
  const b = world.instance('b');
  const { id } = await startRun(a);
  await world.until('an export', () => world.pool.snapshots.length === 1);
  assert.equal((await b.cancelRun(id, options))?.cancel_requested, true);
  const run = await ended(world, id);
  assert.equal(run.status, 'cancelled');
  assert.deepEqual([...new Set(run.machines.map(({ status }) => status))], ['cancelled']);
  assert.equal(jobsIn(world).length, 1);
  assert.deepEqual([world.backups(), world.pool.snapshots, leasesIn(world)], [[], [], []]);
  assert.equal(
    (await a.cancelRun(id, options))?.status,
    'cancelled',
    'an ended one stays as it is',
  );
});

test('a machine that is being backed up waits for its turn; one that went away is a failure of its own', async () => {
  const world = setUp({}, {}, createScriptedPool(machines(3)));
  slow(world);
  const a = world.instance('a');
  const other = await a.startBackup(
    { vm: 'vm-0', request: backupRequestSchema.parse({}), triggeredBy: 'somebody' },
    options,
  );
  const { id } = await startRun(a);
  world.pool.machines = world.pool.machines.filter(({ name }) => name !== 'vm-1');
  await world.clock.advance(20_000);
  const waiting = recordOf(world, id).machines.find(({ vm }) => vm.name === 'vm-0');
  assert.equal(waiting?.status, 'waiting');
  assert.match(waiting.waiting_because ?? '', /one is running for vm-0 already/);
  const run = await ended(world, id);
  assert.equal(run.status, 'partial');
  assert.deepEqual(statuses(run), ['vm-0 succeeded', 'vm-1 failed', 'vm-2 succeeded']);
  const byName = new Map(run.machines.map((machine) => [machine.vm.name, machine]));
  assert.notEqual(byName.get('vm-0')?.job_id, other.id);
  assert.equal(byName.get('vm-1')?.error?.code, 'not_found');
});

test('a drain leaves the run to the next instance at once', async () => {
  const world = setUp({ concurrency: 1 }, {}, createScriptedPool(machines(3)));
  slow(world);
  const a = world.instance('a');
  const { id } = await startRun(a);
  await world.until('an export', () => world.pool.snapshots.length === 1);
  const drained = a.drain({ drainMs: 120_000 });
  await world.clock.advance(90_000);
  await drained;
  assert.deepEqual(leasesIn(world), []);
  await assert.rejects(startRun(a), { code: 'draining' });
  const b = world.instance('b');
  await b.start();
  const run = await ended(world, id);
  assert.deepEqual([run.status, run.instance], ['succeeded', 'b']);
  assert.equal(jobsIn(world).length, 3);
  await b.drain({ drainMs: 0 });
});

test('marked disks stay out, the skip list and the tag are followed, and a name nobody has is no success', async () => {
  const [zero, one, two] = machines(3) as [ScriptedMachine, ScriptedMachine, ScriptedMachine];
  const pool = createScriptedPool([
    { ...zero, disks: [{ name: 'scratch [NoBackup]', sr: 'nfs', sizeBytes: 5 }] },
    { ...one, tags: ['xvault:skip', 'nightly'] },
    { ...two, tags: ['nightly'] },
  ]);
  const world = setUp({}, {}, pool);
  const a = world.instance('a');
  const select = { tags: ['nightly'], names: ['vm-0', 'vm-9'] };
  const dry = await startRun(a, { select, dry_run: true });
  assert.deepEqual(dry.machines[0]?.left_out.length ?? dry.machines, 1);
  assert.equal(world.store.objects.size, 0, 'a dry run writes nothing');
  const { id, skipped } = await startRun(a, { select, skip: ['nothing'] });
  assert.deepEqual(
    skipped.map(({ vm, reason }) => `${vm.name}: ${reason}`),
    ['vm-1: it carries the tag xvault:skip'],
  );
  const run = await ended(world, id);
  assert.equal(run.status, 'partial', 'vm-9 is nobody');
  assert.deepEqual(statuses(run), ['vm-0 succeeded', 'vm-2 succeeded']);
  assert.match(run.problems[0]?.detail ?? '', /vm-9/);
  assert.deepEqual(run.notes, ['nothing of the skip list fits no machine']);
  const scratch = run.machines.find(({ vm }) => vm.name === 'vm-0');
  assert.deepEqual(scratch?.left_out, ['disk 0 (scratch [NoBackup]): marked [nobackup]']);
  await assert.rejects(startRun(a, { skip: ['vm-'] }), (error: BackupError) => {
    assert.equal(error.code, 'not_found');
    assert.equal((error.details.skipped as unknown[]).length, 3);
    return true;
  });
  await assert.rejects(startRun(a, { deadline: '2020-01-01T00:00:00Z' }), /it is over/);
  await assert.rejects(startRun(a, { retention: 'dayly' }), /no class dayly/);
});

/** The pool refuses every start of a job from now on, or does not any more. */
function poolAway({ pool }: EngineWorld, isAway: boolean): void {
  pool.onCall = () => {
    if (isAway) throw new BackupError('pool_unavailable', 'reach the pool');
  };
}

test('a pool that is away for some minutes is waited for; one that stays away fails its machines, in time', async () => {
  const world = setUp({}, {}, createScriptedPool(machines(4)));
  const a = world.instance('a');
  poolAway(world, true);
  const { id } = await startRun(a);
  await world.clock.advance(10 * 60_000);
  assert.ok(recordOf(world, id).machines.every(({ status }) => status === 'waiting'));
  assert.ok(
    world.pool.calls.length < 20,
    `${world.pool.calls.length} calls of a pool that is away`,
  );
  poolAway(world, false);
  assert.equal((await ended(world, id)).status, 'succeeded');
  poolAway(world, true);
  const run = await ended(world, (await startRun(a)).id);
  assert.equal(run.status, 'failed');
  assert.deepEqual(
    [...new Set(run.machines.map(({ error }) => error?.code))],
    ['pool_unavailable'],
  );
  assert.ok(parseTime(run.finished_at ?? '') - parseTime(run.created_at) < 20 * 60_000);
  world.pool.listVms = () => Promise.reject(new BackupError('pool_unavailable', 'reach the pool'));
  await assert.rejects(startRun(a), { code: 'pool_unavailable' });
});

test('a job stopped with its instance is made again; one whose record cannot be read is no success', async () => {
  const world = setUp({}, {}, createScriptedPool(machines(2)));
  slow(world);
  const a = world.instance('a');
  const { id } = await startRun(a);
  await world.until('both exports', () => world.pool.snapshots.length === 2);
  const drained = a.drain({ drainMs: 0 });
  await world.clock.advance(10_000);
  await drained;
  const [key] = jobsIn(world);
  await world.store.put(key ?? '', '{"half', options);
  const b = world.instance('b');
  await b.start();
  const run = await ended(world, id);
  assert.equal(run.status, 'partial');
  assert.deepEqual(
    run.machines.map(({ error }) => error?.code),
    ['data_corrupt', undefined],
  );
  const stopped = run.machines[1];
  assert.match(stopped?.warnings.join() ?? '', /was stopped with its instance, and is made again/);
  assert.equal(jobsIn(world).length, 3);
  await b.drain({ drainMs: 0 });
});

test('one pool of two that does not answer is a problem of the run, and no more', async () => {
  const { pool, clock } = setUp({}, {}, createScriptedPool(machines(2)));
  const listVms = () => Promise.reject(new BackupError('pool_unavailable', 'reach pool dc2'));
  const other = { ...createScriptedPool(), name: 'dc2', listVms };
  const engine = {
    pools: new Map([pool, other].map((one) => [one.name, one])),
    retentionClasses: ['daily'],
    clock,
    ids: { uuid: nextId },
  } as unknown as Engine;
  const input = { request: ask({}), triggeredBy: 'nightly' };
  const run = await selectRun(engine, { input, instance: 'a' }, options);
  assert.deepEqual(
    [run.machines.length, run.problems.map(({ code }) => code)],
    [2, ['pool_unavailable']],
  );
});
