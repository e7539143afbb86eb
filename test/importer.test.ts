import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import {
  block,
  chunk,
  disk,
  type Fields,
  type Item,
  MIB,
  nic,
  ova,
  ovaMember,
  type Piece,
  tar,
  vm,
} from './importer/archives.ts';
import { type ImportedXva, ImportRefused, importXva } from './importer.ts';

async function* inPieces(bytes: Buffer, pieceBytes = 100_003): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

const load = (bytes: Buffer, pieceBytes?: number) => importXva(inPieces(bytes, pieceBytes));

async function refusal(bytes: Buffer): Promise<string> {
  let result: ImportedXva;
  try {
    result = await load(bytes);
  } catch (error) {
    assert.ok(error instanceof ImportRefused, String((error as Error).stack));
    return error.message;
  }
  return `accepted with ${result.disks.length} disks`;
}

function contentOf(imported: ImportedXva, index: number): Buffer {
  const { image, sizeBytes } = imported.disks[index] as ImportedXva['disks'][number];
  const bytes = Buffer.alloc(sizeBytes);
  image.read(0, bytes);
  return bytes;
}

/** One machine with one disk of 3 MiB and 700 bytes, its chunks 0 and 3 present. */
const ODD = 3 * MIB + 700;
const oddChunks = [...chunk('Ref:001', 0, block('a')), ...chunk('Ref:001', 3, block('b', 700))];
const oddItems = (fields: Fields = {}): Item[] => [vm(fields), ...disk('Ref:001', ODD)];
const good = tar([ovaMember(oddItems()), ...oddChunks]);

// ------------------------------------------------------------------------------------------------ what is taken

test('a disk with holes and a short last chunk comes back whole', async () => {
  const imported = await load(good);
  const expected = Buffer.alloc(ODD);
  block('a').copy(expected);
  block('b', 700).copy(expected, 3 * MIB);
  assert.deepEqual(contentOf(imported, 0), expected);
  assert.equal(imported.plainBytes, good.length);
  assert.equal(imported.compression, 'none');
  assert.deepEqual(imported.remarks, []);
});

test('the machine, its disks and its networks are told as a host would see them', async () => {
  const items = [...oddItems(), ...nic()];
  const imported = await load(tar([ovaMember(items), ...oddChunks]));
  assert.equal(imported.vm.name, 'web <1> & "two"');
  assert.equal(imported.vm.powerState, 'Halted');
  assert.equal(imported.vm.becomesTemplate, false);
  assert.equal(imported.vm.startedByHa, false);
  assert.equal(imported.vm.startedByAutoPoweron, false);
  assert.deepEqual(imported.vifs, [{ device: '0', mac: '02:00:00:00:00:01', networkName: 'LAN' }]);
  const { id, userdevice, sizeBytes, vdiUuid, checksums } = imported.disks[0] ?? assert.fail();
  assert.deepEqual(
    { id, userdevice, sizeBytes, vdiUuid, checksums },
    {
      id: 'Ref:001',
      userdevice: '1',
      sizeBytes: ODD,
      vdiUuid: 'dddddddd-0000-4000-8000-000000000001',
      checksums: ['xxhash'],
    },
  );
});

test('a template, high availability and auto power-on are told, not hidden', async () => {
  const template = await load(tar([ovaMember([vm({ is_a_template: true })])]));
  assert.equal(template.vm.becomesTemplate, true);
  const snapshot = await load(tar([ovaMember([vm({ is_a_snapshot: true })])]));
  assert.equal(snapshot.vm.becomesTemplate, true);
  const protectedVm = vm({ ha_always_run: true, other_config: { auto_poweron: 'true' } });
  const started = await load(tar([ovaMember([protectedVm])]));
  assert.equal(started.vm.startedByHa, true);
  assert.equal(started.vm.startedByAutoPoweron, true);
});

test('a machine without disks is an archive of ova.xml alone', async () => {
  const imported = await load(tar([ovaMember([vm()])]));
  assert.deepEqual(imported.disks, []);
});

test('disks come in the order of their ids as strings, each with its own numbers', async () => {
  const items = [vm(), ...disk('Ref:9', MIB), ...disk('Ref:10', 2 * MIB)];
  const ten = [...chunk('Ref:10', 0, block('10-0')), ...chunk('Ref:10', 1, block('10-1'))];
  const nine = chunk('Ref:9', 0, block('9-0'));
  const imported = await load(tar([ovaMember(items), ...ten, ...nine]));
  assert.deepEqual(
    imported.disks.map(({ id }) => id),
    ['Ref:10', 'Ref:9'],
  );
  assert.deepEqual(contentOf(imported, 1), block('9-0'));
  assert.match(await refusal(tar([ovaMember(items), ...nine, ...ten])), /stands where a chunk of/);
});

test('ids may leave numbers out, and those of other objects may be longer', async () => {
  const on = { vbd: { VM: 'Ref:256' } };
  const items = [vm({}, 'Ref:256'), ...disk('Ref:012', MIB, on), ...disk('Ref:000', 2 * MIB, on)];
  const system = [...chunk('Ref:000', 0, block('s0')), ...chunk('Ref:000', 1, block('s1'))];
  const data = chunk('Ref:012', 0, block('d0'));
  const imported = await load(tar([ovaMember(items), ...system, ...data]));
  assert.deepEqual(
    imported.disks.map(({ id, userdevice }) => [id, userdevice]),
    [
      ['Ref:000', '0'],
      ['Ref:012', '12'],
    ],
  );
  assert.deepEqual(imported.remarks, []);
  assert.match(
    await refusal(tar([ovaMember(items), ...data, ...system])),
    /stands where a chunk of/,
  );
});

test('an empty chunk uses up a number and no space', async () => {
  const chunks = [
    ...chunk('Ref:001', 0, block('a')),
    ...chunk('Ref:001', 2, Buffer.alloc(0)),
    ...chunk('Ref:001', 3, block('b')),
    ...chunk('Ref:001', 4, block('c', 700)),
  ];
  const imported = await load(tar([ovaMember(oddItems()), ...chunks]));
  assert.equal(imported.disks[0]?.emptyChunks, 1);
  assert.deepEqual(contentOf(imported, 0).subarray(2 * MIB, 3 * MIB), block('b'));
  const numberIsPlace = chunks.filter(({ name }) => !name.includes('00000002'));
  assert.match(await refusal(tar([ovaMember(oddItems()), ...numberIsPlace])), /behind the end/);
});

test('SHA-1 and XXH64 members may stand side by side', async () => {
  const chunks = [
    ...chunk('Ref:001', 0, block('a'), 'checksum'),
    ...chunk('Ref:001', 3, block('b', 700)),
  ];
  const imported = await load(tar([ovaMember(oddItems()), ...chunks]));
  assert.deepEqual(imported.disks[0]?.checksums, ['checksum', 'xxhash']);
});

test('the checksums are those of the published vectors', async () => {
  const items = [vm(), ...disk('Ref:001', 2 * MIB)];
  const piece = (number: number, content: Buffer, sum: string): Piece[] => [
    { name: `Ref:001/0000000${number}`, content },
    { name: `Ref:001/0000000${number}.xxhash`, content: sum },
  ];
  const zeros = [
    ...piece(0, Buffer.alloc(MIB), '87D2A1B6E1163EF1'),
    ...piece(1, Buffer.alloc(0), 'EF46DB3751D8E999'),
    ...piece(2, Buffer.alloc(MIB), '87D2A1B6E1163EF1'),
  ];
  const imported = await load(tar([ovaMember(items), ...zeros]));
  assert.equal(imported.disks[0]?.image.nextData(0), undefined);
});

test('ids of one length where none begins another leave no remark, others do', async () => {
  const items = [vm(), ...disk('Ref:1', MIB), ...disk('Ref:10', MIB)];
  const chunks = [...chunk('Ref:1', 0, block('1')), ...chunk('Ref:10', 0, block('10'))];
  const imported = await load(tar([ovaMember(items), ...chunks]));
  assert.deepEqual(imported.remarks, ['the id Ref:1 begins the id Ref:10']);
});

test('what a careful archive avoids is remarked upon', async () => {
  const items = [
    vm({ VBDs: ['Ref:77'] }),
    ...disk('Ref:001', ODD, {
      vdi: { sm_config: { 'vhd-parent': 'x', 'image-format': 'vhd' } },
      vbd: { currently_attached: true },
    }),
  ];
  const imported = await load(tar([ovaMember(items), ...oddChunks]));
  assert.deepEqual(imported.remarks, [
    'VM Ref:000 names Ref:77 in VBDs, which is not in the archive',
    'disk Ref:001 carries the stale sm_config key vhd-parent',
    'VBD VBD:001 says it is attached',
  ]);
});

test('a CD and an empty drive are drives, not disks', async () => {
  const iso = { sr: { content_type: 'iso' }, vbd: { type: 'CD' } };
  const empty = { vbd: { type: 'CD', VDI: 'OpaqueRef:NULL', empty: true } };
  const [, , emptyDrive] = disk('Ref:003', MIB, empty);
  const items = [...oddItems(), ...disk('Ref:002', MIB, iso), emptyDrive as Item];
  const imported = await load(tar([ovaMember(items), ...oddChunks]));
  assert.equal(imported.disks.length, 1);
  assert.deepEqual(imported.removables, [
    { userdevice: '2', type: 'CD', empty: false },
    { userdevice: '3', type: 'CD', empty: true },
  ]);
});

test('ustar headers, a pax comment and blanks in ova.xml are taken', async () => {
  const ustar = { 156: '0', 257: 'ustar\0', 263: '00' };
  const padded = `${ova(oddItems()).replaceAll('<member>', '\n  <!-- - -->  <member>')}\n \n`;
  const pieces: Piece[] = [
    { name: 'ova.xml', content: padded, header: ustar },
    { name: 'pax', content: `8200 comment=${'x'.repeat(8186)}`, header: { 156: 'x' } },
    ...oddChunks,
  ];
  assert.equal((await load(tar(pieces))).disks.length, 1);
});

test('an archive is read from any sizes of pieces and from a file', async (t) => {
  const small = tar([
    ovaMember([vm(), ...disk('Ref:001', 700)]),
    ...chunk('Ref:001', 0, block('b', 700)),
  ]);
  for (const size of [1, 511, 512, 513]) assert.equal((await load(small, size)).disks.length, 1);
  const folder = mkdtempSync(join(tmpdir(), 'xvault-importer-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'small.xva');
  writeFileSync(file, small);
  assert.deepEqual(contentOf(await importXva(file), 0), block('b', 700));
});

// ------------------------------------------------------------------------------------------------ compressed

const zstd = (bytes: Uint8Array) =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });

test('zstd is taken: one frame, many frames, skippable ones between', async () => {
  const skippable = Buffer.from('502a4d180300000078797a', 'hex');
  const middle = 700_000;
  const frames = [zstd(good.subarray(0, middle)), skippable, zstd(good.subarray(middle))];
  for (const bytes of [zstd(good), Buffer.concat(frames)]) {
    const imported = await load(bytes);
    assert.equal(imported.compression, 'zstd');
    assert.deepEqual(contentOf(imported, 0).subarray(0, MIB), block('a'));
  }
});

test('gzip is taken, with one member or several', async () => {
  const two = Buffer.concat([gzipSync(good.subarray(0, 5000)), gzipSync(good.subarray(5000))]);
  for (const bytes of [gzipSync(good), two]) {
    const imported = await load(bytes);
    assert.equal(imported.compression, 'gzip');
    assert.equal(imported.plainBytes, good.length);
  }
});

test('a compressed archive that was cut or lengthened is refused', async () => {
  const frame = zstd(good);
  assert.match(await refusal(frame.subarray(0, -1)), /ends inside a frame/);
  assert.match(await refusal(frame.subarray(0, frame.length / 2)), /ends inside/);
  assert.match(await refusal(Buffer.concat([frame, Buffer.from('HTTP')])), /no zstd frame follow/);
  const wrongSum = Buffer.from(frame);
  wrongSum[frame.length - 1] = (frame.at(-1) as number) ^ 1;
  assert.match(await refusal(wrongSum), /zstd stream is damaged/);
  const member = gzipSync(good);
  assert.match(await refusal(member.subarray(0, -1)), /whole gzip archive: unexpected end/);
  assert.match(await refusal(Buffer.concat([member, Buffer.alloc(99)])), /bytes follow the gzip/);
  assert.match(await refusal(Buffer.from('<html>500</html>')), /neither a plain, a zstd nor/);
  assert.equal(await refusal(Buffer.alloc(0)), 'the archive is empty');
});

test('an error of the source itself is no refusal', async () => {
  async function* broken(start: Buffer) {
    yield start;
    throw new Error('connection reset');
  }
  for (const start of [good, gzipSync(good), zstd(good)]) {
    await assert.rejects(importXva(broken(start.subarray(0, 600_000))), /connection reset/);
  }
});

// ------------------------------------------------------------------------------------------------ what is refused

const first = ovaMember(oddItems());
const [a, aSum] = chunk('Ref:001', 0, block('a')) as [Piece, Piece];
const [b, bSum] = chunk('Ref:001', 3, block('b', 700)) as [Piece, Piece];
const http500 = Buffer.from('HTTP/1.1 500 Internal Error\r\n\r\n<html>failed</html>'.padEnd(600));

const dirtyPadding = tar([ovaMember([vm({ name_label: 'odd' })])], Buffer.alloc(0));
dirtyPadding[dirtyPadding.length - 1] = 1;

const STREAMS: [string, Buffer, RegExp][] = [
  ['another first member', tar([a, aSum]), /neither a plain/],
  ['a truncated chunk', good.subarray(0, 500_000), /ends inside Ref:001\/00000000/],
  ['a cut between members', tar([first, a, aSum], Buffer.alloc(0)), /without its end blocks/],
  ['an end before the last chunk', tar([first, a, aSum]), /ends inside disk Ref:001/],
  [
    'a missing first chunk',
    tar([first, ...chunk('Ref:001', 1, block('a'))]),
    /begins with chunk 1/,
  ],
  ['a missing checksum', tar([first, a, b, bSum]), /checksum of Ref:001\/00000000 is missing/],
  [
    'a missing last checksum',
    tar([first, a, aSum, b]),
    /checksum of .*3 is missing: there is the end/,
  ],
  ['a foreign checksum', tar([first, a, bSum]), /is missing/],
  ['a wrong checksum', tar([first, a, { ...aSum, content: '0'.repeat(16) }]), /has the checksum/],
  [
    'lower-case XXH64',
    tar([first, a, { ...aSum, content: String(aSum.content).toLowerCase() }]),
    /has the checksum/,
  ],
  ['a long checksum', tar([first, a, { ...aSum, content: `${aSum.content}\n` }]), /another length/],
  ['a chunk twice', tar([first, a, aSum, a, aSum]), /chunk 0 .* comes after chunk 0/],
  [
    'falling numbers',
    tar([first, a, aSum, ...chunk('Ref:001', 2, block('c')), ...chunk('Ref:001', 1, block('d'))]),
    /chunk 1 of disk Ref:001 comes after chunk 2/,
  ],
  [
    'a chunk behind the end',
    tar([first, a, aSum, ...chunk('Ref:001', 4, block('b', 700))]),
    /behind the end/,
  ],
  [
    'a last chunk too long',
    tar([first, a, aSum, ...chunk('Ref:001', 3, block('b', 701))]),
    /behind the end/,
  ],
  [
    'a short chunk in the middle',
    tar([first, a, aSum, ...chunk('Ref:001', 1, block('c', 4096))]),
    /4096 bytes long and not the last one/,
  ],
  [
    'a chunk of 2 MiB',
    tar([first, ...chunk('Ref:001', 0, block('a', 2 * MIB))]),
    /2097152 bytes long/,
  ],
  [
    'another disk',
    tar([first, ...chunk('Ref:0012', 0, block('a'))]),
    /stands where a chunk of disk Ref:001/,
  ],
  ['a foreign member between', tar([first, { name: 'x', content: '' }]), /stands where a chunk/],
  ['a foreign name', tar([first, { ...a, name: 'Ref:001/1' }, aSum]), /no chunk's name/],
  ['a member after the last', tar([first, a, aSum, b, bSum, b]), /follows the last disk/],
  ['ova.xml twice', tar([first, first]), /stands where/],
  ['one zero block', tar([first, a, aSum, b, bSum], Buffer.alloc(512)), /inside its end blocks/],
  ['three zero blocks', tar([first, a, aSum, b, bSum], Buffer.alloc(1536)), /bytes follow the end/],
  ['an HTTP 500 after the end', Buffer.concat([good, http500]), /bytes follow the end/],
  [
    'an HTTP 500 instead of the end',
    tar([first, a, aSum, b, bSum], http500),
    /no checksum|wrong checksum/,
  ],
  ['an HTTP 500 inside a disk', tar([first, a, aSum], http500), /no checksum|wrong checksum/],
  [
    'a stray zero block',
    Buffer.concat([tar([first, a, aSum], Buffer.alloc(512)), tar([b, bSum])]),
    /ends inside disk/,
  ],
  [
    'a header whose sum is wrong',
    tar([first, { ...a, rawChecksum: '0000001\0' }]),
    /wrong checksum/,
  ],
  ['a symbolic link', tar([first, { ...a, header: { 156: '2' } }]), /is no file/],
  ['a name with a prefix', tar([first, { ...a, header: { 257: 'ustar', 345: 'p' } }]), /a prefix/],
  [
    'padding that is not zero',
    Buffer.concat([dirtyPadding, Buffer.alloc(1024)]),
    /padding of ova.xml is not zero/,
  ],
];

for (const [what, bytes, sentence] of STREAMS) {
  test(`${what} is refused`, async () => {
    assert.match(await refusal(bytes), sentence);
  });
}

test('a first disk below 1 MiB makes gaps of later disks wrong, as on a host', async () => {
  const items = [vm(), ...disk('Ref:001', 4096), ...disk('Ref:002', 3 * MIB)];
  const chunks = [
    ...chunk('Ref:001', 0, block('a', 4096)),
    ...chunk('Ref:002', 0, block('b')),
    ...chunk('Ref:002', 2, block('c')),
  ];
  assert.match(await refusal(tar([ovaMember(items), ...chunks])), /ends inside disk Ref:002/);
});

const without = (fields: Fields): Item[] => [vm(), ...disk('Ref:001', ODD, { vdi: fields })];

const INVENTORIES: [string, string, RegExp][] = [
  ['no XML', 'HTTP/1.1 500', /text between elements/],
  ['an envelope', '<methodResponse></methodResponse>', /should have <value>/],
  ['two values', `${ova([vm()])}<value>1</value>`, /more than one value/],
  ['an open end', ova([vm()]).slice(0, -8), /should have <\/value>/],
  ['text between elements', ova([vm()]).replace('<member>', 'x<member>'), /text between elements/],
  ['an unknown entity', ova([vm({ name_label: 'NAME' })]).replace('NAME', '&eacute;'), /entity/],
  ['the boolean true', ova([vm()]).replace('<boolean>0<', '<boolean>true<'), /the boolean "true"/],
  ['no version', ova([vm()]).replace('<name>version<', '<name>wersion<'), /no member version/],
  ['no xapi_minor', ova([vm()], { xapi_minor: undefined }), /no member xapi_minor/],
  ['export version 1', ova([vm()], { export_vsn: 1 }), /export version is 1/],
  ['no machine', ova(nic().slice(0, 1)), /0 machines/],
  ['two machines', ova([vm(), vm({}, 'Ref:001')]), /2 machines/],
  ['two objects of one id', ova([...oddItems(), ...disk('Ref:001', 1)]), /two objects have the id/],
  [
    'a machine without platform',
    ova([vm({ platform: undefined })]),
    /VM Ref:000 has no field platform/,
  ],
  ['a text for a boolean', ova([vm({ is_a_template: '0' })]), /is_a_template of another type/],
  ['a text for a number', ova([vm({ VCPUs_max: 'two' })]), /VCPUs_max of another type/],
  ['a text for a map', ova([vm({ other_config: '' })]), /other_config of another type/],
  ['a disk without size', ova(without({ virtual_size: undefined })), /no field virtual_size/],
  ['a disk of size 0', ova(without({ virtual_size: 0 })), /has the size 0/],
  ['a disk on no storage', ova(without({ SR: 'Ref:9' })), /names the SR Ref:9/],
  [
    'a drive without its disk',
    ova([vm(), ...disk('Ref:001', ODD, { vbd: { VDI: 'Ref:9' } })]),
    /names the VDI Ref:9/,
  ],
  [
    'a drive of another machine',
    ova([vm(), ...disk('Ref:001', ODD, { vbd: { VM: 'Ref:9' } })]),
    /names the VM Ref:9/,
  ],
  ['an interface on no network', ova([vm(), ...nic({ network: 'Ref:9' })]), /names the network/],
  [
    'two drives at one place',
    ova([...oddItems(), ...disk('Ref:002', MIB, { vbd: { userdevice: '1' } })]),
    /two drives have the user device 1/,
  ],
  [
    'a disk on two drives',
    ova([...oddItems(), ...disk('Ref:002', MIB, { vbd: { VDI: 'Ref:001' } })]),
    /two drives share the disk/,
  ],
  ['bottomless nesting', '<value><array><data>'.repeat(99), /nested too deeply/],
];

for (const [what, xml, sentence] of INVENTORIES) {
  test(`ova.xml with ${what} is refused`, async () => {
    const bytes = tar([{ name: 'ova.xml', content: xml }, ...oddChunks]);
    assert.match(await refusal(bytes), sentence);
  });
}

test('ova.xml that is no UTF-8 is refused', async () => {
  const content = Buffer.from([0x3c, 0xff]);
  assert.equal(await refusal(tar([{ name: 'ova.xml', content }])), 'ova.xml is not UTF-8');
});

test('cut anywhere, an archive is refused and never crashes the importer', async () => {
  const items = [vm(), ...disk('Ref:001', 1300)];
  const bytes = tar([ovaMember(items), ...chunk('Ref:001', 0, block('a', 1300))]);
  for (let length = 0; length < bytes.length; length += 37) {
    assert.doesNotMatch(await refusal(bytes.subarray(0, length)), /^accepted/, `length=${length}`);
  }
});
