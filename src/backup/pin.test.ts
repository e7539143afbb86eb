/** Pins on the engine with a bucket in memory: out of rotation, used from there, and back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EngineWorld, keys, options, setUp } from '../../test/backup/engine-world.ts';
import { BackupError } from '../errors.ts';
import { formatTime } from '../time.ts';
import type { RunningService } from './create-service.ts';

const DAY_MS = 86_400_000;
const WISH = { reason: 'before the upgrade' };

const DAILY = {
  id: 'daily',
  enabled: true,
  prefix: keys.classPrefix('daily'),
  narrowed: false,
  expirationDays: 14,
};
const DAMAGED = {
  at: '2026-01-17T12:00:00.000Z',
  kind: 'whole',
  percent: 100,
  ok: false,
  read_bytes: 1,
  checked_blocks: 0,
  job_id: '01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a',
  problem: { part: 'archive', code: 'data_corrupt', detail: 'block 1 is wrong' },
};

function begin() {
  const world = setUp({ catalogTtlMs: 0 });
  const service = world.instance('a');
  const add = async () => {
    const { result } = await world.ended((await world.start(service)).id);
    assert.ok(result);
    return result;
  };
  const pin = async (backupId: string, wish: { reason: string; until?: string } = WISH) => {
    const { id } = await service.startPin({ backupId, wish, triggeredBy: 'anna' }, options);
    return await world.ended(id);
  };
  return { world, service, add, pin };
}

const below = ({ store }: EngineWorld, prefix: string) =>
  [...store.objects.keys()].filter((key) => key.startsWith(prefix)).sort();

/** As a rule does. */
async function expire(world: EngineWorld): Promise<void> {
  for (const key of below(world, keys.backupsPrefix)) await world.store.delete(key, options);
  await world.clock.advance(1000);
}

const unpin = (service: RunningService, backupId: string) =>
  service.unpin({ backupId, by: 'anna' }, options);

test('a pinned backup is one backup, and the same one when the rules have deleted the original', async () => {
  const { world, service, add, pin } = begin();
  const backup = await add();
  const before = [...world.store.calls].filter(([name]) => name === 'get' || name === 'read');
  const job = await pin(backup.id);
  assert.equal(job.status, 'succeeded', job.error?.detail);
  assert.equal(job.progress.copied_bytes, backup.archive.size_bytes);
  const reads = (world.store.calls.get('read') ?? 0) - (new Map(before).get('read') ?? 0);
  assert.equal(reads, 0, 'no byte of the archive comes through the service');
  const names = below(world, keys.pinnedPrefix).map((key) => key.slice(key.lastIndexOf('/') + 1));
  assert.deepEqual(names, ['backup.json', 'blocks.idx', 'pin.json', 'web.xva']);
  const shown = await service.getBackup(backup.id, options);
  assert.equal(shown?.pinned?.kind, 'pinned');
  assert.deepEqual([shown?.pinned?.reason, shown?.pinned?.by], [WISH.reason, 'anna']);
  assert.equal((await service.listBackups({ pageSize: 10 }, options)).items.length, 1);
  await expire(world);
  const [only, ...more] = (await service.listBackups({ pageSize: 10 }, options)).items;
  assert.deepEqual(more, []);
  assert.equal(only?.id, backup.id);
  assert.ok(only?.archive.key.startsWith(keys.pinnedPrefix));
  assert.equal(only?.retention, backup.retention);
  const triggeredBy = 'test';
  const index = await service.startIndex({ backupId: backup.id, triggeredBy }, options);
  const read = await world.ended(index.id);
  assert.equal(read.index?.found, 'right', read.error?.detail);
  await service.drain({ drainMs: 0 });
});

test('a copy that is cut off is no backup, and is gone on with', async () => {
  const { world, service, add, pin } = begin();
  const backup = await add();
  world.store.onCall = (operation, key) => {
    if (operation === 'copy' && key.endsWith('/blocks.idx')) {
      throw new BackupError('store_unavailable', 'reach the bucket');
    }
  };
  assert.equal((await pin(backup.id)).status, 'failed');
  delete world.store.onCall;
  const half = await service.getBackup(backup.id, options);
  assert.equal(half?.pinned, undefined);
  assert.equal(half?.archive.key, backup.archive.key);
  assert.equal((await pin(backup.id)).status, 'succeeded');
  await expire(world);
  assert.equal((await service.getBackup(backup.id, options))?.pinned?.reason, WISH.reason);
  await service.drain({ drainMs: 0 });
});

test('unpinned, a backup is in rotation again; a copy without original goes only when there is a newer one', async () => {
  const { world, service, add, pin } = begin();
  const first = await add();
  await pin(first.id);
  assert.equal(await unpin(service, first.id), 'in_rotation');
  assert.deepEqual(below(world, keys.pinnedPrefix), []);
  assert.equal(await unpin(service, first.id), 'in_rotation', 'a repeat is no error');
  await pin(first.id);
  await expire(world);
  const newer = await add();
  assert.equal(await unpin(service, first.id), 'removed');
  assert.deepEqual(
    (await service.listBackups({ pageSize: 10 }, options)).items.map(({ id }) => id),
    [newer.id],
  );
  assert.equal(await unpin(service, first.id), undefined);
  await service.drain({ drainMs: 0 });
});

test('the last good backup of a machine is given up only when it is said twice', async () => {
  const { world, service, add, pin } = begin();
  const only = await add();
  await pin(only.id);
  await expire(world);
  assert.equal(await unpin(service, only.id), 'kept');
  const kept = await service.getBackup(only.id, options);
  assert.deepEqual([kept?.pinned?.kind, kept?.pinned?.by], ['renewed', 'anna']);
  assert.equal(await unpin(service, only.id), 'released');
  assert.equal(await service.getBackup(only.id, options), undefined);
  await service.drain({ drainMs: 0 });
});

test('a copy stays where the original of the last good backup is about to go, since a rule is faster than a copy', async () => {
  const { world, service, add, pin } = begin();
  world.store.rules = [DAILY];
  const only = await add();
  await pin(only.id);
  const copies = world.store.calls.get('copy');
  await world.clock.advance(13 * DAY_MS);
  assert.equal(await unpin(service, only.id), 'kept');
  assert.equal(world.store.calls.get('copy'), copies, 'nothing is removed and copied again');
  assert.equal((await service.getBackup(only.id, options))?.pinned?.kind, 'renewed');
  await expire(world);
  assert.equal((await service.listBackups({ pageSize: 10 }, options)).items.length, 1);
  await service.drain({ drainMs: 0 });
});

test('giving up a damaged backup that was kept as the last good one gives up no other', async () => {
  const { world, service, add } = begin();
  world.store.rules = [DAILY];
  const good = await add();
  await world.clock.advance(DAY_MS);
  const damaged = await add();
  await world.clock.advance(11.5 * DAY_MS);
  await service.renewLastGood({ dryRun: false }, options);
  assert.equal((await service.getBackup(damaged.id, options))?.pinned?.kind, 'renewed');
  const found = { version: 1, backup_id: damaged.id, whole: DAMAGED };
  await world.store.put(keys.verified(damaged.id), JSON.stringify(found), options);
  await world.clock.advance(60_000);
  await service.renewLastGood({ dryRun: false }, options);
  assert.equal((await service.getBackup(good.id, options))?.pinned?.kind, 'renewed');
  assert.equal(await unpin(service, damaged.id), 'in_rotation');
  await service.renewLastGood({ dryRun: false }, options);
  await expire(world);
  const left = (await service.listBackups({ pageSize: 10 }, options)).items;
  assert.deepEqual(
    left.map(({ id }) => id),
    [good.id],
  );
  await service.drain({ drainMs: 0 });
});

test('a pin ends by itself once it is over and a newer good backup lasts; another wish replaces the first', async () => {
  const { world, service, add, pin } = begin();
  const backup = await add();
  const past = { ...WISH, until: formatTime(world.clock.now() - 1) };
  const refused = { code: 'invalid_request', message: /is over/ };
  await assert.rejects(pin(backup.id, past), refused);
  const until = formatTime(world.clock.now() + 2 * DAY_MS);
  await pin(backup.id, { ...WISH, until: formatTime(world.clock.now() + DAY_MS) });
  const copies = world.store.calls.get('copy');
  await pin(backup.id, { reason: 'longer', until });
  assert.equal(world.store.calls.get('copy'), copies, 'nothing is copied again');
  assert.equal((await service.getBackup(backup.id, options))?.pinned?.until, until);
  await expire(world);
  await add();
  assert.equal((await service.getBackup(backup.id, options))?.pinned?.reason, 'longer');
  await world.clock.advance(3 * DAY_MS);
  await service.renewLastGood({ dryRun: false }, options);
  assert.equal(await service.getBackup(backup.id, options), undefined);
  await service.drain({ drainMs: 0 });
});

test('what a copy that was cut off left goes with a sweep, what somebody works on and marks stay', async () => {
  const { world, service, add, pin } = begin();
  const half = await add();
  const released = await add();
  const folder = (id: string) => ({ pool: half.vm.pool, vmUuid: half.vm.uuid, backupId: id });
  await world.store.put(keys.pinned(folder(half.id), 'web.xva'), 'half', options);
  const mark = keys.pinned(folder(released.id), 'pin.json');
  await world.store.put(mark, '{"version":1}', options);
  const whole = await add();
  await pin(whole.id);
  const sweep = async () => {
    await world.clock.advance(1000);
    const { findings } = await service.sweep({ dryRun: false }, options);
    return findings.map(({ kind, name, action }) => `${kind} ${name} ${action}`);
  };
  assert.deepEqual(await sweep(), [`copy ${half.id} kept`]);
  await world.clock.advance(8 * DAY_MS);
  assert.deepEqual(await sweep(), [`copy ${half.id} removed`]);
  assert.deepEqual(await sweep(), []);
  const left = below(world, keys.pinnedPrefix);
  assert.equal(left.length, 5);
  assert.ok(left.includes(mark));
  await service.drain({ drainMs: 0 });
});
