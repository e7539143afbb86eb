/**
 * Damage of every kind, on real bytes: found, named, kept with the backup and told; and nothing said of a backup by what says
 * nothing of it.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createPlaces } from '../../src/backup/archive-places.ts';
import type { StepContext } from '../../src/backup/context.ts';
import { findIndex } from '../../src/backup/find-index.ts';
import { createDraw, drawRuns } from '../../src/backup/verify-sample.ts';
import { checkWhole } from '../../src/backup/verify-whole.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import type { Backup, Checkpoint, Job } from '../../src/catalog/record.ts';
import type { Verification } from '../../src/catalog/verified.ts';
import type { ObjectFacts, ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { decodeIndex } from '../../src/xva/blocks-index.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import type { BlocksIndex } from '../../src/xva/types.ts';
import { nextId, sampleJob } from '../records.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { createLab, type Lab, resultOf } from './delta-world.ts';
import { startWorld } from './world.ts';

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
      open: () => createGeneratedDisk({ sizeBytes: 10 * MIB, seed: 3, density: 1 }),
    },
    {
      name: 'odd',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 3 * MIB + 512, seed: 4, density: 0.7 }),
    },
  ],
};

let lab: Lab;
before(async () => {
  const service = { catalogTtlMs: 0 };
  lab = createLab(await startWorld({ pool: { seed: 9, machines: [MACHINE] }, service }), 'web');
});
after(async () => {
  assert.deepEqual(await lab.world.audit(), []);
  await lab.world[Symbol.asyncDispose]();
});

interface Wish {
  percent?: number;
  store?: ObjectStore;
  jobId?: string;
}

/** By a process of its own, which knows the bucket only. */
async function verify({ id: backupId }: Backup, wish: Wish = {}): Promise<Job> {
  const { percent = 100, store = lab.store, jobId } = wish;
  const service = lab.world.secondService({ store });
  const input = { backupId, wish: { percent }, triggeredBy: 'test', jobId };
  const { id } = await service.startVerify(input, options);
  // it ends with its last job, and nobody has to look again and again
  await service.drain({ drainMs: 60_000 });
  return (await service.getJob(id, options)) as Job;
}

/** What any process tells of the backup. */
async function toldOf({ id }: Backup): Promise<Verification | undefined> {
  return (await lab.world.secondService().getBackup(id, options))?.verified;
}

async function indexOf({ index_key: key }: Backup): Promise<BlocksIndex> {
  return decodeIndex((await lab.store.get(key, options))?.bytes ?? Buffer.alloc(0), hash);
}

/** A bucket that gives one byte of one object otherwise than it was stored, however it is asked. */
function rotten(key: string, at: number): ObjectStore {
  const { store } = lab;
  const spoil = (bytes: Uint8Array, offset: number) => {
    const place = at - offset;
    if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] as number) ^ 1;
    return bytes;
  };
  return {
    ...store,
    get: async (name, to) => {
      const found = await store.get(name, to);
      return found && name === key
        ? { ...found, bytes: spoil(found.bytes, to.range?.offset ?? 0) }
        : found;
    },
    fill: async (input, target, to) => {
      await store.fill(input, target, to);
      if (input.key === key) spoil(target, input.offset);
    },
    read: async function* (input, to) {
      let offset = 0;
      for await (const piece of store.read(input, to)) {
        yield input.key === key ? spoil(Buffer.from(piece), offset) : piece;
        offset += piece.length;
      }
    },
  };
}

const LONG = process.env.XVAULT_TEST_LONG === '1';

for (const compression of ['none', 'zstd'] as const) {
  describe(`an archive of compression ${compression}`, () => {
    let backup: Backup;
    let index: BlocksIndex;
    before(async () => {
      backup = resultOf(await lab.backup({ mode: 'full', compression }));
      index = await indexOf(backup);
    });

    test('that is what was stored says so, whole or in part, wherever it is looked at', async () => {
      const blocks = backup.disks.reduce((sum, disk) => sum + disk.stored_blocks, 0);
      assert.equal(await toldOf(backup), undefined);
      const whole = await verify(backup);
      assert.equal(whole.status, 'succeeded', JSON.stringify(whole.error));
      assert.equal(whole.kind, 'verify');
      const { at: _, ...seen } = whole.verified as Verification;
      const { size_bytes: readBytes } = backup.archive;
      assert.deepEqual(seen, {
        kind: 'whole',
        percent: 100,
        ok: true,
        read_bytes: readBytes,
        checked_blocks: blocks,
        job_id: whole.id,
      });
      assert.deepEqual(await toldOf(backup), whole.verified);

      const part = await verify(backup, { percent: 20 });
      assert.equal(part.status, 'succeeded', JSON.stringify(part.error));
      assert.equal(part.verified?.kind, 'sampled');
      // three runs of four blocks at least, whichever are drawn
      const checked = part.verified?.checked_blocks ?? 0;
      assert.ok(checked >= 0.2 * blocks && checked < blocks, JSON.stringify(part.verified));
      const service = lab.world.secondService();
      const listed = await service.listBackups({ pageSize: 1000 }, options);
      assert.deepEqual(listed.items.find(({ id }) => id === backup.id)?.verified, part.verified);
      const { vms } = await service.status({ maxAgeSeconds: 3600 }, options);
      assert.match(vms[0]?.reason ?? '', /young enough, 20 % verified just now/);
    });

    /** Where a byte is turned, and what must be named: object, disk and block. */
    const at = {
      block: () => ({ disk: 0, position: 7, inside: 300 }),
      'last block': () => {
        const { storedBlocks } = index.disks[1] as (typeof index.disks)[number];
        return { disk: 1, position: storedBlocks - 1, inside: 20 };
      },
      header: () => ({ disk: 0, position: 3, inside: 2 }),
    };
    const isShort = (what: string) => compression === 'none' || what === 'block';
    for (const [what, place] of Object.entries(at).filter(([what]) => LONG || isShort(what))) {
      test(`with one byte turned in a ${what} fails its verification, which names disk and block`, async () => {
        const { disk, position, inside } = place();
        const places = createPlaces(index);
        const offset = places.rangeOf({ disk, position }).offset + inside;
        const store = rotten(backup.archive.key, offset);
        const job = await verify(backup, { store });
        assert.deepEqual([job.status, job.error?.code], ['failed', 'data_corrupt']);
        const { key } = backup.archive;
        const { number } = places.blockOf({ disk, position });
        const name = backup.disks[disk]?.name;
        assert.deepEqual(
          [job.error?.details?.key, job.error?.details?.disk_name, job.error?.details?.block],
          [key, name, number],
          JSON.stringify(job.error),
        );
        for (const word of [key, `block=${number}`, String(name)]) {
          assert.ok(job.error?.detail.includes(word), `${word}: ${job.error?.detail}`);
        }
        const told = await toldOf(backup);
        assert.deepEqual(
          [told?.ok, told?.problem?.part, told?.problem?.key],
          [false, 'archive', key],
        );
        assert.equal(told?.problem?.detail, job.error?.detail);

        // a sample finds it if, and only if, it looks there; and takes nothing back if it does not
        const percent = 40;
        const jobId = nextId();
        const runs = drawRuns(index.disks, percent, createDraw(jobId));
        const isDrawn = runs.some(
          (run) => run.disk === disk && run.from <= position && position < run.to,
        );
        const sample = await verify(backup, { store, percent, jobId });
        assert.equal(sample.status, isDrawn ? 'failed' : 'succeeded', JSON.stringify(runs));
        if (isDrawn) assert.equal(sample.error?.details?.block, number);
        assert.equal((await toldOf(backup))?.problem?.part, 'archive');
        assert.equal((await verify(backup)).status, 'succeeded');
        assert.equal((await toldOf(backup))?.ok, true);
      });
    }

    const edges = {
      'ova.xml': () => 700,
      end: () => backup.archive.size_bytes - (compression === 'none' ? 600 : 6),
    };
    for (const [what, place] of Object.entries(edges)) {
      test(`with one byte turned in its ${what} fails every verification`, async () => {
        const store = rotten(backup.archive.key, place());
        for (const percent of [100, 1]) {
          const job = await verify(backup, { store, percent });
          assert.deepEqual(
            [job.status, job.error?.code, job.error?.details?.key],
            ['failed', 'data_corrupt', backup.archive.key],
            `${percent} %: ${JSON.stringify(job.error)}`,
          );
        }
      });
    }

    test('whose index is lost or wrong is right itself; the verification says which and how to mend it', async () => {
      const { index_key: key } = backup;
      const written = (await lab.store.get(key, options))?.bytes as Uint8Array;
      const losses: [RegExp, () => Promise<unknown>][] = [
        [/index is gone/, () => lab.store.delete(key, options)],
        [/index is damaged/, () => lab.store.put(key, turned(written, 20), options)],
        [
          /index is damaged/,
          () => lab.store.put(key, turned(written, written.length - 9), options),
        ],
        [/index is damaged/, () => lab.store.put(key, written.subarray(0, 100), options)],
      ];
      for (const [i, [why, lose]] of losses.entries()) {
        await lose();
        const percent = i % 2 === 0 ? 100 : 5;
        const job = await verify(backup, { percent });
        assert.equal(job.error?.code, 'data_corrupt');
        assert.match(job.error?.detail ?? '', why);
        assert.ok(job.error?.detail.includes(`xvault index ${backup.id}`), job.error?.detail);
        const told = await toldOf(backup);
        assert.deepEqual(
          [told?.ok, told?.problem?.part, told?.problem?.key],
          [false, 'index', key],
        );
      }
      const service = lab.world.secondService();
      const { vms } = await service.status({ maxAgeSeconds: 3600 }, options);
      assert.equal(vms[0]?.status, 'warning', vms[0]?.reason);
      await lab.store.put(key, written, options);
      assert.equal((await verify(backup, { percent: 5 })).status, 'succeeded');
      assert.equal((await toldOf(backup))?.ok, true);
    });
  });
}

function turned(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
}

test('an archive that is gone, cut, longer or another object is named with what was found', async () => {
  const backup = resultOf(await lab.backup({ mode: 'full' }));
  const { key } = backup.archive;
  const others: [RegExp, (there: ObjectFacts) => ObjectFacts | undefined][] = [
    [/1000000 bytes instead of/, (there) => ({ ...there, sizeBytes: 1_000_000 })],
    [/bytes instead of/, (there) => ({ ...there, sizeBytes: there.sizeBytes + 512 })],
    [/not the one that was stored/, (there) => ({ ...there, etag: '"another"' })],
    [/archive is gone/, () => undefined],
  ];
  for (const [why, replace] of others) {
    const store: ObjectStore = {
      ...lab.store,
      head: async (name, to) => {
        const there = await lab.store.head(name, to);
        return there && name === key ? replace(there) : there;
      },
    };
    const job = await verify(backup, { store });
    assert.equal(job.status, 'failed');
    assert.match(job.error?.detail ?? '', why);
    assert.ok(job.error?.detail.includes(key), job.error?.detail);
    assert.equal((await toldOf(backup))?.problem?.part, 'archive');
  }
  assert.equal((await verify(backup)).status, 'succeeded');
});

test('of damage also those are told who copied from it, directly or not', async () => {
  const first = resultOf(await lab.backup({ mode: 'full' }));
  const second = resultOf(await lab.backup({ mode: 'delta' }));
  const third = resultOf(await lab.backup({ mode: 'delta' }));
  const other = resultOf(await lab.backup({ mode: 'full' }));
  assert.deepEqual([second.base?.backup_id, third.base?.backup_id], [first.id, second.id]);
  const store = rotten(first.archive.key, 3_000_000);
  const { error } = await verify(first, { store });
  assert.match(error?.detail ?? '', /later backups that copied from it .2. may hold the same/);
  const told = await toldOf(first);
  assert.deepEqual(told?.problem?.copied_by, [second.id, third.id]);
  assert.deepEqual(error?.details?.copied_by, [second.id, third.id]);
  assert.equal((await verify(first)).status, 'succeeded');
  assert.equal(
    (await verify(other, { store: rotten(other.archive.key, 3_000_000) })).status,
    'failed',
  );
  assert.equal('copied_by' in ((await toldOf(other))?.problem ?? {}), false);
});

test('nothing is copied from a damaged backup, and the status tells of it until a newer one is there', async () => {
  const good = resultOf(await lab.backup({ mode: 'full' }));
  const bad = resultOf(await lab.backup({ mode: 'full' }));
  const store = rotten(bad.archive.key, 3_000_000);
  assert.equal((await verify(bad, { store })).status, 'failed');
  const service = lab.world.secondService();
  const [line] = (await service.status({ maxAgeSeconds: 3600 }, options)).vms;
  assert.equal(line?.status, 'warning');
  assert.deepEqual([line?.last_backup_id, line?.damaged_backup_id], [good.id, bad.id]);
  assert.match(line?.reason ?? '', /is damaged .*block=/);
  const next = resultOf(await lab.backup({ mode: 'delta' }));
  assert.equal(next.base?.backup_id, good.id);
  assert.match(next.mode_reason, new RegExp(`${bad.id} .a verification found it damaged`));
  const [after] = (await lab.world.secondService().status({ maxAgeSeconds: 3600 }, options)).vms;
  assert.deepEqual([after?.status, after?.last_backup_id], ['ok', next.id]);
});

test('what says nothing of a backup is not kept: a cold class, a store that is away, a cancel', async () => {
  const backup = resultOf(await lab.backup({ mode: 'full' }));
  const cold: ObjectStore = {
    ...lab.store,
    head: async (key, to) => {
      const found = await lab.store.head(key, to);
      return found && key === backup.archive.key ? { ...found, storageClass: 'GLACIER' } : found;
    },
  };
  assert.equal((await verify(backup, { store: cold })).error?.code, 'store_refused');
  assert.equal(await toldOf(backup), undefined);

  const begun = Promise.withResolvers<void>();
  const slow: ObjectStore = {
    ...lab.store,
    read: async function* (input, { signal }) {
      begun.resolve();
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      );
      yield* lab.store.read(input, { signal });
    },
  };
  const service = lab.world.secondService({ store: slow });
  const input = { backupId: backup.id, wish: { percent: 100 }, triggeredBy: 'test' };
  const { id } = await service.startVerify(input, options);
  await begun.promise;
  const { startVerify, startIndex } = lab.world.service;
  await assert.rejects(startVerify(input, options), { code: 'job_conflict' });
  await assert.rejects(startIndex(input, options), { code: 'job_conflict' });
  await service.cancelJob(id, options);
  const job = await service.waitJob(id, { timeoutMs: 60_000 }, options);
  assert.equal(job?.status, 'cancelled');
  assert.equal(await toldOf(backup), undefined);
  const other = { ...input, backupId: '019aaf4a-4d10-7e02-a6b1-9c8d7e6f5a43' };
  await assert.rejects(startVerify(other, options), { code: 'not_found' });
});

/** A job of a dead instance that had come so far. */
async function leave(backup: Backup, over: Partial<Job>): Promise<Job> {
  const left = sampleJob({
    kind: 'verify',
    status: 'running',
    phase: 'verifying',
    backup_id: backup.id,
    vm: backup.vm,
    instance: 'dead',
    ...over,
  });
  await lab.store.put(`xv/jobs/${left.id}.json`, JSON.stringify(left), options);
  return left;
}

async function takeOver(left: Job, store = lab.store): Promise<Job> {
  const service = lab.world.secondService({ store });
  await service.start();
  await service.drain({ drainMs: 60_000 });
  return (await service.getJob(left.id, options)) as Job;
}

test('a job whose instance died in the middle is begun again by another', async () => {
  const backup = resultOf(await lab.backup({ mode: 'full' }));
  const left = await leave(backup, { verify: { percent: 50 } });
  const job = await takeOver(left);
  assert.deepEqual([job.status, job.attempt], ['succeeded', 2], JSON.stringify(job.error));
  const told = await toldOf(backup);
  assert.deepEqual([told?.kind, told?.percent, told?.job_id], ['sampled', 50, left.id]);
});

for (const compression of ['none', 'zstd'] as const) {
  test(`one that reads all of an archive (${compression}) goes on where it had come`, async () => {
    const backup = resultOf(await lab.backup({ mode: 'full', compression }));
    const archive = (await lab.store.head(backup.archive.key, options)) as ObjectFacts;
    const index = await indexOf(backup);
    const checkpoint = (blocks: number, etag = archive.etag) => {
      const { checkpoint: fresh } = sampleJob();
      return { verify: { percent: 100 }, checkpoint: { ...fresh, verify: { etag, blocks } } };
    };
    let readBytes = 0;
    const counting: ObjectStore = {
      ...lab.store,
      fill: (input, target, to) => {
        readBytes += target.length;
        return lab.store.fill(input, target, to);
      },
    };
    const good = await takeOver(await leave(backup, checkpoint(8)), counting);
    assert.equal(good.status, 'succeeded', JSON.stringify(good.error));
    const blocks = backup.disks.reduce((sum, disk) => sum + disk.stored_blocks, 0);
    assert.deepEqual([good.verified?.kind, good.verified?.checked_blocks], ['whole', blocks]);
    assert.equal(good.verified?.read_bytes, archive.sizeBytes);
    assert.ok(readBytes > 0 && readBytes < archive.sizeBytes / 2, `${readBytes} read`);

    const { offset } = createPlaces(index).rangeOf({ disk: 1, position: 1 });
    const store = rotten(archive.key, offset + 20);
    const bad = await takeOver(await leave(backup, checkpoint(8)), store);
    assert.deepEqual([bad.status, bad.error?.details?.disk_name], ['failed', 'odd']);
    // another object, or all of it: from the beginning, or only the end
    const fresh = await takeOver(await leave(backup, checkpoint(8, '"other"')), counting);
    assert.equal(fresh.progress.read_bytes, archive.sizeBytes);
    assert.equal((await takeOver(await leave(backup, checkpoint(blocks)))).status, 'succeeded');
  });
}

test('every minute a job remembers how far it has come, as long as the index is that of the blocks', async () => {
  const backup = resultOf(await lab.backup({ mode: 'full' }));
  const archive = (await lab.store.head(backup.archive.key, options)) as ObjectFacts;
  const keys = createKeys('xv');
  for (const spoiled of [undefined, 5]) {
    const marks: number[] = [];
    let minutes = 0;
    const store: ObjectStore = {
      ...lab.store,
      get: async (key, to) => {
        const found = await lab.store.get(key, to);
        // an entry of another block, read after all entries were proved
        const isEntries = spoiled !== undefined && minutes > 0 && key === backup.index_key;
        if (!found || !isEntries) return found;
        const at = spoiled * 24;
        return { ...found, bytes: turned(found.bytes, Math.min(at, found.bytes.length - 1)) };
      },
    };
    const engine = {
      store,
      keys,
      hasher: async () => hash,
      clock: { elapsed: () => 61_000 * ++minutes },
    };
    const context = {
      engine,
      signal: NEVER,
      remember: async ({ verify: seen }: Partial<Checkpoint>) => void marks.push(seen?.blocks ?? 0),
    } as unknown as StepContext;
    const index = await findIndex(backup, context);
    const input = { job: sampleJob(), stored: { backup, archive }, index, onRead: () => undefined };
    if (spoiled === undefined) await checkWhole(input, context);
    else await assert.rejects(checkWhole(input, context), /not that of its blocks/);
    assert.deepEqual(
      marks,
      Array.from({ length: spoiled ?? marks.length }, (_, i) => i + 1),
    );
    const blocks = backup.disks.reduce((sum, disk) => sum + disk.stored_blocks, 0);
    assert.equal(marks.length, spoiled ?? blocks);
  }
});
