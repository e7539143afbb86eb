/** What the supervisor watches until it has ended, and the containers it starts again for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ALARM_MS,
  createWorld,
  options,
  POST,
  rest,
} from '../../test/cloudflare/supervisor-world.ts';
import { nextId, sampleJob } from '../../test/records.ts';

test('what a 202 names is watched until it ends; then, idle long enough, the container is stopped and all is forgotten', async () => {
  const world = createWorld();
  const id = world.begins();
  assert.equal((await world.fetch('/v1/vms/web/backups', POST)).status, 202);
  assert.deepEqual([...world.storage.values.keys()].sort(), ['request_at', `watched/job/${id}`]);
  for (let i = 0; i < 20; i++) await world.alarm();
  assert.equal(world.container.running, true);
  await world.change(id, { status: 'succeeded' });
  await world.alarm();
  assert.deepEqual(world.container.signals, [15]);
  assert.equal(world.container.running, false);
  assert.equal(world.storage.values.size, 0);
  assert.equal(world.storage.alarmAt, null);
  assert.equal(world.container.starts.length, 1);
});

test('a container that is gone is started again until the job has ended, also by an object that knows nothing any more', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  for (let starts = 2; starts <= 4; starts++) {
    world.container.die('out of memory');
    world.evict();
    while (!world.container.running) await world.alarm();
    assert.equal(world.container.starts.length, starts);
  }
  await world.change(id, { status: 'succeeded' });
  await rest(world);
  assert.equal(world.container.running, false);
});

test('an object that begins anew over a running container hears when that ends', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  world.evict();
  world.container.die('exit code 137');
  await world.alarm();
  await world.alarm();
  assert.equal(world.container.starts.length, 2);
  world.evict();
  world.container.die('gone with its host');
  world.container.answer = () => new Response('{}');
  assert.equal((await world.fetch('/v1/sweep', POST)).status, 200);
  assert.equal(world.container.starts.length, 3);
});

test('an alarm that comes twice at once, or again, starts one container', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  world.container.die();
  await world.clock.advance(ALARM_MS);
  await Promise.all([world.alarm(), world.alarm()]);
  await world.alarm();
  assert.equal(world.container.starts.length, 2);
});

test('a job that another container took over is left to it, whatever becomes of this one', async () => {
  const world = createWorld();
  const job = sampleJob();
  world.begins(job);
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(job.id, { status: 'running' });
  const lease = await world.hold(job, 'other-1a2b3c4d');
  world.container.die();
  for (let i = 0; i < 20; i++) {
    await lease.renew(options);
    await world.alarm();
  }
  assert.equal(world.container.starts.length, 1);
  assert.equal((await world.job(job.id))?.status, 'running');
  // the other one dies, too
  await world.clock.advance(200_000);
  while (world.container.starts.length < 2) await world.alarm();
  // and a third is faster: this one is stopped, and goes on watching
  const third = await world.hold(job, 'other-2a2b3c4d');
  for (let i = 0; i < 10; i++) {
    await third.renew(options);
    await world.alarm();
  }
  assert.equal(world.container.running, false);
  assert.notEqual(world.storage.alarmAt, null);
});

test('what a drain left queued is no failure of the job: deploys use up no starts', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  const drained = { type: '', title: '', status: 503, detail: '', code: 'draining' };
  for (let deploys = 0; deploys < 10; deploys++) {
    await world.clock.advance(60_000);
    await world.change(id, { status: 'queued', last_error: drained });
    world.container.die();
    while (!world.container.running) await world.alarm();
    await world.change(id, { status: 'running' });
  }
  assert.equal(world.container.starts.length, 11);
  assert.equal((await world.job(id))?.status, 'running');
});

test('a job that nobody was told of is found by its lease, and not left when its container dies', async () => {
  const world = createWorld();
  const job = sampleJob();
  const { container } = world;
  container.answer = async () => {
    await world.jobs.create(job, options);
    await world.hold(job, 'engine-1a2b3c4d');
    container.die('killed');
    throw new Error('connection lost');
  };
  const answer = await world.fetch('/v1/vms/web/backups', POST);
  assert.equal(answer.status, 503);
  assert.match(await answer.text(), /same Idempotency-Key/);
  assert.equal(container.requests.length, 1);
  while (container.starts.length < 2) await world.alarm();
  await world.change(job.id, { status: 'succeeded' });
  await rest(world);
  assert.equal(container.running, false);
});

test('an engine that took over the job of another container is not stopped under it', async () => {
  const world = createWorld();
  const own = world.begins();
  const other = sampleJob({ vm: { uuid: nextId(), name: 'db', pool: 'dc1' }, status: 'running' });
  await world.fetch('/v1/vms/web/backups', POST);
  await world.jobs.create(other, options);
  await world.hold(other, 'engine-1a2b3c4d');
  await world.change(own, { status: 'succeeded' });
  for (let i = 0; i < 10; i++) await world.alarm();
  assert.equal(world.container.running, true);
  await world.change(other.id, { status: 'succeeded' });
  await rest(world);
  assert.deepEqual(world.container.signals, [15]);
});

test('a container that runs and gives no sign of life is ended and started again; one that writes records is not', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  world.container.livez = 'hangs';
  for (let i = 0; i < 20; i++) {
    await world.change(id, { status: 'running' });
    await world.alarm();
  }
  assert.equal(world.container.starts.length, 1);
  for (let i = 0; i < 20 && world.container.starts.length === 1; i++) await world.alarm();
  assert.equal(world.container.starts.length, 2);
});

test('a container that starts slowly is not ended for the silence of the one before', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  world.container.livez = 'hangs';
  for (let i = 0; i < 10; i++) await world.alarm();
  world.container.die();
  for (let i = 0; i < 9; i++) await world.alarm();
  assert.equal(world.container.starts.length, 2);
  assert.equal(world.container.running, true);
});

test('a bucket that is away stops nothing: the alarms go on', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  world.store.onCall = () => {
    throw new Error('R2 is away');
  };
  for (let i = 0; i < 30; i++) await world.alarm();
  assert.equal(world.container.running, true);
  delete world.store.onCall;
  world.container.die();
  while (world.container.starts.length < 2) await world.alarm();
  // one that stays away is no reason to pay for ever
  world.store.onCall = () => {
    throw new Error('R2 is away');
  };
  await world.alarm();
  await world.clock.advance(25 * 3_600_000);
  await world.alarm();
  assert.equal(world.container.running, false);
  delete world.store.onCall;
  while (world.container.starts.length < 3) await world.alarm();
});
