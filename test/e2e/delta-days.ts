/**
 * Days of a machine that is backed up each day: disks grow, come and go, some days fail. Each backup restores alone.
 */
import assert from 'node:assert/strict';
import type { Backup } from '../../src/catalog/record.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk, createSparseDisk, type SimDisk } from '../sim/disk.ts';
import type { MachineSpec, SimMachine } from '../sim/pool.ts';
import {
  addDisk,
  createDraw,
  growDisk,
  type Lab,
  liveOneDay,
  removeDisk,
  resultOf,
} from './delta-world.ts';
import { contentDigest, readObject } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };

/** Three disks: one large enough for copies, one small, one whose size is no whole number of blocks. */
export const LIVING: MachineSpec = {
  name: 'living',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 18 * MIB, seed: 3, density: 1 }),
    },
    { name: 'small', storage: 'nfs', open: () => createSparseDisk(3 * MIB) },
    {
      name: 'odd',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 7 * MIB + 12_800, seed: 5, density: 1 }),
    },
  ],
};

/** What the guest has now, by device. */
export function contents(machine: SimMachine): Map<string, SimDisk> {
  return new Map(machine.disks.map(({ userdevice, disk }) => [userdevice, disk.clone()]));
}

/** All disks of the archive are what they were. */
export async function assertRestores(
  store: ObjectStore,
  backup: Backup,
  expected: Map<string, SimDisk>,
) {
  const imported = await importXva(readObject(store, backup.archive.key));
  const found = imported.disks.map((disk) => [disk.userdevice, contentDigest(disk.image)]);
  const wanted = [...expected].map(([device, disk]) => [device, contentDigest(disk)]);
  assert.deepEqual(Object.fromEntries(found), Object.fromEntries(wanted));
}

/** Lives `days` days, two of them without a backup, and restores each backup after all others were deleted. */
export async function assertDaysRestore(
  lab: Lab,
  { seed, days }: { seed: number; days: number },
): Promise<void> {
  const { world, machine, store } = lab;
  const draw = createDraw(seed);
  const kept: { backup: Backup; expected: Map<string, SimDisk> }[] = [];
  for (let day = 0; day < days; day += 1) {
    liveOneDay(machine, draw);
    if (day % 8 === 2) addDisk(world.sim, machine, { userdevice: '5', sizeBytes: 6 * MIB }, draw);
    if (day % 8 === 4)
      growDisk(world.sim, machine, { userdevice: '0', sizeBytes: (20 + day) * MIB });
    if (day % 8 === 6) removeDisk(world.sim, machine, '5');
    if (day === 3 || day === 5) {
      world.sim.faults.set('export-reset', { afterBytes: 5 * MIB, vm: machine.uuid });
      assert.equal((await lab.backup()).status, 'failed');
      continue;
    }
    const backup = resultOf(await lab.backup({ retention: day % 7 === 0 ? 'weekly' : 'daily' }));
    assert.equal(backup.mode, day === 0 ? 'full' : 'delta', backup.mode_reason);
    if (day > 0) assert.equal(backup.base?.backup_id, kept.at(-1)?.backup.id);
    kept.push({ backup, expected: contents(machine) });
  }
  // each alone: all others are gone before it is read
  const archives = new Map<string, Uint8Array>();
  for (const { backup } of kept) {
    const found = await store.get(backup.archive.key, options);
    archives.set(backup.archive.key, found?.bytes as Uint8Array);
    await store.delete(backup.archive.key, options);
  }
  for (const { backup, expected } of kept) {
    const { key } = backup.archive;
    await store.put(key, archives.get(key) as Uint8Array, options);
    await assertRestores(store, backup, expected);
    await store.delete(key, options);
  }
}
