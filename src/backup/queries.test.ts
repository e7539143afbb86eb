import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keys, options, setUp } from '../../test/backup/engine-world.ts';
import { exampleJob } from '../../test/http/records.ts';
import { nextId, sampleBackup, sampleJob } from '../../test/records.ts';
import { createLeases } from '../catalog/lease.ts';
import type { Job } from '../catalog/record.ts';

const MACHINES = 200;

test('a pool of many machines costs one listing of leases, and few records at once', async () => {
  const { clock, store, pool, instance } = setUp();
  const ids = { uuid: nextId };
  const [template] = await pool.listVms(options);
  assert.ok(template);
  const uuids = Array.from({ length: MACHINES }, nextId);
  pool.listVms = async () => uuids.map((uuid) => ({ ...template, uuid, nameLabel: uuid }));
  for (const uuid of uuids) {
    const backup = sampleBackup({ vm: { uuid, name: uuid, pool: 'dc1' } });
    const parts = { retention: 'daily', pool: 'dc1', vmUuid: uuid, backupId: backup.id };
    await store.put(keys.archive(parts, uuid), 'x', options);
    await store.put(keys.record(parts), JSON.stringify(backup), options);
  }
  const busy = uuids[7] ?? '';
  const key = keys.lease('dc1', busy);
  await createLeases({ store, clock, ids }, { owner: 'a' }).take({ key, jobId: 'job' }, options);
  let atOnce = 0;
  let most = 0;
  let leaseReads = 0;
  const counting = {
    ...store,
    get: async (...args: Parameters<typeof store.get>) => {
      if (args[0].includes('/leases/')) leaseReads += 1;
      most = Math.max(most, ++atOnce);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce -= 1;
      return store.get(...args);
    },
  };
  const vms = await instance('a', counting).listVms({}, options);
  assert.equal(vms.filter((vm) => vm.last_backup !== undefined).length, MACHINES);
  const running = vms.filter((vm) => vm.running_job_id !== undefined);
  assert.deepEqual(
    running.map((vm) => [vm.uuid, vm.running_job_id]),
    [[busy, 'job']],
  );
  assert.equal(leaseReads, 1);
  assert.ok(most <= 20, `most=${most}`);
});

test('tags of a machine say that it is left out, or how old its backup may be', async () => {
  const { pool, instance } = setUp();
  const [template] = await pool.listVms(options);
  assert.ok(template);
  pool.listVms = async () =>
    [['xvault:skip'], ['xvault:max_age=8d'], ['nightly']].map((tags, at) => ({
      ...template,
      uuid: `u${at}`,
      nameLabel: `vm-${at}`,
      tags,
    }));
  const { vms } = await instance('a').status({ maxAgeSeconds: 3600 }, options);
  assert.deepEqual(
    vms.map(({ vm, max_age_seconds: own }) => [vm.name, own]),
    [
      ['vm-1', 691_200],
      ['vm-2', undefined],
    ],
  );
});

test('where no pool is asked the status tells of who has a backup or had a job, and says so', async () => {
  const { store, pool, instance } = setUp({ poolsElsewhere: true });
  pool.listVms = () => assert.fail('it was asked');
  const empty = await instance('a').status({ maxAgeSeconds: 3600 }, options);
  // a watcher of the wrong bucket must not be told that all is well
  assert.deepEqual([empty.status, empty.vms, empty.machines_from], ['warning', [], 'bucket']);
  const uuid = nextId();
  const backup = sampleBackup({ vm: { uuid, name: 'web-1', pool: 'dc1' } });
  const parts = { retention: 'daily', pool: 'dc1', vmUuid: uuid, backupId: backup.id };
  await store.put(keys.archive(parts, 'web-1'), 'x', options);
  await store.put(keys.record(parts), JSON.stringify(backup), options);
  const job = {
    ...exampleJob(),
    status: 'failed' as const,
    vm: { uuid: 'u2', name: 'db-1', pool: 'dc2' },
  };
  await store.put(keys.job(job.id), JSON.stringify(job), options);
  const service = instance('b');
  const all = await service.status({ maxAgeSeconds: 3600 * 24 * 36_500 }, options);
  assert.deepEqual(
    all.vms.map(({ vm, status }) => [vm.pool, vm.name, status]),
    [
      ['dc2', 'db-1', 'critical'],
      ['dc1', 'web-1', 'ok'],
    ],
  );
  assert.deepEqual([all.unreachable_pools, all.machines_from], [[], 'bucket']);
  const one = await service.status({ maxAgeSeconds: 3600, pool: 'dc1' }, options);
  assert.deepEqual(
    one.vms.map(({ vm }) => vm.name),
    ['web-1'],
  );
});

test('jobs that wait are looked for without reading again what has ended', async () => {
  const world = setUp();
  const write = (job: Job) => world.store.put(keys.job(job.id), JSON.stringify(job), options);
  const records = 2500; // more than are kept in memory
  for (let i = 0; i < records; i++) await write(sampleJob({ status: 'succeeded' }));
  const waiting = sampleJob({ status: 'queued' });
  await write(waiting);
  const service = world.instance('a');
  const poll = async () => {
    const before = world.store.calls.get('get') ?? 0;
    const { items } = await service.listJobs({ pageSize: 1000, status: 'queued' }, options);
    assert.deepEqual(
      items.map(({ id }) => id),
      [waiting.id],
    );
    await world.clock.advance(60_000);
    return (world.store.calls.get('get') ?? 0) - before;
  };
  assert.ok((await poll()) > records);
  assert.ok((await poll()) < 10);
});

test('whoever sees a job succeed finds its backup in the list, on every instance', async () => {
  const world = setUp();
  const [a, b] = [world.instance('a'), world.instance('b')];
  const listed = async () =>
    (await b.listBackups({ pageSize: 10 }, options)).items.map(({ id }) => id);
  assert.deepEqual(await listed(), []);
  const { id } = await world.start(a);
  await world.ended(id);
  const job = await b.getJob(id, options);
  assert.equal(job?.status, 'succeeded');
  assert.deepEqual(await listed(), [job?.result?.id]);
});
