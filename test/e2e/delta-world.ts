/**
 * Machines that live: files grow, disks come, go and become larger. For backups that follow one another.
 *
 * Everything is drawn from a seed. What a guest had on its disks at a moment is kept as copies, which share pages.
 */
import { createSparseDisk } from '../sim/disk.ts';
import type { SimMachine, SimPool } from '../sim/pool.ts';
import { trackDisk } from '../sim/xapi/tracked-disk.ts';
import { text } from '../sim/xapi/values.ts';

const MIB = 1_048_576;
const PAGE = 65_536;

export type Draw = (below: number) => number;

/** A small generator (mulberry32): the same numbers for the same seed. */
export function createDraw(seed: number): Draw {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Writes `bytes` of noise at `offset`, as far as the disk goes. */
export function writeNoise(
  disk: SimMachine['disks'][number],
  { offset, bytes }: { offset: number; bytes: number },
  draw: Draw,
): void {
  const length = Math.min(bytes, disk.disk.sizeBytes - offset);
  const noise = Buffer.alloc(Math.max(0, length));
  for (let at = 0; at < noise.length; at += 4)
    noise.writeUInt32LE(draw(2 ** 32), Math.min(at, noise.length - 4));
  if (length > 3) disk.disk.write(offset, noise);
}

/** A day of a machine: some files change, some space is given back. */
export function liveOneDay(machine: SimMachine, draw: Draw): void {
  for (const disk of machine.disks) {
    const blocks = Math.ceil(disk.disk.sizeBytes / MIB);
    for (let i = draw(4); i > 0; i -= 1) {
      writeNoise(disk, { offset: draw(blocks) * MIB, bytes: PAGE * (1 + draw(40)) }, draw);
    }
    const trimmed = draw(blocks) * MIB;
    const length = Math.min(MIB, disk.disk.sizeBytes - trimmed);
    if (draw(3) === 0) disk.disk.write(trimmed, Buffer.alloc(length));
  }
}

/** Plugs a new disk in, with something on it. */
export function addDisk(
  sim: SimPool,
  machine: SimMachine,
  { userdevice, sizeBytes }: { userdevice: string; sizeBytes: number },
  draw: Draw,
): void {
  const { world } = sim;
  const model = world.get('VDI', (machine.disks[0] as SimMachine['disks'][number]).ref);
  const hex = (digits: number) =>
    draw(16 ** digits)
      .toString(16)
      .padStart(digits, '0');
  const uuid = `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(6)}${hex(6)}`;
  const name = `added ${userdevice}`;
  const ref = world.create('VDI', {
    uuid,
    location: uuid,
    name_label: name,
    SR: text(model, 'SR'),
    virtual_size: sizeBytes,
    physical_utilisation: sizeBytes,
  });
  const disk = trackDisk(createSparseDisk(sizeBytes));
  sim.disks.set(ref, disk);
  world.create('VBD', { VM: machine.ref, VDI: ref, userdevice, device: `xvd${userdevice}` });
  const added = { ref, uuid, name, userdevice, disk };
  writeNoise(added, { offset: 0, bytes: sizeBytes >> 1 }, draw);
  machine.disks.push(added);
}

/** Unplugs the disk of this device and destroys it. */
export function removeDisk(sim: SimPool, machine: SimMachine, userdevice: string): void {
  const at = machine.disks.findIndex((disk) => disk.userdevice === userdevice);
  const [gone] = machine.disks.splice(at, 1);
  if (at === -1 || gone === undefined) throw new Error(`no disk ${userdevice}`);
  for (const [ref, vbd] of sim.world.all('VBD')) {
    if (vbd.VDI === gone.ref) sim.world.destroy('VBD', ref);
  }
  sim.world.destroy('VDI', gone.ref);
  sim.disks.delete(gone.ref);
}

/** Makes the disk of this device larger; what was on it stays. */
export function growDisk(
  sim: SimPool,
  machine: SimMachine,
  { userdevice, sizeBytes }: { userdevice: string; sizeBytes: number },
): void {
  const disk = machine.disks.find((d) => d.userdevice === userdevice);
  if (disk === undefined) throw new Error(`no disk ${userdevice}`);
  const larger = trackDisk(createSparseDisk(sizeBytes));
  const page = Buffer.alloc(PAGE);
  for (let at = disk.disk.nextData(0); at !== undefined; at = disk.disk.nextData(at + PAGE)) {
    const piece = page.subarray(0, Math.min(PAGE, disk.disk.sizeBytes - at));
    disk.disk.read(at, piece);
    larger.write(at, piece);
  }
  sim.disks.set(disk.ref, larger);
  disk.disk = larger;
  sim.world.set('VDI', disk.ref, { virtual_size: sizeBytes });
}
