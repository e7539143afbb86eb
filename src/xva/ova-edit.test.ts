import assert from 'node:assert/strict';
import { test } from 'node:test';
import { value } from '../../test/fuzz/foreign-archive.ts';
import { loadHasher } from './hash.ts';
import { judgeChecksum, withSha1, writeMember } from './member.ts';
import { type Ova, type OvaObject, parseOva, textOf } from './ova.ts';
import { editOva, type NetworkPlace, type OvaEdit } from './ova-edit.ts';
import { describeOva } from './ova-facts.ts';
import { readHeader } from './tar.ts';

const object = (className: string, id: string, snapshot: Record<string, unknown>) => ({
  class: className,
  id,
  snapshot,
});

/** Two disks, two cards on two networks, a loaded CD drive, a vTPM. */
function archived(): Ova {
  const vdi = (id: string, uuid: string, sr: string) =>
    object('VDI', id, {
      uuid,
      name_label: uuid,
      SR: sr,
      virtual_size: '1048576',
      VBDs: [id.replace('00', '30')],
      sm_config: { 'image-format': 'qcow2' },
    });
  const vbd = (id: string, disk: string, userdevice: string) =>
    object('VBD', id, {
      uuid: `vbd-${userdevice}`,
      VM: 'Ref:256',
      VDI: disk,
      userdevice,
      type: 'Disk',
      bootable: userdevice === '0',
      mode: 'RW',
    });
  const vif = (id: string, device: string, network: string) =>
    object('VIF', id, {
      uuid: `vif-${device}`,
      VM: 'Ref:256',
      device,
      network,
      MAC: `02:0${device}`,
    });
  const network = (id: string, name: string) =>
    object('network', id, {
      uuid: `net-${name}`,
      name_label: name,
      bridge: `br-${name}`,
      VIFs: [],
    });
  const objects = [
    vdi('Ref:000', 'root', 'Ref:500'),
    vdi('Ref:001', 'data', 'Ref:501'),
    object('VM', 'Ref:256', {
      uuid: 'vm',
      name_label: 'web',
      name_description: 'Ref:301',
      is_a_template: false,
      power_state: 'Halted',
      generation_id: '1:2',
      VBDs: ['Ref:300', 'Ref:301', 'Ref:302'],
      VIFs: ['Ref:400', 'Ref:401'],
      other_config: { mac_seed: 'seed', 'xvault:restore': 'an earlier one', owner: 'ops' },
      tags: ['Ref:301'],
    }),
    vbd('Ref:300', 'Ref:000', '0'),
    vbd('Ref:301', 'Ref:001', '1'),
    object('VBD', 'Ref:302', {
      uuid: 'cd',
      VM: 'Ref:256',
      VDI: 'Ref:600',
      userdevice: '3',
      type: 'CD',
      empty: false,
    }),
    object('VDI', 'Ref:600', { uuid: 'iso', SR: 'Ref:502', virtual_size: '1000' }),
    vif('Ref:400', '0', 'Ref:700'),
    vif('Ref:401', '1', 'Ref:701'),
    network('Ref:700', 'LAN'),
    network('Ref:701', 'Lab'),
    ...['500', '501', '502'].map((n) =>
      object('SR', `Ref:${n}`, { uuid: n, content_type: n === '502' ? 'iso' : 'user', VDIs: [] }),
    ),
    object('VTPM', 'Ref:800', { uuid: 'tpm', VM: 'Ref:256' }),
  ];
  const version = {
    export_vsn: '2',
    product_version: '8.3.0',
    xapi_major: '26',
    xapi_minor: '1',
  };
  return parseOva(Buffer.from(value({ version, objects })));
}

const PLACES = new Map<string, NetworkPlace>([
  ['Ref:700', { nameLabel: 'Office', bridge: 'xenbr4' }],
  ['Ref:701', 'none'],
]);

function edit(over: Partial<OvaEdit> = {}) {
  const member = editOva(archived(), {
    nameLabel: 'web 2',
    marks: { 'xvault:restore': 'job' },
    disks: new Set(['Ref:000', 'Ref:001']),
    networks: PLACES,
    ...over,
  });
  const header = readHeader(member, 0);
  assert.equal(header.kind === 'member' && header.name, 'ova.xml');
  const size = header.kind === 'member' ? header.sizeBytes : 0;
  const ova = parseOva(member.subarray(512, 512 + size));
  const all = (className: string) => ova.objects.filter((one) => one.className === className);
  return { ova, all, only: (className: string) => all(className)[0] as OvaObject };
}

const told = (objects: OvaObject[], key: string) =>
  objects.map(({ record }) => textOf(record.get(key)));

test('the facts of a machine are read from its ova.xml', () => {
  const facts = describeOva(archived());
  assert.deepEqual(facts.xapi, { major: 26, minor: 1 });
  assert.deepEqual([facts.macSeed, facts.hasTpm, facts.loadedDrives], ['seed', true, 1]);
  assert.deepEqual(
    facts.disks.map((disk) => [disk.archiveId, disk.vdiUuid, disk.userdevice, disk.bootable]),
    [
      ['Ref:000', 'root', '0', true],
      ['Ref:001', 'data', '1', false],
    ],
  );
  assert.deepEqual(facts.interfaces[1], {
    id: 'Ref:401',
    device: '1',
    mac: '02:01',
    networkId: 'Ref:701',
  });
});

test('name, mark and networks are as asked; a network without interfaces goes with them', () => {
  const { ova, all, only } = edit();
  assert.equal(textOf(ova.machine.record.get('name_label')), 'web 2');
  const otherConfig = new Map([
    ['mac_seed', 'seed'],
    ['owner', 'ops'],
    ['xvault:restore', 'job'],
  ]);
  assert.deepEqual(ova.machine.record.get('other_config'), otherConfig);
  assert.deepEqual(told(all('VIF'), 'device'), ['0']);
  assert.deepEqual(told(all('network'), 'name_label'), ['Office']);
  assert.deepEqual(told(all('network'), 'bridge'), ['xenbr4']);
  assert.deepEqual(ova.machine.record.get('VIFs'), ['Ref:400']);
  assert.equal(textOf(only('VTPM').record.get('uuid')), 'tpm');
});

test('media are ejected, and nothing of the ISO is made on the pool', () => {
  const { ova, all } = edit();
  const cd = all('VBD').find(({ record }) => textOf(record.get('type')) === 'CD') as OvaObject;
  assert.deepEqual(cd.record.get('empty'), { tag: 'boolean', text: '1' });
  assert.equal(cd.record.get('VDI'), 'OpaqueRef:NULL');
  assert.deepEqual(told(all('VDI'), 'uuid'), ['root', 'data']);
  assert.deepEqual(told(all('SR'), 'uuid'), ['500', '501']);
  assert.equal(describeOva(ova).loadedDrives, 0);
});

test('a disk left out goes with its drive and its storage; text that looks like its id stays', () => {
  const { ova, all } = edit({ disks: new Set(['Ref:000']) });
  assert.deepEqual(told(all('VDI'), 'uuid'), ['root']);
  assert.deepEqual(told(all('VBD'), 'userdevice'), ['0', '3']);
  assert.deepEqual(told(all('SR'), 'uuid'), ['500']);
  assert.deepEqual(ova.machine.record.get('VBDs'), ['Ref:300', 'Ref:302']);
  assert.equal(textOf(ova.machine.record.get('name_description')), 'Ref:301');
  assert.deepEqual(ova.machine.record.get('tags'), ['Ref:301']);
  assert.equal(ova.disks.length, 1);
});

test('an identity of its own: machine, seed, drives and interfaces are others, the addresses stay', () => {
  let made = 0;
  const { ova, all } = edit({
    networks: new Map<string, NetworkPlace>([
      ...PLACES,
      ['Ref:701', { nameLabel: 'Lab', bridge: 'b' }],
    ]),
    identity: {
      vmUuid: 'other',
      macSeed: 'other seed',
      generationId: '3:4',
      freshUuid: () => `fresh-${made++}`,
    },
  });
  const { record } = ova.machine;
  assert.equal(textOf(record.get('uuid')), 'other');
  assert.equal(textOf(record.get('generation_id')), '3:4');
  assert.equal(describeOva(ova).macSeed, 'other seed');
  const uuids = [...all('VBD'), ...all('VIF'), ...all('VTPM')].map(({ record: one }) =>
    textOf(one.get('uuid')),
  );
  assert.equal(new Set(uuids).size, 6);
  assert.ok(uuids.every((uuid) => uuid.startsWith('fresh-')));
  assert.deepEqual(told(all('VIF'), 'MAC'), ['02:00', '02:01']);
  // without one the host makes everything: what the archive says does not count
  assert.equal(textOf(edit().ova.machine.record.get('uuid')), 'vm');
  assert.equal(textOf(edit().ova.machine.record.get('generation_id')), '1:2');
});

test('for an older importer the numbers are lowered, and no newer disk format is asked for', () => {
  const { ova, only } = edit({ version: { major: 1, minor: 20, productVersion: '8.2.1' } });
  const facts = describeOva(ova);
  assert.deepEqual([facts.xapi, facts.productVersion], [{ major: 1, minor: 20 }, '8.2.1']);
  assert.deepEqual(only('VDI').record.get('sm_config'), new Map());
  const sizes = new Map([['image-format', 'qcow2']]);
  assert.deepEqual(edit().only('VDI').record.get('sm_config'), sizes);
});

test('an interface without a place is a bug, not a network made in silence', () => {
  assert.throws(() => edit({ networks: new Map([['Ref:700', 'none']]) }), { code: 'internal' });
});

test('importers before XXH64 get SHA-1 in as many bytes', async () => {
  const hash = await loadHasher();
  const content = Buffer.alloc(1536, 'content');
  const view = Buffer.alloc(512 + 1536 + 1024);
  content.copy(view, 512);
  const name = 'Ref:000/00000000';
  const xxh64 = hash.xxh64(content);
  writeMember(view, { name, sizeBytes: content.length, xxh64 });
  const old = withSha1(view);
  assert.equal(old.length, view.length);
  const header = readHeader(old, 512 + 1536);
  assert.deepEqual(header, { kind: 'member', name: `${name}.checksum`, sizeBytes: 40 });
  assert.equal(judgeChecksum(old, { name, sizeBytes: content.length, xxh64: 0n }), undefined);
  assert.ok(view.includes('.xxhash'), 'the original stays');
});
