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
import { disk, fillOf, hash, normalise, refusal } from '../../test/fuzz/normalise.ts';
import { decodeIndex, findBlock } from './blocks-index.ts';
import { createDigestKey } from './hash.ts';
import { createNormaliser } from './normaliser.ts';
import { readArchive } from './reader.ts';
import type { OvaRewrite } from './types.ts';

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
  assert.ok(summary.index.length < 200);
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
