import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleBackup, VM_UUID } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { createBackupCatalog } from './backups.ts';
import { createKeys } from './keys.ts';
import type { Backup } from './record.ts';

const options = { signal: NEVER };

function setUp() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const keys = createKeys('pre');
  const open = () => createBackupCatalog({ store, keys, clock }, { ttlMs: 30_000 });
  const partsOf = (b: Backup) => ({
    retention: b.retention,
    pool: b.vm.pool,
    vmUuid: b.vm.uuid,
    backupId: b.id,
  });
  const archive = (b: Backup) => store.put(keys.archive(partsOf(b), b.vm.name), 'xva', options);
  return { clock, store, keys, catalog: open(), other: open(), archive, partsOf };
}

test('a backup is listed only when archive and record are both there', async () => {
  const { catalog, other, archive, store, keys, partsOf } = setUp();
  const whole = sampleBackup();
  const noRecord = sampleBackup();
  const noArchive = sampleBackup();
  await archive(whole);
  await archive(noRecord);
  await catalog.publish(whole, options);
  await catalog.publish(noArchive, options);
  const [only, ...rest] = await other.entries({});
  assert.equal(only?.backupId, whole.id);
  assert.deepEqual(rest, []);
  assert.equal(await other.find(noRecord.id), undefined);
  assert.equal(await other.find(noArchive.id), undefined);
  assert.ok(store.objects.has(keys.record(partsOf(noArchive))));
});

test('records come back as they were published, newest first, filtered', async () => {
  const { catalog, archive } = setUp();
  const backups = [
    sampleBackup({ retention: 'weekly' }),
    sampleBackup({ vm: { uuid: VM_UUID, name: 'web', pool: 'dc2' } }),
    sampleBackup(),
  ];
  for (const backup of backups) {
    await archive(backup);
    await catalog.publish(backup, options);
  }
  const all = await catalog.records(await catalog.entries({}), options);
  assert.deepEqual(all, backups.toReversed());
  assert.equal((await catalog.entries({ retention: 'weekly' })).length, 1);
  assert.equal((await catalog.entries({ pool: 'dc2' })).length, 1);
  assert.equal((await catalog.entries({ vmUuid: 'other' })).length, 0);
  assert.deepEqual([...(await catalog.newest()).keys()].sort(), [
    `dc1/${VM_UUID}`,
    `dc2/${VM_UUID}`,
  ]);
});

test('another instance sees a new backup by id at once, and in lists when its listing is old', async () => {
  const { catalog, other, archive, clock } = setUp();
  assert.deepEqual(await other.entries({}), []);
  const backup = sampleBackup();
  await archive(backup);
  await catalog.publish(backup, options);
  assert.equal((await catalog.entries({})).length, 1);
  assert.deepEqual(await other.entries({}), []);
  await clock.advance(1001);
  assert.equal((await other.find(backup.id))?.backupId, backup.id);
});

test('publishing twice, as after a crash, changes nothing', async () => {
  const { catalog, archive, store } = setUp();
  const backup = sampleBackup();
  await archive(backup);
  await catalog.publish(backup, options);
  const before = [...store.objects.values()].map(({ bytes }) => bytes.toString());
  await catalog.publish({ ...backup, note: 'other' }, options);
  assert.deepEqual(
    [...store.objects.values()].map(({ bytes }) => bytes.toString()),
    before,
  );
});

test('a record that is refused although nothing is there is not taken to be published', async () => {
  const { catalog, archive, store } = setUp();
  const backup = sampleBackup();
  await archive(backup);
  store.onCall = (operation) => {
    if (operation !== 'put') return;
    delete store.onCall;
    throw new BackupError('precondition_failed', 'lose against another write');
  };
  await assert.rejects(catalog.publish(backup, options), { code: 'precondition_failed' });
  await catalog.publish(backup, options);
  assert.equal((await catalog.entries({})).length, 1);
});

test('a listing that failed is not remembered', async () => {
  const { catalog, store } = setUp();
  store.onCall = () => {
    throw new Error('down');
  };
  await assert.rejects(catalog.entries({}), /down/);
  delete store.onCall;
  assert.deepEqual(await catalog.entries({}), []);
});
