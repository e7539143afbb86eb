/** A pinned backup whose original the rules have deleted: everything that reads backups reads the copy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunningService } from '../../src/backup/create-service.ts';
import type { Backup, Job } from '../../src/catalog/record.ts';
import { NEVER } from '../../src/signals.ts';
import {
  ALL_NETWORKS,
  assertSameDisks,
  machineOf,
  type RestoreWorld,
  startRestoreWorld,
  TWO_DISKS,
} from './restore-world.ts';
import { BUCKET } from './world.ts';

const options = { signal: NEVER };
const LONG = process.env.XVAULT_TEST_LONG === '1';
const COMPRESSIONS = LONG ? (['none', 'zstd'] as const) : (['none'] as const);

async function ended(service: RunningService, { id }: Job): Promise<Job> {
  const job = (await service.waitJob(id, { timeoutMs: 60_000 }, options)) as Job;
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  return job;
}

/** As a rule does. */
async function expire({ world: { s3, store } }: RestoreWorld): Promise<void> {
  const keys = s3?.inspect.keys(BUCKET).filter((key) => key.includes('/backups/')) ?? [];
  assert.ok(keys.length >= 3);
  for (const key of keys) await store.delete(key, options);
}

for (const compression of COMPRESSIONS) {
  test(`restores, verifications, disks, links and deltas read the copy (${compression})`, async () => {
    await using lab = await startRestoreWorld({ service: { catalogTtlMs: 0 } });
    const { service, world } = lab;
    const backup = await lab.backUp(TWO_DISKS.name, { compression, mode: 'full' });
    const wish = { reason: 'audit' };
    const triggeredBy = 'test';
    const input = { backupId: backup.id, triggeredBy };
    const pin = await ended(service, await service.startPin({ ...input, wish }, options));
    assert.equal(pin.progress.copied_bytes, backup.archive.size_bytes);
    await expire(lab);

    const verify = { ...input, wish: { percent: 100 } };
    const { verified } = await ended(service, await service.startVerify(verify, options));
    assert.equal(verified?.ok, true);
    const restored = await lab.restore(backup, { networks: ALL_NETWORKS });
    const original = world.sim.machine(TWO_DISKS.name);
    const { ref } = machineOf(lab.target, restored);
    assertSameDisks(lab.target, ref, original, compression);
    await lab.removeAgain(ref);

    const view = await service.openDisk({ backupId: backup.id, disk: 0 }, options);
    assert.equal(view?.sizeBytes, original.disks[0]?.disk.sizeBytes);
    const link = (await service.archiveLink(backup.id, { expiresSeconds: 60 }, options)) ?? '';
    const { length } = Buffer.from(await (await fetch(link)).arrayBuffer());
    assert.equal(length, backup.archive.size_bytes);

    const delta: Backup = await lab.backUp(TWO_DISKS.name, { compression });
    assert.equal(delta.base?.backup_id, backup.id, delta.mode_reason);
    // compressed, all of it fits one part
    assert.equal(delta.copied_bytes > 0, compression === 'none');
    const { items } = await service.listBackups({ pageSize: 10 }, options);
    assert.deepEqual(
      items.map(({ id, pinned }) => [id, pinned?.kind]),
      [
        [delta.id, undefined],
        [backup.id, 'pinned'],
      ],
    );
    assert.equal(await service.unpin({ backupId: backup.id, by: 'test' }, options), 'removed');
    assert.deepEqual(await lab.audit(), []);
  });
}
