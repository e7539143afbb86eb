/**
 * The roles beside that of backups, enforced by the embedded server: infra/restore-policy.json is enough to list, read and
 * restore and for nothing that harms; infra/admin-policy.json is what `xvault lifecycle apply` needs besides the rights of
 * infra/bucket-policy.json.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NEVER } from '../../src/signals.ts';
import { assertSameDisks, machineOf, startRestoreWorld } from '../e2e/restore-world.ts';
import { BUCKET } from '../e2e/world.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { enforce, type PolicyDocument, readPolicy, type Watch } from './policy.ts';

const PREFIX = 'xv/';
const signal = NEVER;
const NETWORKS = [{ name: 'Office', bridge: 'xenbr0' }];

const MACHINE: MachineSpec = {
  name: 'web',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 3 * 1_048_576, seed: 5, density: 0.6 }),
    },
  ],
};

const backupRights = () => readPolicy(BUCKET, PREFIX);

/** Rights that can be changed while the server runs. */
function changing(first: PolicyDocument): { watch: Watch; policy: Watch['policy'] } {
  const state = { watch: enforce(first) };
  return Object.assign(state, {
    policy: (...input: Parameters<Watch['policy']>) => state.watch.policy(...input),
  });
}

test('who restores sees what who backs up sees, reads backups, and cannot touch them', async () => {
  const restoreRights = readPolicy(BUCKET, PREFIX, 'restore-policy.json');
  const look = ({ Statement }: PolicyDocument) => Statement.find(({ Sid }) => Sid === 'Look');
  assert.deepEqual(look(restoreRights), look(backupRights()));
  const rights = changing(backupRights());
  await using lab = await startRestoreWorld({
    pool: { seed: 9, machines: [MACHINE], networks: NETWORKS },
    target: { networks: NETWORKS },
    s3: { policy: rights.policy },
  });
  const backup = await lab.backUp('web');
  rights.watch = enforce(restoreRights);
  const service = lab.secondService({});
  for (const via of ['stream', 'url'] as const) {
    const job = await lab.restore(backup, { via, name: `by ${via}` }, service);
    const { ref } = machineOf(lab.target, job);
    assertSameDisks(lab.target, ref, lab.world.sim.machine('web'));
  }
  assert.equal((await service.listBackups({ pageSize: 10 }, { signal })).items.length, 1);
  const disk = await service.openDisk({ backupId: backup.id, disk: 0 }, { signal });
  for await (const _ of disk?.read({ offset: 0, length: 4096 }, { signal }) ?? []) break;
  const wish = { pool: 'dr', boot_timeout_seconds: 600 };
  const trial = { backupId: backup.id, wish, triggeredBy: 'test' };
  const { id } = await service.startRestoreTest(trial, { signal });
  const ended = await service.waitJob(id, { timeoutMs: 60_000 }, { signal });
  assert.equal(ended?.status, 'succeeded', JSON.stringify(ended?.error));
  assert.deepEqual(rights.watch.refused, []);
  const { store } = lab.world;
  const { key, etag, size_bytes: sizeBytes } = backup.archive;
  const refused = { code: 'store_credentials' };
  await assert.rejects(store.delete(key, { signal }), refused);
  await assert.rejects(store.put(backup.index_key, 'x', { signal }), refused);
  const from = { key, etag, sizeBytes };
  const to = 'xv/pinned/copy';
  await assert.rejects(store.copy({ from, to, contentType: 'a/b' }, { signal }), refused);
  await service.drain({ drainMs: 0 });
});

test('rules are set with the rights of administration and of backups together, and not without them', async () => {
  const rights = changing(backupRights());
  await using lab = await startRestoreWorld({
    pool: { seed: 9, machines: [MACHINE] },
    s3: { policy: rights.policy },
    service: { retentionDays: { daily: 14 } },
  });
  await lab.backUp('web');
  const apply = () => lab.service.applyRotation({ dryRun: false }, { signal });
  await assert.rejects(apply(), { code: 'store_credentials', message: /PutLifecycle/ });
  const admin = readPolicy(BUCKET, PREFIX, 'admin-policy.json');
  const { Statement } = backupRights();
  rights.watch = enforce({ ...admin, Statement: [...admin.Statement, ...Statement] });
  assert.equal((await apply()).applied, true);
  assert.deepEqual(rights.watch.refused, []);
});
