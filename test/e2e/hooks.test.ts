/** Guest hooks over everything real: API, engine, XenAPI, and an HTTPS receiver that checks signatures by itself. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SILENT_LOG } from '../../src/log.ts';
import { createGuestHooks } from '../../src/notify/guest-hooks.ts';
import { parseAllowList } from '../../src/outgoing.ts';
import { createSecret } from '../../src/secret.ts';
import { NEVER } from '../../src/signals.ts';
import { createHookClock, type HookClock } from '../hooks/clock.ts';
import { HOOK_SECRET, type HookReceiver, startHookReceiver } from '../hooks/receiver.ts';
import { createSparseDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { type HttpWorld, startHttpWorld } from './app.ts';
import { BUCKET } from './world.ts';

const MACHINES: MachineSpec[] = [
  {
    name: 'db-1',
    power: 'Running',
    disks: [{ name: 'root', storage: 'nfs', open: () => createSparseDisk(2 * 1_048_576) }],
  },
];
const TIMEOUT_MS = 30_000;

interface HookWorld extends HttpWorld {
  receiver: HookReceiver;
  /** Of the calls to the guest. */
  hookClock: HookClock;
  /** Calls of guest and pool in the order they came. */
  events: string[];
  /** A body that names both hooks. */
  body: { hooks: { before_snapshot: string; after_snapshot: string } };
}

async function startHookWorld(): Promise<HookWorld> {
  const receiver = await startHookReceiver();
  const hookClock = createHookClock(TIMEOUT_MS);
  const { list } = parseAllowList('XVAULT_HOOK_ALLOW', `${receiver.origin}/hooks`);
  const hooks = createGuestHooks(
    {
      allow: list,
      secrets: [createSecret(HOOK_SECRET)],
      timeoutMs: TIMEOUT_MS,
      caPem: receiver.caPem,
    },
    { clock: hookClock, log: SILENT_LOG },
  );
  const world = await startHttpWorld({ pool: { machines: MACHINES }, hooks });
  const events: string[] = [];
  const WATCHED = ['Async.VM.snapshot', '/export', 'Async.VM.destroy'];
  world.sim.faults.watch = ({ method, done }) => {
    if (WATCHED.includes(method) && !done) events.push(method);
  };
  const close = world[Symbol.asyncDispose];
  return Object.assign(world, {
    receiver,
    hookClock,
    events,
    body: {
      hooks: {
        before_snapshot: `${receiver.origin}/hooks/freeze`,
        after_snapshot: `${receiver.origin}/hooks/thaw`,
      },
    },
    [Symbol.asyncDispose]: async () => {
      await close();
      await receiver[Symbol.asyncDispose]();
    },
  });
}

function snapshotsOf(world: HookWorld): number {
  return world.sim.world.all('VM').filter(([, vm]) => vm.is_a_snapshot === true).length;
}

describe('guest hooks', { concurrency: 4 }, () => {
  test('freeze, snapshot, thaw, and only then the export', async () => {
    await using world = await startHookWorld();
    const { receiver, events } = world;
    const snapshots: number[] = [];
    receiver.respond = ({ phase }) => {
      events.push(phase);
      snapshots.push(snapshotsOf(world));
      return { status: 200 };
    };
    const job = await world.run('db-1', world.body);
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    assert.deepEqual(events, [
      'before_snapshot',
      'Async.VM.snapshot',
      'after_snapshot',
      '/export',
      'Async.VM.destroy',
    ]);
    assert.deepEqual(snapshots, [0, 1]);
    assert.equal(job.result?.consistency, 'guest_hooks');
    assert.deepEqual(job.result?.warnings, []);
    for (const call of receiver.calls) {
      assert.equal(call.verified, true);
      assert.deepEqual(call.data.vm, job.vm);
      assert.equal(call.data.job_id, job.id);
    }
    assert.deepEqual(
      receiver.calls.map(({ path, data }) => [path, data.snapshot_taken]),
      [
        ['/hooks/freeze', undefined],
        ['/hooks/thaw', true],
      ],
    );
    const told = [JSON.stringify(job), ...world.log.lines, ...bucketTexts(world)].join();
    assert.equal(told.includes(HOOK_SECRET), false);
    assert.deepEqual(await world.audit(), []);
  });

  test('a veto fails the job before the snapshot, in the guest’s own words', async () => {
    await using world = await startHookWorld();
    world.receiver.respond = ({ phase }) =>
      phase === 'before_snapshot'
        ? { status: 409, headers: { 'content-type': 'text/plain' }, body: 'a dump is running' }
        : undefined;
    const job = await world.run('db-1', world.body);
    assert.equal(job.status, 'failed');
    assert.equal(job.error?.code, 'hook_failed');
    assert.equal(job.error?.retry, 'after-fix');
    assert.match(job.error?.detail ?? '', /before_snapshot: answered 409 "a dump is running"/);
    assert.deepEqual(world.events, []);
    assert.deepEqual(
      world.receiver.calls.map(({ phase, data }) => [phase, data.snapshot_taken]),
      [
        ['before_snapshot', undefined],
        ['after_snapshot', false],
      ],
    );
    assert.deepEqual(await world.audit(), []);
  });

  test('a guest that does not answer in time fails the job, and is released', async () => {
    await using world = await startHookWorld();
    world.receiver.respond = ({ phase }) => {
      if (phase !== 'before_snapshot') return undefined;
      setImmediate(world.hookClock.expire);
      return 'silent';
    };
    const job = await world.run('db-1', world.body);
    assert.equal(job.error?.code, 'hook_failed');
    assert.match(job.error?.detail ?? '', /no answer in 30000 ms/);
    assert.deepEqual(world.events, []);
    assert.equal(world.receiver.calls.at(-1)?.phase, 'after_snapshot');
    assert.deepEqual(await world.audit(), []);
  });

  test('a snapshot that is refused releases the guest', async () => {
    await using world = await startHookWorld();
    world.sim.faults.set('snapshot-refused', { code: 'SR_BACKEND_FAILURE_44' });
    const job = await world.run('db-1', world.body);
    assert.equal(job.error?.code, 'snapshot_refused');
    assert.deepEqual(
      world.receiver.calls.map(({ phase, data }) => [phase, data.snapshot_taken]),
      [
        ['before_snapshot', undefined],
        ['after_snapshot', false],
      ],
    );
    assert.deepEqual(await world.audit(), []);
  });

  test('a job cancelled while the guest is asked releases it', async () => {
    await using world = await startHookWorld();
    world.receiver.respond = ({ phase, data }) => {
      if (phase !== 'before_snapshot') return undefined;
      void world.call('POST', `/v1/jobs/${data.job_id}/cancel`);
      return 'silent';
    };
    const job = await world.run('db-1', world.body);
    assert.equal(job.status, 'cancelled', JSON.stringify(job.error));
    assert.equal(world.receiver.calls.at(-1)?.phase, 'after_snapshot');
    assert.deepEqual(await world.audit(), []);
  });

  test('a guest that cannot be released after four tries is a warning of a good backup', async () => {
    await using world = await startHookWorld();
    world.receiver.respond = ({ phase }) => ({ status: phase === 'before_snapshot' ? 204 : 500 });
    const job = await world.run('db-1', world.body);
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    assert.match(job.result?.warnings.join() ?? '', /guest may still hold.*answered 500/);
    assert.equal(job.result?.consistency, 'crash_consistent');
    const [, ...after] = world.receiver.calls;
    assert.equal(after.length, 4);
    assert.equal(new Set(after.map(({ id }) => id)).size, 1);
    assert.deepEqual(await world.audit(), []);
  });

  test('a hook outside the allow list is refused when asked for, and nobody is called', async () => {
    await using world = await startHookWorld();
    const { origin } = world.receiver;
    const wrong = [
      [
        { before_snapshot: `${origin}/elsewhere` },
        /before_snapshot: .*is not in XVAULT_HOOK_ALLOW/,
      ],
      [{ after_snapshot: 'http://169.254.169.254/' }, /after_snapshot: .*is not in/],
      [{ after_snapshot: `${origin}/hooks/../x` }, /not written as it is read/],
      [{ before_snapshot: '' }, /before_snapshot|hooks/],
      [{}, /before_snapshot or after_snapshot/],
      [{ during_snapshot: `${origin}/hooks/x` }, /during_snapshot/],
    ] as const;
    for (const [hooks, says] of wrong) {
      const answer = await world.call('POST', '/v1/vms/db-1/backups', { body: { hooks } });
      assert.equal(answer.status, 422, answer.text);
      assert.equal(answer.problem().code, 'invalid_request');
      assert.match(answer.text, says);
    }
    const dry = { ...world.body, dry_run: true };
    assert.equal((await world.run('db-1', dry)).status, 'succeeded');
    assert.equal(world.receiver.calls.length, 0);
    assert.deepEqual(await world.audit(), []);
  });

  test('without an allow list hooks are refused by name', async () => {
    await using world = await startHttpWorld({ pool: { machines: MACHINES } });
    const body = { hooks: { after_snapshot: 'https://g.example/' } };
    const answer = await world.call('POST', '/v1/vms/db-1/backups', { body });
    assert.equal(answer.status, 422);
    assert.match(answer.problem().detail, /hooks\.after_snapshot: XVAULT_HOOK_ALLOW is not set/);
    const jobs = await world.service.listJobs({ pageSize: 9 }, { signal: NEVER });
    assert.deepEqual(jobs.items, []);
  });
});

function bucketTexts(world: HookWorld): string[] {
  const keys = world.s3?.inspect.keys(BUCKET) ?? [];
  return keys.map((key) => String(world.s3?.inspect.read(BUCKET, key)?.toString('latin1')));
}
