/** A record that cannot be read hides nothing else, and is told of wherever it belongs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EngineWorld, keys, leave, options, setUp } from '../../test/backup/engine-world.ts';
import { nextId, sampleBackup, sampleJob, VM_UUID } from '../../test/records.ts';
import type { Backup } from '../catalog/record.ts';
import { formatTime } from '../time.ts';

const NEWER = '{"version":99}';

/** A complete backup; `body` in place of its record. */
async function store(world: EngineWorld, backup: Backup, body = JSON.stringify(backup)) {
  const { id: backupId, vm } = backup;
  const parts = { retention: 'daily', pool: vm.pool, vmUuid: vm.uuid, backupId };
  await world.store.put(keys.archive(parts, vm.name), 'x', options);
  await world.store.put(keys.record(parts), body, options);
  return keys.record(parts);
}

const page = { pageSize: 10 };

test('lists of backups go on without it and name it, on its own page only', async () => {
  const world = setUp({ catalogTtlMs: 0 });
  const [oldest, bad, newest] = [sampleBackup(), sampleBackup(), sampleBackup()];
  await store(world, oldest);
  const key = await store(world, bad, NEWER);
  await store(world, newest);
  const service = world.instance('a');
  const { items, unreadable } = await service.listBackups(page, options);
  assert.deepEqual(
    items.map(({ id }) => id),
    [newest.id, oldest.id],
  );
  assert.deepEqual(
    unreadable?.map((one) => [one.kind, one.id, one.key]),
    [['backup', bad.id, key]],
  );
  assert.match(unreadable?.[0]?.detail ?? '', /damaged, or of a newer version/);
  const first = await service.listBackups({ pageSize: 1 }, options);
  assert.equal(first.unreadable, undefined);
  const second = await service.listBackups(
    { pageSize: 1, pageToken: first.nextPageToken ?? '' },
    options,
  );
  assert.deepEqual([second.items[0]?.id, second.unreadable?.length], [oldest.id, 1]);
  await assert.rejects(service.getBackup(bad.id, options), { code: 'data_corrupt' });
  const named = await service.listBackups({ ...page, vm: 'web' }, options);
  assert.equal(named.items.length, 2);
});

test('the status warns of it and does not count it as a good backup', async () => {
  const world = setUp({ catalogTtlMs: 0 });
  const good = sampleBackup({ created_at: formatTime(world.clock.now()) });
  await store(world, good);
  const bad = await store(world, sampleBackup(), 'no JSON');
  const service = world.instance('a');
  const ask = { maxAgeSeconds: 365 * 86_400 };
  const report = await service.status(ask, options);
  assert.equal(report.vms[0]?.last_backup_id, good.id);
  assert.equal(report.vms[0]?.status, 'ok');
  assert.equal(report.status, 'warning');
  assert.deepEqual(
    report.unreadable_records?.map(({ key }) => key),
    [bad],
  );
  const [machine] = await service.listVms({}, options);
  assert.equal(machine?.last_backup?.id, good.id);
  assert.equal(world.counts.get('unreadable_records'), 1);
  assert.equal(world.lines.filter((line) => line.startsWith('record cannot be read')).length, 1);
});

test('a machine whose records cannot be read at all has no backup', async () => {
  const world = setUp({ catalogTtlMs: 0 });
  await store(world, sampleBackup(), NEWER);
  await store(world, sampleBackup(), NEWER);
  const report = await world.instance('a').status({ maxAgeSeconds: 1e9 }, options);
  assert.equal(report.status, 'critical');
  assert.equal(report.unreadable_records?.length, 2);
});

test('lists of jobs and the status go on without a job that cannot be read, until it can be', async () => {
  const world = setUp({ catalogTtlMs: 0 });
  await store(world, sampleBackup({ created_at: formatTime(world.clock.now()) }));
  const failed = sampleJob({ status: 'failed' });
  await leave(world, failed);
  const bad = sampleJob({ status: 'succeeded' });
  await world.store.put(keys.job(bad.id), NEWER, options);
  const service = world.instance('a');
  const jobs = await service.listJobs({ ...page, vm: VM_UUID }, options);
  assert.deepEqual(
    jobs.items.map(({ id }) => id),
    [failed.id],
  );
  assert.deepEqual(
    jobs.unreadable?.map(({ kind, key }) => [kind, key]),
    [['job', keys.job(bad.id)]],
  );
  await assert.rejects(service.getJob(bad.id, options), { code: 'data_corrupt' });
  const ask = { maxAgeSeconds: 365 * 86_400 };
  const before = await service.status(ask, options);
  assert.equal(before.status, 'warning');
  assert.equal(before.unreadable_records?.length, 1);
  await world.store.put(keys.job(bad.id), JSON.stringify(bad), options);
  const after = await service.status(ask, options);
  assert.equal(after.unreadable_records, undefined);
  assert.equal(after.status, 'ok');
  assert.equal(world.counts.get('unreadable_records'), 0);
});

test('an unreadable job keeps no instance from starting and taking over others', async () => {
  const world = setUp();
  await world.store.put(keys.job(nextId()), NEWER, options);
  const left = await leave(world, { phase: 'preparing' });
  await world.instance('b').start();
  assert.equal((await world.ended(left.id)).status, 'succeeded');
});
