import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type BlocksIndex,
  blockAt,
  createEntryTable,
  decodeIndex,
  digestEntries,
  diskMemberBytes,
  diskStoredBytes,
  END_BYTES,
  encodeIndex,
  findBlock,
  type IndexedDisk,
} from './blocks-index.ts';
import { loadHasher } from './hash.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES } from './types.ts';

const hash = await loadHasher();

function indexOf(disks: { size: number; blocks: number[] }[]): BlocksIndex {
  let offsetBytes = 1024;
  const indexed: IndexedDisk[] = disks.map(({ size, blocks }, i) => {
    const table = createEntryTable();
    for (const number of blocks) table.add(number, 0xf0n + BigInt(number));
    const disk = {
      archiveId: `Ref:00${i}`,
      vdiUuid: `0000000${i}-1111-2222-3333-444444444444`,
      virtualSizeBytes: size,
      offsetBytes,
      storedBlocks: table.count,
      entries: table.bytes(),
    };
    offsetBytes += diskMemberBytes(size, blocks.length);
    return disk;
  });
  return {
    archiveBytes: offsetBytes + END_BYTES,
    ovaMemberBytes: 1024,
    contentDigest: digestEntries(
      indexed.map((disk) => disk.entries),
      hash,
    ),
    disks: indexed,
  };
}

const TWO = indexOf([
  { size: 5 * BLOCK_BYTES + 1, blocks: [0, 3, 5] },
  { size: BLOCK_BYTES, blocks: [0] },
]);

test('an index reads back as it was written', () => {
  assert.deepEqual(decodeIndex(encodeIndex(TWO, hash), hash), TWO);
});

test('an index of a machine without disks reads back', () => {
  const none = indexOf([]);
  assert.deepEqual(decodeIndex(encodeIndex(none, hash), hash), none);
});

test('the bytes lie where the table says', () => {
  const bytes = encodeIndex(TWO, hash);
  assert.equal(bytes.length, 56 + 2 * 80 + 4 * 12);
  assert.equal(bytes.toString('latin1', 0, 8), 'XVAULTIX');
  assert.equal(bytes.readUInt32BE(8), 1);
  assert.equal(bytes.readUInt32BE(12), 2);
  assert.equal(bytes.readBigUInt64BE(32), 4n);
  assert.equal(bytes.toString('latin1', 56, 64), 'Ref:000\0');
  assert.equal(bytes.readBigUInt64BE(56 + 56), BigInt(5 * BLOCK_BYTES + 1));
  assert.equal(bytes.readUInt32BE(56 + 160 + 12), 3);
  assert.equal(bytes.readBigUInt64BE(56 + 160 + 12 + 4), 0xf3n);
});

test('a block is found by its number, an absent one is not', () => {
  const [disk] = TWO.disks as [IndexedDisk];
  assert.deepEqual(findBlock(disk, 3), {
    number: 3,
    offsetBytes: 1024 + BLOCK_MEMBER_BYTES,
    memberBytes: BLOCK_MEMBER_BYTES,
    lengthBytes: BLOCK_BYTES,
    xxh64: 0xf3n,
  });
  const last = findBlock(disk, 5);
  assert.equal(last?.lengthBytes, 1);
  assert.equal(last?.memberBytes, 2048);
  for (const absent of [1, 2, 4, 6, 1000]) assert.equal(findBlock(disk, absent), undefined);
  assert.equal(blockAt(disk, 0).number, 0);
});

test('a table grows past its first piece', () => {
  const numbers = Array.from({ length: 3000 }, (_, i) => i);
  const index = indexOf([{ size: 3000 * BLOCK_BYTES, blocks: numbers }]);
  const [disk] = decodeIndex(encodeIndex(index, hash), hash).disks as [IndexedDisk];
  for (const number of [0, 1023, 1024, 2999]) assert.equal(findBlock(disk, number)?.number, number);
});

test('the digest is the hash of all hashes in order', () => {
  const numbers = Array.from({ length: 2500 }, (_, i) => i);
  const [disk] = indexOf([{ size: 2500 * BLOCK_BYTES, blocks: numbers }]).disks as [IndexedDisk];
  const plain = Buffer.alloc(2500 * 8);
  for (const n of numbers) plain.writeBigUInt64BE(0xf0n + BigInt(n), n * 8);
  assert.equal(digestEntries([disk.entries], hash), hash.xxh64(plain));
});

test('sizes follow from the number of blocks', () => {
  assert.equal(diskMemberBytes(2 * BLOCK_BYTES, 2), 2 * BLOCK_MEMBER_BYTES);
  assert.equal(diskMemberBytes(BLOCK_BYTES + 1, 2), BLOCK_MEMBER_BYTES + 2048);
  assert.equal(diskStoredBytes(BLOCK_BYTES + 1, 2), BLOCK_BYTES + 1);
});

test('every flipped byte is noticed', () => {
  const good = encodeIndex(TWO, hash);
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x10;
    assert.throws(() => decodeIndex(bad, hash), /read blocks.idx/, `byte ${at}`);
  }
});

const sealed = (change: (bytes: Buffer) => void, from = TWO) => {
  const bytes = encodeIndex(from, hash);
  change(bytes);
  bytes.writeBigUInt64BE(0n, 48);
  bytes.writeBigUInt64BE(hash.xxh64(bytes), 48);
  return bytes;
};
const WRONG: [name: string, bytes: Buffer, why: RegExp][] = [
  ['too short', Buffer.from('XVAULTIX'), /no magic/],
  ['cut', encodeIndex(TWO, hash).subarray(0, -1), /wrong checksum/],
  ['of another version', sealed((b) => b.writeUInt32BE(2, 8)), /unknown version, version=2/],
  ['of a wrong length', sealed((b) => b.writeBigUInt64BE(5n, 32)), /wrong length/],
  ['with a huge number', sealed((b) => b.writeBigUInt64BE(1n << 60n, 16)), /number too large/],
  ['with a wrong archive size', sealed((b) => b.writeBigUInt64BE(5n, 16)), /wrong archive size/],
  ['with a wrong offset', sealed((b) => b.writeBigUInt64BE(5n, 56 + 64)), /wrong places/],
  ['without a first block', sealed((b) => b.writeUInt32BE(1, 56 + 160)), /wrong places/],
  ['without a last block', sealed((b) => b.writeUInt32BE(4, 56 + 160 + 24)), /wrong places/],
  ['with blocks out of order', sealed((b) => b.writeUInt32BE(0, 56 + 160 + 12)), /wrong places/],
  ['with a disk of no blocks', sealed((b) => b.writeBigUInt64BE(0n, 56 + 72)), /wrong places/],
  [
    'with more blocks than there are',
    sealed((b) => b.writeBigUInt64BE(9n, 56 + 72)),
    /wrong places/,
  ],
];
for (const [name, bytes, why] of WRONG) {
  test(`an index ${name} is refused`, () => {
    assert.throws(() => decodeIndex(bytes, hash), why);
  });
}
