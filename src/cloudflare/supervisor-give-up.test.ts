/** When the supervisor gives a job or a run up, and what it writes then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  accepted,
  createWorld,
  MAX_STARTS,
  options,
  POST,
  rest,
} from '../../test/cloudflare/supervisor-world.ts';
import { nextId, sampleJob } from '../../test/records.ts';
import { type Run, runRequestSchema } from '../catalog/run.ts';
import { formatTime } from '../time.ts';

test('after so many starts it gives up: the job ends as failed, with what happened, and nobody watches it', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(id, { status: 'running' });
  world.container.onStart = () => queueMicrotask(() => world.container.die('exit code 137'));
  world.container.die('exit code 137');
  await rest(world);
  assert.equal(world.container.starts.length, MAX_STARTS);
  const job = await world.job(id);
  assert.equal(job?.status, 'failed');
  assert.equal(job.error?.code, 'engine_unavailable');
  assert.match(job.error.detail, /started 6 times .*last end: exit code 137/);
  assert.ok(job.finished_at);
});

test('a container that cannot be started counts as started: the starts last for a lack of capacity of some minutes', async () => {
  const world = createWorld();
  const id = world.begins();
  await world.fetch('/v1/vms/web/backups', POST);
  world.container.die();
  const before = world.clock.now();
  world.container.onStart = () => {
    throw new Error('no container instance');
  };
  await rest(world);
  assert.match((await world.job(id))?.error?.detail ?? '', /last end: no container instance/);
  assert.ok(world.clock.now() - before > 10 * 60_000);
});

test('it does not give up while the last lease of its own container may be alive, nor over a record somebody writes', async () => {
  const world = createWorld();
  const job = sampleJob();
  world.begins(job);
  await world.fetch('/v1/vms/web/backups', POST);
  await world.change(job.id, { status: 'running' });
  const lease = await world.hold(job, 'engine-1a2b3c4d');
  world.container.onStart = () => queueMicrotask(() => world.container.die());
  world.container.die();
  for (let i = 0; i < 60; i++) {
    await lease.renew(options);
    await world.alarm();
  }
  assert.equal((await world.job(job.id))?.status, 'running');
  // its lease has run out; somebody is faster by one write
  world.store.onCall = (operation, key) => {
    if (operation !== 'put' || key !== world.keys.job(job.id)) return;
    delete world.store.onCall;
    void world.change(job.id, { status: 'succeeded' });
  };
  await world.clock.advance(200_000);
  await rest(world);
  assert.equal((await world.job(job.id))?.status, 'succeeded');
});

test('a job that a running engine does not take up ends, and the container with it', async () => {
  const world = createWorld();
  const job = sampleJob({ status: 'queued' });
  world.begins(job);
  await world.fetch('/v1/vms/web/backups', POST);
  const lease = await world.hold(job, 'engine-1a2b3c4d');
  for (let i = 0; i < 120; i++) {
    await lease.renew(options);
    await world.alarm();
  }
  assert.equal((await world.job(job.id))?.status, 'queued', 'one that waits in an engine is left');
  await rest(world);
  const ended = await world.job(job.id);
  assert.equal(ended?.status, 'failed');
  assert.match(ended.error?.detail ?? '', /runs and has not worked on it for 60 minutes/);
  assert.equal(world.container.running, false);
});

test('a run that is given up ends, with the jobs it had begun', async () => {
  const world = createWorld();
  const at = formatTime(world.clock.now());
  const job = sampleJob({ status: 'running' });
  const machine = { left_out: [], srs: [], warnings: [] };
  const run: Run = {
    version: 1,
    id: nextId(),
    status: 'running',
    request: runRequestSchema.parse({ select: { all: true } }),
    deadline_at: formatTime(world.clock.now() + 86_400_000),
    created_at: at,
    updated_at: at,
    cancel_requested: false,
    triggered_by: 'test',
    planned: true,
    machines: [
      { ...machine, vm: job.vm, status: 'running', job_id: job.id },
      { ...machine, vm: { ...job.vm, name: 'db', uuid: nextId() }, status: 'waiting' },
      { ...machine, vm: { ...job.vm, name: 'app', uuid: nextId() }, status: 'succeeded' },
    ],
    skipped: [],
    problems: [],
    notes: [],
  };
  world.container.answer = async () => {
    await world.jobs.create(job, options);
    await world.runs.create(run, options);
    return accepted(`/v1/runs/${run.id}`);
  };
  await world.fetch('/v1/runs', POST);
  world.container.onStart = () => queueMicrotask(() => world.container.die());
  world.container.die();
  await rest(world);
  const ended = (await world.runs.load(run.id, options))?.run;
  assert.equal(ended?.status, 'partial');
  assert.deepEqual(
    ended.machines.map(({ status }) => status),
    ['failed', 'not_started', 'succeeded'],
  );
  assert.equal(ended.problems[0]?.code, 'engine_unavailable');
  assert.equal((await world.job(job.id))?.status, 'failed');
});
