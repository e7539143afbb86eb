/** The order of things round a snapshot with guest hooks, with a guest by script. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleJob } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { SILENT_LOG } from '../log.ts';
import type { HookCall } from '../ports.ts';
import type { Engine, StepContext } from './context.ts';
import { isGuestHeld, releaseGuest, whileAtRest } from './guest.ts';

const HOOKS = { before_snapshot: 'https://g.example/b', after_snapshot: 'https://g.example/a' };

interface World {
  context: StepContext;
  controller: AbortController;
  /** Everything that happened, in order. */
  events: string[];
  calls: HookCall[];
  /** As the bucket has it. */
  remembered(): Job['checkpoint']['hooks'];
  onCall: (call: HookCall, signal: AbortSignal) => void | Promise<void>;
  onRemember: () => void;
}

function setUp(): World {
  const controller = new AbortController();
  const events: string[] = [];
  const calls: HookCall[] = [];
  let remembered: Job['checkpoint']['hooks'];
  const engine = {
    clock: createSimClock(),
    log: SILENT_LOG,
    meter: { count: () => undefined, observe: () => undefined },
    hooks: {
      check: async () => undefined,
      call: async (call: HookCall, { signal }: { signal: AbortSignal }) => {
        signal.throwIfAborted();
        events.push(call.name);
        calls.push(call);
        await world.onCall(call, signal);
      },
    },
  } as unknown as Engine;
  const world: World = {
    controller,
    events,
    calls,
    remembered: () => remembered,
    onCall: () => undefined,
    onRemember: () => undefined,
    context: {
      engine,
      signal: controller.signal,
      report: () => undefined,
      remember: async (patch) => {
        world.onRemember();
        events.push(`remember owed=${patch.hooks?.owed}`);
        remembered = patch.hooks;
      },
    },
  };
  return world;
}

function jobWith(hooks: Job['request']['hooks'], checkpoint: Partial<Job['checkpoint']> = {}): Job {
  const job = sampleJob();
  return {
    ...job,
    request: { ...job.request, ...(hooks === undefined ? {} : { hooks }) },
    checkpoint: { ...job.checkpoint, ...checkpoint },
  };
}

const said = (what: string, retry: 'never' | 'later' | 'after-fix' = 'after-fix') =>
  new BackupError('hook_failed', what, { retry });

function snapshotIn(world: World) {
  return async () => {
    world.events.push('snapshot');
    return 'made';
  };
}

test('the guest is called before and after, and what is owed to it is written first', async () => {
  const world = setUp();
  const job = jobWith(HOOKS);
  const done = await whileAtRest(job, world.context, snapshotIn(world));
  assert.equal(done.made, 'made');
  assert.equal(isGuestHeld(done.job), false);
  assert.deepEqual(done.job.checkpoint.warnings, []);
  assert.deepEqual(world.events, [
    'remember owed=true',
    'before_snapshot',
    'snapshot',
    'after_snapshot',
  ]);
  const [before, after] = world.calls;
  assert.deepEqual(before?.data, {
    phase: 'before_snapshot',
    job_id: job.id,
    round: 1,
    vm: job.vm,
  });
  assert.equal(after?.data.snapshot_taken, true);
  assert.equal(before?.attempts, 1);
  assert.notEqual(before?.id, after?.id);
});

test('without hooks nobody is called and nothing written', async () => {
  const world = setUp();
  await whileAtRest(jobWith(undefined), world.context, snapshotIn(world));
  assert.deepEqual(world.events, ['snapshot']);
});

test('either hook may be left out', async () => {
  const { before_snapshot, after_snapshot } = HOOKS;
  const only = async (hooks: Job['request']['hooks']) => {
    const world = setUp();
    await whileAtRest(jobWith(hooks), world.context, snapshotIn(world));
    return world.events;
  };
  assert.deepEqual(await only({ before_snapshot }), [
    'remember owed=false',
    'before_snapshot',
    'snapshot',
  ]);
  assert.deepEqual(await only({ after_snapshot }), [
    'remember owed=true',
    'snapshot',
    'after_snapshot',
  ]);
});

test('a veto ends it before the snapshot, and the guest is released', async () => {
  const world = setUp();
  world.onCall = ({ name }) => {
    if (name === 'before_snapshot') throw said('no');
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world)), /no/);
  assert.deepEqual(world.events, [
    'remember owed=true',
    'before_snapshot',
    'after_snapshot',
    'remember owed=false',
  ]);
  assert.equal(world.calls[1]?.data.snapshot_taken, false);
});

test('a snapshot that fails releases the guest, and its own error is told', async () => {
  const world = setUp();
  const failing = async () => {
    throw new BackupError('snapshot_refused', 'full');
  };
  world.onCall = ({ name }) => {
    if (name === 'after_snapshot') throw said('not at home');
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, failing), {
    code: 'snapshot_refused',
  });
  assert.match(world.remembered()?.problem ?? '', /guest may still hold its data: not at home/);
});

test('a guest that cannot be released is a warning, not a failure', async () => {
  const world = setUp();
  world.onCall = ({ name }) => {
    if (name === 'after_snapshot') throw said('answered 409 "thawed already"');
  };
  const { job } = await whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world));
  assert.match(job.checkpoint.warnings.join(), /may still hold its data: answered 409/);
  assert.equal(isGuestHeld(job), false);
});

test('a job that is cancelled while its guest is asked releases it all the same', async () => {
  const world = setUp();
  const cancelled = new BackupError('cancelled', 'cancel job');
  world.onCall = ({ name }, signal) => {
    if (name !== 'before_snapshot') return;
    world.controller.abort(cancelled);
    signal.throwIfAborted();
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world)), {
    code: 'cancelled',
  });
  assert.deepEqual(world.events.slice(1), [
    'before_snapshot',
    'after_snapshot',
    'remember owed=false',
  ]);
});

test('an instance that lost its lease calls nobody any more: the guest is the next owner’s', async () => {
  const world = setUp();
  const lost = new BackupError('lease_lost', 'renew lease');
  const snapshot = async () => {
    world.controller.abort(lost);
    throw lost;
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshot), {
    code: 'lease_lost',
  });
  assert.deepEqual(world.events, ['remember owed=true', 'before_snapshot']);
});

test('a lease lost while the guest is being released ends that', async () => {
  const world = setUp();
  const lost = new BackupError('lease_lost', 'renew lease');
  world.onCall = ({ name }, signal) => {
    if (name !== 'after_snapshot') return;
    world.controller.abort(lost);
    signal.throwIfAborted();
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world)), {
    code: 'lease_lost',
  });
});

test('what is owed cannot be written: the guest is not even asked', async () => {
  const world = setUp();
  world.onRemember = () => {
    throw new BackupError('store_unavailable', 'put');
  };
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world)), {
    code: 'store_unavailable',
  });
  assert.deepEqual(world.calls, []);
});

test('what another instance froze is released under the ids of its own round, the next round has others', async () => {
  const world = setUp();
  const left = jobWith(HOOKS, { hooks: { round: 1, owed: true } });
  assert.equal(isGuestHeld(left), true);
  const released = await releaseGuest(left, { taken: false }, world.context);
  const { job } = await whileAtRest(released, world.context, snapshotIn(world));
  assert.equal(job.checkpoint.hooks?.round, 2);
  assert.deepEqual(
    world.calls.map(({ id }) => id.replace(`hook_${left.id}_`, '')),
    ['1_after_snapshot', '2_before_snapshot', '2_after_snapshot'],
  );
  assert.equal(await releaseGuest(job, { taken: false }, world.context), job, 'and only once');
});

test('an instance whose settings allow no hooks says so', async () => {
  const world = setUp();
  delete (world.context.engine as { hooks?: unknown }).hooks;
  await assert.rejects(whileAtRest(jobWith(HOOKS), world.context, snapshotIn(world)), {
    code: 'hook_failed',
    message: /XVAULT_HOOK_ALLOW/,
  });
});
