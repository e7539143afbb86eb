import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  contentAt,
  type ForeignDisk,
  type ForeignOptions,
  foreignOva,
  importDisks,
  MIB,
  writeForeignArchive,
} from '../../test/fuzz/foreign-archive.ts';
import { disk, fillOf, hash, KEY, normalise, refusal } from '../../test/fuzz/normalise.ts';
import { decodeIndex, entryRange, findBlock } from './blocks-index.ts';
import { readEntry } from './entries.ts';
import { createBlockDigest, createDigestKey } from './hash.ts';
import { createNormaliser } from './normaliser.ts';
import { indexArchive, readArchive } from './reader.ts';
import type { IndexedBlock, IndexedDisk, KeptBlock, OvaRewrite } from './types.ts';

const signal = new AbortController().signal;

const REWRITE: OvaRewrite = {
  nameLabel: 'web <1>',
  nameDescription: 'shop & co',
  vmUuid: 'vm-uuid',
  disks: new Map([['u0', { uuid: 'live0', nameLabel: 'root' }]]),
};

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
  for (const order of ['device', 'arrival'] as const) {
    const once = await normalise(writeForeignArchive(TURNED), REWRITE, { order });
    const twice = await normalise(once.archive, undefined, { order });
    assert.ok(once.archive.equals(twice.archive));
    assert.deepEqual(once.summary.index, twice.summary.index);
  }
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
            const { offset } = entryRange(entry, found.position, found.position + 1);
            const { xxh64, digest } = readEntry(Buffer.from(summary.index), offset);
            assert.equal(xxh64, hash.xxh64(content));
            assert.deepEqual(digest, createBlockDigest(KEY)(content));
          }
        }
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

test('a disk of 8 TiB with little in it costs little', async () => {
  const huge = disk(0, 8 * 1024 * 1024 * MIB + 512, [0, 5_000_000, 8 * 1024 * 1024]);
  const { archive, summary } = await normalise(
    writeForeignArchive([huge], { emptyBefore: new Set([5_000_000]) }),
  );
  const [read] = importDisks(archive, OURS([huge]));
  assert.deepEqual(read, huge.blocks);
  const [indexed] = decodeIndex(summary.index, hash).disks;
  assert.ok(indexed);
  assert.equal(findBlock(indexed, 5_000_000)?.lengthBytes, MIB);
  assert.equal(findBlock(indexed, 8 * 1024 * 1024)?.lengthBytes, 512);
  // a bit for each of its blocks, 24 bytes for each stored one
  assert.equal(summary.index.length, 16 + 3 * 24 + 56 + 88 + (MIB + 1) + 32);
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

const TURNED = [
  { ...disk(1, 3 * MIB, [0, 2]), device: '7' },
  { ...disk(2, 2 * MIB + 9, [1]), device: '1' },
  { ...disk(3, MIB, [0]), device: '0' },
];

test('by device, the archive is the same in whatever order its disks came', async () => {
  const order = 'device';
  const turned = await normalise(writeForeignArchive(TURNED), REWRITE, { order });
  const ids = ['Ref:11', 'Ref:12', 'Ref:13'];
  const straight = TURNED.toReversed().map((d, i) => ({ ...d, id: ids[i] as string }));
  const plain = await normalise(writeForeignArchive(straight), REWRITE, { order });
  assert.ok(turned.archive.equals(plain.archive));
  assert.deepEqual(turned.summary.index, plain.summary.index);
  assert.equal(turned.summary.contentDigest, plain.summary.contentDigest);
  assert.deepEqual(
    turned.summary.arrivals.map(({ index, archiveId }) => [index, archiveId]),
    [
      [2, 'Ref:007'],
      [1, 'Ref:001'],
      [0, 'Ref:000'],
    ],
  );
  assert.deepEqual(
    turned.summary.disks.map(({ disk: d, storedBlocks }) => [d.archiveId, storedBlocks]),
    [
      ['Ref:000', 1],
      ['Ref:001', 3],
      ['Ref:007', 2],
    ],
  );
  const places = ['Ref:000', 'Ref:001', 'Ref:007'];
  const wanted = straight.map(({ sizeBytes }, i) => ({ id: places[i] as string, sizeBytes }));
  assertSameContent(importDisks(turned.archive, wanted), straight);
});

test('a kept block names its disk by its place', async () => {
  const seen: number[] = [];
  const block = ({ diskIndex }: KeptBlock) => void seen.push(diskIndex);
  await normalise(writeForeignArchive(TURNED), REWRITE, { order: 'device', block });
  assert.deepEqual(seen, [2, 2, 1, 1, 1, 0]);
});

test('a disk keeps its members byte for byte when others come, go and grow', async () => {
  const order = 'device';
  const [seven] = TURNED as [ForeignDisk];
  const alone = await normalise(writeForeignArchive([seven]), REWRITE, { order });
  const others = await normalise(writeForeignArchive(TURNED), REWRITE, { order });
  const membersOf = ({ summary, archive }: typeof alone) => {
    const { offsetBytes } = decodeIndex(summary.index, hash).disks.at(-1) as IndexedDisk;
    return archive.subarray(offsetBytes);
  };
  assert.ok(membersOf(alone).equals(membersOf(others)));
});

test('a small disk that comes first may be read, and one that lies first allows no gaps', async () => {
  const small = { ...disk(0, 1000, [0]), device: '1' };
  const wide = { ...disk(1, 3 * MIB, [0, 2]), device: '0' };
  const order = 'device';
  const dense = writeForeignArchive([small, wide], { sendZeros: true });
  const { archive, summary } = await normalise(dense, undefined, { order });
  assert.deepEqual(
    summary.disks.map(({ storedBlocks }) => storedBlocks),
    [2, 1],
  );
  const ours = [
    { id: 'Ref:000', sizeBytes: wide.sizeBytes },
    { id: 'Ref:001', sizeBytes: small.sizeBytes },
  ];
  assertSameContent(importDisks(archive, ours), [wide, small]);
  const smallFirst = [
    { ...wide, id: 'Ref:12', device: '1' },
    { ...small, id: 'Ref:13', device: '0' },
  ];
  const kept = writeForeignArchive(smallFirst, { sendZeros: true });
  assert.equal((await normalise(kept, undefined, { order })).summary.disks[1]?.storedBlocks, 3);
  const gaps = normalise(writeForeignArchive(smallFirst), undefined, { order });
  await assert.rejects(gaps, /first disk is smaller than 1 MiB.*disk=1 .*block=2 /);
});

test('the index is rebuilt from the archive alone, byte for byte', async () => {
  for (const disks of [TURNED, [SMALL], [WIDE, SECOND], []]) {
    const { archive, summary } = await normalise(writeForeignArchive(disks), REWRITE, {
      order: 'device',
    });
    const rebuilt = await indexArchive(fillOf(archive), { hash, digestKey: KEY }, { signal });
    assert.deepEqual(rebuilt.index, summary.index);
    assert.equal(rebuilt.contentDigest, summary.contentDigest);
    assert.equal(rebuilt.archiveBytes, archive.length);
  }
});

test('an archive numbered by arrival is indexed as it stands, too', async () => {
  const { archive, summary } = await normalise(writeForeignArchive(TURNED), REWRITE);
  const rebuilt = await indexArchive(fillOf(archive), { hash, digestKey: KEY }, { signal });
  assert.deepEqual(rebuilt.index, summary.index);
});

const OURS_ONLY: [what: string, archive: () => Promise<Buffer>][] = [
  ["a host's own export", async () => writeForeignArchive([WIDE])],
  ['one with another header form', async () => renamed({ header: 'ustar' })],
  ['one with SHA-1', async () => renamed({ checksum: 'sha1' })],
  ['one with empty blocks', async () => renamed({ emptyBefore: new Set([2]) })],
  ['one with zeros', async () => renamed({ sendZeros: true })],
  ['one with other padding', async () => withoutPadding()],
];
/** A foreign archive that has nothing wrong but what the options say. */
const renamed = (options: ForeignOptions) =>
  writeForeignArchive([{ ...WIDE, id: 'Ref:000' }], options);
async function withoutPadding(): Promise<Buffer> {
  const { archive, summary } = await normalise(writeForeignArchive([WIDE]), REWRITE);
  const [first] = decodeIndex(summary.index, hash).disks as [IndexedDisk];
  const last = findBlock(first, 6) as IndexedBlock;
  archive[last.offsetBytes + 512 + last.lengthBytes] = 1;
  return archive;
}
for (const [what, archive] of OURS_ONLY) {
  test(`no index is made of what is not our archive: ${what}`, async () => {
    const reading = indexArchive(fillOf(await archive()), { hash, digestKey: KEY }, { signal });
    await assert.rejects(reading, /no ids of ours|not as we write it/);
  });
}

test('accepting after the end is refused, and so is asking before it', async () => {
  const normaliser = createNormaliser({ order: 'arrival', digestKey: createDigestKey() }, hash);
  assert.equal(normaliser.block, undefined);
  assert.equal(normaliser.sourceOffsetBytes, 0);
  assert.throws(() => normaliser.index(), /before the end/);
  assert.throws(() => normaliser.totals(), /before the end/);
  const source = fillOf(writeForeignArchive([]));
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
  const reading = readArchive(
    fillOf(writeForeignArchive([])),
    { hash },
    { signal: AbortSignal.abort(reason) },
  );
  await assert.rejects(reading, reason);
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
