/**
 * The pool in trouble while a backup runs, with everything real but the pool: HTTP API, TLS, time-outs.
 *
 * Every fault there is has its name and its test in test/scenarios/, in simulated time; here are those that meet TLS, real
 * time-outs or the answer of the API, and a few to see that both say the same (XVAULT_TEST_LONG=1: more of them).
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { systemIds } from '../../src/clock.ts';
import type { VmRef } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import type { FaultName, FaultParams } from '../sim/pool.ts';
import { assertOutcome, type Expected, type FaultWorld, startFaultWorld } from './faults-world.ts';

const MIB = 1_048_576;
const HALF = 8 * MIB;

const LONG = process.env.XVAULT_TEST_LONG === '1';

interface Case {
  what: string;
  /** Also in the default run. */
  short?: true;
  arm(set: Arm): void;
  expected: Expected | 'succeeds';
}
type Arm = <Name extends FaultName>(
  name: Name,
  params: FaultParams[Name] & { count?: number },
) => void;

const FAILED: Expected = { code: 'source_failed', retry: 'later' };
const TRUNCATED: Expected = { code: 'source_truncated', retry: 'later' };
const CORRUPT: Expected = { code: 'data_corrupt' };

const EXPORTS: Case[] = [
  {
    what: 'ends within its first member',
    arm: (set) => set('export-ends-early', { afterBytes: 700 }),
    expected: TRUNCATED,
  },
  {
    what: 'is reset',
    short: true,
    arm: (set) => set('export-reset', { afterBytes: HALF }),
    expected: TRUNCATED,
  },
  {
    what: 'appends an error page to the archive',
    short: true,
    arm: (set) => set('export-error', { afterBytes: HALF }),
    expected: { ...FAILED, says: /VDI_IO_ERROR|HTTP|error/ },
  },
  {
    what: 'gets no answer at all',
    arm: (set) => set('export-no-response', { code: 'NO_HOSTS_AVAILABLE', params: [] }),
    expected: { code: 'pool_refused', says: /NO_HOSTS_AVAILABLE/ },
  },
  {
    what: 'has a block with a wrong checksum',
    arm: (set) => {
      // the pool sends the disks in any order; only one of them has that block
      for (const disk of [0, 1]) set('block-checksum', { block: 9, disk });
    },
    expected: { ...CORRUPT, says: /block=9/ },
  },
  {
    what: 'is complete, but its task failed',
    arm: (set) => set('task-failure', {}),
    expected: { ...FAILED, says: /VDI_IO_ERROR/ },
  },
  {
    what: 'is redirected for ever',
    short: true,
    arm: (set) => set('redirect-loop', { count: 9 }),
    expected: FAILED,
  },
];

const CALLS: Case[] = [
  {
    what: 'sessions are lost when the snapshot is asked for',
    short: true,
    arm: (set) => set('session-lost', { method: 'Async.VM.snapshot' }),
    expected: 'succeeds',
  },
  {
    what: 'another host becomes master before the export',
    short: true,
    arm: (set) => set('master-moves', { method: 'task.create' }),
    expected: 'succeeds',
  },
  {
    what: 'the answer to the snapshot is lost',
    arm: (set) => set('answer-lost', { method: 'Async.VM.snapshot' }),
    expected: { code: 'pool_unavailable', retry: 'later' },
  },
  {
    what: 'the call for the snapshot hangs',
    short: true,
    arm: (set) => set('call-hangs', { method: 'Async.VM.snapshot' }),
    expected: { code: 'pool_unavailable', retry: 'later', says: /wait for the pool/ },
  },
  {
    what: 'a call for the export hangs',
    arm: (set) => set('call-hangs', { method: 'task.set_progress' }),
    expected: { code: 'pool_unavailable', retry: 'later', says: /task\.set_progress/ },
  },
  {
    what: 'removing the snapshot fails once',
    arm: (set) =>
      set('call-fails', { method: 'Async.VM.destroy', code: 'OTHER_OPERATION_IN_PROGRESS' }),
    expected: 'succeeds',
  },
];

/** One world after another: each case ends with a good backup, which the next one starts with. */
function testCases(name: string, cases: readonly Case[]): void {
  // the cases of one world come one after another
  describe(name, { concurrency: 1 }, () => {
    let world: FaultWorld;
    before(async () => {
      world = await startFaultWorld({
        poolSettings: { stallTimeoutMs: 80_000, taskPollMs: 2000 },
      });
    });
    after(() => world[Symbol.asyncDispose]());
    for (const { what, arm, expected } of cases.filter(({ short }) => LONG || short)) {
      test(what, async () => {
        const { faults } = world.sim;
        let armed: FaultName | undefined;
        arm((name, params) => {
          armed = name;
          faults.set(name, params);
        });
        assert.ok(armed);
        const before = faults.fired(armed);
        await assertOutcome(world, expected);
        assert.ok(faults.fired(armed) > before, `${armed} has fired`);
      });
    }
  });
}

test('a snapshot that cannot be removed is told, and goes with the next backup', async () => {
  await using world = await startFaultWorld();
  const code = 'SR_BACKEND_FAILURE_80';
  world.sim.faults.set('call-fails', { method: 'Async.VDI.destroy', code, count: 1000 });
  const ended = await world.run('app');
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  const left = `xvault:${ended.id}`;
  assert.match(ended.result?.warnings.join() ?? '', new RegExp(`${left}.*${code}.*next sweep`));
  assert.match(world.sim.audit().join(), new RegExp(`snapshot ${left}`));
  world.sim.faults.clear();
  const next = await world.run('app');
  assert.equal(next.status, 'succeeded', JSON.stringify(next.error));
  assert.deepEqual(await world.audit(), []);
});

test('a snapshot named by a job nobody here knows is left alone', async () => {
  await using world = await startFaultWorld();
  const vm = world.sim.machine('app').ref as VmRef;
  const name = `xvault:${systemIds.uuid()}`;
  const left = await world.pool.snapshotVm({ vm, name, ignoreVdis: [] }, { signal: NEVER });
  assert.equal((await world.run('app')).status, 'succeeded');
  assert.match(world.sim.audit().join(), new RegExp(`snapshot ${name}`));
  await world.pool.removeSnapshot(left, { signal: NEVER });
});

describe('faults of the pool', { concurrency: true }, () => {
  testCases('an export that', EXPORTS);
  testCases('calls:', CALLS);
});
