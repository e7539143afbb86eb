import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  block,
  contentAt,
  diskMembers,
  type ForeignDisk,
  type ForeignOptions,
  foreignOva,
  importDisks,
  MIB,
  member,
  setHeaderSum,
  value,
  writeForeignArchive,
} from '../../test/fuzz/foreign-archive.ts';
import { BackupError } from '../errors.ts';
import { decodeIndex, findBlock } from './blocks-index.ts';
import { loadHasher } from './hash.ts';
import { createNormaliser } from './normaliser.ts';
import { type ArchiveVisitor, type Fill, readArchive } from './reader.ts';
import type { OvaRewrite } from './types.ts';

const hash = await loadHasher();
const never = new AbortController().signal;

const REWRITE: OvaRewrite = {
  nameLabel: 'web <1>',
  nameDescription: 'shop & co',
  vmUuid: 'vm-uuid',
  disks: new Map([['u0', { uuid: 'live0', nameLabel: 'root' }]]),
};

function fillOf(archive: Buffer): Fill {
  let at = 0;
  return async (target) => {
    const count = archive.copy(target, 0, at);
    at += count;
    return count;
  };
}

function disk(index: number, sizeBytes: number, filled: number[]): ForeignDisk {
  const blocks = new Map<number, Buffer>();
  for (const position of filled) {
    const length = Math.min(MIB, sizeBytes - position * MIB);
    blocks.set(position, Buffer.alloc(length, `disk ${index} block ${position} `));
  }
  return { id: `Ref:${12 + index}`, uuid: `u${index}`, name: `d${index}`, sizeBytes, blocks };
}

async function normalise(archive: Buffer, rewrite?: OvaRewrite, visitor: ArchiveVisitor = {}) {
  const pieces: Buffer[] = [];
  const input = {
    hash,
    ...(rewrite && { rewrite }),
    visitor: {
      ...visitor,
      bytes: (bytes: Uint8Array) => {
        pieces.push(Buffer.from(bytes));
      },
    },
  };
  const summary = await readArchive(fillOf(archive), input, { signal: never });
  return { summary, archive: Buffer.concat(pieces) };
}

/** The error a damaged archive must give. */
async function refusal(archive: Buffer): Promise<BackupError> {
  const error = await normalise(archive).then(
    () => assert.fail('accepted'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof BackupError, String(error));
  return error;
}

const SMALL = disk(0, 1000, [0]);
const WIDE = disk(0, 6 * MIB + 700, [0, 2, 5, 6]);
const SECOND = disk(1, 3 * MIB, [0, 1, 2]);
const OURS = (disks: ForeignDisk[]) =>
  disks.map(({ sizeBytes }, i) => ({ id: `Ref:00${i}`, sizeBytes }));

function assertSameContent(read: Map<number, Buffer>[], disks: ForeignDisk[]) {
  for (const [i, { sizeBytes, blocks }] of disks.entries()) {
    for (let n = 0; n < Math.ceil(sizeBytes / MIB); n++) {
      const found =
        read[i]?.get(n) ?? contentAt({ ...(disks[i] as ForeignDisk), blocks: new Map() }, n);
      assert.ok(found.equals(contentAt({ ...(disks[i] as ForeignDisk), blocks }, n)), `${i}/${n}`);
    }
  }
}

for (const options of [
  {},
  { checksum: 'sha1', header: 'v7-old' },
  { header: 'ustar' },
  { sendZeros: true },
  { emptyBefore: new Set([2, 5]) },
  { emptyBefore: new Set([1, 2, 3, 4]), sendZeros: true },
] satisfies ForeignOptions[]) {
  const name = JSON.stringify(options, (_, v) => (v instanceof Set ? [...v] : v));
  test(`the same snapshot gives the same archive however the host wrote it: ${name}`, async () => {
    const disks = [WIDE, SECOND];
    const plain = await normalise(writeForeignArchive(disks), REWRITE);
    const other = await normalise(writeForeignArchive(disks, options), REWRITE);
    assert.ok(plain.archive.equals(other.archive));
    assert.deepEqual(plain.summary, other.summary);
    assertSameContent(importDisks(other.archive, OURS(disks)), disks);
    assert.equal(other.archive.length, other.summary.archiveBytes);
    assert.deepEqual(
      other.summary.disks.map(({ storedBlocks, storedBytes }) => [storedBlocks, storedBytes]),
      [
        [4, 3 * MIB + 700],
        [3, 3 * MIB],
      ],
    );
  });
}

test('normalising a normalised archive changes nothing', async () => {
  const once = await normalise(writeForeignArchive([WIDE, SECOND]), REWRITE);
  const twice = await normalise(once.archive);
  assert.ok(once.archive.equals(twice.archive));
  assert.deepEqual(
    decodeIndex(once.summary.index, hash).disks,
    decodeIndex(twice.summary.index, hash).disks,
  );
  assert.deepEqual(once.summary.index, twice.summary.index);
});

test('any disks come back bit for bit, and the index finds every block', async () => {
  const anyDisk = fc.record({
    size: fc.oneof(
      fc.integer({ min: 1, max: 3000 }),
      fc.integer({ min: 1, max: 6 }).map((n) => n * MIB),
      fc.integer({ min: MIB, max: 5 * MIB }),
    ),
    filled: fc.uniqueArray(fc.nat(5), { maxLength: 4 }),
  });
  const anyOptions = fc.record({
    checksum: fc.constantFrom<'xxhash' | 'sha1'>('xxhash', 'sha1'),
    header: fc.constantFrom<'v7' | 'v7-old' | 'ustar'>('v7', 'v7-old', 'ustar'),
    sendZeros: fc.boolean(),
    emptyBefore: fc.uniqueArray(fc.nat(5)).map((list) => new Set(list)),
  });
  const property = fc.asyncProperty(
    fc.array(anyDisk, { maxLength: 3 }),
    anyOptions,
    async (shapes, options) => {
      const disks = shapes.map(({ size, filled }, i) =>
        disk(
          i,
          size,
          filled.filter((n) => n * MIB < size),
        ),
      );
      const isOddFirst = (disks[0]?.sizeBytes ?? MIB) < MIB;
      const source = writeForeignArchive(disks, {
        ...options,
        sendZeros: isOddFirst || options.sendZeros,
      });
      const { archive, summary } = await normalise(source, REWRITE);
      assertSameContent(importDisks(archive, OURS(disks)), disks);
      const index = decodeIndex(summary.index, hash);
      for (const [i, entry] of index.disks.entries()) {
        const truth = disks[i] as ForeignDisk;
        for (let n = 0; n * MIB < truth.sizeBytes; n++) {
          const found = findBlock(entry, n);
          const content = contentAt(truth, n);
          if (!found) assert.ok(content.every((byte) => byte === 0));
          else {
            const at = found.offsetBytes + 512;
            assert.ok(archive.subarray(at, at + found.lengthBytes).equals(content));
            assert.equal(found.xxh64, hash.xxh64(content));
          }
        }
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

test('a machine without disks is ova.xml and the end', async () => {
  const { archive, summary } = await normalise(writeForeignArchive([]), REWRITE);
  assert.deepEqual(summary.disks, []);
  assert.deepEqual(importDisks(archive, []), []);
  assert.equal(summary.contentDigest, 'ef46db3751d8e999');
});

test('ova.xml may be larger than a block', async () => {
  const ova = foreignOva([SMALL]).replace('<struct>', `<struct>${' '.repeat(2 * MIB)}`);
  const { archive } = await normalise(writeForeignArchive([SMALL], { ova }), REWRITE);
  assertSameContent(importDisks(archive, OURS([SMALL])), [SMALL]);
});

test('disks are told with both their uuids, names and places', async () => {
  let seen: unknown;
  await normalise(writeForeignArchive([WIDE, SECOND]), REWRITE, {
    disks: (disks) => {
      seen = disks.map((d) => [
        d.index,
        d.archiveId,
        d.sourceId,
        d.vdiUuid,
        d.liveVdiUuid,
        d.nameLabel,
        d.userdevice,
      ]);
    },
  });
  assert.deepEqual(seen, [
    [0, 'Ref:000', 'Ref:12', 'u0', 'live0', 'root', '0'],
    [1, 'Ref:001', 'Ref:13', 'u1', 'u1', 'd1', '1'],
  ]);
});

test('a first disk below 1 MiB is kept dense behind it, and a gap there is refused', async () => {
  const disks = [SMALL, disk(1, 3 * MIB, [0])];
  const { archive, summary } = await normalise(writeForeignArchive(disks, { sendZeros: true }));
  assert.equal(summary.disks[1]?.storedBlocks, 3);
  assertSameContent(importDisks(archive, OURS(disks)), disks);
  const error = await refusal(writeForeignArchive(disks));
  assert.equal(error.code, 'vm_not_supported');
  assert.match(error.message, /first disk is smaller than 1 MiB.*disk=1 .*block=2 /);
});

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

test('accepting after the end is refused, and so is asking before it', async () => {
  const normaliser = createNormaliser(undefined, hash);
  assert.equal(normaliser.block, undefined);
  assert.equal(normaliser.sourceOffsetBytes, 0);
  assert.throws(() => normaliser.index(), /before the end/);
  assert.throws(() => normaliser.totals(), /before the end/);
  const source = fillOf(Buffer.concat([writeForeignArchive([]), END]));
  const step = async () => {
    const view = Buffer.alloc(normaliser.wantBytes);
    await source(view);
    return { view, step: normaliser.accept(view) };
  };
  const { view } = await step();
  const ova = Buffer.alloc(normaliser.wantBytes);
  view.copy(ova);
  await source(ova.subarray(512));
  assert.equal(normaliser.accept(ova).kind, 'replace');
  await step();
  assert.equal(normaliser.accept(Buffer.alloc(1024)).kind, 'end');
  assert.throws(() => normaliser.accept(Buffer.alloc(512)), /bytes follow/);
});

test('reading stops when it is cancelled', async () => {
  const reason = new Error('stop');
  const reading = readArchive(fillOf(OVA), { hash }, { signal: AbortSignal.abort(reason) });
  await assert.rejects(reading, reason);
});

test('one object twice, and disks without place, are refused', async () => {
  const broken = (ova: unknown) => refusal(member('ova.xml', Buffer.from(value(ova))));
  assert.match((await broken({ version: {}, objects: [] })).message, /exactly one VM, found=0/);
});

test('GNU tar lists and extracts a normalised archive', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xva-'));
  t.after(() => rmSync(folder, { recursive: true }));
  try {
    execFileSync('tar', ['--version']);
  } catch {
    t.skip('no tar here');
    return;
  }
  const { archive } = await normalise(writeForeignArchive([WIDE, SECOND]), REWRITE);
  writeFileSync(join(folder, 'a.xva'), archive);
  const names = execFileSync('tar', ['-tf', 'a.xva'], { cwd: folder, encoding: 'utf8' }).split(
    '\n',
  );
  assert.equal(names.length, 1 + 2 * 7 + 1);
  assert.deepEqual(names.slice(0, 3), ['ova.xml', 'Ref:000/00000000', 'Ref:000/00000000.xxhash']);
  execFileSync('tar', ['-xf', 'a.xva'], { cwd: folder });
  assert.ok(readFileSync(join(folder, 'Ref:000/00000006')).equals(contentAt(WIDE, 6)));
});
