/**
 * The other ways in: by a link the host reads itself, to pools older than the backup, and past a host that dies half-way.
 *
 * The matrix of demo machines, releases, modes and compressions is long: XVAULT_TEST_LONG=1 runs all of it, a few otherwise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { HOSTILE_NAMES } from '../security/hostile-names.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import { DEFAULT_MACHINES } from '../sim/machines.ts';
import type { MachineSpec, PersonaName } from '../sim/pool.ts';
import { list, text } from '../sim/xapi/values.ts';
import { createDraw, liveOneDay } from './delta-world.ts';
import {
  ALL_NETWORKS,
  assertSameDisks,
  machineOf,
  startRestoreWorld,
  TWO_DISKS,
} from './restore-world.ts';

const MIB = 1_048_576;
const LONG = process.env.XVAULT_TEST_LONG === '1';
const options = { signal: NEVER };
const LIMIT_MS = LONG ? 1_800_000 : 60_000;
/** Named by somebody, so that the same name on another pool means something. */
const OFFICE = [{ name: 'Office', bridge: 'xenbr0' }];

const PLAIN: MachineSpec = {
  name: 'plain',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 5 * MIB + 512, seed: 5, density: 0.6 }),
    },
  ],
};

test('where nothing must be edited the host reads the archive by itself, and not a byte passes here', async () => {
  await using lab = await startRestoreWorld({
    pool: { seed: 9, machines: [PLAIN], networks: OFFICE },
    target: { networks: OFFICE },
  });
  const { sim } = lab.world;
  for (const compression of ['none', 'zstd'] as const) {
    const backup = await lab.backUp('plain', { mode: 'full', compression });
    const job = await lab.restore(backup, { name: `by link, ${compression}` });
    const { ref, record, restored } = machineOf(lab.target, job);
    assert.equal(restored.via, 'url', job.restore_plan?.via_reason);
    assert.equal(text(record, 'name_label'), `by link, ${compression}`);
    assert.deepEqual(job.progress.sent_bytes, 0);
    assertSameDisks(lab.target, ref, sim.machine('plain'));
  }
  const backup = await lab.backUp('plain', { mode: 'full' });
  const store: ObjectStore = {
    ...lab.world.store,
    presignGet: async () => 'http://127.0.0.1:1/not-there',
  };
  const service = lab.secondService({ store });
  const past = await lab.restore(backup, {}, service);
  const { ref, restored } = machineOf(lab.target, past);
  assert.equal(restored.via, 'stream');
  assert.match(past.restore_plan?.via_reason ?? '', /could not read the archive/);
  assertSameDisks(lab.target, ref, sim.machine('plain'));
  lab.target.faults.set('call-fails', {
    method: 'Async.VM.import',
    code: 'RBAC_PERMISSION_DENIED',
    params: ['VM.import', 'vm-power-admin'],
  });
  const lowly = await lab.restore(backup);
  assert.equal(lab.target.faults.fired('call-fails'), 1);
  assert.equal(machineOf(lab.target, lowly).restored.via, 'stream');
  const insisted = await lab.restore(backup, { via: 'url' }, service);
  assert.equal(insisted.status, 'failed');
  assert.equal(insisted.error?.code, 'target_failed', JSON.stringify(insisted.error));
  await service.drain({ drainMs: 0 });
  assert.equal(list(lab.target.world.get('VM', ref), 'VIFs').length, 1);
  assert.deepEqual(await lab.world.audit(), []);
  const left = await lab.targetPool.findImported({}, options);
  assert.deepEqual(left, [], 'nothing carries a mark');
});

/** From release, to release, machine, what is expected. */
const OLDER: [PersonaName, PersonaName, MachineSpec, RegExp | undefined][] = [
  ['8.3', '8.2', PLAIN, undefined],
  ['8.3', '8.2', { ...PLAIN, uefi: true, vtpm: true }, /vTPM/],
  ['8.2', '8.0', PLAIN, undefined],
];

for (const [from, to, machine, refused] of OLDER) {
  const what = `${from} to ${to}${machine.vtpm ? ' of a machine with a vTPM' : ''}`;
  test(`a restore from ${what} ${refused ? 'is refused' : 'is whole'}`, async () => {
    await using lab = await startRestoreWorld({
      pool: { seed: 9, machines: [machine], persona: from, networks: OFFICE },
      target: { persona: to, networks: OFFICE },
    });
    const backup = await lab.backUp('plain', { mode: 'full', compression: 'zstd' });
    if (refused) {
      await assert.rejects(lab.restore(backup), { code: 'restore_refused', message: refused });
    } else {
      const job = await lab.restore(backup);
      const { ref, restored } = machineOf(lab.target, job);
      assert.equal(restored.via, 'stream');
      assertSameDisks(lab.target, ref, lab.world.sim.machine('plain'));
    }
    assert.deepEqual(await lab.world.audit(), []);
  });
}

test('a host whose toolstack dies half-way leaves a torso, which goes with the job', async () => {
  await using lab = await startRestoreWorld();
  const backup = await lab.backUp(TWO_DISKS.name, { mode: 'full' });
  lab.target.faults.set('import-killed', { afterBytes: 5 * MIB });
  const target = lab.openTarget({ factor: 1000 });
  const service = lab.secondService({ target });
  const job = await lab.restore(backup, { networks: ALL_NETWORKS }, service);
  await service.drain({ drainMs: 0 });
  await target.close();
  assert.equal(lab.target.faults.fired('import-killed'), 1);
  assert.equal(job.status, 'failed', JSON.stringify(job.restored));
  assert.equal(job.error?.code, 'target_failed', JSON.stringify(job.error));
  assert.deepEqual(await lab.audit(), []);
});

/** Names that steer, end lines, or are something else to a program; the long form tries all there are. */
const NAMES = Object.values(HOSTILE_NAMES).filter((name) => LONG || /[\r\u2028]|proto/.test(name));

test('machines come back under their own names, whatever these are', {
  timeout: LIMIT_MS,
}, async () => {
  const machines = NAMES.map((name) => ({ name, power: 'Running' as const, disks: [] }));
  await using lab = await startRestoreWorld({
    pool: { seed: 9, machines, networks: OFFICE },
    target: { networks: OFFICE },
  });
  for (const via of LONG ? (['stream', 'url'] as const) : (['stream'] as const)) {
    for (const { uuid, ref } of lab.world.sim.machines) {
      const backup = await lab.backUp(uuid, { mode: 'full' });
      const job = await lab.restore(backup, { via });
      const { ref: made, record } = machineOf(lab.target, job);
      const wanted = text(lab.world.sim.world.get('VM', ref), 'name_label');
      assert.equal(text(record, 'name_label'), wanted);
      await lab.removeAgain(made);
    }
  }
  assert.deepEqual(await lab.audit(), []);
});

/** Of two machines of one name either would do; one has a disk that no snapshot can be made of. */
const DEMO = DEFAULT_MACHINES.filter(({ name }) => !['usb-store', 'twin'].includes(name));
const MATRIX: [PersonaName, readonly MachineSpec[]][] = LONG
  ? [
      ['8.2', DEMO],
      ['8.3', DEMO],
    ]
  : [['8.2', [TWO_DISKS]]];

for (const [persona, machines] of MATRIX) {
  test(`machines of ${persona}, full and delta, plain and zstd, come back bit for bit`, {
    timeout: LIMIT_MS,
  }, async () => {
    await using lab = await startRestoreWorld({
      pool: { seed: 9, machines, persona },
      target: { persona },
    });
    for (const { name } of machines) {
      for (const compression of LONG ? (['none', 'zstd'] as const) : (['zstd'] as const)) {
        const full = await lab.backUp(name, { mode: 'full', compression });
        await restoreAndCompare(name, full);
        const machine = lab.world.sim.machine(name);
        liveOneDay(machine, createDraw(name.length));
        const delta = await lab.backUp(name, { mode: 'delta', compression });
        await restoreAndCompare(name, delta);
      }
    }
    assert.deepEqual(await lab.world.audit(), []);

    async function restoreAndCompare(name: string, backup: Parameters<typeof lab.restore>[0]) {
      const what = `${persona} ${name} ${backup.mode} ${backup.compression}`;
      const job = await lab.restore(backup, { networks: ALL_NETWORKS, mac: 'keep', via: 'stream' });
      const { ref } = machineOf(lab.target, job);
      assertSameDisks(lab.target, ref, lab.world.sim.machine(name), what);
      await lab.removeAgain(ref);
    }
  });
}
