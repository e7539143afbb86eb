import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ForeignDisk, foreignOva, value } from '../../test/fuzz/foreign-archive.ts';
import { type OvaObject, parseOva, textOf } from './ova.ts';
import { rewriteOva } from './rewrite.ts';
import type { OvaRewrite } from './types.ts';

const REWRITE: OvaRewrite = {
  nameLabel: 'web',
  nameDescription: 'shop',
  vmUuid: 'vm-uuid',
  disks: new Map([['u1', { uuid: 'live1', nameLabel: 'root' }]]),
};

function disk(id: string, uuid: string): ForeignDisk {
  return { id, uuid, name: `d-${uuid}`, sizeBytes: 1_048_576, blocks: new Map() };
}

function rewrite(xml: string, order: 'device' | 'arrival' = 'arrival') {
  const result = rewriteOva(parseOva(Buffer.from(xml)), { rewrite: REWRITE, order });
  const ova = parseOva(result.xml);
  const find = (className: string, index = 0) =>
    ova.objects.filter((object) => object.className === className)[index] as OvaObject;
  return { ...result, ova, find };
}

const XML = foreignOva([disk('Ref:10', 'u1'), disk('Ref:9', 'u2')]);

function flagOf(object: OvaObject, key: string) {
  return textOf(object.record.get(key));
}

test('the machine becomes a halted, ordinary one under its own name', () => {
  const vm = rewrite(XML).ova.machine;
  const keys = ['is_a_template', 'is_a_snapshot', 'ha_always_run', 'ha_restart_priority'];
  assert.deepEqual(
    keys.map((key) => flagOf(vm, key)),
    ['0', '0', '0', ''],
  );
  assert.equal(flagOf(vm, 'power_state'), 'Halted');
  assert.equal(flagOf(vm, 'name_label'), 'web');
  assert.equal(flagOf(vm, 'name_description'), 'shop');
  assert.equal(flagOf(vm, 'uuid'), 'vm-uuid');
  assert.deepEqual(vm.record.get('is_a_template'), { tag: 'boolean', text: '0' });
});

test('neither our marker nor auto power-on stays, other settings do', () => {
  const vm = rewrite(XML).ova.machine;
  assert.deepEqual(vm.record.get('other_config'), new Map([['mac_seed', 'seed']]));
  assert.equal(flagOf(vm, 'memory_static_max'), '4294967296');
});

test('a key the source lacks is not made up', () => {
  assert.equal(rewrite(XML).ova.machine.record.has('suspend_VDI'), false);
});

test('by order of arrival, disks are numbered as they come', () => {
  const { disks, ova } = rewrite(XML);
  assert.deepEqual(
    disks.map((d) => [d.archiveId, d.index, d.sourceId, d.vdiUuid, d.liveVdiUuid, d.nameLabel]),
    [
      ['Ref:000', 0, 'Ref:10', 'u1', 'live1', 'root'],
      ['Ref:001', 1, 'Ref:9', 'u2', 'u2', 'd-u2'],
    ],
  );
  assert.deepEqual(
    ova.objects.map((object) => object.id),
    ['Ref:000', 'Ref:001', ...ova.objects.slice(2).map((_, i) => `Ref:${256 + i}`)],
  );
});

test('by device, a disk has the number of its device, whatever comes and goes beside it', () => {
  const system = { ...disk('Ref:9', 'u1'), device: '0' };
  const data = { ...disk('Ref:10', 'u2'), device: '12' };
  const both = rewrite(foreignOva([data, system]), 'device');
  assert.deepEqual(
    both.disks.map((d) => [d.sourceId, d.archiveId, d.index]),
    [
      ['Ref:10', 'Ref:012', 1],
      ['Ref:9', 'Ref:000', 0],
    ],
  );
  assert.deepEqual(
    both.ova.objects.slice(0, 3).map(({ id, className }) => [id, className]),
    [
      ['Ref:000', 'VDI'],
      ['Ref:012', 'VDI'],
      ['Ref:256', 'VM'],
    ],
  );
  const alone = rewrite(foreignOva([data]), 'device');
  assert.deepEqual([alone.disks[0]?.archiveId, alone.disks[0]?.index], ['Ref:012', 0]);
});

test('the order in which the disks come leaves no trace', () => {
  const machine = (ids: string[]) =>
    foreignOva(ids.map((id, i) => ({ ...disk(id, `u${i}`), device: String(i) })));
  const ascending = rewrite(machine(['Ref:5', 'Ref:6', 'Ref:7']), 'device');
  const turned = rewrite(machine(['Ref:9', 'Ref:10', 'Ref:11']), 'device');
  assert.deepEqual(
    turned.disks.map(({ index }) => index),
    [1, 2, 0],
  );
  assert.deepEqual(turned.xml, ascending.xml);
});

test('the order of objects in the file says nothing', () => {
  const turned = foreignOva([disk('Ref:9', 'u2'), disk('Ref:10', 'u1'), disk('Ref:11', 'u3')]);
  assert.deepEqual(
    rewrite(turned).disks.map((d) => d.vdiUuid),
    ['u1', 'u3', 'u2'],
  );
});

test('a disk takes the live uuid, its location with it, and loses the chain it hung on', () => {
  const vdi = rewrite(XML).find('VDI');
  assert.equal(flagOf(vdi, 'uuid'), 'live1');
  assert.equal(flagOf(vdi, 'location'), 'live1');
  assert.equal(flagOf(vdi, 'snapshot_of'), 'OpaqueRef:NULL');
  assert.equal(flagOf(vdi, 'is_a_snapshot'), '0');
  assert.equal(flagOf(vdi, 'physical_utilisation'), '0');
  assert.deepEqual(vdi.record.get('sm_config'), new Map([['image-format', 'vhd']]));
});

test("a location that is not the disk's uuid stays", () => {
  const other = XML.replace(
    '<name>location</name><value>u1<',
    '<name>location</name><value>/dev/x<',
  );
  assert.equal(flagOf(rewrite(other).find('VDI'), 'location'), '/dev/x');
});

test('references follow the new ids; those that lead nowhere become none', () => {
  const { ova, find } = rewrite(XML);
  const vm = ova.machine;
  assert.deepEqual(vm.record.get('VBDs'), ['Ref:257', 'Ref:258', 'Ref:259']);
  assert.equal(flagOf(vm, 'metrics'), 'OpaqueRef:NULL');
  assert.equal(flagOf(vm, 'parent'), 'OpaqueRef:NULL');
  assert.equal(flagOf(vm, 'affinity'), find('host').id);
  assert.equal(flagOf(find('VBD'), 'VDI'), 'Ref:000');
  assert.deepEqual(find('SR').record.get('VDIs'), ['Ref:000', 'Ref:001']);
  assert.deepEqual(find('host').record.get('resident_VMs'), []);
  assert.equal(
    ova.objects.some((object) => object.className === 'VM_metrics'),
    false,
  );
});

test('a set of plain text keeps its order', () => {
  const xml = XML.replace(
    '<name>VBDs<',
    '<name>x</name><value><array><data><value>b</value><value>a</value></data></array></value></member><member><name>VBDs<',
  );
  assert.deepEqual(rewrite(xml).ova.machine.record.get('x'), ['b', 'a']);
});

test('a name that looks like an id stays a name', () => {
  const xml = XML.replaceAll('d-u2', 'Ref:10');
  assert.equal(flagOf(rewrite(xml).find('VDI', 1), 'name_label'), 'Ref:10');
});

test('the ids of the host leave no trace, whatever its counter says', () => {
  const moved = XML.replace(/Ref:(8|9)(\d\d)\b/g, 'Ref:1$1$2').replaceAll('Ref:10<', 'Ref:500<');
  assert.notEqual(moved, XML);
  assert.deepEqual(rewrite(moved).xml, rewrite(XML).xml);
});

test('rewriting what was rewritten changes nothing', () => {
  const { xml } = rewrite(XML);
  assert.deepEqual(rewriteOva(parseOva(xml), { order: 'arrival' }).xml, xml);
  assert.deepEqual(rewriteOva(parseOva(xml), { order: 'device' }).xml, xml);
});

test('without rules, names and uuids stay', () => {
  const { xml } = rewriteOva(parseOva(Buffer.from(XML)), { order: 'arrival' });
  const { machine } = parseOva(xml);
  assert.equal(flagOf(machine, 'uuid'), 'snapshot-uuid');
  assert.equal(flagOf(machine, 'name_label'), 'xvault:job-1');
});

const VERSION = { export_vsn: '2' };
const object = (className: string, id: string, snapshot: Record<string, unknown>) => ({
  class: className,
  id,
  snapshot,
});

test('classes and keys nobody knows survive, in a stable place', () => {
  const objects = [
    object('Zebra', 'Ref:7', { uuid: 'z', VM: 'Ref:3', nested: { a: 'b' } }),
    object('VM', 'Ref:3', { uuid: 'v' }),
    object('Zebra', 'Ref:5', { uuid: 'y', other_config: 'text' }),
  ];
  const { ova } = rewrite(value({ version: VERSION, objects, extra: 'kept' }));
  assert.equal(ova.root.get('extra'), 'kept');
  assert.deepEqual(
    ova.objects.map((o) => [o.className, o.id, flagOf(o, 'uuid')]),
    [
      ['VM', 'Ref:256', 'vm-uuid'],
      ['Zebra', 'Ref:257', 'y'],
      ['Zebra', 'Ref:258', 'z'],
    ],
  );
  assert.equal(flagOf(ova.objects[2] as OvaObject, 'VM'), 'Ref:256');
  assert.deepEqual(ova.objects[2]?.record.get('nested'), new Map([['a', 'b']]));
});

test('the ids of very many objects grow wider, those of disks never', () => {
  const many = Array.from({ length: 1000 }, (_, i) => object('Zebra', `Ref:${i + 2000}`, {}));
  const xml = XML.replace(
    '<name>objects</name><value><array><data>',
    `$&${many.map(value).join('')}`,
  );
  const { ova, disks } = rewrite(xml);
  assert.deepEqual(
    disks.map(({ archiveId }) => archiveId),
    ['Ref:000', 'Ref:001'],
  );
  const ids = ova.objects.map(({ id }) => id);
  assert.deepEqual(ids.slice(0, 3), ['Ref:000', 'Ref:001', 'Ref:2560']);
  assert.deepEqual(ids, ids.toSorted());
});

test('a disk on two drives is one disk; drives of CDs, ISOs and missing disks are none', () => {
  const objects = [
    object('VM', 'Ref:0', {}),
    object('SR', 'Ref:1', { content_type: 'user' }),
    object('SR', 'Ref:2', { content_type: 'iso' }),
    object('VDI', 'Ref:3', { uuid: 'a', SR: 'Ref:1', virtual_size: '512' }),
    object('VDI', 'Ref:4', { uuid: 'b', SR: 'Ref:2', virtual_size: '512' }),
    object('VBD', 'Ref:5', { VDI: 'Ref:3', type: 'Disk', userdevice: '10' }),
    object('VBD', 'Ref:6', { VDI: 'Ref:3', type: 'Disk', userdevice: '2' }),
    object('VBD', 'Ref:7', { VDI: 'Ref:4', type: 'Disk' }),
    object('VBD', 'Ref:8', { VDI: 'OpaqueRef:NULL', type: 'Disk' }),
    object('VBD', 'Ref:9', { VDI: 'Ref:3', type: 'CD' }),
  ];
  const { disks } = rewrite(value({ version: VERSION, objects }));
  assert.deepEqual(
    disks.map((d) => [d.vdiUuid, d.userdevice, d.virtualSizeBytes]),
    [['a', '2', 512]],
  );
});

const VDI = { uuid: 'a', SR: 'Ref:1', virtual_size: '512' };
const WITH = (vdi: Record<string, unknown>, id = 'Ref:3') => ({
  version: VERSION,
  objects: [
    object('VM', 'Ref:0', {}),
    object('SR', 'Ref:1', {}),
    object('VDI', id, vdi),
    object('VBD', 'Ref:5', { VDI: id, type: 'Disk' }),
  ],
});
const VERY_LARGE = {
  version: VERSION,
  objects: [
    object('VM', 'Ref:0', {}),
    object('SR', 'Ref:1', {}),
    ...Array.from({ length: 6 }, (_, i) => [
      object('VDI', `Ref:1${i}`, { ...VDI, virtual_size: '100000000000000' }),
      object('VBD', `Ref:2${i}`, { VDI: `Ref:1${i}`, type: 'Disk' }),
    ]).flat(),
  ],
};
const REFUSED: [name: string, ova: unknown, why: RegExp][] = [
  ['that is no struct', 'x', /find struct root/],
  ['without objects', { version: VERSION }, /find objects/],
  ['without version', { objects: [] }, /find struct version/],
  ['without machine', { version: VERSION, objects: [] }, /exactly one VM, found=0/],
  [
    'with two machines',
    { version: VERSION, objects: [object('VM', 'Ref:1', {}), object('VM', 'Ref:2', {})] },
    /found=2/,
  ],
  [
    'with one id twice',
    { version: VERSION, objects: [object('VM', 'Ref:1', {}), object('SR', 'Ref:1', {})] },
    /one object per id/,
  ],
  [
    'with an id that is none',
    { version: VERSION, objects: [object('VM', '1', {})] },
    /class and id/,
  ],
  [
    'with an object without class',
    { version: VERSION, objects: [object('', 'Ref:1', {})] },
    /class and id/,
  ],
  ['with an object that is none', { version: VERSION, objects: ['x'] }, /find struct object/],
  [
    'with an object without record',
    { version: VERSION, objects: [{ class: 'VM', id: 'Ref:1' }] },
    /find struct VM.snapshot/,
  ],
  [
    'with a disk without storage',
    WITH({ ...VDI, SR: 'Ref:9' }),
    /find storage of disk, source_id=Ref:3/,
  ],
  [
    'with a disk without size',
    WITH({ ...VDI, virtual_size: '' }),
    /find a virtual size, source_id=Ref:3/,
  ],
  ['with a disk of no size', WITH({ ...VDI, virtual_size: '0' }), /find a virtual size/],
  [
    'with a disk larger than any',
    WITH({ ...VDI, virtual_size: '999999999999999' }),
    /find a virtual size/,
  ],
  ['with disks larger than any together', VERY_LARGE, /disks of 512 TiB at most/],
  ['with a disk without uuid', WITH({ ...VDI, uuid: [] }), /find uuid of disk/],
];
for (const [name, ova, why] of REFUSED) {
  test(`an ova.xml ${name} is refused`, () => {
    assert.throws(() => parseOva(Buffer.from(value(ova))), why);
  });
}

test('an ova.xml that is no UTF-8 or no XML is refused without showing it', () => {
  assert.throws(() => parseOva(Buffer.from([0xff])), /ova.xml: it is no UTF-8/);
  assert.throws(
    () => parseOva(Buffer.from('secret')),
    (error: Error) => !/secret/.test(error.message),
  );
});

test('text that grows too large by escaping is refused', () => {
  const quotes = XML.replace('<name>memory_static_max</name><value>', `$&${'"'.repeat(4 << 20)}`);
  assert.throws(
    () => rewriteOva(parseOva(Buffer.from(quotes)), { order: 'arrival' }),
    /rewrite ova.xml: too large/,
  );
});
