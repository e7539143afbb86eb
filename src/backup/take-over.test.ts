/** Jobs that change hands, are cancelled at an awkward moment, or cannot clean up at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  connect,
  keys,
  LEASE_OVER_MS,
  leave,
  options,
  setUp,
} from '../../test/backup/engine-world.ts';
import { nextId, sampleJob } from '../../test/records.ts';
import { createLeases, LEASE_MS } from '../catalog/lease.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';

const waiting = () => Promise.withResolvers<void>();

test('a job is backed up, and nothing is left', async () => {
  const world = setUp();
  const { id } = await world.start(world.instance('a'));
  assert.equal((await world.ended(id)).status, 'succeeded');
  assert.equal(world.backups().length, 1);
  assert.deepEqual(world.pool.snapshots, []);
  assert.equal(world.store.uploads.size, 0);
});

test('a cancel asked for before the instance died is followed by the one that takes over', async () => {
  const world = setUp();
  const job = await leave(world, { phase: 'exporting', cancel_requested: true });
  world.pool.make(`xvault:${job.id}`);
  await world.instance('b').start();
  const ended = await world.ended(job.id);
  assert.equal(ended.status, 'cancelled');
  assert.deepEqual(world.pool.snapshots, []);
  assert.deepEqual(world.backups(), []);
});

test('a job whose former instance cleaned up and could not say so begins again with a snapshot', async () => {
  const world = setUp();
  const left = { backup_id: nextId(), excluded_disks: [], warnings: [] };
  const checkpoint = { ...left, snapshot_uuid: 'removed', snapshot_attempt: 1 };
  const job = await leave(world, { phase: 'exporting', checkpoint });
  await world.instance('b').start();
  const ended = await world.ended(job.id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.attempt, 2);
  assert.notEqual(ended.checkpoint.snapshot_uuid, 'removed');
  assert.deepEqual(world.pool.snapshots, []);
});

test('a snapshot that somebody else removes is told, not made again and again', async () => {
  const world = setUp();
  let made = 0;
  world.pool.onCall = (name) => {
    if (name === 'snapshotVm') made += 1;
    if (name === 'markSnapshot') world.pool.snapshots.splice(0);
  };
  const { id } = await world.start(world.instance('a'));
  const { error } = await world.ended(id);
  assert.equal(error?.code, 'snapshot_refused');
  assert.match(error.detail, /somebody removed it/);
  assert.equal(made, 1);
});

test('an archive that was completed just before the crash does not stop the next try', async () => {
  const world = setUp();
  const [id, backupId] = [nextId(), nextId()];
  const archiveKey = keys.archive(
    { retention: 'daily', pool: 'dc1', vmUuid: sampleJob().vm.uuid, backupId },
    'web',
  );
  const checkpoint = {
    backup_id: backupId,
    archive_key: archiveKey,
    upload_id: 'gone',
    snapshot_uuid: world.pool.make(`xvault:${id}`).uuid,
    excluded_disks: [],
    warnings: [],
  };
  await world.store.put(archiveKey, 'whole', options);
  const job = await leave(world, { id, phase: 'exporting', checkpoint });
  await world.instance('b').start();
  const ended = await world.ended(job.id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.notEqual(ended.result?.id, backupId);
  assert.equal(ended.result?.id.slice(0, 13), backupId.slice(0, 13), 'as old as the job');
  assert.equal(world.store.objects.get(archiveKey)?.bytes.toString(), 'whole', 'never modified');
  assert.equal(world.backups().length, 1);
});

test('an instance that slept through its lease leaves the job to the one that took it', async () => {
  const world = setUp();
  const line = connect(world.store);
  const exporting = waiting();
  const resume = waiting();
  let first = true;
  world.pool.onCall = async (operation) => {
    if (operation !== 'fill' || !first) return;
    first = false;
    exporting.resolve();
    await resume.promise;
  };
  const { id } = await world.start(world.instance('a', line.store));
  await world.clock.advance(1000);
  await exporting.promise;
  line.cut(true);
  await world.clock.advance(LEASE_OVER_MS);
  // taken over, but not begun: the record tells of the new owner all the same
  const other = world.instance('b');
  const begun = waiting();
  world.pool.onCall = async (operation) => {
    if (operation === 'findSnapshots') await begun.promise;
  };
  await other.start();
  assert.equal(world.record(id).instance, 'b');
  line.cut(false);
  resume.resolve();
  await world.clock.advance(5000);
  assert.equal(world.record(id).instance, 'b', 'the former owner does not write any more');
  begun.resolve();
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.attempt, 2);
  assert.equal(world.backups().length, 1);
  assert.deepEqual(world.pool.snapshots, []);
});

test('a record that cannot be read does not keep others from being taken over', async () => {
  const world = setUp();
  const job = await leave(world, { phase: 'preparing' });
  await world.store.put(keys.job(nextId()), '{"version":9}', options);
  await world.instance('b').start();
  assert.equal((await world.ended(job.id)).status, 'succeeded');
});

test('a job that could not be taken over keeps its machine until somebody can', async () => {
  const world = setUp();
  const job = await leave(world, { phase: 'exporting' });
  let away = true;
  const put: ObjectStore['put'] = async (key, ...rest) => {
    if (away && key === keys.job(job.id)) throw new BackupError('store_unavailable', 'put');
    return await world.store.put(key, ...rest);
  };
  const service = world.instance('b', { ...world.store, put });
  await service.start();
  assert.equal(world.record(job.id).instance, 'dead');
  await assert.rejects(world.start(service), { code: 'job_conflict' });
  away = false;
  assert.equal((await world.ended(job.id)).status, 'succeeded');
  await world.start(service);
});

test('a job whose instances die again and again is given up and cleaned', async () => {
  const world = setUp();
  const job = await leave(world, { phase: 'exporting', attempt: 5 });
  world.pool.make(`xvault:${job.id}`);
  await world.instance('b').start();
  const ended = await world.ended(job.id);
  assert.equal(ended.status, 'failed');
  assert.match(ended.error?.detail ?? '', /5 instances/);
  assert.deepEqual(world.pool.snapshots, []);
  assert.deepEqual(world.backups(), []);
});

test('a backup whose record is being published is not called cancelled', async () => {
  const world = setUp();
  const service = world.instance('a');
  let id = '';
  world.store.onCall = (operation, key) => {
    if (operation === 'put' && key.endsWith('/backup.json')) void service.cancelJob(id, options);
  };
  ({ id } = await world.start(service));
  const ended = await world.ended(id);
  assert.equal(ended.status, world.backups().length === 1 ? 'succeeded' : 'cancelled');
});

test('a snapshot that is still being made when the job is cancelled is waited for and removed', async () => {
  const world = setUp();
  const service = world.instance('a');
  const asked = waiting();
  world.pool.onCall = async (operation, signal) => {
    if (operation !== 'snapshotVm') return;
    world.pool.operations = ['snapshot'];
    asked.resolve();
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  const { id } = await world.start(service);
  await asked.promise;
  await service.cancelJob(id, options);
  await world.clock.advance(20_000);
  // the pool goes on by itself: the name appears only when all disks are done
  world.pool.make(`xvault:${id}`);
  world.pool.operations = [];
  const ended = await world.ended(id);
  assert.equal(ended.status, 'cancelled');
  assert.deepEqual(world.pool.snapshots, []);
});

test('every snapshot of the job is removed, also if two were made', async () => {
  const world = setUp();
  const job = await leave(world, { phase: 'exporting' });
  world.pool.make(`xvault:${job.id}`);
  world.pool.make(`xvault:${job.id}`);
  await world.instance('b').start();
  await world.ended(job.id);
  assert.deepEqual(world.pool.snapshots, []);
});

test('a pool that is away for minutes is waited for, and the snapshot removed then', async () => {
  const world = setUp();
  let away = 0;
  world.pool.onCall = (operation) => {
    if (operation === 'removeSnapshot' && ++away <= 5) {
      throw new BackupError('pool_unavailable', 'call the pool');
    }
  };
  const { id } = await world.start(world.instance('a'));
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded');
  assert.deepEqual(ended.result?.warnings, [
    'the machine has no disk: the archive holds its configuration only',
  ]);
  assert.deepEqual(world.pool.snapshots, []);
});

test('many slow disks are removed to the last', async () => {
  const world = setUp();
  world.pool.onCall = async (operation, signal) => {
    // sixteen disks on busy block storage
    if (operation === 'removeSnapshot') await world.clock.sleep(16 * 15_000, { signal });
  };
  const { id } = await world.start(world.instance('a'));
  const ended = await world.ended(id);
  assert.deepEqual(world.pool.snapshots, []);
  assert.equal(ended.status, 'succeeded');
});

test('what cannot be removed is named at the end', async () => {
  const world = setUp();
  world.pool.onCall = (operation) => {
    if (operation === 'removeSnapshot') throw new BackupError('pool_refused', 'remove snapshot');
  };
  const { id } = await world.start(world.instance('a'));
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded');
  assert.match(
    ended.result?.warnings.at(-1) ?? '',
    new RegExp(`xvault:${id}.*next sweep removes it`),
  );
});

test('the lease is renewed however the steps of the job fall', async () => {
  const world = setUp();
  const { id } = await world.start(world.instance('a'));
  const slow = new Set(['snapshotVm', 'markSnapshot', 'openExport', 'settle', 'removeSnapshot']);
  world.pool.onCall = async (operation, signal) => {
    if (slow.has(operation)) await world.clock.sleep(20_000, { signal });
  };
  const watcher = createLeases(
    { store: world.store, clock: world.clock, ids: { uuid: nextId } },
    { owner: 'b' },
  );
  const key = keys.lease('dc1', sampleJob().vm.uuid);
  let leastMs = Number.POSITIVE_INFINITY;
  for (let second = 0; second < 150; second++) {
    const holder = await watcher.look(key, options);
    if (holder) leastMs = Math.min(leastMs, holder.expiresAt - world.clock.now());
    await world.clock.advance(1000);
  }
  assert.equal(world.record(id).status, 'succeeded');
  assert.ok(leastMs >= LEASE_MS / 2, `left=${leastMs}`);
});

test('a machine is free again at once when its job could not be recorded', async () => {
  const world = setUp();
  const service = world.instance('a');
  world.store.onCall = (operation, key) => {
    if (operation === 'put' && key.includes('/jobs/')) {
      throw new BackupError('store_unavailable', 'put job');
    }
  };
  await assert.rejects(world.start(service), { code: 'store_unavailable' });
  delete world.store.onCall;
  const { id } = await world.start(service);
  assert.equal((await world.ended(id)).status, 'succeeded');
});

test('a clock that was set back does not spoil the record', async () => {
  const world = setUp();
  const now = world.clock.now;
  world.pool.onCall = (operation) => {
    if (operation === 'openExport') world.clock.now = () => now() - 3_600_000;
  };
  const { id } = await world.start(world.instance('a'));
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded');
  assert.equal(ended.result?.duration_seconds, 0);
});

test('a phase that cannot be recorded does not begin: no backup is published twice', async () => {
  const world = setUp();
  let away = false;
  let mended = false;
  const line: ObjectStore = {
    ...world.store,
    put: (key, body, put) => {
      // from the end of the export on, this instance can write everything but records of jobs
      if (String(body).includes('"phase":"finishing"')) away = !mended;
      if (away && key.includes('/jobs/')) {
        return Promise.reject(new BackupError('store_unavailable', 'put record'));
      }
      return world.store.put(key, body, put);
    },
  };
  const { id } = await world.start(world.instance('a', line));
  await world.clock.advance(30_000);
  assert.equal(away, true);
  assert.deepEqual(world.backups(), [], 'others would export again, and publish that');
  assert.equal(world.pool.snapshots.length, 1, 'which they need');
  mended = true;
  away = false;
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(world.backups().length, 1);
});

test('a job that fails because the bucket is away is cleaned up on the pool all the same, and begun again', async () => {
  const world = setUp();
  const line = connect(world.store);
  world.pool.onCall = (operation) => {
    if (operation === 'settle') line.cut(true);
  };
  const { id } = await world.start(world.instance('a', line.store));
  await world.clock.advance(60_000);
  assert.deepEqual(world.pool.snapshots, []);
  assert.equal(world.record(id).status, 'running');
  await world.clock.advance(LEASE_OVER_MS);
  await world.instance('b').start();
  world.pool.onCall = undefined;
  assert.equal((await world.ended(id)).status, 'succeeded');
  assert.equal(world.backups().length, 1);
  assert.deepEqual(world.pool.snapshots, []);
});

test('who loses the lease while cleaning up stops at once: the snapshot is the new owner’s', async () => {
  const world = setUp();
  const line = connect(world.store);
  const { promise: mayExport, resolve: goOn } = waiting();
  let poolAway = false;
  world.pool.onCall = (operation) => {
    if (operation === 'settle' && !poolAway) {
      poolAway = true;
      line.cut(true);
    }
    if (operation === 'removeSnapshot' && poolAway) {
      throw new BackupError('pool_unavailable', 'call the pool', { retry: 'later' });
    }
    return undefined;
  };
  const { id } = await world.start(world.instance('a', line.store));
  await world.clock.advance(LEASE_OVER_MS);
  world.pool.onCall = (operation) => (operation === 'openExport' ? mayExport : undefined);
  await world.instance('b').start();
  await world.until('b to export', () => world.record(id).attempt === 2);
  await world.clock.advance(120_000);
  assert.equal(world.pool.snapshots.length, 1, 'a leaves alone what b exports');
  goOn();
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.attempt, 2);
  assert.deepEqual(world.pool.snapshots, []);
});

test('a task that an instance made and never used before it died is taken off the pool', async () => {
  const world = setUp();
  const line = connect(world.store);
  world.pool.onCall = (operation) => {
    if (operation === 'openExport') line.cut(true);
  };
  const { id } = await world.start(world.instance('a', line.store));
  const task = { kind: 'task', uuid: 'task-1', nameLabel: 'export', marker: {} } as const;
  world.pool.tasks.push({ ...task, ref: 'task-1', label: `xvault:${id}` });
  world.pool.tasks.push({ ...task, ref: 'task-2', label: 'xvault:of-another-job' });
  await world.clock.advance(LEASE_OVER_MS);
  world.pool.onCall = undefined;
  await world.instance('b').start();
  assert.equal((await world.ended(id)).attempt, 2);
  assert.deepEqual(
    world.pool.tasks.map(({ ref }) => ref),
    ['task-2'],
  );
});
