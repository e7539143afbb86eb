/** When the supervisor stops an idle container, and what may come between. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createWorld,
  IDLE_MS,
  options,
  POST,
  rest,
} from '../../test/cloudflare/supervisor-world.ts';
import { sampleJob } from '../../test/records.ts';

test('a request while the idle container is being stopped waits, and gets a new one', async () => {
  const world = createWorld();
  const { container } = world;
  await world.fetch('/v1/sweep', POST);
  container.obeys = false;
  await world.clock.advance(IDLE_MS);
  const stopping = world.alarm();
  while (container.signals.length === 0) await world.clock.advance(250);
  const answer = world.begin('/v1/sweep');
  container.die();
  await Promise.all([stopping, world.settle(answer)]);
  assert.equal((await answer).status, 200);
  assert.equal(container.starts.length, 2);
  assert.notEqual(world.storage.alarmAt, null);
  container.obeys = true;
  await rest(world);
  assert.equal(container.running, false);
});

test('a job that begins while the supervisor makes sure that there is none keeps its container', async () => {
  const world = createWorld();
  await world.fetch('/v1/sweep', POST);
  const id = world.begins();
  let status: number | undefined;
  world.onceListed(async () => {
    ({ status } = await world.begin('/v1/vms/web/backups'));
  });
  while (status === undefined) await world.alarm();
  assert.equal(status, 202);
  await world.alarm();
  assert.deepEqual(world.container.signals, []);
  assert.ok(world.storage.values.has(`watched/job/${id}`));
});

test('a request that comes while everything is being forgotten is watched all the same', async () => {
  const world = createWorld();
  await world.fetch('/v1/sweep', POST);
  const id = world.begins();
  const { deleteAlarm } = world.storage;
  let answer: Promise<Response> | undefined;
  world.storage.deleteAlarm = async () => {
    world.container.livez = 'no';
    answer ??= world.begin('/v1/vms/web/backups');
    await new Promise(setImmediate);
    await deleteAlarm();
  };
  while (answer === undefined) await world.alarm();
  world.container.livez = 'yes';
  assert.equal((await world.settle(answer)).status, 202);
  assert.notEqual(world.storage.alarmAt, null);
  assert.ok(world.storage.values.has(`watched/job/${id}`));
});

test('a container whose end the platform does not tell is no reason to wait for ever, nor to look no more', async () => {
  const world = createWorld();
  const { container } = world;
  await world.fetch('/v1/sweep', POST);
  container.obeys = false;
  const { destroy } = container;
  container.destroy = () => new Promise(() => {});
  while (container.signals.length === 0) await world.alarm();
  assert.notEqual(world.storage.alarmAt, null);
  container.destroy = destroy;
  await rest(world);
  assert.equal(container.running, false);
});

test('a lease that cannot be read keeps no container, and hides no job', async () => {
  const world = createWorld();
  await world.fetch('/v1/sweep', POST);
  await world.store.put(`${world.keys.leasesPrefix}0`, 'no lease', options);
  const job = sampleJob({ status: 'running' });
  await world.jobs.create(job, options);
  await world.hold(job, 'engine-1a2b3c4d');
  for (let i = 0; i < 20; i++) await world.alarm();
  assert.equal(world.container.running, true);
  await world.change(job.id, { status: 'succeeded' });
  await rest(world);
  assert.equal(world.container.running, false);
});

test('a container that does not obey SIGTERM is destroyed after the grace', async () => {
  const world = createWorld();
  world.container.obeys = false;
  await world.fetch('/v1/sweep', POST);
  await rest(world);
  assert.equal(world.container.running, false);
});

test('a download that still flows keeps the container; its end lets it go', async () => {
  const world = createWorld();
  let flow: ReadableStreamDefaultController<Uint8Array> | undefined;
  world.container.answer = () =>
    new Response(
      new ReadableStream({
        start: (controller) => {
          flow = controller;
        },
      }),
    );
  const { body } = await world.fetch('/v1/backups/x/disks/0');
  for (let i = 0; i < 10; i++) await world.alarm();
  assert.equal(world.container.running, true);
  flow?.close();
  for await (const _ of body ?? []) assert.fail('no byte was sent');
  await rest(world);
  assert.equal(world.container.running, false);
});

test('a platform that says nothing when told to keep a container holds no request', async () => {
  const world = createWorld();
  world.container.keepFor = () => new Promise(() => {});
  assert.equal((await world.fetch('/v1/sweep', POST)).status, 200);
  assert.equal((await world.fetch('/v1/sweep', POST)).status, 200);
});

test('an alarm fails for nothing, also when bucket and container are both beyond reach', async () => {
  const world = createWorld();
  world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  world.store.onCall = () => {
    throw new Error('R2 is away');
  };
  world.container.obeys = false;
  world.container.destroy = () => new Promise(() => {});
  await world.alarm();
  await world.clock.advance(25 * 3_600_000);
  await world.alarm();
  assert.deepEqual(world.container.signals, [15]);
  assert.notEqual(world.storage.alarmAt, null);
});
