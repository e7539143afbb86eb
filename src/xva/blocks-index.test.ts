import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupError } from '../errors.ts';
import {
  type ByteRange,
  blockAt,
  decodeIndex,
  diskMemberBytes,
  diskStoredBytes,
  encodeIndex,
  entryRange,
  findBlock,
  openIndex,
} from './blocks-index.ts';
import { createEntryTable, digestContent, readEntry } from './entries.ts';
import { loadHasher } from './hash.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES, type FrameTable, type IndexedDisk } from './types.ts';

const hash = await loadHasher();
const KEY = Buffer.from('0123456789abcdef');
const xxhOf = (number: number) => 0xf0n + BigInt(number);
const digestOf = (number: number) => Buffer.alloc(16, `digest ${number} `);

function build(disks: { size: number; blocks: number[] }[], frames?: FrameTable): Buffer {
  const described = disks.map(({ size, blocks }, i) => {
    const table = createEntryTable();
    for (const n of blocks) table.add({ number: n, xxh64: xxhOf(n), digest: digestOf(n) });
    return {
      archiveId: `Ref:00${i}`,
      vdiUuid: `0000000${i}-1111-2222-3333-444444444444`,
      virtualSizeBytes: size,
      table,
    };
  });
  const pieces = described.flatMap(({ table }) => table.pieces);
  const contentDigest = digestContent(pieces, hash);
  const input = { ovaMemberBytes: 1024, digestKey: KEY, contentDigest, disks: described, frames };
  return encodeIndex(input, hash);
}

/** Reads by ranges, and tells which. */
async function open(bytes: Buffer) {
  const ranges: ByteRange[] = [];
  const read = async (range: ByteRange) => {
    ranges.push(range);
    return bytes.subarray(range.offset, range.offset + range.length);
  };
  return { index: await openIndex(read, { sizeBytes: bytes.length, hash }), ranges };
}

const TWO = build([
  { size: 5 * BLOCK_BYTES + 1, blocks: [0, 3, 5] },
  { size: BLOCK_BYTES, blocks: [0] },
]);
const MANY = Array.from({ length: 3000 }, (_, i) => i);
const LARGE = build([{ size: 3000 * BLOCK_BYTES, blocks: MANY }]);
const FRAMES: FrameTable = {
  parameters: 'zstd level=1',
  groupBlocks: 4,
  lengths: Buffer.from('0000000a0000000b', 'hex'),
};

test('an index reads back as it was written, whole and by ranges', async () => {
  const index = decodeIndex(TWO, hash);
  assert.equal(index.ovaMemberBytes, 1024);
  assert.deepEqual(index.digestKey, KEY);
  assert.equal(index.frames, undefined);
  assert.deepEqual(
    index.disks.map((d) => [d.archiveId, d.vdiUuid, d.virtualSizeBytes, d.storedBlocks]),
    [
      ['Ref:000', '00000000-1111-2222-3333-444444444444', 5 * BLOCK_BYTES + 1, 3],
      ['Ref:001', '00000001-1111-2222-3333-444444444444', BLOCK_BYTES, 1],
    ],
  );
  assert.equal(index.disks[1]?.offsetBytes, 1024 + 2 * BLOCK_MEMBER_BYTES + 2048);
  assert.equal(index.archiveBytes, 1024 + 3 * BLOCK_MEMBER_BYTES + 2048 + 1024);
  const { index: opened, ranges } = await open(TWO);
  assert.equal(JSON.stringify(opened, printable), JSON.stringify(index, printable));
  assert.deepEqual(ranges, [{ offset: 0, length: TWO.length }]);
});

const printable = (_: string, value: unknown) => (typeof value === 'bigint' ? `${value}` : value);

test('of a large index only the end is read, then its entries by windows', async () => {
  const { index, ranges } = await open(LARGE);
  assert.deepEqual(ranges, [{ offset: LARGE.length - 65_536, length: 65_536 }]);
  const [disk] = index.disks as [IndexedDisk];
  const { offset, length } = entryRange(disk, 2000, 2010);
  const window = LARGE.subarray(offset, offset + length);
  for (let i = 0; i < 10; i++) {
    const found = { xxh64: xxhOf(2000 + i), digest: digestOf(2000 + i) };
    assert.deepEqual(readEntry(window, i * 24), found);
  }
});

test('a directory larger than the first range is read by a second one', async () => {
  const huge = build([{ size: 1024 * 1024 * BLOCK_BYTES, blocks: [0, 1024 * 1024 - 1] }]);
  const { index, ranges } = await open(huge);
  assert.equal(index.disks[0]?.presence.has(1024 * 1024 - 1), true);
  assert.deepEqual(ranges[1], { offset: 16 + 48, length: huge.length - 65_536 - 64 });
});

test('a directory larger than any is not read', async () => {
  const trailer = TWO.subarray(-32);
  const read = async ({ length }: ByteRange) => Buffer.concat([Buffer.alloc(length - 32), trailer]);
  const reading = openIndex(read, { sizeBytes: 2 ** 40, hash });
  await assert.rejects(reading, /wrong length/);
});

test('an index of a machine without disks reads back', async () => {
  const none = build([]);
  assert.equal(none.length, 16 + 56 + 32);
  assert.deepEqual(decodeIndex(none, hash).disks, []);
  assert.equal((await open(none)).index.archiveBytes, 2048);
});

test('the frames of a compressed archive read back', async () => {
  const bytes = build([{ size: BLOCK_BYTES, blocks: [0] }], FRAMES);
  assert.deepEqual(decodeIndex(bytes, hash).frames, FRAMES);
  assert.deepEqual((await open(bytes)).index.frames, FRAMES);
});

test('the bytes lie where the tables say', () => {
  const directory = 16 + 4 * 24;
  assert.equal(TWO.length, directory + 56 + 2 * 88 + 1 + 1 + 32);
  assert.equal(TWO.toString('latin1', 0, 8), 'XVAULTIX');
  assert.equal(TWO.readUInt32BE(8), 2);
  assert.equal(TWO.readBigUInt64BE(16 + 24), 0xf3n);
  assert.deepEqual(TWO.subarray(16 + 32, 16 + 48), digestOf(3));
  assert.equal(TWO.readBigUInt64BE(directory + 16), 4n);
  assert.deepEqual(TWO.subarray(directory + 32, directory + 48), KEY);
  assert.equal(TWO.readUInt32BE(directory + 48), 2);
  assert.equal(TWO.toString('latin1', directory + 56, directory + 64), 'Ref:000\0');
  assert.equal(TWO.readBigUInt64BE(directory + 56 + 56), BigInt(5 * BLOCK_BYTES + 1));
  assert.equal(TWO[directory + 56 + 176], 0b101001);
  assert.equal(TWO[directory + 56 + 177], 1);
  assert.equal(TWO.readBigUInt64BE(TWO.length - 16), BigInt(directory));
  const table = TWO.subarray(16, 16 + 72);
  assert.equal(TWO.readBigUInt64BE(directory + 56 + 80), hash.xxh64(table));
});

test('a block is found by its number, an absent one is not', () => {
  const [disk] = decodeIndex(TWO, hash).disks as [IndexedDisk];
  assert.deepEqual(findBlock(disk, 3), {
    number: 3,
    position: 1,
    offsetBytes: 1024 + BLOCK_MEMBER_BYTES,
    memberBytes: BLOCK_MEMBER_BYTES,
    lengthBytes: BLOCK_BYTES,
  });
  const last = findBlock(disk, 5);
  assert.equal(last?.lengthBytes, 1);
  assert.equal(last?.memberBytes, 2048);
  for (const absent of [1, 2, 4, 6, 1000]) assert.equal(findBlock(disk, absent), undefined);
  for (const position of [0, 1, 2]) assert.equal(blockAt(disk, position).position, position);
  assert.deepEqual(blockAt(disk, 2), last);
});

test('the content digest is the hash of all hashes in order, whatever the key', () => {
  const plain = Buffer.alloc(3000 * 8);
  for (const n of MANY) plain.writeBigUInt64BE(xxhOf(n), n * 8);
  assert.equal(decodeIndex(LARGE, hash).contentDigest, hash.xxh64(plain));
  assert.equal(digestContent([], hash), hash.xxh64(Buffer.alloc(0)));
});

test('sizes follow from the number of blocks', () => {
  assert.equal(diskMemberBytes(2 * BLOCK_BYTES, 2), 2 * BLOCK_MEMBER_BYTES);
  assert.equal(diskMemberBytes(BLOCK_BYTES + 1, 2), BLOCK_MEMBER_BYTES + 2048);
  assert.equal(diskStoredBytes(BLOCK_BYTES + 1, 2), BLOCK_BYTES + 1);
});

test('every flipped byte is noticed, and by ranges every one but those of entries', async () => {
  const good = build([{ size: 9 * BLOCK_BYTES, blocks: [0, 3, 8] }], FRAMES);
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x10;
    assert.throws(() => decodeIndex(bad, hash), /read blocks.idx/, `byte ${at}`);
    if (at >= 16 + 72) await assert.rejects(open(bad), /read blocks.idx/, `byte ${at}`);
  }
});

test('an index cut anywhere is refused', async () => {
  for (let length = 0; length < TWO.length; length++) {
    assert.throws(() => decodeIndex(TWO.subarray(0, length), hash), BackupError);
    await assert.rejects(open(TWO.subarray(0, length)), BackupError);
  }
});

test('an index of the first version says so, small or large', async () => {
  const start = Buffer.from('5856415554495800000001'.padEnd(32, '0'), 'hex');
  start.write('XVAULTIX');
  start.writeUInt32BE(1, 8);
  for (const bytes of [Buffer.concat([start, Buffer.alloc(99, 1)]), Buffer.alloc(70_000, 1)]) {
    start.copy(bytes);
    const isOld = (error: unknown) => {
      assert.ok(error instanceof BackupError);
      assert.deepEqual(error.details, { index: 'old', version: 1 });
      return error.code === 'data_corrupt';
    };
    await assert.rejects(open(bytes), isOld);
    assert.throws(() => decodeIndex(bytes, hash), isOld);
  }
});

test('a source of the index that gives less than asked is no index', async () => {
  const reading = openIndex(async () => TWO.subarray(0, 40), { sizeBytes: TWO.length, hash });
  await assert.rejects(reading, /it ends early/);
});

/** Changed, and its checksum made right again. Offsets count from the directory. */
const sealed = (change: (bytes: Buffer, directory: number) => void, from = TWO) => {
  const bytes = Buffer.from(from);
  const at = Number(bytes.readBigUInt64BE(bytes.length - 16));
  change(bytes, at);
  bytes.writeBigUInt64BE(hash.xxh64(bytes.subarray(at, -8)), bytes.length - 8);
  return bytes;
};
const u64 = (value: bigint, at: number) =>
  sealed((bytes, directory) => bytes.writeBigUInt64BE(value, directory + at));
const u32 = (value: number, at: number) =>
  sealed((bytes, directory) => bytes.writeUInt32BE(value, directory + at));
const bits = (value: number) =>
  sealed((bytes, directory) => {
    bytes[directory + 56 + 176] = value;
  });
const WRONG: [name: string, bytes: Buffer, why: RegExp][] = [
  ['with a wrong number of blocks', u64(5n, 16), /wrong length/],
  ['with more disks than fit', u32(9, 48), /wrong length/],
  ['with a disk less', u32(1, 48), /wrong length/],
  ['with frames that are not there', u32(2, 52), /wrong length/],
  ['with a huge number', u64(1n << 60n, 0), /number too large/],
  ['with a disk larger than its bits', u64(1n << 50n, 56 + 56), /wrong length/],
  ['with a disk of no size', u64(0n, 56 + 88 + 56), /wrong length|wrong places/],
  ['with a wrong archive size', u64(5n, 0), /wrong archive size/],
  ['with a wrong offset', u64(5n, 56 + 72), /wrong places/],
  ['without a first block', bits(0b101010), /wrong places/],
  ['without a last block', bits(0b001011), /wrong places/],
  ['with a block less than announced', bits(0b100001), /wrong places/],
  ['with a block behind the last', bits(0b1100001), /wrong places/],
];
for (const [name, bytes, why] of WRONG) {
  test(`an index ${name} is refused`, async () => {
    assert.throws(() => decodeIndex(bytes, hash), why);
    await assert.rejects(open(bytes), why);
  });
}

test('entries that are not those announced are refused by who reads them all', () => {
  const entries = Buffer.from(TWO);
  entries.writeBigUInt64BE(7n, 16);
  assert.throws(() => decodeIndex(entries, hash), /wrong entries/);
  const digest = u64(7n, 24);
  assert.throws(() => decodeIndex(digest, hash), /wrong content digest/);
});

test('a directory that begins behind the end is refused', async () => {
  const bytes = Buffer.from(TWO);
  bytes.writeBigUInt64BE(BigInt(TWO.length + 1), TWO.length - 16);
  assert.throws(() => decodeIndex(bytes, hash), /wrong length/);
  await assert.rejects(open(bytes), /wrong length/);
});
