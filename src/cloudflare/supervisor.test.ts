/** Requests over the supervisor: the container is started for them, and what cannot be had is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMemoryStorage } from '../../test/cloudflare/scripted-container.ts';
import { createWorld, POST, rest } from '../../test/cloudflare/supervisor-world.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import type { Problem } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { SILENT_LOG } from '../log.ts';
import { createSupervisor, refuseAll } from './supervisor.ts';

test('a request starts the container with its settings, waits for its port and is handed on as it is', async () => {
  const world = createWorld();
  const { container, clock } = world;
  container.livez = 'no';
  container.answer = () => new Response('moved', { status: 307, headers: { location: '/there' } });
  const answer = world.begin('/v1/vms/web/backups?a=1');
  await clock.advance(3000);
  assert.equal(container.requests.length, 0);
  container.livez = 'yes';
  const { status, headers } = await world.settle(answer);
  assert.deepEqual([status, headers.get('location')], [307, '/there']);
  assert.deepEqual(container.starts, [{ XVAULT_BUCKET: 'backups' }]);
  const [request] = container.requests;
  assert.equal(request?.method, 'POST');
  assert.equal(request.url, 'http://xvault.example/v1/vms/web/backups?a=1');
  assert.equal(request.redirect, 'manual');
  assert.equal(await request.text(), '{}');
});

test('a start that hangs is a 503 in bounded time; the next request finds the same container', async () => {
  const world = createWorld();
  world.container.livez = 'hangs';
  const asked = { ...POST, headers: { 'request-id': 'r-1' } };
  const answer = await world.fetch('/v1/vms/web/backups', asked);
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get('retry-after'), '10');
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  const { code, request_id } = (await answer.json()) as Problem;
  assert.deepEqual([code, request_id], ['engine_unavailable', 'r-1']);
  assert.equal(world.container.requests.length, 0);
  world.container.livez = 'yes';
  assert.equal((await world.fetch('/v1/vms/web/backups', POST)).status, 200);
  assert.equal(world.container.starts.length, 1);
});

test('a container that dies while it starts is told at once, and started by the next request', async () => {
  const world = createWorld();
  world.container.livez = 'no';
  world.container.onStart = () => queueMicrotask(() => world.container.die('bad settings'));
  const answer = await world.fetch('/v1/vms/web/backups', POST);
  assert.equal(answer.status, 503);
  assert.match(await answer.text(), /it ended: bad settings/);
  delete world.container.onStart;
  world.container.livez = 'yes';
  assert.equal((await world.fetch('/v1/vms/web/backups', POST)).status, 200);
});

test('many requests at once start one container', async () => {
  const world = createWorld();
  world.container.livez = 'no';
  const answers = Promise.all(Array.from({ length: 20 }, () => world.begin('/v1/sweep')));
  await world.clock.advance(1000);
  world.container.livez = 'yes';
  for (const { status } of await world.settle(answers)) assert.equal(status, 200);
  assert.equal(world.container.starts.length, 1);
});

test('without a container every request is a problem that says what is missing', async () => {
  const clock = createSimClock();
  const never = async () => assert.fail('nothing is looked at');
  const records = { look: never, held: never, giveUp: never };
  const deps = { container: undefined, storage: createMemoryStorage(), records, clock };
  const settings = { env: {}, alarmMs: 1, idleMs: 1, readyMs: 1, graceMs: 1, maxStarts: 1 };
  const supervisor = createSupervisor({ ...deps, log: SILENT_LOG }, settings);
  const answer = await supervisor.fetch(new Request('https://xvault.example/v1/runs', POST));
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get('retry-after'), null, 'nothing of it passes by itself');
  assert.match(await answer.text(), /\[\[containers\]\]/);
  await supervisor.alarm();
});

test('wrong settings are told to whoever asks, and what is watched is looked at when they are mended', async () => {
  const world = createWorld();
  const { storage, clock, container } = world;
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  container.die();
  const error = new BackupError('configuration', 'ENGINE_STARTS: Invalid input');
  const refusing = refuseAll(error, { storage, clock, log: SILENT_LOG });
  const answer = await refusing.fetch(new Request('https://xvault.example/v1/runs', POST));
  assert.equal(answer.status, 500);
  assert.match(await answer.text(), /ENGINE_STARTS/);
  // the platform repeats an alarm that throws six times, and never again
  for (let i = 0; i < 20; i++) {
    await clock.advance((storage.alarmAt ?? 0) - clock.now());
    await refusing.alarm();
  }
  while (container.starts.length < 2) await world.alarm();
  await world.change(id, { status: 'succeeded' });
  await rest(world);
  await refusing.alarm();
  assert.equal(storage.alarmAt, null);
});
