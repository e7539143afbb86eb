import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  applyRules,
  dailyRule,
  HOUR_MS,
  keys,
  options,
  rule,
  setUp,
  WHOLE,
} from '../../test/backup/guard-world.ts';
import { nextId, VM_UUID } from '../../test/records.ts';
import { DAY_MS } from '../catalog/forecast.ts';
import { PIN_FILE } from '../catalog/pin.ts';
import { BackupError } from '../errors.ts';
import { formatTime } from '../time.ts';
import { createGuard } from './guard.ts';

test('what lasts longer than the margin is left alone, with the day it ends', async () => {
  const { backUp, look, pinned, store } = setUp();
  const backup = await backUp();
  const puts = store.calls.get('put');
  const entry = await look();
  assert.equal(entry.guard, 'safe');
  assert.equal(entry.expires_at, '2026-01-20T00:00:00.000Z');
  assert.equal(entry.rule, 'daily');
  assert.deepEqual(pinned(backup), []);
  assert.equal(store.calls.get('put'), puts, 'not even a lease is written');
});

test('the newest good one is renewed within the margin, and released when a newer one lasts', async () => {
  const { backUp, look, pinned, clock, engine } = setUp();
  const old = await backUp();
  clock.jump(12 * DAY_MS);
  const entry = await look();
  assert.equal(entry.guard, 'renewed');
  assert.equal(entry.expires_at, undefined);
  assert.ok((entry.renewed_bytes ?? 0) > 0);
  assert.deepEqual(pinned(old), WHOLE);
  assert.equal((await look()).renewed_bytes, undefined, 'once is enough');
  const { catalog } = engine('b');
  assert.equal((await catalog.entries({})).length, 1, 'original and copy are one backup');
  await backUp();
  const after = await look();
  assert.deepEqual([after.guard, after.released], ['safe', [old.id]]);
  assert.deepEqual(pinned(old), []);
});

test('once the original is gone its copy is the backup, with keys of its own', async () => {
  const { backUp, look, clock, store, engine } = setUp();
  const backup = await backUp();
  clock.jump(12 * DAY_MS);
  await look();
  applyRules({ store, clock, delay: () => 0, at: clock.now() + 5 * DAY_MS });
  const { catalog } = engine('b');
  const [entry] = await catalog.entries({ retention: 'daily' });
  assert.ok(entry, 'its class is still known');
  const found = await catalog.record(entry, options);
  assert.equal(found?.id, backup.id);
  for (const key of [found?.archive.key, found?.index_key]) assert.ok(store.objects.has(key ?? ''));
  const stored = await store.head(found?.archive.key ?? '', options);
  assert.equal(found?.archive.etag, stored?.etag);
});

test('what is damaged, half or unreadable is not the last good one', async () => {
  const { backUp, look, clock, store, engine, pinned } = setUp();
  const good = await backUp();
  const damaged = await backUp();
  await backUp({ whole: false });
  const unreadable = await backUp();
  const parts = { retention: 'daily', pool: 'dc1', vmUuid: VM_UUID, backupId: unreadable.id };
  await store.put(keys.record(parts), '{', options);
  await engine('a').verifications.keep(
    damaged.id,
    {
      at: formatTime(clock.now()),
      kind: 'whole',
      percent: 100,
      ok: false,
      read_bytes: 1,
      checked_blocks: 0,
      job_id: nextId(),
      problem: { part: 'archive', code: 'data_corrupt', detail: 'block 1 is wrong' },
    },
    options,
  );
  clock.jump(12 * DAY_MS);
  const entry = await look();
  assert.deepEqual([entry.guard, entry.backup_id], ['renewed', good.id]);
  assert.deepEqual(pinned(good), WHOLE);
});

test('pins of people are never touched, and one that ends soon is made a renewal', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const backup = await backUp();
  const place = { pool: 'dc1', vmUuid: VM_UUID, backupId: backup.id };
  const pin = (fields: object) =>
    store.put(
      keys.pinned(place, PIN_FILE),
      JSON.stringify({
        version: 1,
        kind: 'pinned',
        backup_id: backup.id,
        reason: 'audit',
        by: 'me',
        at: formatTime(clock.now()),
        ...fields,
      }),
      options,
    );
  clock.jump(12 * DAY_MS);
  await look();
  await pin({ until: formatTime(clock.now() + 10 * DAY_MS) });
  assert.equal((await look()).guard, 'pinned');
  clock.jump(8 * DAY_MS);
  const ending = await look();
  assert.deepEqual([ending.guard, ending.renewed_bytes], ['renewed', 0], 'only its mark is new');
  await pin({});
  await backUp();
  assert.equal((await look()).guard, 'safe');
  assert.deepEqual(pinned(backup), WHOLE, 'a newer one does not end a wish');
});

test('what was released by name is not renewed again, nor is anything older', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const older = await backUp({ retention: 'weekly' });
  const backup = await backUp();
  const place = { pool: 'dc1', vmUuid: VM_UUID, backupId: backup.id };
  const released = {
    version: 1,
    kind: 'released',
    backup_id: backup.id,
    reason: 'gone for good',
    by: 'me',
    at: formatTime(clock.now()),
  };
  await store.put(keys.pinned(place, PIN_FILE), JSON.stringify(released), options);
  store.rules = [dailyRule(14), rule({ prefix: 'xv/backups/weekly/', expirationDays: 20 })];
  clock.jump(13 * DAY_MS);
  assert.equal((await look()).guard, 'released');
  applyRules({ store, clock, delay: () => 0, at: clock.now() + 3 * DAY_MS });
  clock.jump(5 * DAY_MS);
  assert.equal((await look()).guard, 'released');
  assert.deepEqual(pinned(older), []);
  const next = await backUp();
  await look(next);
  assert.deepEqual(pinned(backup), [], 'the mark goes when there is a newer one');
});

test('before a rule moves it where nothing can be copied, it is renewed', async () => {
  const { backUp, look, clock, store } = setUp();
  await backUp();
  const transitions = [{ days: 5, storageClass: 'DEEP_ARCHIVE' }];
  store.rules = [{ ...dailyRule(60), transitions }];
  clock.jump(1 * DAY_MS);
  assert.equal((await look()).guard, 'safe');
  clock.jump(2 * DAY_MS);
  assert.equal((await look()).guard, 'renewed');
});

test('a rule over the whole bucket deletes copies, too: they are made young again', async () => {
  const { backUp, look, clock, store, pinned } = setUp();
  const backup = await backUp();
  store.rules = [rule({ expirationDays: 10 })];
  for (let day = 0; day < 60; day++) {
    clock.jump(DAY_MS);
    await look();
    applyRules({ store, clock, delay: () => 0 });
    assert.ok(pinned(backup).length === 4 || day < 7, `day ${day}: ${pinned(backup)}`);
  }
});

test('a rule over the whole bucket shorter than the margin: copied when half of the time is over, not at every look', async () => {
  const { backUp, look, clock, store, pinned } = setUp(3);
  const backup = await backUp();
  store.rules = [rule({ expirationDays: 2 })];
  let copies = 0;
  for (let hours = 0; hours < 20 * 24; hours += 6) {
    if ((await look()).renewed_bytes !== undefined) copies += 1;
    clock.jump(6 * HOUR_MS);
    applyRules({ store, clock, delay: () => 0 });
    assert.equal(pinned(backup).length, 4, `hour ${hours}`);
  }
  assert.ok(copies <= 21, `${copies} copies in 20 days`);
});

test('an archive in a cold class cannot be copied: that is told with the mend', async () => {
  const { backUp, guard, look, clock, store } = setUp();
  await backUp();
  clock.jump(12 * DAY_MS);
  store.onCall = (operation) => {
    if (operation !== 'copy') return;
    const details = { base: 'archived' };
    throw new BackupError('precondition_failed', 'copy', { details });
  };
  const { error } = await look();
  assert.equal(error?.code, 'store_refused');
  assert.match(error?.detail ?? '', /class that cannot be read/);
  assert.equal(guard.failures.size, 1);
});

test('two instances at once renew once; a failure is told and mended by the next look', async () => {
  const { backUp, guard, look, clock, store, engine, pinned } = setUp();
  const backup = await backUp();
  clock.jump(12 * DAY_MS);
  store.onCall = (operation) => {
    if (operation === 'copy') throw new BackupError('store_credentials', 'copy: not allowed');
  };
  assert.deepEqual((await look()).error?.code, 'store_credentials');
  assert.equal(guard.failures.get(`dc1/${VM_UUID}`)?.code, 'store_credentials');
  assert.deepEqual(pinned(backup), [PIN_FILE], 'half a copy is known by its mark');
  delete store.onCall;
  const settings = { marginMs: 3 * DAY_MS, retentionDays: {} };
  const other = createGuard(engine('b'), settings);
  const place = { pool: 'dc1', vmUuid: VM_UUID };
  const both = await Promise.all([look(), other.look(place, options)]);
  assert.deepEqual(pinned(backup), WHOLE);
  assert.equal(both.filter(({ renewed_bytes: bytes }) => bytes !== undefined).length, 1);
  assert.equal(guard.failures.size, 0);
});

test('looking dry changes nothing and tells what would be done, machines that are gone included', async () => {
  const { backUp, guard, clock, store } = setUp();
  await backUp();
  await backUp({ vmUuid: '00000000-0000-4000-8000-000000000002' });
  clock.jump(12 * DAY_MS);
  const before = [...store.objects.keys()];
  const report = await guard.all({ dryRun: true }, options);
  assert.deepEqual([...store.objects.keys()], before);
  assert.equal(report.counts.due, 2);
  assert.ok(report.vms.every((entry) => entry.would_renew));
  assert.equal((await guard.all({ dryRun: false }, options)).counts.renewed, 2);
});

// ------------------------------------------------------------------------------------------------ the property
