/**
 * Archives made by hand on hosts of several releases become backups: what is stored imports with the same disks, later backups
 * copy from it, and what was changed is said. What is no archive, or a damaged one, leaves nothing.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { AdoptInput } from '../../src/backup/adopt-service.ts';
import type { AdoptSource } from '../../src/backup/adopt-stream.ts';
import { uuidTimeMs } from '../../src/backup/ids.ts';
import type { Backup, Job } from '../../src/catalog/record.ts';
import { NEVER } from '../../src/signals.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec, PersonaName } from '../sim/pool.ts';
import { get, logIn } from '../sim/raw-client.ts';
import { createLab, type Lab, resultOf } from './delta-world.ts';
import { contentDigest, readObject, startWorld } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
/** In the past: a backup is as old as what it holds. */
const WRITTEN_MS = Date.UTC(2025, 2, 1, 12);

const MACHINE: MachineSpec = {
  name: 'old web',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 9 * MIB, seed: 5, density: 1 }),
    },
    {
      name: 'odd',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 3 * MIB + 512, seed: 6, density: 0.5 }),
    },
  ],
};

/** A file of these bytes, in pieces that fit nothing. */
function sourceOf(bytes: Uint8Array, name = '/mnt/old/web.xva'): AdoptSource {
  return {
    name,
    sizeBytes: bytes.length,
    modifiedMs: WRITTEN_MS,
    read: async function* ({ signal }) {
      for (let at = 0; at < bytes.length; at += 300_001) {
        signal.throwIfAborted();
        yield bytes.subarray(at, at + 300_001);
      }
    },
  };
}

async function adopt(lab: Lab, bytes: Uint8Array, over: Partial<AdoptInput> = {}): Promise<Job> {
  const service = lab.world.secondService();
  const job = await service.startAdopt(
    {
      source: sourceOf(bytes),
      retention: 'weekly',
      compression: 'none',
      triggeredBy: 'test',
      ...over,
    },
    options,
  );
  await service.drain({ drainMs: 60_000 });
  return (await service.getJob(job.id, options)) as Job;
}

/** As `xe vm-export` does it. */
async function exportByHand({ world, machine }: Lab, compression = ''): Promise<Buffer> {
  const { session } = await logIn(world.sim);
  const compress = compression === '' ? '' : `&use_compression=${compression}`;
  const path = `/export?uuid=${machine.uuid}&session_id=${session}${compress}`;
  const { body, statusLine } = await get(world.sim.url, path);
  assert.match(statusLine, / 200 /);
  return body;
}

async function assertSameDisks(lab: Lab, { archive }: Backup, disks = lab.machine.disks) {
  const imported = await importXva(readObject(lab.store, archive.key));
  assert.deepEqual(imported.remarks, []);
  const want = disks.map((one) => [one.userdevice, contentDigest(one.disk)]);
  const got = imported.disks.map((one) => [one.userdevice, contentDigest(one.image)]);
  assert.deepEqual(Object.fromEntries(got), Object.fromEntries(want));
  return imported;
}

async function sha256(lab: Lab, { archive }: Backup): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of readObject(lab.store, archive.key)) hash.update(piece);
  return hash.digest('hex');
}

const HANDMADE: { persona: PersonaName; by: string; says: RegExp[] }[] = [
  {
    persona: '8.0',
    by: '',
    says: [/had SHA-1 checksums/],
  },
  { persona: '8.2', by: 'true', says: [/was compressed by gzip, and is not compressed/] },
  { persona: '8.3', by: 'zstd', says: [/was compressed by zstd, and is not compressed/] },
];

for (const { persona, by, says } of HANDMADE) {
  describe(`an archive of ${persona}, ${by === '' ? 'plain' : by}`, () => {
    let lab: Lab;
    let handmade: Buffer;
    before(async () => {
      const service = { catalogTtlMs: 0 };
      const pool = { persona, machines: [MACHINE], seed: 3 };
      lab = createLab(await startWorld({ pool, service }), MACHINE.name);
      handmade = await exportByHand(lab, by);
    });
    after(async () => {
      assert.deepEqual(await lab.world.audit(), []);
      await lab.world[Symbol.asyncDispose]();
    });

    test('is a backup of its machine, as old as it is, and what was changed is told', async () => {
      const job = await adopt(lab, handmade, { note: 'before the move' });
      const backup = resultOf(job);
      assert.deepEqual([job.kind, backup.mode, backup.retention], ['adopt', 'full', 'weekly']);
      assert.deepEqual([backup.vm.uuid, backup.vm.name], [lab.machine.uuid, 'old web']);
      assert.equal(backup.created_at, '2025-03-01T12:00:00.000Z');
      assert.equal(backup.note, 'before the move');
      const { hosts } = await lab.world.pool.facts(options);
      assert.equal(backup.host.product_version, hosts[0]?.productVersion);
      const { changes = [], ...adopted } = backup.adopted ?? {};
      const compression = by === '' ? 'none' : by === 'true' ? 'gzip' : 'zstd';
      assert.deepEqual(adopted, {
        source: '/mnt/old/web.xva',
        size_bytes: handmade.length,
        compression,
      });
      for (const one of says)
        assert.ok(
          changes.some((change) => one.test(change)),
          changes.join(),
        );
      await assertSameDisks(lab, backup);
      const listed = await lab.world.secondService().listBackups({ pageSize: 10 }, options);
      assert.deepEqual(listed.items[0]?.id, backup.id);
    });

    test('is what later backups copy from, and a delta upon it equals a full', async () => {
      const delta = resultOf(await lab.backup({ mode: 'delta' }));
      assert.equal(uuidTimeMs(delta.base?.backup_id ?? ''), WRITTEN_MS, delta.mode_reason);
      assert.ok(delta.copied_bytes > 5 * MIB, `${delta.copied_bytes} copied`);
      const full = resultOf(await lab.backup({ mode: 'full' }));
      assert.equal(delta.archive.content_digest, full.archive.content_digest);
      await assertSameDisks(lab, delta);
    });
  });
}

describe('archives of all kinds', () => {
  let lab: Lab;
  let handmade: Buffer;
  before(async () => {
    const service = { catalogTtlMs: 0 };
    lab = createLab(
      await startWorld({ pool: { machines: [MACHINE], seed: 3 }, service }),
      'old web',
    );
    handmade = await exportByHand(lab);
  });
  after(async () => {
    assert.deepEqual(await lab.world.audit(), []);
    await lab.world[Symbol.asyncDispose]();
  });

  test('is stored compressed where that is wished, and verifies', async () => {
    const backup = resultOf(await adopt(lab, handmade, { compression: 'zstd' }));
    await assertSameDisks(lab, backup);
    const service = lab.world.secondService();
    const input = { backupId: backup.id, wish: { percent: 100 }, triggeredBy: 'test' };
    const { id } = await service.startVerify(input, options);
    await service.drain({ drainMs: 60_000 });
    assert.equal((await service.getJob(id, options))?.status, 'succeeded');
  });

  test('our own archives, plain and compressed, come out as they were', async () => {
    for (const compression of ['none', 'zstd'] as const) {
      const made = resultOf(await lab.backup({ mode: 'full', compression }));
      const bytes = (await lab.store.get(made.archive.key, options))?.bytes as Uint8Array;
      const again = resultOf(await adopt(lab, bytes, { compression }));
      assert.deepEqual(again.adopted?.changes, []);
      assert.equal(await sha256(lab, again), await sha256(lab, made));
    }
  });

  test('a snapshot is taken for its machine when that is named, and a template is none any more', async () => {
    const { call } = await logIn(lab.world.sim);
    const snapshot = await call('VM.snapshot', lab.machine.ref, 'by hand');
    const uuid = await call('VM.get_uuid', snapshot);
    const bytes = await exportByHand({ ...lab, machine: { ...lab.machine, uuid } });
    const alone = resultOf(await adopt(lab, bytes));
    assert.deepEqual([alone.vm.uuid, alone.vm.name], [uuid, 'by hand']);
    assert.match(alone.warnings.join(), /adopt it with --vm/);
    const named = resultOf(await adopt(lab, bytes, { vm: 'old web' }));
    assert.deepEqual([named.vm.uuid, named.vm.name], [lab.machine.uuid, 'old web']);
    const { changes = [] } = named.adopted ?? {};
    for (const one of [/was a snapshot/, /was called "by hand"/, /disk 0 had the uuid/]) {
      assert.ok(
        changes.some((change) => one.test(change)),
        changes.join('\n'),
      );
    }
    const imported = await assertSameDisks(lab, named);
    assert.equal(imported.vm.isATemplate, false);
    const disks = named.disks.map((disk) => disk.vdi_uuid).sort();
    assert.deepEqual(disks, lab.machine.disks.map((disk) => disk.uuid).sort());
    const renamed = resultOf(await adopt(lab, bytes, { vm: lab.machine.uuid, name: 'other' }));
    assert.equal(renamed.vm.name, 'other');
    await removeSnapshot(lab, snapshot);
  });

  test('what is damaged, cut off or no archive leaves nothing, and says what is wrong', async () => {
    const before = (await lab.world.secondService().listBackups({ pageSize: 100 }, options)).items;
    const at = handmade.length >> 1;
    const turned = Buffer.from(handmade);
    turned[at] = (turned[at] as number) ^ 1;
    const packed = await exportByHand(lab, 'true');
    const failing: [Uint8Array, RegExp][] = [
      [turned, /adopt .*web.xva: verify checksum of block, disk=0 name="root"/],
      [handmade.subarray(0, at), /it ended early/],
      [packed.subarray(0, packed.length - 20_000), /compression is damaged or cut off/],
      [Buffer.concat([handmade, Buffer.from('more')]), /bytes follow its end/],
    ];
    for (const [bytes, why] of failing) {
      const job = await adopt(lab, bytes);
      assert.deepEqual(
        [job.status, job.error?.code],
        ['failed', 'data_corrupt'],
        job.error?.detail,
      );
      assert.match(job.error?.detail ?? '', why);
    }
    await assert.rejects(adopt(lab, Buffer.from('no archive')), /no XVA archive/);
    await assert.rejects(adopt(lab, Buffer.alloc(0)), /no XVA archive/);
    await assert.rejects(adopt(lab, handmade.subarray(0, 2000)), /ends within ova.xml/);
    await assert.rejects(adopt(lab, handmade, { retention: 'never' }), { code: 'invalid_request' });
    await assert.rejects(adopt(lab, handmade, { vm: 'nobody' }), { code: 'not_found' });
    const after = (await lab.world.secondService().listBackups({ pageSize: 100 }, options)).items;
    assert.deepEqual(after, before);
  });

  test('a job whose process died is not taken over: it ends, and says what to do', async () => {
    const job = await adopt(lab, handmade);
    const { result: _, ...checkpoint } = job.checkpoint;
    const { result: _result, finished_at: _at, ...rest } = job;
    const left = { ...rest, status: 'running', phase: 'exporting', instance: 'dead', checkpoint };
    await lab.store.put(`xv/jobs/${job.id}.json`, JSON.stringify(left), options);
    const service = lab.world.secondService();
    await service.start();
    const ended = await service.waitJob(job.id, { timeoutMs: 30_000 }, options);
    await service.drain({ drainMs: 0 });
    assert.equal(ended?.status, 'failed');
    assert.match(ended?.error?.detail ?? '', /run xvault adopt again/);
  });
});

async function removeSnapshot({ world }: Lab, ref: string): Promise<void> {
  const { pool } = world;
  const [found] = (await pool.findSnapshots({ namePrefix: 'by hand' }, options)).filter(
    (snapshot) => snapshot.ref === ref,
  );
  assert.ok(found);
  await pool.removeSnapshot(found, options);
}
