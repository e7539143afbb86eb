/**
 * Backups that are ended from outside: cancelled in each phase, drained by SIGTERM, killed with their process.
 *
 * A phase is held at one of its own calls until the test says go, so nothing depends on how fast the machine is.
 * All phases with XVAULT_TEST_LONG=1; test/scenarios/cancel.test.ts and test/crash/boundaries.test.ts have them, too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CLOCK_SKEW_MS, LEASE_MS } from '../../src/catalog/lease.ts';
import { isEnded } from '../../src/catalog/record.ts';
import { systemClock } from '../../src/clock.ts';
import type { JobView } from '../../src/http/views.ts';
import { NEVER } from '../../src/signals.ts';
import type { Fault } from '../sim/s3/index.ts';
import { assertEnded, type Expected, type FaultWorld, startFaultWorld } from './faults-world.ts';
import { settingsFor, startProgram } from './program.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const MIB = 1_048_576;
/** Longer than any test waits. */
const HELD_MS = 600_000;

interface Hold {
  phase: JobView['phase'];
  arm(world: FaultWorld): void;
  /** Lets a held call go on, where a cancel does not end it. */
  free?(world: FaultWorld): void;
}

function holdInStore(fault: Omit<Fault, 'effect'>): Hold['arm'] {
  return (world) => void world.s3?.faults.add({ ...fault, effect: { kind: 'hang' } });
}

const PREPARING: Hold = {
  phase: 'preparing',
  // asked for the features of the pool: cached after the first backup, so a job's own call is taken
  arm: (world) => world.sim.faults.set('call-hangs', { method: 'host.get_all_records' }),
};
const SNAPSHOTTING: Hold = {
  phase: 'snapshotting',
  arm: (world) => world.sim.faults.set('call-hangs', { method: 'Async.VM.snapshot' }),
};
const EXPORTING: Hold = {
  phase: 'exporting',
  arm: (world) => world.sim.faults.set('export-silent', { afterBytes: 6 * MIB, silentMs: HELD_MS }),
};
/** The answer that names the export's task is on its way. */
const OPENING: Hold = {
  phase: 'exporting',
  arm: ({ sim }) => {
    sim.faults.watch = async ({ method, done }) => {
      if (method === 'task.create' && done) await gate.promise;
    };
  },
  free: ({ sim }) => {
    sim.faults.watch = undefined;
    gate.resolve();
  },
};
const gate = Promise.withResolvers<void>();
const UPLOADING: Hold = { phase: 'exporting', arm: holdInStore({ operation: 'UploadPart' }) };
const FINISHING: Hold = {
  phase: 'finishing',
  arm: holdInStore({ key: /backup\.json$/, operation: 'PutObject' }),
};
const CLEANING: Hold = {
  phase: 'cleaning',
  arm: (world) => world.sim.faults.set('call-hangs', { method: 'Async.VDI.destroy' }),
};

const CANCELLED: Expected = { code: 'cancelled', status: 'cancelled' };
const path = '/v1/vms/app/backups';

async function begin(world: FaultWorld): Promise<JobView> {
  const answer = await world.call('POST', path, { body: {} });
  assert.equal(answer.status, 202, answer.text);
  return answer.json<JobView>();
}

/** Follows the job until it is in this phase. */
async function reached(world: FaultWorld, id: string, phase: JobView['phase']): Promise<void> {
  for await (const job of world.service.watchJob(id, { signal: NEVER })) {
    if (job.phase === phase) return;
    assert.equal(isEnded(job), false, `ended before ${phase}: ${JSON.stringify(job.error)}`);
  }
}

async function ended(world: FaultWorld, id: string): Promise<JobView> {
  const answer = await world.call('GET', `/v1/jobs/${id}`, { headers: { prefer: 'wait=55' } });
  return answer.json<JobView>();
}

describe('a backup is cancelled while', { concurrency: true }, () => {
  const cases: [Hold, Expected | 'succeeds'][] = [
    [PREPARING, CANCELLED],
    [SNAPSHOTTING, CANCELLED],
    [OPENING, CANCELLED],
    [EXPORTING, CANCELLED],
    [UPLOADING, CANCELLED],
    // the archive is whole by then: it is kept
    [FINISHING, 'succeeds'],
    [CLEANING, 'succeeds'],
  ];
  const short = [SNAPSHOTTING, UPLOADING, FINISHING];
  for (const [hold, expected] of cases.filter(([hold]) => LONG || short.includes(hold))) {
    const exact = new Map([
      [OPENING, ', before its first byte'],
      [UPLOADING, ', in the middle of a part'],
    ]);
    test(`${hold.phase}${exact.get(hold) ?? ''}`, async () => {
      await using world = await startFaultWorld({
        poolClock: systemClock,
        poolSettings: { callTimeoutMs: 5000 },
      });
      hold.arm(world);
      const { id } = await begin(world);
      await reached(world, id, hold.phase);
      const answer = await world.call('POST', `/v1/jobs/${id}/cancel`, { body: {} });
      assert.equal(answer.status, 202, answer.text);
      hold.free?.(world);
      await assertEnded(world, await ended(world, id), expected);
      const again = await world.call('POST', `/v1/jobs/${id}/cancel`, { body: {} });
      assert.equal(again.json().status, expected === 'succeeds' ? 'succeeded' : 'cancelled');
    });
  }

  test('it waits for its turn', async () => {
    await using world = await startFaultWorld({ service: { concurrency: 1 } });
    EXPORTING.arm(world);
    const running = await begin(world);
    await reached(world, running.id, 'exporting');
    const other = await world.call('POST', '/v1/vms/other/backups', { body: {} });
    const { id } = other.json<JobView>();
    await world.call('POST', `/v1/jobs/${id}/cancel`, { body: {} });
    const waiting = await ended(world, id);
    assert.equal(waiting.status, 'cancelled');
    await world.call('POST', `/v1/jobs/${running.id}/cancel`, { body: {} });
    await assertEnded(world, await ended(world, running.id), CANCELLED);
    assert.deepEqual(await world.backupsOf('other'), []);
  });
});

describe('the program', { concurrency: 1 }, () => {
  let world: FaultWorld;
  before(async () => {
    world = await startFaultWorld({ poolSettings: { callTimeoutMs: 5000 } });
  });
  after(() => world[Symbol.asyncDispose]());

  /** A process with a job held in the phase. */
  async function runInto(hold: Hold, env: Record<string, string> = {}) {
    assert.ok(world.s3);
    const program = startProgram(['serve'], { ...settingsFor(world.sim, world.s3), ...env });
    const { url } = JSON.parse(await program.saw('"listening"'));
    hold.arm(world);
    const answer = await fetch(`${url}${path}`, { method: 'POST' });
    const text = await answer.text();
    assert.equal(answer.status, 202, text);
    const { id } = JSON.parse(text) as JobView;
    await reached(world, id, hold.phase);
    return { program, url, id };
  }

  test('told to stop refuses new work, cancels what runs too long, cleans up and ends with 0', async () => {
    const { program, url, id } = await runInto(EXPORTING, {
      XVAULT_DRAIN_SECONDS: '1',
      XVAULT_JOB_ATTEMPTS: '1',
    });
    program.child.kill('SIGTERM');
    await program.saw('"draining"');
    const refused = await fetch(`${url}/v1/vms/other/backups`, { method: 'POST' });
    assert.equal(refused.status, 503);
    assert.equal(JSON.parse(await refused.text()).code, 'draining');
    assert.equal(await program.ended, 0, program.output.out);
    const job = await ended(world, id);
    await assertEnded(world, job, { code: 'draining', retry: 'later' });
    assert.equal([...world.sim.world.all('session')].length, 1);
  });

  for (const hold of LONG ? [SNAPSHOTTING, EXPORTING, FINISHING, CLEANING] : [EXPORTING]) {
    test(`killed while ${hold.phase} leaves a job that another instance brings to its end`, async () => {
      const { program, id } = await runInto(hold);
      program.child.kill('SIGKILL');
      await program.ended;
      world.sim.faults.clear();
      world.s3?.faults.clear();
      const busy = await world.call('POST', path, { body: {} });
      assert.equal(busy.status, 409, busy.text);
      assert.equal(busy.problem().links?.job, `/v1/jobs/${id}`);
      const aheadMs = LEASE_MS + CLOCK_SKEW_MS + 1000;
      const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
      const other = world.secondService({ clock });
      await other.start();
      const job = await other.waitJob(id, { timeoutMs: 60_000 }, { signal: NEVER });
      assert.equal(job?.attempt, 2);
      await other.drain({ drainMs: 60_000 });
      dropDeadTasks(world);
      await assertEnded(world, await ended(world, id), 'succeeds');
    });
  }
});

/** What a killed client cannot drop: its session, and tasks the pool drops by itself a while after they ended. */
function dropDeadTasks({ sim }: FaultWorld): void {
  for (const [ref, task] of sim.world.all('task')) {
    if (task.status !== 'pending') sim.world.destroy('task', ref);
  }
}
