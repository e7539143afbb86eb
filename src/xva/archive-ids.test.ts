import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compareDevices, nameDisks, nameOthers } from './archive-ids.ts';
import type { ArchiveDisk } from './types.ts';

function disk(userdevice: string, liveVdiUuid: string): ArchiveDisk {
  return {
    index: -1,
    archiveId: '',
    sourceId: `Ref:${liveVdiUuid}`,
    vdiUuid: `snapshot-of-${liveVdiUuid}`,
    liveVdiUuid,
    nameLabel: '',
    userdevice,
    virtualSizeBytes: 1,
  };
}

const named = (disks: ArchiveDisk[]) =>
  nameDisks(disks, 'device').map(({ archiveId, index }) => [archiveId, index]);

test('the device is the number, three digits wide, and the numbers are the places', () => {
  const disks = [disk('3', 'a'), disk('0', 'b'), disk('255', 'c'), disk('10', 'd')];
  assert.deepEqual(named(disks), [
    ['Ref:003', 1],
    ['Ref:000', 0],
    ['Ref:255', 3],
    ['Ref:010', 2],
  ]);
});

test('disks without a device number of their own are numbered behind the others, always alike', () => {
  const disks = [
    disk('xvda', 'e'),
    disk('1', 'z'),
    disk('256', 'd'),
    disk('1', 'c'),
    disk('01', 'b'),
    disk('', 'a'),
  ];
  const ids = [
    ['xvda', 'e', 'Ref:260'],
    ['1', 'z', 'Ref:256'],
    ['256', 'd', 'Ref:259'],
    ['1', 'c', 'Ref:001'],
    ['01', 'b', 'Ref:258'],
    ['', 'a', 'Ref:257'],
  ];
  const of = (list: ArchiveDisk[]) =>
    nameDisks(list, 'device').map((d) => [d.userdevice, d.liveVdiUuid, d.archiveId]);
  assert.deepEqual(of(disks), ids);
  assert.deepEqual(of(disks.toReversed()), ids.toReversed());
});

test('of several devices the lowest number comes first, and names last', () => {
  const devices = ['xvdb', '10', 'xvda', '2', '0', '256', '2'];
  assert.deepEqual(devices.toSorted(compareDevices), ['0', '2', '2', '10', '256', 'xvda', 'xvdb']);
});

test('disks that nothing tells apart stay in their order', () => {
  const twins = [disk('', 'a'), disk('', 'a')];
  assert.deepEqual(named(twins), [
    ['Ref:256', 0],
    ['Ref:257', 1],
  ]);
});

test('more disks than there are numbers are refused', () => {
  const many = Array.from({ length: 744 }, (_, i) => disk('x', String(i)));
  assert.throws(() => nameDisks(many, 'device'), /too many disks, found=744/);
  assert.equal(nameDisks(many.slice(1), 'device').at(-1)?.archiveId.length, 7);
  assert.equal(nameDisks(many, 'arrival').at(-1)?.archiveId, 'Ref:743');
});

test('whatever the machine, text order is the order of places, and no id begins another', () => {
  const device = fc.oneof(fc.nat(300).map(String), fc.constantFrom('', 'xvda', '00', '-1'));
  const property = fc.property(
    fc.array(device, { maxLength: 20 }),
    fc.oneof(fc.nat(40), fc.constantFrom(744, 745, 7440, 7441, 60_000)),
    fc.constantFrom<'device' | 'arrival'>('device', 'arrival'),
    (devices, count, order) => {
      const disks = nameDisks(
        devices.map((text, i) => disk(text, `u${i}`)),
        order,
      );
      const places = disks.toSorted((a, b) => a.index - b.index);
      const others = nameOthers(disks, count);
      const ids = [...places.map(({ archiveId }) => archiveId), ...others];
      assert.deepEqual(ids, ids.toSorted());
      for (const [i, id] of ids.entries()) {
        // in text order, an id that begins others stands right before the first of them
        assert.ok(!ids[i + 1]?.startsWith(id), id);
        assert.match(id, /^Ref:\d{3,5}$/);
      }
    },
  );
  fc.assert(property, { numRuns: 200 });
});
