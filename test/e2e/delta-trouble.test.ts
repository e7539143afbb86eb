/**
 * What a delta could be wrong by: a base that rots, copies that lie, indexes mixed up, disks that are not what they were.
 *
 * In all cases the backup succeeds and restores bit for bit, and says what it did instead of copying.
 * XVAULT_TEST_LONG=1 takes more seeds and days.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Backup, backupRequestSchema, type Job } from '../../src/catalog/record.ts';
import { NEVER } from '../../src/signals.ts';
import { decodeIndex } from '../../src/xva/blocks-index.ts';
import { ENTRY_BYTES } from '../../src/xva/entries.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk, createSparseDisk } from '../sim/disk.ts';
import type { MachineSpec, SimMachine } from '../sim/pool.ts';
import type { Fault } from '../sim/s3/index.ts';
import {
  addDisk,
  createDraw,
  createLab,
  type Draw,
  growDisk,
  type Lab,
  liveOneDay,
  removeDisk,
  resultOf,
  writeNoise,
} from './delta-world.ts';
import { BUCKET, contentDigest, readObject, startWorld, type WorldOptions } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const long = { skip: !isLong && 'in the long run' };

/** One disk of noise, large enough that most of it is copied. */
const NOISE: MachineSpec = {
  name: 'noisy',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 12 * MIB, seed: 3, density: 1 }),
    },
  ],
};

async function openLab(
  machine: MachineSpec,
  over: WorldOptions = {},
): Promise<Lab & AsyncDisposable> {
  const world = await startWorld({ pool: { seed: 5, machines: [machine] }, ...over });
  return {
    ...createLab(world, machine.name),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

async function assertRestores({ store, machine }: Lab, backup: Backup, without: string[] = []) {
  const imported = await importXva(readObject(store, backup.archive.key));
  const found = imported.disks.map((disk) => [disk.userdevice, contentDigest(disk.image)]);
  const wanted = machine.disks
    .filter(({ userdevice }) => !without.includes(userdevice))
    .map(({ userdevice, disk }) => [userdevice, contentDigest(disk)]);
  assert.deepEqual(Object.fromEntries(found), Object.fromEntries(wanted));
}

const EQUAL = { equalParts: true } as const;
const UNPROVEN: WorldOptions = { storeSettings: { quirks: { checksum: 'none' } } };

for (const [what, over] of [
  ['with checksums of whole objects', {}],
  ['without them', EQUAL],
] as const) {
  test(`a base that rotted in the bucket is copied from once and never stored: on stores ${what}`, async () => {
    await using lab = await openLab(NOISE, over);
    const { world } = lab;
    const first = resultOf(await lab.backup());
    // in the middle of the first block of a copy: seams are at its ends
    const index = await indexOf(lab, first);
    const [disk] = index.disks;
    assert(disk);
    for (let i = 0; i < disk.storedBlocks; i += 1) {
      world.s3?.inspect.damage(BUCKET, first.archive.key, disk.offsetBytes + i * 1_050_112 + 9000);
    }
    const second = resultOf(await lab.backup());
    assert.equal(second.mode, 'full');
    assert.match(second.mode_reason, new RegExp(`the base ${first.id} gave other bytes`));
    assert.match(second.warnings.join(), new RegExp(`xvault index ${first.id}`));
    await assertRestores(lab, second);
    const third = resultOf(await lab.backup());
    assert.deepEqual([third.mode, third.base?.backup_id], ['delta', second.id]);
    await assertRestores(lab, third);
    assert.deepEqual(await world.audit(), []);
  });
}

const COPIES: [string, Fault['effect'], WorldOptions, 'full' | 'delta'][] = [
  ['answers with an error in a 200', { kind: 'error-in-200', code: 'InternalError' }, {}, 'delta'],
  [
    'says that the base went to an archive class',
    { kind: 'status', status: 403, code: 'InvalidObjectState' },
    {},
    'full',
  ],
  ['copies one byte too few', { kind: 'store-short' }, {}, 'full'],
  ['copies one byte too few, and gives no checksums', { kind: 'store-short' }, UNPROVEN, 'full'],
  ['copies other bytes, and gives no checksums', { kind: 'store-damaged' }, EQUAL, 'full'],
];

for (const [i, [what, effect, over, mode]] of COPIES.entries()) {
  const skip = !isLong && i > 1 && 'in the long run';
  test(`a store that ${what} is not believed, and the backup is right`, { skip }, async () => {
    await using lab = await openLab(NOISE, over);
    resultOf(await lab.backup());
    lab.world.s3?.faults.add({ effect, operation: 'UploadPartCopy' });
    const second = resultOf(await lab.backup());
    assert.equal(second.mode, mode, second.mode_reason);
    await assertRestores(lab, second);
    assert.deepEqual(await lab.world.audit(), []);
  });
}

test('an index that went to an archive class makes its backup no base, and stops nothing', async () => {
  await using lab = await openLab(NOISE);
  const first = resultOf(await lab.backup());
  const effect = { kind: 'status', status: 403, code: 'InvalidObjectState' } as const;
  lab.world.s3?.faults.add({ effect, operation: 'GetObject', key: first.index_key, times: 99 });
  const second = resultOf(await lab.backup());
  assert.equal(second.mode, 'full');
  assert.match(second.mode_reason, /its index lies in a class that cannot be read at once/);
});

test('entries in the place of others are found before anything is copied by them', async () => {
  await using lab = await openLab(NOISE, EQUAL);
  const first = resultOf(await lab.backup());
  const { bytes } = (await lab.store.get(first.index_key, options)) ?? {};
  const [disk] = (await indexOf(lab, first)).disks;
  assert(bytes && disk);
  const at = disk.entriesOffsetBytes + 3 * ENTRY_BYTES;
  const swapped = Buffer.from(bytes);
  swapped.copy(swapped, at, at + ENTRY_BYTES, at + 2 * ENTRY_BYTES);
  swapped.set(bytes.subarray(at, at + ENTRY_BYTES), at + ENTRY_BYTES);
  await lab.store.put(first.index_key, swapped, options);
  const second = resultOf(await lab.backup());
  assert.equal(second.mode, 'full');
  assert.match(second.mode_reason, new RegExp(`its index is damaged.*xvault index ${first.id}`));
});

async function indexOf({ store }: Lab, { index_key: key }: Backup) {
  const found = await store.get(key, options);
  assert(found);
  return decodeIndex(found.bytes, await loadHasher());
}

test('behind a first disk below one block, later ones are copied as ever', long, async () => {
  const open = () => createGeneratedDisk({ sizeBytes: 300_032, seed: 9, density: 1 });
  const disks = [{ name: 'tiny', storage: 'nfs' as const, open }, ...(NOISE.disks ?? [])];
  await using lab = await openLab({ name: 'tiny-first', disks });
  resultOf(await lab.backup());
  const [tiny, large] = lab.machine.disks;
  assert(tiny && large);
  writeNoise(tiny, { offset: 299_008, bytes: 1024 }, createDraw(1));
  writeNoise(large, { offset: 3 * MIB, bytes: 10 }, createDraw(2));
  const second = resultOf(await lab.backup());
  assert.equal(second.mode, 'delta');
  assert(second.copied_bytes > 5 * MIB);
  await assertRestores(lab, second);
});

test(
  'a delta whose instance goes in the middle is begun again by another, as a delta',
  long,
  async () => {
    await using lab = await openLab(NOISE, {
      service: { retry: { attempts: 2, firstPauseMs: 0 } },
    });
    const { world } = lab;
    const first = resultOf(await lab.backup());
    const copying = Promise.withResolvers<void>();
    const s3 = world.s3;
    assert(s3);
    s3.faults.add({ effect: { kind: 'hang' }, operation: 'UploadPartCopy' });
    s3.faults.watch = ({ operation }) => {
      if (operation === 'UploadPartCopy') copying.resolve();
    };
    const one = world.secondService();
    const request = backupRequestSchema.parse({});
    const { id } = await one.startBackup({ vm: 'noisy', request, triggeredBy: 'test' }, options);
    await copying.promise;
    await one.drain({ drainMs: 0 });
    const other = world.secondService();
    await other.start();
    const job = (await other.waitJob(id, { timeoutMs: 60_000 }, options)) as Job;
    await other.drain({ drainMs: 0 });
    const second = resultOf(job);
    assert.deepEqual([job.attempt, second.mode], [2, 'delta']);
    assert.equal(second.base?.backup_id, first.id);
    await assertRestores(lab, second);
    assert.deepEqual(await world.audit(), []);
  },
);

/** Odd ends, and more devices than digits. Disks below one block are refused as the first of an export with gaps. */
const CHANGING: MachineSpec = {
  name: 'changing',
  disks: [
    {
      name: 'data',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 9 * MIB + 512, seed: 3, density: 1 }),
    },
    { name: 'small', storage: 'nfs', open: () => createSparseDisk(MIB + 30_208) },
  ],
};

/** Something that happens to machines beside writes. */
function surprise({ world: { sim }, machine }: Lab, draw: Draw): void {
  const device = String(2 + draw(14));
  const there = machine.disks.some(({ userdevice }) => userdevice === device);
  const sizeBytes = MIB + 512 * (1 + draw(12_000));
  const first = machine.disks[draw(2)] as SimMachine['disks'][number];
  switch (draw(5)) {
    case 0: // another disk in the place of one, as large as it comes
      if (there) removeDisk(sim, machine, device);
      addDisk(sim, machine, { userdevice: device, sizeBytes }, draw);
      return;
    case 1:
      if (there) removeDisk(sim, machine, device);
      return;
    case 2:
      growDisk(sim, machine, {
        userdevice: first.userdevice,
        sizeBytes: first.disk.sizeBytes + 512 * (1 + draw(3000)),
      });
      return;
    case 3: // zeros become something, and zeros again tomorrow or later
      first.disk.write(0, Buffer.alloc(Math.min(first.disk.sizeBytes, MIB), draw(2)));
      return;
    default:
      writeNoise(first, { offset: 0, bytes: first.disk.sizeBytes }, draw);
  }
}

for (const seed of isLong ? [1, 2, 3] : [1]) {
  for (const [what, over] of isLong
    ? ([
        ['free', {}],
        ['equal', EQUAL],
      ] as const)
    : ([['free', {}]] as const)) {
    test(`disks that are replaced, resized or left out restore bit for bit: parts ${what}, seed ${seed}`, async () => {
      await using lab = await openLab(CHANGING, over);
      const draw = createDraw(seed);
      resultOf(await lab.backup());
      for (let day = 0; day < (isLong ? 10 : 3); day += 1) {
        liveOneDay(lab.machine, draw);
        for (let i = 1 + draw(3); i > 0; i -= 1) surprise(lab, draw);
        const without = draw(4) === 0 ? ['1'] : [];
        const compression = draw(6) === 0 ? 'zstd' : 'none';
        const wish = { exclude_disks: without, compression };
        await assertRestores(lab, resultOf(await lab.backup(wish)), without);
      }
      assert.deepEqual(await lab.world.audit(), []);
    });
  }
}
