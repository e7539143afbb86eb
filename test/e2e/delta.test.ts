/**
 * Deltas on real bytes: each is byte for byte what a full of the same snapshot is, and each restores alone.
 *
 * Short by default; XVAULT_TEST_LONG=1 runs thirty days and every persona.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backup } from '../../src/catalog/record.ts';
import type { ObjectStore, Pool } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk, createSparseDisk, type SimDisk } from '../sim/disk.ts';
import type { MachineSpec, PersonaName, SimMachine } from '../sim/pool.ts';
import {
  addDisk,
  assertSameBytes,
  createDraw,
  createLab,
  growDisk,
  type Lab,
  liveOneDay,
  removeDisk,
  resultOf,
  writeNoise,
} from './delta-world.ts';
import { contentDigest, readObject, startWorld, type WorldOptions } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const PERSONAS: readonly PersonaName[] = isLong ? ['8.0', '8.2', '8.3', 'xs9'] : ['8.3'];
const DAYS = isLong ? 30 : 7;
const ROUNDS = isLong ? 3 : 1;

/** Three disks: one large enough for copies, one small, one whose size is no whole number of blocks. */
const MACHINE: MachineSpec = {
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

async function open(
  persona: PersonaName,
  seed: number,
  over: WorldOptions = {},
): Promise<Lab & AsyncDisposable> {
  const world = await startWorld({ pool: { persona, seed, machines: [MACHINE] }, ...over });
  return {
    ...createLab(world, 'living'),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

/** What the guest has now, by device. */
function contents(machine: SimMachine): Map<string, SimDisk> {
  return new Map(machine.disks.map(({ userdevice, disk }) => [userdevice, disk.clone()]));
}

async function assertRestores(store: ObjectStore, backup: Backup, expected: Map<string, SimDisk>) {
  const imported = await importXva(readObject(store, backup.archive.key));
  const found = imported.disks.map((disk) => [disk.userdevice, contentDigest(disk.image)]);
  const wanted = [...expected].map(([device, disk]) => [device, contentDigest(disk)]);
  assert.deepEqual(Object.fromEntries(found), Object.fromEntries(wanted));
}

for (const persona of PERSONAS) {
  test(`a delta and a full of the same snapshot have the same bytes, on a pool of version ${persona}`, async () => {
    await using lab = await open(persona, 11);
    await assertSameBytes(lab, { seed: 7, rounds: ROUNDS });
  });
}

test('they have the same bytes where the store wants parts of one size', async () => {
  await using lab = await open('8.3', 13, { equalParts: true });
  await assertSameBytes(lab, { seed: 17, rounds: ROUNDS });
});

for (const equalParts of isLong ? [false, true] : [false]) {
  test(`compressed archives have the same bytes, too, and restore; parts of one size: ${equalParts}`, async () => {
    await using lab = await open('8.3', 19, { equalParts });
    const root = lab.machine.disks[0] as SimMachine['disks'][number];
    // frames longer than the blocks in them, and enough of them to be copied
    writeNoise(root, { offset: 0, bytes: 16 * MIB }, createDraw(3));
    const plain = resultOf(await lab.backup());
    const first = resultOf(await lab.backup({ compression: 'zstd' }));
    assert.equal(first.mode, 'full', 'a plain archive is no base of a compressed one');
    assert.equal(plain.archive.content_digest, first.archive.content_digest);
    const wish = { seed: 43, rounds: ROUNDS, compression: 'zstd' as const };
    // of few cells hardly one is the same from end to end
    await assertSameBytes(lab, equalParts ? { ...wish, leastCopiedBytes: 1 } : wish);
    const last = resultOf(await lab.backup({ compression: 'zstd' }));
    assert.equal(last.mode, 'delta');
    await assertRestores(lab.store, last, contents(lab.machine));
  });
}

test('days in a row restore each alone, whatever the machine does and whatever fails', async () => {
  await using lab = await open('8.3', 23);
  const { world, machine, store } = lab;
  const draw = createDraw(29);
  const kept: { backup: Backup; expected: Map<string, SimDisk> }[] = [];
  for (let day = 0; day < DAYS; day += 1) {
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
});

test('a dry run tells mode, base and bytes; the backup then is what was told', async () => {
  await using lab = await open('8.3', 37);
  const before = (await lab.backup({ dry_run: true })).dry_run;
  assert.equal(before?.mode, 'full');
  assert.equal(before?.estimated_sent_bytes, before?.estimated_bytes);
  const first = resultOf(await lab.backup());
  assert.deepEqual([first.mode, first.sent_ratio], ['full', 1]);
  const second = resultOf(await lab.backup());
  const told = (await lab.backup({ dry_run: true })).dry_run;
  assert.equal(told?.mode, 'delta');
  assert.equal(told?.base?.backup_id, second.id);
  assert.equal(told?.estimated_sent_bytes, second.sent_bytes);
  const third = resultOf(await lab.backup());
  assert.equal(third.base?.backup_id, second.id);
  assert.equal(third.mode_reason, told?.mode_reason);
  assert.equal(third.sent_bytes, second.sent_bytes, 'nothing changed in between');
  assert(third.sent_bytes < third.archive.size_bytes / 4, `${third.sent_bytes} sent`);
  const { uploads, copies, reads } = third.requests ?? { uploads: 0, copies: 0, reads: 0 };
  assert(uploads > 0 && copies > 0 && reads > 0);
  assert.equal(third.estimated_cost?.currency, 'USD');
  assert.deepEqual(await lab.world.audit(), []);
});

test('a base that vanishes in mid-job costs nothing but its bytes', async () => {
  await using lab = await open('8.3', 31);
  const { machine, store, world } = lab;
  const first = resultOf(await lab.backup());
  writeNoise(
    machine.disks[0] as SimMachine['disks'][number],
    { offset: 0, bytes: 100 },
    createDraw(1),
  );
  let opened = 0;
  const pool: Pool = {
    ...world.pool,
    openExport: async (input, to) => {
      opened += 1;
      if (opened === 1) await store.delete(first.archive.key, options);
      return await world.pool.openExport(input, to);
    },
  };
  const second = resultOf(await lab.backup({ mode: 'delta' }, pool));
  assert.equal(opened, 2);
  assert.equal(second.mode, 'full');
  assert.match(second.mode_reason, /is gone/);
  assert.equal(second.base, undefined);
  assert.match(second.warnings.join(), /everything was sent instead/);
  await assertRestores(store, second, contents(machine));
  assert.deepEqual(await world.audit(), []);
});
