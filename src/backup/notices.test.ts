import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keys, leave, options, setUp } from '../../test/backup/engine-world.ts';
import { problemOf } from '../catalog/problem.ts';
import { backupRequestSchema } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { Delivery, Notice, Notifier } from '../notices.ts';
import type { ObjectStore } from '../ports.ts';
import { formatTime } from '../time.ts';

interface Told {
  notice: Notice;
  targets: readonly string[];
}

interface FakeNotifier {
  told: Told[];
  events(): string[];
  answer(target: string): Promise<Delivery>;
  notifier: Notifier;
}

/** Delivers when the test says so; at once unless it does. */
function createFakeNotifier(targets: string[] = ['ops']): FakeNotifier {
  const told: Told[] = [];
  const self: FakeNotifier = {
    told,
    events: () => told.map(({ notice }) => notice.event),
    answer: async (target: string): Promise<Delivery> => ({ target, ok: true, attempts: 1 }),
    notifier: {
      targets: () => targets,
      send: async (notice, input, { signal }) => {
        told.push({ notice, targets: input.targets });
        const stopped = new Promise<'stopped'>((resolve) => {
          if (signal.aborted) resolve('stopped');
          signal.addEventListener('abort', () => resolve('stopped'), { once: true });
        });
        return await Promise.all(
          input.targets.map(async (target) => {
            const ended = await Promise.race([self.answer(target), stopped]);
            return ended === 'stopped' ? { target, ok: false, attempts: 1, stopped: true } : ended;
          }),
        );
      },
    },
  };
  return self;
}

const MINUTE_MS = 60_000;

test('a backup is told at its beginning and its end, each once, and who was told is in the job', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  const service = world.instance('a');
  const { id } = await world.start(service);
  await world.ended(id);
  await service.drain({ drainMs: 0 });
  assert.deepEqual(ops.events(), ['backup.started', 'backup.succeeded']);
  assert.deepEqual(world.record(id).notifications, [
    { event: 'backup.started', target: 'ops', ok: true, attempts: 1 },
    { event: 'backup.succeeded', target: 'ops', ok: true, attempts: 1 },
  ]);
  const end = ops.told[1]?.notice;
  assert.equal(end?.id, `evt_${id}_backup.succeeded`);
  assert.match(end?.what ?? '', /^Backup of web succeeded: /);
  assert.equal(end?.about, id);
});

test('a backup asked for in a chat is told to its target when the chat takes no answer any more', async () => {
  for (const [until, chat] of [
    ['2020-01-01T00:00:00.000Z', 'slack'],
    ['2099-01-01T00:00:00.000Z', undefined],
  ] as const) {
    const asked: unknown[] = [];
    const ops = createFakeNotifier();
    const targets: Notifier['targets'] = (about) => {
      if (about.event === 'backup.succeeded') asked.push(about.chat);
      return [];
    };
    const world = setUp({}, { notifier: { ...ops.notifier, targets } });
    const service = world.instance('a');
    const request = backupRequestSchema.parse({});
    const input = {
      vm: 'web',
      request,
      triggeredBy: 'test',
      chat: { kind: 'slack', until },
    } as const;
    const { id } = await service.startBackup(input, options);
    await world.ended(id);
    await service.drain({ drainMs: 0 });
    assert.deepEqual(asked, [chat]);
  }
});

test('a target that fails fails no job, and the job says so', async () => {
  const ops = createFakeNotifier();
  ops.answer = async (target) => ({ target, ok: false, attempts: 4, problem: 'answered 500' });
  const world = setUp({}, { notifier: ops.notifier });
  const service = world.instance('a');
  const { id } = await world.start(service);
  assert.equal((await world.ended(id)).status, 'succeeded');
  await service.drain({ drainMs: 0 });
  assert.deepEqual(world.record(id).notifications?.[1], {
    event: 'backup.succeeded',
    target: 'ops',
    ok: false,
    attempts: 4,
    problem: 'answered 500',
  });
});

test('a failed backup is told with its reason and its mend; a dry run is told to nobody', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  world.pool.onCall = (name) => {
    if (name === 'snapshotVm') throw new BackupError('snapshot_refused', 'take snapshot: SR full');
  };
  const service = world.instance('a');
  await world.ended((await world.start(service, { dry_run: true })).id);
  const { id } = await world.start(service);
  await world.ended(id);
  await service.drain({ drainMs: 0 });
  assert.deepEqual(ops.events(), ['backup.started', 'backup.failed']);
  const notice = ops.told[1]?.notice;
  assert.equal(notice?.what, 'Backup of web failed: take snapshot: SR full.');
  assert.match(notice?.todo ?? '', /^The pool cannot make the snapshot/);
  assert.equal(notice?.severity, 'error');
});

test('an attempt that is made again is no end, and its second beginning no beginning', async () => {
  const ops = createFakeNotifier();
  const retry = { attempts: 2, firstPauseMs: 1000 };
  const world = setUp({ retry }, { notifier: ops.notifier });
  let calls = 0;
  world.pool.onCall = (name) => {
    if (name !== 'snapshotVm' || ++calls > 1) return;
    throw new BackupError('pool_unavailable', 'reach pool');
  };
  const service = world.instance('a');
  const { id } = await world.start(service);
  await world.ended(id);
  await service.drain({ drainMs: 0 });
  assert.deepEqual(ops.events(), ['backup.started', 'backup.succeeded']);
});

test('the end is told after the beginning, however long that takes', async () => {
  const ops = createFakeNotifier();
  const { promise, resolve } = Promise.withResolvers<Delivery>();
  ops.answer = () => promise;
  const world = setUp({}, { notifier: ops.notifier });
  const service = world.instance('a');
  const { id } = await world.start(service);
  await world.ended(id);
  assert.deepEqual(ops.events(), ['backup.started']);
  resolve({ target: 'ops', ok: true, attempts: 1 });
  await world.until('the end', () => ops.told.length === 2);
  await service.drain({ drainMs: 0 });
});

test('another instance that showed the end shows who was told of it, too', async () => {
  const ops = createFakeNotifier();
  const { promise, resolve } = Promise.withResolvers<Delivery>();
  ops.answer = () => promise;
  const world = setUp({}, { notifier: ops.notifier });
  const [service, other] = [world.instance('a'), world.instance('b')];
  const { id } = await world.start(service);
  await world.ended(id);
  const shown = async () =>
    (await other.getJob(id, options))?.notifications?.find(
      ({ event }) => event === 'backup.succeeded',
    );
  assert.equal((await shown())?.owed, true);
  resolve({ target: 'ops', ok: true, attempts: 1 });
  await world.clock.advance(2000);
  assert.equal((await shown())?.ok, true);
  await service.drain({ drainMs: 0 });
});

test('what a shutdown keeps from being told is owed, and a later instance tells it once', async () => {
  const silent = createFakeNotifier();
  silent.answer = () => new Promise(() => undefined);
  const world = setUp({}, { notifier: silent.notifier });
  const service = world.instance('a');
  const { id } = await world.start(service);
  await world.ended(id);
  const drained = service.drain({ drainMs: 0 });
  await world.clock.advance(MINUTE_MS);
  await drained;
  const owed = world.record(id).notifications?.find(({ event }) => event === 'backup.succeeded');
  assert.equal(owed?.owed, true);

  const ops = createFakeNotifier();
  const later = [world.instance('b', world.store, { notifier: ops.notifier })];
  later.push(world.instance('c', world.store, { notifier: ops.notifier }));
  for (const one of later) await one.start();
  await world.clock.advance(10 * MINUTE_MS);
  assert.deepEqual(ops.events(), [], 'its instance may still be at it');
  await world.clock.advance(20 * MINUTE_MS);
  assert.deepEqual(ops.events(), ['backup.succeeded']);
  assert.equal(ops.told[0]?.notice.id, `evt_${id}_backup.succeeded`);
  assert.deepEqual(
    world.record(id).notifications?.filter(({ event }) => event === 'backup.succeeded'),
    [{ event: 'backup.succeeded', target: 'ops', ok: true, attempts: 1 }],
  );
  for (const one of later) await one.drain({ drainMs: 0 });
});

test('an end that was written a moment before its instance died is told by the next one', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  const entry = { event: 'backup.failed', target: 'ops', ok: false, attempts: 0 };
  const at = formatTime(world.clock.now() - 20 * MINUTE_MS);
  const old = formatTime(world.clock.now() - 48 * 60 * MINUTE_MS);
  const ended = { status: 'failed', phase: 'cleaning', started_at: at } as const;
  const left = await leave(world, {
    ...ended,
    finished_at: at,
    notifications: [{ ...entry, owed: true }],
  });
  await leave(world, { ...ended, finished_at: old, notifications: [{ ...entry, owed: true }] });
  await leave(world, { ...ended, finished_at: at, notifications: [entry] });
  const service = world.instance('b');
  await service.start();
  await service.drain({ drainMs: 0 });
  assert.deepEqual(
    ops.told.map(({ notice }) => notice.about),
    [left.id],
  );
});

test('what could not be taken on, the bucket being away, is told at the next look', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  const entry = { event: 'backup.succeeded', target: 'ops', ok: false, attempts: 0 };
  const left = await leave(world, {
    status: 'succeeded',
    phase: 'cleaning',
    finished_at: formatTime(world.clock.now()),
    notifications: [{ ...entry, owed: true }],
  });
  await world.clock.advance(3_600_000);
  let away = true;
  const put: ObjectStore['put'] = async (key, ...rest) => {
    if (away && key === keys.job(left.id)) throw new BackupError('store_unavailable', 'put');
    return await world.store.put(key, ...rest);
  };
  const service = world.instance('b', { ...world.store, put });
  await service.start();
  assert.deepEqual(ops.events(), []);
  away = false;
  await world.clock.advance(120_000);
  await service.drain({ drainMs: 0 });
  assert.deepEqual(ops.events(), ['backup.succeeded']);
});

test('the end of a job whose engine could not be kept up is told by the next one that starts, once', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  const gaveUp = new BackupError('engine_unavailable', 'end job: its container was gone each time');
  const left = await leave(world, {
    status: 'failed',
    phase: 'exporting',
    finished_at: formatTime(world.clock.now()),
    error: problemOf(gaveUp),
  });
  await world.clock.advance(1000);
  for (const name of ['b', 'c']) {
    const service = world.instance(name);
    await service.start();
    await service.drain({ drainMs: 0 });
  }
  assert.deepEqual(
    ops.told.map(({ notice: { event, about }, targets }) => [event, about, targets]),
    [['backup.failed', left.id, ['ops']]],
  );
  assert.deepEqual(world.record(left.id).notifications, [
    { event: 'backup.failed', target: 'ops', ok: true, attempts: 1 },
  ]);
});

test('machines without a fresh backup are told once a day, by one of all instances', async () => {
  const ops = createFakeNotifier();
  const world = setUp({ maxAgeSeconds: 3600 }, { notifier: ops.notifier });
  const services = [world.instance('a'), world.instance('b')];
  for (const service of services) await service.start();
  await world.clock.advance(60 * MINUTE_MS);
  assert.deepEqual(ops.events(), ['freshness.critical']);
  assert.match(ops.told[0]?.notice.what ?? '', /^web has no fresh backup: /);
  await world.clock.advance(24 * 60 * MINUTE_MS);
  assert.deepEqual(ops.events(), ['freshness.critical', 'freshness.critical']);
  for (const service of services) await service.drain({ drainMs: 0 });
});

test('leftovers are told when a sweep finds them; those that stay once a day', async () => {
  const ops = createFakeNotifier();
  const world = setUp({}, { notifier: ops.notifier });
  const ended = await leave(world, { status: 'failed', phase: 'cleaning', finished_at: at(world) });
  await world.store.put(`${keys.staging(ended.id)}1`, 'left', options);
  const service = world.instance('a');
  await service.sweep({ dryRun: true }, options);
  assert.deepEqual(ops.events(), []);
  await service.sweep({ dryRun: false }, options);
  await service.sweep({ dryRun: false }, options);
  assert.deepEqual(ops.events(), ['sweep.leftover_found']);
  assert.match(
    ops.told[0]?.notice.what ?? '',
    /^A sweep found 1 leftover of runs that died: 1 rem/,
  );
  await service.drain({ drainMs: 0 });
});

test('nobody is told, and nothing written, where the settings name no target', async () => {
  const world = setUp();
  const service = world.instance('a');
  const { id } = await world.start(service);
  assert.equal((await world.ended(id)).notifications, undefined);
  await service.drain({ drainMs: 0 });
});

function at(world: ReturnType<typeof setUp>): string {
  return formatTime(world.clock.now());
}
