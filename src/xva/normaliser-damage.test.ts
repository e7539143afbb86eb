import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  block,
  diskMembers,
  type ForeignDisk,
  type ForeignOptions,
  foreignOva,
  MIB,
  member,
  setHeaderSum,
  writeForeignArchive,
} from '../../test/fuzz/foreign-archive.ts';
import { disk, refusal } from '../../test/fuzz/normalise.ts';

const WIDE = disk(0, 6 * MIB + 700, [0, 2, 5, 6]);
const SECOND = disk(1, 3 * MIB, [0, 1, 2]);

const HTTP_500 =
  'HTTP/1.1 500 Internal Error\r\nconnection: close\r\ncontent-length: 99\r\n\r\n' +
  '<html><body>VDI_IO_ERROR: [ Device I/O error; OpaqueRef:1 &amp; 2 ]</body></html>';

/** Members of an archive one by one, to damage it. */
function parts(disks: ForeignDisk[], options: ForeignOptions = {}) {
  return {
    ova: member('ova.xml', Buffer.from(foreignOva(disks)), options),
    blocks: disks.map((d) => diskMembers(d, options)),
  };
}

const END = Buffer.alloc(1024);
const { ova: OVA, blocks: BLOCKS } = parts([WIDE, SECOND]);
const [FIRST_DISK = [], SECOND_DISK = []] = BLOCKS;
const whole = (first: Buffer[], second: Buffer[], tail: Buffer[] = [END]) =>
  Buffer.concat([OVA, ...first, ...second, ...tail]);
const cut = (list: Buffer[], from: number, count: number, ...insert: Buffer[]) =>
  list.toSpliced(from, count, ...insert);
const http = Buffer.from(HTTP_500);

const DAMAGES: [name: string, archive: Buffer, code: string, message: RegExp][] = [
  ['is empty', Buffer.alloc(0), 'source_truncated', /got=0 wanted=512, offset=0/],
  ['is no tar', Buffer.alloc(2048, 'x'), 'data_corrupt', /no XVA archive/],
  ['is gzip', Buffer.concat([Buffer.from('1f8b', 'hex'), END]), 'data_corrupt', /compressed/],
  ['is zstd', Buffer.concat([Buffer.from('28b52ffd', 'hex'), END]), 'data_corrupt', /compressed/],
  ['has another first member', member('foo', Buffer.alloc(3)), 'data_corrupt', /no XVA archive/],
  ['has only zeros', END, 'data_corrupt', /no XVA archive/],
  [
    'has an oversized ova.xml',
    member('ova.xml', Buffer.alloc(16 * MIB + 1)),
    'data_corrupt',
    /larger than/,
  ],
  ['ends within ova.xml', OVA.subarray(0, 700), 'source_truncated', /got=700/],
  ['ends after ova.xml', OVA, 'source_truncated', /disk=0 name="d0" source_id=Ref:12 offset=/],
  [
    'ends within a block',
    whole(FIRST_DISK, []).subarray(0, OVA.length + 9000),
    'source_truncated',
    /block=0 /,
  ],
  [
    'has zeros for a checksum',
    whole(cut(FIRST_DISK, 1, 1, END), SECOND_DISK),
    'data_corrupt',
    /find checksum of block/,
  ],
  [
    'ends without zero blocks',
    whole(FIRST_DISK, SECOND_DISK, []),
    'source_truncated',
    /disk=1 .*got|got=0/,
  ],
  [
    'ends after one zero block',
    whole(FIRST_DISK, SECOND_DISK, [END.subarray(512)]),
    'source_truncated',
    /got=512 wanted=1024/,
  ],
  [
    'has one zero block in the middle',
    whole(FIRST_DISK, SECOND_DISK, [END.subarray(512), OVA]),
    'data_corrupt',
    /one zero block/,
  ],
  [
    'goes on after its end',
    whole(FIRST_DISK, SECOND_DISK, [END, Buffer.alloc(1)]),
    'data_corrupt',
    /bytes follow/,
  ],
  [
    'goes on for long after its end',
    whole(FIRST_DISK, SECOND_DISK, [END, END]),
    'data_corrupt',
    /bytes follow/,
  ],
  [
    'lacks the second disk',
    whole(FIRST_DISK, []),
    'data_corrupt',
    /find any block of disk, disk=1 /,
  ],
  [
    'lacks the first disk',
    whole([], SECOND_DISK),
    'data_corrupt',
    /find any block of disk, covered=0.*disk=0 /,
  ],
  [
    'has disks out of order',
    whole([], [...SECOND_DISK, ...FIRST_DISK]),
    'data_corrupt',
    /find any block/,
  ],
  [
    'goes back to a disk',
    whole(FIRST_DISK, [...SECOND_DISK, ...FIRST_DISK]),
    'data_corrupt',
    /disks in order/,
  ],
  [
    'lacks a first block',
    whole(cut(FIRST_DISK, 0, 2), SECOND_DISK),
    'data_corrupt',
    /find first block of disk, disk=0 .*block=2 /,
  ],
  [
    'lacks a last block',
    whole(cut(FIRST_DISK, 6, 2), SECOND_DISK),
    'data_corrupt',
    /find last block of disk, covered=6291456 virtual_size=6292156/,
  ],
  [
    'lacks a last block at the end',
    whole(FIRST_DISK, cut(SECOND_DISK, 4, 2)),
    'data_corrupt',
    /find last block of disk/,
  ],
  [
    'has a block twice',
    whole(cut(FIRST_DISK, 2, 0, ...FIRST_DISK.slice(0, 2)), SECOND_DISK),
    'data_corrupt',
    /increasing block numbers, last=0, .*block=0 /,
  ],
  [
    'has blocks swapped',
    whole([...FIRST_DISK.slice(0, 2), ...FIRST_DISK.slice(4, 6), ...FIRST_DISK.slice(2, 4)], []),
    'data_corrupt',
    /increasing block numbers, last=5/,
  ],
  [
    'has a block beyond the end',
    whole([...FIRST_DISK, ...block('Ref:12', 7, Buffer.alloc(MIB))], SECOND_DISK),
    'data_corrupt',
    /beyond the end/,
  ],
  [
    'has a long last block',
    whole(cut(FIRST_DISK, 6, 2, ...block('Ref:12', 6, Buffer.alloc(1024))), SECOND_DISK),
    'data_corrupt',
    /block of 700 bytes, size=1024/,
  ],
  [
    'has a short block in the middle',
    whole(cut(FIRST_DISK, 2, 2, ...block('Ref:12', 2, Buffer.alloc(1024))), SECOND_DISK),
    'data_corrupt',
    /block of 1048576 bytes, size=1024/,
  ],
  [
    'begins with an empty block',
    whole(cut(FIRST_DISK, 0, 0, ...block('Ref:12', 0, Buffer.alloc(0))), SECOND_DISK),
    'data_corrupt',
    /block of 1048576 bytes, size=0/,
  ],
  [
    'has a foreign member',
    whole(cut(FIRST_DISK, 2, 0, member('notes.txt', Buffer.alloc(9))), SECOND_DISK),
    'data_corrupt',
    /only blocks of known disks: "notes.txt"/,
  ],
  [
    'has a foreign folder',
    whole(cut(FIRST_DISK, 2, 0, member('Ref:99/00000001', Buffer.alloc(9))), SECOND_DISK),
    'data_corrupt',
    /only blocks of known disks/,
  ],
  [
    'has a foreign file in a folder of ours',
    whole(cut(FIRST_DISK, 2, 0, member('Ref:12/x', Buffer.alloc(9))), SECOND_DISK),
    'data_corrupt',
    /expect a block: "Ref:12\/x"/,
  ],
  [
    'lacks a checksum',
    whole(cut(FIRST_DISK, 3, 1), SECOND_DISK),
    'data_corrupt',
    /find checksum of block, disk=0 .*block=2 /,
  ],
  [
    'has a short checksum',
    whole(cut(FIRST_DISK, 3, 1, member('Ref:12/00000002.xxhash', Buffer.alloc(8))), []),
    'data_corrupt',
    /find checksum of block/,
  ],
  [
    'has the checksum of another block',
    whole(cut(FIRST_DISK, 3, 1, FIRST_DISK[1] as Buffer), []),
    'data_corrupt',
    /find checksum of block/,
  ],
  [
    'has a wrong xxhash',
    whole(cut(FIRST_DISK, 3, 1, member('Ref:12/00000002.xxhash', Buffer.alloc(16, '0'))), []),
    'data_corrupt',
    /verify checksum of block, disk=0 .*block=2 /,
  ],
  [
    'has a wrong SHA-1',
    whole(cut(FIRST_DISK, 3, 1, member('Ref:12/00000002.checksum', Buffer.alloc(40, '0'))), []),
    'data_corrupt',
    /verify checksum of block/,
  ],
  [
    'has a broken header',
    whole(cut(FIRST_DISK, 2, 0, Buffer.alloc(512, 'x')), SECOND_DISK),
    'data_corrupt',
    /read header: no header checksum/,
  ],
  ['is a failure from the start', http, 'source_failed', /code=VDI_IO_ERROR, offset=0/],
  [
    'is a long failure from the start',
    Buffer.concat([http, END]),
    'source_failed',
    /VDI_IO_ERROR, offset=0/,
  ],
  ['fails after ova.xml', Buffer.concat([OVA, http]), 'source_failed', /code=VDI_IO_ERROR, disk=0/],
  [
    'fails between blocks',
    whole(FIRST_DISK.slice(0, 2), [], [http]),
    'source_failed',
    /code=VDI_IO_ERROR/,
  ],
  [
    'fails with a long text',
    whole(FIRST_DISK.slice(0, 2), [], [http, Buffer.alloc(9000, ' ')]),
    'source_failed',
    /code=VDI_IO_ERROR/,
  ],
  [
    'fails before a checksum',
    whole(FIRST_DISK.slice(0, 3), [], [http]),
    'source_failed',
    /code=VDI_IO_ERROR, .*block=2 /,
  ],
  [
    'fails before a checksum with a long text',
    whole(FIRST_DISK.slice(0, 3), [], [http, END]),
    'source_failed',
    /code=VDI_IO_ERROR, .*block=2 /,
  ],
  [
    'fails within a block',
    whole(FIRST_DISK.slice(0, 2), [], [(FIRST_DISK[2] as Buffer).subarray(0, 5000), http]),
    'source_failed',
    /code=VDI_IO_ERROR, .*block=2 /,
  ],
  [
    'fails after its last block',
    whole(FIRST_DISK, SECOND_DISK, [http]),
    'source_failed',
    /code=VDI_IO_ERROR/,
  ],
  [
    'fails between the zero blocks',
    whole(FIRST_DISK, SECOND_DISK, [END.subarray(512), http, END]),
    'source_failed',
    /code=VDI_IO_ERROR/,
  ],
  [
    'fails after its end',
    whole(FIRST_DISK, SECOND_DISK, [END, http]),
    'source_failed',
    /code=VDI_IO_ERROR/,
  ],
  [
    'fails without a code',
    whole([], [], [Buffer.from('HTTP/1.0 503 Busy')]),
    'source_failed',
    /status="HTTP\/1.0 503 Busy"/,
  ],
];

for (const [name, archive, code, message] of DAMAGES) {
  test(`an archive that ${name} is refused as ${code}`, async () => {
    const error = await refusal(archive);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.equal(typeof error.details.offset_bytes, 'number');
  });
}

test("a host's failure keeps XenAPI's code and params", async () => {
  const error = await refusal(whole(FIRST_DISK.slice(0, 2), [], [http]));
  assert.deepEqual(error.details, {
    status: 'HTTP/1.1 500 Internal Error',
    code: 'VDI_IO_ERROR',
    params: ['Device I/O error', 'OpaqueRef:1 & 2'],
    offset_bytes: OVA.length + 1_050_112,
    disk_index: 0,
    disk_name: 'd0',
    source_id: 'Ref:12',
  });
});

test('data of the guest that looks like HTTP stays out of the error', async () => {
  const secret = Buffer.alloc(MIB, 'HTTP/1.1 500 x\nsecret ');
  const guest = { ...WIDE, blocks: new Map([[0, secret]]) };
  const archive = writeForeignArchive([guest]);
  const error = await refusal(archive.subarray(0, archive.indexOf(secret) + 7000));
  assert.equal(error.code, 'source_truncated');
  assert.doesNotMatch(JSON.stringify([error.message, error.details]), /secret/);
});

test('a size that changes with its header sum is refused', async () => {
  const head = Buffer.from(FIRST_DISK[0] as Buffer);
  head.write('77777777777', 124);
  setHeaderSum(head, 0);
  const error = await refusal(whole([head], []));
  assert.match(error.message, /expect block of 1048576 bytes, size=8589934591/);
});
