/**
 * An index that was lost, on real bytes: made anew from the archive in the bucket, and the next delta copies again.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Backup, IndexResult, Job } from '../../src/catalog/record.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { decodeIndex } from '../../src/xva/blocks-index.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { sampleJob } from '../records.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { createLab, type Lab, resultOf, writeNoise } from './delta-world.ts';
import { startWorld, type TestWorld } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
const hash = await loadHasher();

const MACHINE: MachineSpec = {
  name: 'web',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 14 * MIB, seed: 3, density: 1 }),
    },
    {
      name: 'odd',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 4 * MIB + 512, seed: 4, density: 0.5 }),
    },
  ],
};

interface IndexLab extends Lab, AsyncDisposable {
  index(backup: Backup): Promise<Job>;
  /** The next backup, after one block changed. */
  delta(): Promise<Backup>;
}

let lab: IndexLab;
before(async () => {
  const world = await startWorld({ pool: { seed: 9, machines: [MACHINE] } });
  const one = createLab(world, 'web');
  lab = {
    ...one,
    index: (backup) => remake(world, backup),
    delta: async () => {
      const disk = one.machine.disks[0] as (typeof one.machine.disks)[number];
      writeNoise(disk, { offset: 13 * MIB, bytes: 4096 }, () => 7);
      return resultOf(await one.backup({ mode: 'delta' }));
    },
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});
after(async () => {
  assert.deepEqual(await lab.world.audit(), []);
  await lab[Symbol.asyncDispose]();
});

/** By a process of its own, which knows the bucket only. */
async function remake(
  world: TestWorld,
  { id: backupId }: Backup,
  over: { store?: ObjectStore } = {},
): Promise<Job> {
  const service = world.secondService(over);
  const { id } = await service.startIndex({ backupId, triggeredBy: 'test' }, options);
  return (await service.waitJob(id, { timeoutMs: 60_000 }, options)) as Job;
}

async function bytesOf(store: ObjectStore, key: string): Promise<Buffer> {
  return Buffer.from((await store.get(key, options))?.bytes ?? []);
}

const rebuiltKey = ({ id }: Backup) => `xv/indexes/${id}.idx`;

/** What a real bucket only lets others do: the object is replaced under its key. */
async function spoil(store: ObjectStore, key: string, at: (length: number) => number) {
  const bytes = await bytesOf(store, key);
  const place = at(bytes.length);
  bytes[place] = (bytes[place] as number) ^ 1;
  await store.put(key, bytes, options);
}

function oldIndex(): Buffer {
  const bytes = Buffer.alloc(200);
  bytes.write('XVAULTIX');
  bytes.writeUInt32BE(1, 8);
  return bytes;
}

type Lose = (store: ObjectStore, backup: Backup) => Promise<unknown>;
const LOSSES: [string, IndexResult['found'], Lose][] = [
  ['missing', 'missing', (store, { index_key: key }) => store.delete(key, options)],
  ['damaged', 'damaged', (store, { index_key: key }) => spoil(store, key, (end) => end - 40)],
  [
    'of an older version',
    'old',
    (store, { index_key: key }) => store.put(key, oldIndex(), options),
  ],
];

for (const [what, found, lose] of LOSSES) {
  test(`an index that is ${what} is made anew, and the next delta copies from its backup`, async () => {
    const full = resultOf(await lab.backup({ mode: 'full' }));
    await lose(lab.store, full);
    const beside = await lab.store.head(full.index_key, options);
    const asked = await lab.backup({ mode: 'delta', dry_run: true });
    assert.match(
      asked.dry_run?.mode_reason ?? '',
      new RegExp(`its index .*: xvault index ${full.id}`),
    );

    const made = await lab.index(full);
    assert.equal(made.status, 'succeeded', JSON.stringify(made.error));
    assert.equal(made.kind, 'index');
    assert.deepEqual(made.index, {
      found,
      written: true,
      key: rebuiltKey(full),
      size_bytes: (await lab.store.head(rebuiltKey(full), options))?.sizeBytes,
      stored_blocks: full.disks.reduce((sum, disk) => sum + disk.stored_blocks, 0),
    });
    assert.equal(made.progress.read_bytes, full.archive.size_bytes);
    assert.deepEqual(await lab.store.head(full.index_key, options), beside);

    const delta = await lab.delta();
    assert.equal(delta.mode, 'delta', delta.mode_reason);
    assert.equal(delta.base?.backup_id, full.id);
    assert.ok(delta.copied_bytes > 5 * MIB, `${delta.copied_bytes} copied`);
  });
}

test('with its key the new index is the one the backup wrote, byte for byte', async () => {
  const full = resultOf(await lab.backup({ mode: 'full' }));
  const written = await bytesOf(lab.store, full.index_key);

  const right = await lab.index(full);
  assert.deepEqual([right.index?.found, right.index?.written], ['right', false]);
  assert.equal(right.index?.key, full.index_key);
  assert.equal(await lab.store.head(rebuiltKey(full), options), undefined);

  // an entry: only who reads all of them can tell, and the key is there still
  await spoil(lab.store, full.index_key, () => 20);
  const damaged = await lab.index(full);
  assert.deepEqual([damaged.index?.found, damaged.index?.written], ['damaged', true]);
  assert.ok((await bytesOf(lab.store, rebuiltKey(full))).equals(written));

  // once more: the one made anew counts, and is right
  const again = await lab.index(full);
  assert.deepEqual([again.index?.found, again.index?.written], ['right', false]);
  assert.equal(again.index?.key, rebuiltKey(full));
  const delta = await lab.delta();
  assert.equal(delta.base?.backup_id, full.id);

  // lost again, for a rule may delete it at any time: the one beside the archive serves as it is
  await lab.store.delete(rebuiltKey(full), options);
  assert.equal((await lab.index(full)).index?.written, true);
});

test('a compressed archive gets its index back, frames and all', async () => {
  const full = resultOf(await lab.backup({ mode: 'full', compression: 'zstd' }));
  const before = decodeIndex(await bytesOf(lab.store, full.index_key), hash);
  await lab.store.delete(full.index_key, options);
  const made = await lab.index(full);
  assert.equal(made.status, 'succeeded', JSON.stringify(made.error));
  const after = decodeIndex(await bytesOf(lab.store, rebuiltKey(full)), hash);
  assert.deepEqual(after.frames, before.frames);
  assert.equal(after.contentDigest, before.contentDigest);
});

/** A bucket that gives one byte of large objects otherwise than it was stored. */
function rotten(store: ObjectStore, at: number): ObjectStore {
  return {
    ...store,
    read: async function* (input, to) {
      let offset = 0;
      for await (const piece of store.read(input, to)) {
        const bytes = Buffer.from(piece);
        const place = at - offset;
        if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] as number) ^ 1;
        offset += bytes.length;
        yield bytes;
      }
    },
  };
}

test('a damaged archive gets no index; the job names disk and block', async () => {
  const full = resultOf(await lab.backup({ mode: 'full' }));
  await lab.store.delete(full.index_key, options);
  const index = decodeIndex(
    await bytesOf(lab.store, (await lab.index(full)).index?.key ?? ''),
    hash,
  );
  await lab.store.delete(rebuiltKey(full), options);
  const { offsetBytes } = index.disks[0] as (typeof index.disks)[number];
  const store = rotten(lab.store, offsetBytes + 3 * 1_050_112 + 512);
  const job = await remake(lab.world, full, { store });
  assert.equal(job.status, 'failed');
  assert.equal(job.error?.code, 'data_corrupt');
  assert.match(job.error?.detail ?? '', /disk/);
  assert.equal(job.error?.details?.block, 3, JSON.stringify(job.error));
  assert.equal(job.index, undefined);
  assert.equal(await lab.store.head(rebuiltKey(full), options), undefined);
  assert.equal(await lab.store.head(full.index_key, options), undefined);

  // in a class that must be restored first: nothing is wrong with it
  const cold: ObjectStore = {
    ...lab.store,
    head: async (key, to) => {
      const found = await lab.store.head(key, to);
      return found && key === full.archive.key ? { ...found, storageClass: 'GLACIER' } : found;
    },
  };
  const frozen = await remake(lab.world, full, { store: cold });
  assert.equal(frozen.error?.code, 'store_refused');
  assert.match(frozen.error?.detail ?? '', /lies in GLACIER/);

  // another object under its key: found out before it is read
  await spoil(lab.store, full.archive.key, () => 5_000_000);
  const replaced = await lab.index(full);
  assert.equal(replaced.error?.code, 'data_corrupt');
  assert.match(replaced.error?.detail ?? '', /not the one that was stored/);
  assert.equal(replaced.progress.read_bytes, 0);
});

test('a job whose instance died in the middle is begun again by another, and done once it was written', async () => {
  const full = resultOf(await lab.backup({ mode: 'full' }));
  await lab.store.delete(full.index_key, options);
  for (const found of ['missing', 'right'] as const) {
    const progress = { read_bytes: 5_000_000, sent_bytes: 0, copied_bytes: 0, total_bytes: 9e6 };
    const left = sampleJob({
      kind: 'index',
      status: 'running',
      phase: 'verifying',
      backup_id: full.id,
      vm: full.vm,
      instance: 'dead',
      progress,
    });
    await lab.store.put(`xv/jobs/${left.id}.json`, JSON.stringify(left), options);
    const service = lab.world.secondService();
    await service.start();
    const job = await service.waitJob(left.id, { timeoutMs: 60_000 }, options);
    await service.drain({ drainMs: 0 });
    assert.equal(job?.status, 'succeeded', JSON.stringify(job?.error));
    assert.deepEqual([job.attempt, job.index?.found], [2, found]);
    assert.equal(job.index?.key, rebuiltKey(full));
  }
});

test('one at a time for each backup, beside a backup of the machine; cancelled it leaves nothing', async () => {
  const full = resultOf(await lab.backup({ mode: 'full' }));
  await lab.store.delete(full.index_key, options);
  const begun = Promise.withResolvers<void>();
  const store: ObjectStore = {
    ...lab.store,
    read: async function* (input, { signal }) {
      begun.resolve();
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      );
      yield* lab.store.read(input, { signal });
    },
  };
  const service = lab.world.secondService({ store });
  const input = { backupId: full.id, triggeredBy: 'test' };
  const { id } = await service.startIndex(input, options);
  await begun.promise;
  await assert.rejects(lab.world.service.startIndex(input, options), { code: 'job_conflict' });
  const meanwhile = await lab.backup({ mode: 'full' });
  assert.equal(meanwhile.status, 'succeeded');
  await service.cancelJob(id, options);
  const job = await service.waitJob(id, { timeoutMs: 60_000 }, options);
  assert.equal(job?.status, 'cancelled');
  assert.equal(await lab.store.head(rebuiltKey(full), options), undefined);
  const other = { ...input, backupId: '019aaf4a-4d10-7e02-a6b1-9c8d7e6f5a43' };
  await assert.rejects(service.startIndex(other, options), { code: 'not_found' });
});
