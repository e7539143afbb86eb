/** Quiesced snapshots: asked for where the pool has them, refused or warned about where it has not. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { NEVER } from '../../src/signals.ts';
import { createSparseDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { startWorld, type TestWorld } from './world.ts';

const APP: Omit<MachineSpec, 'name'> = {
  power: 'Running',
  disks: [{ name: 'root', storage: 'nfs', open: () => createSparseDisk(2 * 1_048_576) }],
};
const MACHINES: MachineSpec[] = [
  { ...APP, name: 'win', vss: true },
  { ...APP, name: 'linux' },
  { ...APP, name: 'off', vss: true, power: 'Halted' },
  { ...APP, name: 'asleep', vss: true, power: 'Suspended' },
];
/** The others differ in their code alone: src/xapi/errors.test.ts. */
const CODE = 'VM_SNAPSHOT_WITH_QUIESCE_TIMEOUT';

describe('a pool that makes quiesced snapshots', { concurrency: 1 }, () => {
  let world: TestWorld;
  before(async () => {
    world = await startWorld({ pool: { persona: '8.0', machines: MACHINES } });
  });
  after(() => world[Symbol.asyncDispose]());

  test('is recognised by asking it', async () => {
    const { features } = await world.pool.facts({ signal: NEVER });
    assert.equal(features.quiesce, true);
  });

  for (const quiesce of ['prefer', 'require'] as const) {
    test(`${quiesce}: a guest that can is quiesced`, async () => {
      const job = await world.backup('win', { quiesce });
      assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
      assert.equal(job.result?.consistency, 'quiesced');
      assert.deepEqual(job.result?.warnings, []);
      assert.deepEqual(await world.audit(), []);
    });
  }

  test('never: it is not even tried', async () => {
    world.sim.faults.set('quiesce-fails', { code: 'INTERNAL_ERROR' });
    const job = await world.backup('win');
    assert.equal(job.result?.consistency, 'crash_consistent');
    assert.equal(world.sim.faults.fired('quiesce-fails'), 0);
    world.sim.faults.clear();
  });

  test('prefer: what fails falls back to a plain snapshot, with a warning that names why', async () => {
    world.sim.faults.set('quiesce-fails', { code: CODE, leavesSnapshot: true });
    const job = await world.backup('win', { quiesce: 'prefer' });
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    assert.equal(job.result?.consistency, 'crash_consistent');
    assert.match(job.result?.warnings.join() ?? '', new RegExp(`plain one was made.*${CODE}`));
    assert.deepEqual(await world.audit(), []);
  });

  test('require: what fails fails the job and leaves nothing', async () => {
    world.sim.faults.set('quiesce-fails', { code: CODE, leavesSnapshot: true });
    const job = await world.backup('win', { quiesce: 'require' });
    assert.equal(job.error?.code, 'quiesce_failed');
    assert.match(job.error?.detail ?? '', new RegExp(`code=${CODE}`));
    assert.deepEqual(await world.audit(), []);
  });

  test('a refusal that is not the guest’s fails the job, preferred or not', async () => {
    const code = 'SR_BACKEND_FAILURE_44';
    world.sim.faults.set('quiesce-fails', { code, params: ['', 'no space', ''] });
    const job = await world.backup('win', { quiesce: 'prefer' });
    assert.equal(job.error?.code, 'snapshot_refused');
    assert.deepEqual(await world.audit(), []);
  });

  test('a guest without VSS provider falls back, or fails where it was required', async () => {
    const preferred = await world.backup('linux', { quiesce: 'prefer' });
    assert.match(preferred.result?.warnings.join() ?? '', /QUIESCE_NOT_SUPPORTED/);
    const required = await world.backup('linux', { quiesce: 'require' });
    assert.equal(required.error?.code, 'quiesce_failed');
    assert.deepEqual(await world.audit(), []);
  });

  test('a machine that is off needs no rest; one that is suspended cannot be asked', async () => {
    const off = await world.backup('off', { quiesce: 'require' });
    assert.equal(off.status, 'succeeded', JSON.stringify(off.error));
    assert.deepEqual(off.result?.warnings, []);
    const asleep = world.backup('asleep', { quiesce: 'require' });
    await assert.rejects(asleep, { code: 'quiesce_failed' });
  });
});

describe('a pool that does not', { concurrency: 1 }, () => {
  let world: TestWorld;
  before(async () => {
    world = await startWorld({ pool: { persona: '8.3', machines: MACHINES } });
  });
  after(() => world[Symbol.asyncDispose]());

  test('require is refused before anything happens', async () => {
    const asked = world.backup('win', { quiesce: 'require' });
    await assert.rejects(asked, { code: 'vm_not_supported', message: /removed in CH 8\.1/ });
    assert.deepEqual((await world.service.listJobs({ pageSize: 9 }, { signal: NEVER })).items, []);
    assert.deepEqual(await world.audit(), []);
  });

  test('prefer makes a plain snapshot, with a warning; a dry run says so beforehand', async () => {
    const dry = await world.backup('win', { quiesce: 'prefer', dry_run: true });
    assert.match(dry.dry_run?.warnings.join() ?? '', /not quiesced/);
    const job = await world.backup('win', { quiesce: 'prefer' });
    assert.equal(job.result?.consistency, 'crash_consistent');
    assert.match(job.result?.warnings.join() ?? '', /not quiesced.*guest hooks/);
    assert.deepEqual(await world.audit(), []);
  });
});
