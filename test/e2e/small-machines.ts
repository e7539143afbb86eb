/** Machines that take moments to back up: enough for every fault, each with a name that says what it is for. */
import { createGeneratedDisk, createSparseDisk } from '../sim/disk.ts';
import type { DiskSpec, MachineSpec } from '../sim/pool.ts';

const MIB = 1_048_576;

/** 14 MiB of data in 28 (two parts, many blocks). */
export const DISK_BYTES = 28 * MIB;

function disk(name: string, over: Partial<DiskSpec> = {}): DiskSpec {
  const open = () =>
    createGeneratedDisk({ sizeBytes: DISK_BYTES, seed: name.length, density: 0.5 });
  return { name, storage: 'nfs', open, bootable: true, ...over };
}

/** One with two disks, one with an ISO inserted, two of one name, one that cannot be snapshotted. */
export const SMALL_MACHINES: readonly MachineSpec[] = [
  {
    name: 'app',
    power: 'Running',
    disks: [
      disk('app root'),
      disk('app data', { bootable: false, open: () => createSparseDisk(3 * MIB + 512) }),
    ],
    cd: 'debian-13.iso',
  },
  { name: 'other', power: 'Running', disks: [disk('other root')] },
  { name: 'twin', disks: [] },
  { name: 'twin', disks: [] },
  { name: 'stick', disks: [disk('stick root', { storage: 'usb' })] },
];
