/** The supervisor over a scripted container, the catalogue's own records in a bucket in memory, and a clock that is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createMemoryStorage,
  createScriptedContainer,
} from '../../test/cloudflare/scripted-container.ts';
import { nextId, sampleJob } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { createJobStore } from '../catalog/job-store.ts';
import { createKeys, leaseKey } from '../catalog/keys.ts';
import { createLeases, leaseTiming } from '../catalog/lease.ts';
import type { Job, Problem } from '../catalog/record.ts';
import { type Run, runRequestSchema } from '../catalog/run.ts';
import { createRunStore } from '../catalog/run-store.ts';
import { systemIds } from '../clock.ts';
import { BackupError } from '../errors.ts';
import { SILENT_LOG } from '../log.ts';
import { NEVER } from '../signals.ts';
import { formatTime } from '../time.ts';
import { createRecords } from './records.ts';
import { createSupervisor, refuseAll } from './supervisor.ts';

const ALARM_MS = 30_000;
const IDLE_MS = 120_000;
const READY_MS = 25_000;
const MAX_STARTS = 6;
const POST = { method: 'POST', body: '{}' };
const options = { signal: NEVER };

function createWorld() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const keys = createKeys('xv/');
  const timing = leaseTiming();
  const container = createScriptedContainer();
  const storage = createMemoryStorage();
  const deps = { store, keys, clock };
  const own = createRecords(deps, { instance: 'engine', timing });
  let afterHeld: (() => Promise<unknown>) | undefined;
  const held: typeof own.held = async (given) => {
    const found = await own.held(given);
    await afterHeld?.();
    return found;
  };
  const records = { ...own, held };
  const settings = {
    env: { XVAULT_BUCKET: 'backups' },
    alarmMs: ALARM_MS,
    idleMs: IDLE_MS,
    readyMs: READY_MS,
    graceMs: 20_000,
    maxStarts: MAX_STARTS,
  };
  const create = () =>
    createSupervisor({ container, storage, records, clock, log: SILENT_LOG }, settings);
  let supervisor = create();
  const jobs = createJobStore(deps);
  /** Lets `work` go on, in steps of simulated time, until it is done. */
  const settle = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    const end = () => {
      done = true;
    };
    work.then(end, end);
    for (let waited = 0; !done && waited < 1000; waited++) await clock.advance(250);
    return await work;
  };
  return {
    clock,
    store,
    keys,
    container,
    storage,
    jobs,
    runs: createRunStore(deps),
    settle,
    fetch: (path: string, init?: RequestInit) =>
      settle(supervisor.fetch(new Request(`https://xvault.example${path}`, init))),
    begin: (path: string) => supervisor.fetch(new Request(`https://xvault.example${path}`, POST)),
    /** Called once, when leases have been listed and nobody knows yet. */
    onceListed: (work: () => Promise<unknown>) => {
      afterHeld = async () => {
        afterHeld = undefined;
        await work();
      };
    },
    /** Its Durable Object is gone from memory; its storage and its container are not. */
    evict: () => {
      container.forget();
      supervisor = create();
    },
    /** The next alarm that is due. */
    alarm: async () => {
      const at = storage.alarmAt;
      assert.ok(at !== null, 'an alarm is set');
      if (at > clock.now()) await clock.advance(at - clock.now());
      await settle(supervisor.alarm());
    },
    hold: async (job: Job, owner: string) =>
      await createLeases({ ...deps, ids: systemIds }, { owner, timing }).take(
        { key: leaseKey(keys, job), jobId: job.id },
        options,
      ),
    /** The engine begins a job when it is asked to, under a lease of its own, and says 202. */
    begins: (job: Job = sampleJob()) => {
      container.answer = async () => {
        await jobs.create(job, options);
        return accepted(`/v1/jobs/${job.id}`);
      };
      return job.id;
    },
    change: async (id: string, change: Partial<Job>) => {
      const at = formatTime(clock.now());
      await jobs.update(id, (job) => ({ ...job, updated_at: at, ...change }), options);
    },
    job: async (id: string) => (await jobs.load(id, options))?.job,
  };
}

type World = ReturnType<typeof createWorld>;

function accepted(location: string): Response {
  return new Response('{}', { status: 202, headers: { location, 'content-length': '2' } });
}

/** Alarms until it comes to rest. */
async function rest(world: World): Promise<number> {
  let alarms = 0;
  for (; world.storage.alarmAt !== null; alarms++) {
    assert.ok(alarms < 200, 'it comes to rest');
    await world.alarm();
  }
  return alarms;
}

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

test('without a container every request is a problem that says what is missing', async () => {
  const clock = createSimClock();
  const never = async () => assert.fail('nothing is looked at');
  const records = { look: never, held: never, giveUp: never };
  const deps = { container: undefined, storage: createMemoryStorage(), records, clock };
  const settings = { env: {}, alarmMs: 1, idleMs: 1, readyMs: 1, graceMs: 1, maxStarts: 1 };
  const supervisor = createSupervisor({ ...deps, log: SILENT_LOG }, settings);
  const answer = await supervisor.fetch(new Request('https://xvault.example/v1/runs', POST));
  assert.equal(answer.status, 503);
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
