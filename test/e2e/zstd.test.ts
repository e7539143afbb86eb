/**
 * Compressed archives on real bytes: every machine comes back from them, through the importer and through the tools of
 * others (`zstd`, GNU tar, where they are installed), and an end before the end leaves nothing.
 *
 * That deltas of them equal fulls is in delta.test.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Backup, backupRequestSchema } from '../../src/catalog/record.ts';
import type { Pool } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { openIndex } from '../../src/xva/blocks-index.ts';
import { createFrameMap } from '../../src/xva/frames.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import type { BlocksIndex } from '../../src/xva/types.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk, createSparseDisk } from '../sim/disk.ts';
import type { DiskSpec, MachineSpec } from '../sim/pool.ts';
import { resultOf } from './delta-world.ts';
import { contentDigest, readObject, startWorld, type TestWorld } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
const zstd = { compression: 'zstd' } as const;

const disk = (name: string, open: DiskSpec['open']): DiskSpec => ({ name, storage: 'nfs', open });
const noise = (mib: number, seed: number) => () =>
  createGeneratedDisk({ sizeBytes: mib * MIB + 700, seed, density: 0.7 });

/** Little in every block: frames of some hundred bytes. */
function openSparse() {
  const sparse = createSparseDisk(20 * MIB);
  for (let at = 0; at < sparse.sizeBytes; at += MIB) sparse.write(at, Buffer.from(`page ${at}`));
  return sparse;
}

/** Of many small disks, by chance, some come before their place. */
const MACHINES: MachineSpec[] = [
  {
    name: 'many',
    power: 'Running',
    disks: [
      disk('root', noise(8, 1)),
      disk('pages', openSparse),
      disk('tiny', () => createSparseDisk(512)),
      ...[2, 3, 4, 5].map((seed) => disk(`data ${seed}`, noise(1, seed))),
    ],
  },
  { name: 'diskless', disks: [] },
];

let world: TestWorld;
/** Of the machine with many disks, which does not change. */
let first: Backup;
before(async () => {
  world = await startWorld({ pool: { machines: MACHINES, seed: 5 } });
  first = resultOf(await world.backup('many', zstd));
});
after(() => world[Symbol.asyncDispose]());

async function assertRestores({ archive, vm }: Backup): Promise<void> {
  const imported = await importXva(readObject(world.store, archive.key));
  assert.equal(imported.compression, 'zstd');
  assert.equal(imported.plainBytes, archive.uncompressed_bytes);
  assert.deepEqual(imported.remarks, []);
  const { disks } = world.sim.machine(vm.name);
  const want = disks.map((one) => [one.userdevice, contentDigest(one.disk)]);
  const got = imported.disks.map((one) => [one.userdevice, contentDigest(one.image)]);
  assert.deepEqual(Object.fromEntries(got), Object.fromEntries(want));
}

async function indexOf({ index_key: key }: Backup): Promise<BlocksIndex> {
  const sizeBytes = (await world.store.head(key, options))?.sizeBytes ?? 0;
  const read = async (range: { offset: number; length: number }) =>
    (await world.store.get(key, { ...options, range }))?.bytes as Uint8Array;
  return await openIndex(read, { sizeBytes, hash: await loadHasher() });
}

/** The archive behind ova.xml, which names what every snapshot has anew. */
async function disksOf(backup: Backup): Promise<Buffer> {
  const { head } = createFrameMap(await indexOf(backup));
  const found = await world.store.get(backup.archive.key, options);
  return Buffer.from(found?.bytes ?? []).subarray(head.lengthBytes);
}

async function save({ archive }: Backup, file: string): Promise<void> {
  await writeFile(file, readObject(world.store, archive.key));
}

test('machines come back from compressed archives, also those without any disk', async () => {
  for (const backup of [first, resultOf(await world.backup('diskless', zstd))]) {
    assert.equal(backup.compression, 'zstd');
    assert(backup.archive.size_bytes < (backup.archive.uncompressed_bytes ?? 0));
    await assertRestores(backup);
  }
  assert.deepEqual(await world.audit(), []);
});

test('a dry run does not say how much a compressed full would send, which nobody knows', async () => {
  const { dry_run: told } = await world.backup('many', { ...zstd, mode: 'full', dry_run: true });
  assert.equal(told?.estimated_sent_bytes, undefined);
  assert((told?.max_archive_bytes ?? 0) > (first.archive.uncompressed_bytes ?? 0));
});

test('the index tells where each frame lies, up to the end of the object', async () => {
  const { archive } = first;
  const index = await indexOf(first);
  assert.equal(createFrameMap(index).archiveBytes, archive.size_bytes);
  assert.equal(index.archiveBytes, archive.uncompressed_bytes);
});

test('whatever the order of the disks in an export, their frames are the same', async () => {
  const others = [await world.backup('many', zstd), await world.backup('many', zstd)];
  const [frames, ...rest] = await Promise.all([first, ...others.map(resultOf)].map(disksOf));
  for (const other of rest) assert(frames?.equals(other));
});

test('the zstd command takes the archive for whole, and GNU tar lists what it lists of a plain one', async (t) => {
  for (const program of ['zstd', 'tar']) {
    if (spawnSync(program, ['--version']).error) return t.skip(`no ${program} command here`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'xvault-zstd-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [packed, plain] = [join(folder, 'packed.xva'), join(folder, 'plain.xva')];
  await save(first, packed);
  await save(resultOf(await world.backup('many')), plain);
  execFileSync('zstd', ['--test', '-q', packed]);
  const list = (file: string) => execFileSync('tar', ['-tvf', file], { encoding: 'utf8' });
  assert.equal(list(packed), list(plain));
});

test('an export that breaks, or is cancelled, leaves nothing of a compressed archive', async () => {
  const { uuid } = world.sim.machine('many');
  const complete = async () =>
    (await world.service.listBackups({ pageSize: 100 }, options)).items.length;
  const before = await complete();
  world.sim.faults.set('export-reset', { afterBytes: 9 * MIB, vm: uuid });
  assert.equal((await world.backup('many', zstd)).status, 'failed');
  let reached = (): void => undefined;
  const middle = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const service = world.secondService({ pool: stopping(world.pool, 9 * MIB, () => reached()) });
  const request = backupRequestSchema.parse(zstd);
  const { id } = await service.startBackup({ vm: 'many', request, triggeredBy: 'test' }, options);
  await middle;
  await service.cancelJob(id, options);
  const ended = await service.waitJob(id, { timeoutMs: 60_000 }, options);
  assert.equal(ended?.status, 'cancelled');
  assert.equal(await complete(), before);
  assert.deepEqual(await world.audit(), []);
});

/** A pool whose exports say when so much has come, and then give nothing more. */
function stopping(pool: Pool, bytes: number, onMiddle: () => void): Pool {
  return {
    ...pool,
    openExport: async (input, to) => {
      const source = await pool.openExport(input, to);
      let read = 0;
      return {
        host: source.host,
        taskProgress: 0,
        settle: (last) => source.settle(last),
        [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
        fill: async (target, { signal }) => {
          read += target.length;
          if (read < bytes) return source.fill(target, { signal });
          onMiddle();
          return await new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason), { once: true });
          });
        },
      };
    },
  };
}
