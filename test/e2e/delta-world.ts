/**
 * Machines that live: files grow, disks come, go and become larger. For backups that follow one another.
 *
 * Everything is drawn from a seed. What a guest had on its disks at a moment is kept as copies, which share pages.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type Backup, backupRequestSchema, type Job } from '../../src/catalog/record.ts';
import type { ObjectStore, Pool, SnapshotFacts } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { createSparseDisk } from '../sim/disk.ts';
import type { SimMachine, SimPool } from '../sim/pool.ts';
import { trackDisk } from '../sim/xapi/tracked-disk.ts';
import { text } from '../sim/xapi/values.ts';
import { readObject, type TestWorld } from './world.ts';

const options = { signal: NEVER };
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

/** A world, and one machine in it whose backups follow one another. */
export interface Lab {
  world: TestWorld;
  machine: SimMachine;
  store: ObjectStore;
  /** Each by a process of its own, which knows the bucket only. */
  backup(request?: object, pool?: Pool): Promise<Job>;
}

/** A lab over a running world. */
export function createLab(world: TestWorld, vm: string): Lab {
  const backup = async (request: object = {}, pool = world.pool): Promise<Job> => {
    const service = world.secondService({ pool });
    const input = { vm, request: backupRequestSchema.parse(request), triggeredBy: 'test' };
    const { id } = await service.startBackup(input, options);
    return (await service.waitJob(id, { timeoutMs: 120_000 }, options)) as Job;
  };
  return { world, backup, store: world.store, machine: world.sim.machine(vm) };
}

/** The backup of a job that must have succeeded. */
export function resultOf(job: Job): Backup {
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  return job.result as Backup;
}

async function sha256(store: ObjectStore, key: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of readObject(store, key)) hash.update(piece);
  return hash.digest('hex');
}

/** A pool whose jobs all see one snapshot, made by the first of them and kept until `end`. */
function sharedSnapshot(pool: Pool): Pool & { end(): Promise<void> } {
  let shared: SnapshotFacts | undefined;
  const over: Partial<Pool> & { end(): Promise<void> } = {
    snapshotVm: async (input, to) => {
      shared = await pool.snapshotVm(input, to);
      return shared;
    },
    findSnapshots: async ({ namePrefix }) =>
      shared === undefined || namePrefix === 'xvault:'
        ? []
        : [{ ...shared, nameLabel: namePrefix }],
    removeSnapshot: async () => {},
    end: async () => {
      if (shared) await pool.removeSnapshot(shared, options);
    },
  };
  return { ...pool, ...over };
}

/** Backs the machine up as a delta and as a full, from one snapshot each day: the archives must be equal. */
export async function assertSameBytes(
  lab: Lab,
  {
    seed,
    rounds,
    compression = 'none',
    leastCopiedBytes = 5 * MIB,
  }: {
    seed: number;
    rounds: number;
    compression?: Backup['compression'];
    leastCopiedBytes?: number;
  },
): Promise<void> {
  const draw = createDraw(seed);
  resultOf(await lab.backup({ mode: 'full', compression }));
  for (let round = 0; round < rounds; round += 1) {
    liveOneDay(lab.machine, draw);
    const pool = sharedSnapshot(lab.world.pool);
    const delta = resultOf(await lab.backup({ mode: 'delta', compression }, pool));
    const full = resultOf(await lab.backup({ mode: 'full', compression }, pool));
    await pool.end();
    assert.deepEqual([delta.mode, full.mode], ['delta', 'full']);
    assert(delta.copied_bytes >= leastCopiedBytes, `${delta.copied_bytes} copied`);
    assert(delta.sent_bytes < full.sent_bytes, `${delta.sent_bytes} of ${full.sent_bytes} sent`);
    assert.equal(full.copied_bytes, 0);
    assert.equal(delta.archive.content_digest, full.archive.content_digest);
    const [one, other] = [delta, full].map(({ archive }) => sha256(lab.store, archive.key));
    assert.equal(await one, await other);
  }
  assert.deepEqual(await lab.world.audit(), []);
}
