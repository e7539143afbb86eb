import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { disk, type Fields, MIB, ova, tar, vm } from '../../test/importer/archives.ts';
import { NEVER } from '../signals.ts';
import { parseTime } from '../time.ts';
import { type FoundArchive, type FoundDisk, lookAtSource, rewriteOf } from './adopt-look.ts';
import type { AdoptSource } from './adopt-stream.ts';

const options = { signal: NEVER };
const UUID = 'aaaaaaaa-0000-4000-8000-000000000001';

function sourceOf(bytes: Uint8Array): AdoptSource {
  const read = async function* () {
    for (let at = 0; at < bytes.length; at += 777) yield bytes.subarray(at, at + 777);
  };
  return { name: 'a.xva', sizeBytes: bytes.length, modifiedMs: 0, read };
}

/** The first member of an archive of this machine with two disks. */
function archiveOf(fields: Fields, vdi: Fields = {}): Buffer {
  const items = [vm(fields), ...disk('Ref:001', 3 * MIB, { vdi }), ...disk('Ref:002', 2 * MIB)];
  // as hosts name everything
  const content = ova(items).replaceAll('SR:', 'Ref:9').replaceAll('VBD:', 'Ref:8');
  return tar([{ name: 'ova.xml', content }]);
}

const look = (fields: Fields = {}, vdi: Fields = {}): Promise<FoundArchive> =>
  lookAtSource(sourceOf(archiveOf(fields, vdi)), options);

test('an archive tells its machine, its disks, who wrote it, and how it is compressed', async () => {
  const found = await look({ name_description: 'the shop' });
  assert.deepEqual(found.vm, {
    uuid: UUID,
    nameLabel: 'web <1> & "two"',
    nameDescription: 'the shop',
  });
  assert.deepEqual(
    found.disks.map(({ userdevice, virtualSizeBytes }) => [userdevice, virtualSizeBytes]),
    [
      ['1', 3 * MIB],
      ['2', 2 * MIB],
    ],
  );
  assert.deepEqual(found.host, {
    address: 'localhost',
    productVersion: '8.2.1',
    xapiVersion: '1.20',
  });
  assert.deepEqual([found.compression, found.isSnapshot, found.changes], ['none', false, []]);
  const packed = await lookAtSource(sourceOf(gzipSync(archiveOf({}))), options);
  assert.equal(packed.compression, 'gzip');
});

test('what starts by itself, and what is no ordinary machine, is told', async () => {
  const { changes } = await look({
    is_a_template: true,
    ha_restart_priority: 'restart',
    other_config: { auto_poweron: 'true' },
  });
  assert.deepEqual(changes, [
    'it was a template, and is an ordinary machine',
    'it started with its host, and does not',
    'it was started by high availability, and is not',
  ]);
  // a host says of a snapshot it exports that it is a template; its disks still tell
  const snapshot = await look({ is_a_template: true }, { snapshot_of: 'Ref:777' });
  assert.equal(snapshot.isSnapshot, true);
  assert.deepEqual(snapshot.changes, ['it was a snapshot, and is an ordinary machine']);
  const old = await look({ is_a_snapshot: true, snapshot_time: '20240229T10:11:12Z' });
  assert.equal(old.snapshotMs, parseTime('2024-02-29T10:11:12Z'));
});

test('a suspended machine is refused, and so is what has no uuid', async () => {
  await assert.rejects(look({ power_state: 'Suspended' }), { code: 'vm_not_supported' });
  await assert.rejects(look({ uuid: '../../etc' }), { code: 'data_corrupt' });
});

test('disks are those of the machine by uuid, else by device, unless that is another one', async () => {
  const found = await look();
  const [first, second] = found.disks as [FoundDisk, FoundDisk];
  const live = (over: Partial<FoundDisk>): FoundDisk => ({ ...first, nameLabel: 'live', ...over });
  const rewritten = (disks: FoundDisk[]) => {
    const { rewrite, changes } = rewriteOf(found, { uuid: UUID, disks }, undefined);
    return [
      ...[first, second].map(({ vdiUuid }) => rewrite.disks.get(vdiUuid)?.uuid),
      changes.length,
    ];
  };
  assert.deepEqual(rewritten([]), [first.vdiUuid, second.vdiUuid, 0]);
  // moved to another device
  assert.deepEqual(rewritten([live({ userdevice: '7' })]), [first.vdiUuid, second.vdiUuid, 0]);
  const grown = live({ vdiUuid: 'new', virtualSizeBytes: 5 * MIB });
  assert.deepEqual(rewritten([grown]), ['new', second.vdiUuid, 1]);
  const smaller = live({ vdiUuid: 'new', virtualSizeBytes: MIB });
  assert.deepEqual(rewritten([smaller]), [first.vdiUuid, second.vdiUuid, 0]);
  // the second disk's device has the first one now: never one disk for both
  const swapped = [live({ userdevice: second.userdevice })];
  assert.deepEqual(rewritten(swapped), [first.vdiUuid, second.vdiUuid, 0]);
  const { rewrite, changes } = rewriteOf(found, undefined, 'shop');
  assert.deepEqual([rewrite.nameLabel, rewrite.vmUuid, changes.length], ['shop', UUID, 1]);
});
