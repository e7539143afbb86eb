/**
 * The main job on real bytes: every machine of the simulated pool through the real engine and adapters into a bucket,
 * and back out of it through the importer, which shares no code with the codec. What a pool's version changes is not the
 * machine: of the older pool's all are backed up with XVAULT_TEST_LONG=1, else one of each kind.
 */
import '../fewer-collections.ts';
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Backup, Job } from '../../src/catalog/record.ts';
import { systemIds } from '../../src/clock.ts';
import { NEVER } from '../../src/signals.ts';
import { type ImportedDisk, importXva } from '../importer.ts';
import { readFixtureManifest, type SimDisk } from '../sim/disk.ts';
import { checkDiskFiles } from '../sim/disks/read-files.ts';
import { contentDigest, readObject, startWorld, type TestWorld } from './world.ts';

const options = { signal: NEVER };

/** Which fixture lies on which disk of the simulated pool (test/sim/machines.ts). */
const FIXTURES: Record<string, string> = {
  'web-01/0': 'linux-root',
  'mail-01/0': 'odd-size',
  'db-01/0': 'mail-store',
  'db-01/1': 'db-data',
  'db-01/2': 'db-log',
  'win-01/0': 'windows',
};

const LONG = process.env.XVAULT_TEST_LONG === '1';
/** Several disks, an odd size, no disk at all, an empty large one, a name that needs escaping. */
const KINDS = ['db-01', 'mail-01', 'pxe-kiosk', 'installer', 'büro/плюс 🗄 <"&">'];

for (const persona of ['8.2', '8.3'] as const) {
  describe(`a pool of version ${persona}`, () => {
    let world: TestWorld;
    /** What came back out of the backups, by machine and device. */
    const images = new Map<string, SimDisk>();
    before(async () => {
      world = await startWorld({ pool: { persona } });
    });
    after(() => world[Symbol.asyncDispose]());

    test('every machine that can be backed up is, imports as itself, and leaves nothing behind', async () => {
      const isChosen = (name: string) => LONG || persona === '8.3' || KINDS.includes(name);
      const able = world.sim.machines.filter(({ name }) => name !== 'usb-store' && isChosen(name));
      assert.ok(able.length >= KINDS.length);
      const jobs = await Promise.all(able.map((machine) => world.backup(machine.uuid)));
      for (const [i, job] of jobs.entries()) {
        assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
        const disks = await assertImports(world, job.result as Backup, able[i]?.uuid ?? '');
        for (const disk of disks) images.set(`${job.vm.name}/${disk.userdevice}`, disk.image);
      }
      assert.deepEqual(await world.audit(), []);
      const listed = await world.service.listBackups({ pageSize: 100 }, options);
      assert.equal(listed.items.length, able.length);
    });

    // The bytes are the same from every pool: checked in the test before.
    if (persona === '8.3') {
      test("every file of every file system is read back out of the backups by the systems' own tools", async (t) => {
        for (const [disk, fixture] of Object.entries(FIXTURES)) {
          const image = images.get(disk);
          assert.ok(image, disk);
          const { files, skipped } = await checkDiskFiles(image, readFixtureManifest(fixture));
          if (skipped.length > 0) return t.skip(skipped.join('; '));
          assert.ok(files > 0);
        }
      });
    }

    test('a disk that cannot be snapshotted stops the backup before anything is touched', async () => {
      const job = await world.backup('usb-store');
      assert.equal(job.status, 'failed');
      assert.equal(job.error?.code, 'snapshot_refused');
      assert.match(job.error?.detail ?? '', /exclude_disks/);
      assert.deepEqual(await world.audit(), []);
    });

    test('an excluded disk is left out and said so, where the host can; else refused', async () => {
      const backup = () => world.backup('usb-store', { exclude_disks: ['usb stick'] });
      if (persona === '8.2') {
        await assert.rejects(backup, { code: 'vm_not_supported', message: /21\.4/ });
      } else {
        const job = await backup();
        assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
        const names = (disks: { name: string }[] = []) => disks.map((disk) => disk.name);
        assert.deepEqual(names(job.result?.excluded_disks), ['usb stick']);
        assert.deepEqual(names(job.result?.disks), ['usb-store root']);
      }
      assert.deepEqual(await world.audit(), []);
    });
  });
}

describe('asking for a backup', () => {
  let world: TestWorld;
  before(async () => {
    world = await startWorld();
  });
  after(() => world[Symbol.asyncDispose]());

  test('two backups of an unchanged machine have the same bytes', async () => {
    const first = await world.backup('db-01');
    const second = await world.backup('db-01');
    const digests = [first, second].map((job) =>
      job.result?.disks.map((d) => [d.vdi_uuid, d.stored_bytes]).sort(),
    );
    assert.deepEqual(digests[0], digests[1]);
    assert.equal(first.result?.archive.size_bytes, second.result?.archive.size_bytes);
  });

  test('while one runs for a machine another is refused with its id', async () => {
    const input = { vm: 'archive-01', triggeredBy: 'test', request: request() };
    const running = await world.service.startBackup(input, options);
    await assert.rejects(
      world.service.startBackup(input, options),
      (error: { code?: string; details?: object }) => {
        assert.equal(error.code, 'job_conflict');
        assert.equal((error.details as { job_id: string }).job_id, running.id);
        return true;
      },
    );
    const cancelled = await world.service.cancelJob(running.id, options);
    assert.equal(cancelled?.cancel_requested, true);
    const ended = await world.service.waitJob(running.id, { timeoutMs: 30_000 }, options);
    assert.equal(ended?.status, 'cancelled');
    assert.deepEqual(await world.audit(), []);
  });

  test('a start repeated with the same job id answers with the first job', async () => {
    const jobId = systemIds.uuid();
    const input = { vm: 'pxe-kiosk', triggeredBy: 'test', request: request(), jobId };
    const first = await world.service.startBackup(input, options);
    await world.service.waitJob(first.id, { timeoutMs: 30_000 }, options);
    const again = await world.secondService().startBackup(input, options);
    assert.equal(first.id, jobId);
    assert.equal(again.status, 'succeeded');
    const { items } = await world.service.listBackups({ pageSize: 9, vm: again.vm.uuid }, options);
    assert.equal(items.length, 1);
  });

  test('a second instance answers the same from the bucket alone', async () => {
    const job = await world.backup('win-01');
    const other = world.secondService();
    assert.deepEqual(
      await other.getJob(job.id, options),
      await world.service.getJob(job.id, options),
    );
    const page = { pageSize: 50 };
    assert.deepEqual(
      await other.listBackups(page, options),
      await world.service.listBackups(page, options),
    );
    assert.deepEqual(
      await other.listJobs(page, options),
      await world.service.listJobs(page, options),
    );
    // ages grow between two questions
    const agelessVms = async (service: typeof other) =>
      (await service.listVms({}, options)).map(({ age_seconds: _, ...vm }) => vm);
    assert.deepEqual(await agelessVms(other), await agelessVms(world.service));
  });

  test('a dry run says what would be done and changes nothing', async () => {
    const job = await world.backup('db-01', { dry_run: true });
    assert.equal(job.status, 'succeeded');
    assert.equal(job.dry_run?.disks.length, 3);
    assert.equal(job.result, undefined);
    assert.deepEqual(await world.audit(), []);
  });

  const wrong: [string, string, string][] = [
    ['an unknown machine', 'no-such-machine', 'not_found'],
    ['a name that two machines carry', 'twin', 'vm_ambiguous'],
  ];
  for (const [what, vm, code] of wrong) {
    test(`${what} is refused as ${code}`, async () => {
      await assert.rejects(
        world.service.startBackup({ vm, triggeredBy: 'test', request: request() }, options),
        { code },
      );
    });
  }

  const refusals: [string, Partial<Job['request']>, RegExp][] = [
    ['a class no rule knows', { retention: 'dayly' }, /daily, weekly/],
    ['a disk that is not there', { exclude_disks: ['9'] }, /no disk 9/],
  ];
  for (const [what, over, text] of refusals) {
    test(`${what} is refused at once, not by a failed job`, async () => {
      const input = { vm: 'win-01', triggeredBy: 'test', request: { ...request(), ...over } };
      await assert.rejects(world.service.startBackup(input, options), (error: Error) => {
        assert.equal((error as { code?: string }).code, 'invalid_request');
        assert.match(error.message, text);
        return true;
      });
    });
  }
});

function request(): Job['request'] {
  return {
    mode: 'auto',
    retention: 'daily',
    exclude_disks: [],
    compression: 'none',
    dry_run: false,
    quiesce: 'never',
  };
}

async function assertImports(
  world: TestWorld,
  backup: Backup,
  uuid: string,
): Promise<ImportedDisk[]> {
  const machine = world.sim.machines.find((one) => one.uuid === uuid);
  assert.ok(machine);
  const imported = await importXva(readObject(world.store, backup.archive.key));
  assert.equal(imported.vm.name, machine.name);
  assert.equal(imported.vm.uuid, machine.uuid);
  assert.equal(imported.vm.isATemplate, false);
  assert.equal(imported.vm.isASnapshot, false);
  assert.equal(imported.vm.powerState, 'Halted');
  const want = new Map(machine.disks.map((disk) => [disk.userdevice, contentDigest(disk.disk)]));
  const got = new Map(imported.disks.map((disk) => [disk.userdevice, contentDigest(disk.image)]));
  assert.deepEqual(got, want, `disks of ${machine.name}`);
  assert.deepEqual(imported.remarks, [], 'nothing a host would only tolerate');
  return imported.disks;
}
