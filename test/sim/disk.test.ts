import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createGeneratedDisk,
  createSparseDisk,
  digestDisk,
  PAGE_BYTES,
  type SimDisk,
} from './disk.ts';

const TIB = 2 ** 40;

function readAt(disk: SimDisk, offset: number, length: number): Buffer {
  const target = Buffer.alloc(length, 0xee);
  disk.read(offset, target);
  return target;
}

test('an empty disk reads as zeros and has no data', () => {
  const disk = createSparseDisk(100_000);
  assert.deepEqual(readAt(disk, 0, 100_000), Buffer.alloc(100_000));
  assert.equal(disk.nextData(0), undefined);
});

test('what was written is read back, across pages and at the odd end', () => {
  const disk = createSparseDisk(3 * PAGE_BYTES + 777);
  const bytes = Buffer.from(Array.from({ length: PAGE_BYTES + 1000 }, (_, index) => index % 251));
  disk.write(2 * PAGE_BYTES - 223, bytes);
  assert.deepEqual(readAt(disk, 2 * PAGE_BYTES - 223, bytes.length), bytes);
  assert.deepEqual(readAt(disk, 3 * PAGE_BYTES, 777), bytes.subarray(-777));
  assert.equal(disk.nextData(0), PAGE_BYTES);
  assert.equal(disk.nextData(PAGE_BYTES + 5), PAGE_BYTES + 5);
});

test('a range outside the disk is refused', () => {
  const disk = createSparseDisk(1000);
  assert.throws(() => disk.read(999, Buffer.alloc(2)), /outside the disk/);
  assert.throws(() => disk.write(-1, Buffer.alloc(1)), /outside the disk/);
});

test('pages written with zeros are allocated but do not change the digest', () => {
  const disk = createSparseDisk(PAGE_BYTES * 4);
  const before = digestDisk(disk);
  disk.write(PAGE_BYTES, Buffer.alloc(PAGE_BYTES));
  assert.equal(disk.nextData(0), PAGE_BYTES);
  assert.equal(digestDisk(disk), before);
  disk.write(PAGE_BYTES, Buffer.from([1]));
  assert.notEqual(digestDisk(disk), before);
});

test('a clone and its origin do not see each other write', () => {
  const origin = createGeneratedDisk({ sizeBytes: 2 ** 20, seed: 7, density: 0.5 });
  origin.write(10, Buffer.from('both'));
  const copy = origin.clone();
  origin.write(10, Buffer.from('left'));
  copy.write(500_000, Buffer.from('right'));
  assert.equal(readAt(copy, 10, 4).toString(), 'both');
  assert.equal(readAt(origin, 10, 4).toString(), 'left');
  assert.notEqual(readAt(origin, 500_000, 5).toString(), 'right');
  assert.equal(readAt(copy, 500_000, 5).toString(), 'right');
});

test('a generated disk is a function of seed and position, whichever way it is read', () => {
  const input = { sizeBytes: 5 * 2 ** 20 + 1234, seed: 3, density: 0.4 };
  const disk = createGeneratedDisk(input);
  const whole = readAt(disk, 0, input.sizeBytes);
  const pieces = Buffer.alloc(input.sizeBytes);
  for (let at = 0; at < pieces.length; at += 7001) disk.read(at, pieces.subarray(at, at + 7001));
  assert.deepEqual(pieces, whole);
  assert.equal(digestDisk(createGeneratedDisk(input)), digestDisk(disk));
  assert.notEqual(digestDisk(createGeneratedDisk({ ...input, seed: 4 })), digestDisk(disk));
});

test('a generated disk has the density asked for, and no two equal pages', () => {
  const sizeBytes = 2 ** 30;
  const disk = createGeneratedDisk({ sizeBytes, seed: 11, density: 0.05 });
  const seen = new Set<string>();
  let pages = 0;
  for (let at = disk.nextData(0); at !== undefined; at = disk.nextData(at + PAGE_BYTES)) {
    seen.add(readAt(disk, at, 64).toString('hex'));
    pages++;
  }
  assert.equal(seen.size, pages);
  assert.ok(Math.abs((pages * PAGE_BYTES) / sizeBytes - 0.05) < 0.005, `pages=${pages}`);
});

test('clusters larger than a page are allocated whole', () => {
  const clusterBytes = 2 * 2 ** 20;
  const disk = createGeneratedDisk({ sizeBytes: 2 ** 30, seed: 5, density: 0.1, clusterBytes });
  let count = 0;
  for (let at = disk.nextData(0); at !== undefined; at = disk.nextData(at + clusterBytes)) {
    assert.equal(at % clusterBytes, 0);
    assert.equal(disk.nextData(at + clusterBytes - PAGE_BYTES), at + clusterBytes - PAGE_BYTES);
    count++;
  }
  assert.ok(count >= 45 && count <= 60, `count=${count}`);
});

test('a disk of 16 TiB costs no memory and is walked at once', () => {
  const disk = createGeneratedDisk({ sizeBytes: 16 * TIB + 512, seed: 9, density: 1e-6 });
  let last = 0;
  let pages = 0;
  for (let at = disk.nextData(0); at !== undefined; at = disk.nextData(at + PAGE_BYTES)) {
    assert.ok(at > last || pages === 0);
    last = at;
    pages++;
  }
  assert.ok(pages > 200 && pages < 400, `pages=${pages}`);
  assert.ok(last > 15 * TIB);
  disk.write(16 * TIB, Buffer.from('end'));
  assert.equal(disk.nextData(16 * TIB - 1), 16 * TIB);
  assert.equal(disk.clone().nextData(16 * TIB - 1), 16 * TIB);
});

test('a disk that is full or empty by density is so', () => {
  assert.equal(
    createGeneratedDisk({ sizeBytes: 2 ** 20, seed: 1, density: 0 }).nextData(0),
    undefined,
  );
  const full = createGeneratedDisk({ sizeBytes: 2 ** 20 + 1, seed: 1, density: 1 });
  for (let at = 0; at < full.sizeBytes; at += PAGE_BYTES) assert.equal(full.nextData(at), at);
});
