import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import { compress } from '../../test/fuzz/compress.ts';
import { contentAt, MIB, writeForeignArchive } from '../../test/fuzz/foreign-archive.ts';
import { disk, fillOf, hash, KEY, normalise } from '../../test/fuzz/normalise.ts';
import { BackupError } from '../errors.ts';
import { decodeIndex, findBlock } from './blocks-index.ts';
import { createFrameReader, indexCompressedArchive } from './frame-reader.ts';
import { COMPRESSION, createFrameMap, type Frame } from './frames.ts';
import { createPresence } from './presence.ts';
import { indexArchive } from './reader.ts';
import { BLOCK_MEMBER_BYTES, type FrameTable, type IndexedDisk } from './types.ts';
import { compressFrame, decompressFrame, readFrame } from './zstd.ts';

const signal = new AbortController().signal;
const GROUPS = [1, 2, 4, 16];
const DISKS = [
  disk(0, 37 * MIB + 700, [0, 2, 3, 4, 5, 6, 7, 12, 13, 31, 36, 37]),
  disk(1, 3 * MIB, [0, 1]),
];
const { archive, summary } = await normalise(writeForeignArchive(DISKS), undefined, {
  order: 'device',
});
const plainIndex = decodeIndex(summary.index, hash);

/** The archive compressed, and its index, as a backup writes it. */
async function made(groupBlocks: number): Promise<{ bytes: Buffer; index: Uint8Array }> {
  const { bytes, frames } = await compress(archive, plainIndex, groupBlocks);
  return { bytes, index: await indexWith(frames) };
}

async function indexWith(frames: FrameTable): Promise<Uint8Array> {
  const input = { hash, digestKey: KEY, frames: () => frames };
  return (await indexArchive(fillOf(archive), input, { signal })).index;
}

async function plainOf(bytes: Buffer, groupBlocks = 16): Promise<Buffer> {
  const { fill } = createFrameReader(fillOf(bytes), { groupBlocks });
  const target = Buffer.alloc(archive.length + 1);
  return target.subarray(0, await fill(target));
}

for (const groupBlocks of GROUPS) {
  test(`any byte of a disk is found by decoding one frame of ${groupBlocks} blocks`, async () => {
    const { bytes, index: written } = await made(groupBlocks);
    const index = decodeIndex(written, hash);
    const map = createFrameMap(index);
    assert.equal(map.archiveBytes, bytes.length);
    for (const [i, truth] of DISKS.entries()) {
      const found = index.disks[i] as IndexedDisk;
      for (let n = 0; n * MIB < truth.sizeBytes; n++) {
        const frame = map.frameOf(found, n);
        const block = findBlock(found, n);
        assert.equal(frame === undefined, block === undefined);
        if (frame === undefined || block === undefined) continue;
        assert.ok(frame.storedBlocks <= groupBlocks);
        const { offsetBytes: from, lengthBytes } = frame;
        const plain = await decompressFrame(
          bytes.subarray(from, from + lengthBytes),
          frame.plainBytes,
        );
        const at = block.offsetBytes - frame.plainOffsetBytes + 512;
        assert.ok(
          plain.subarray(at, at + block.lengthBytes).equals(contentAt(truth, n)),
          `${i}/${n}`,
        );
      }
    }
  });

  test(`archive and index come back from frames of ${groupBlocks} blocks`, async () => {
    const { bytes, index } = await made(groupBlocks);
    assert.ok((await plainOf(bytes, groupBlocks)).equals(archive));
    const input = { hash, digestKey: KEY, compression: { parameters: 'test', groupBlocks } };
    const rebuilt = await indexCompressedArchive(fillOf(bytes), input, { signal });
    assert.deepEqual(rebuilt.index, index);
    assert.equal(rebuilt.archiveBytes, archive.length);
  });
}

test('the head and the end are frames of their own', async () => {
  const { bytes, index } = await made(4);
  const map = createFrameMap(decodeIndex(index, hash));
  const { head, end } = map;
  assert.deepEqual([head.offsetBytes, head.plainBytes], [0, plainIndex.ovaMemberBytes]);
  assert.equal(end.offsetBytes + end.lengthBytes, bytes.length);
  const zeros = await decompressFrame(bytes.subarray(end.offsetBytes), 1024);
  assert.deepEqual(zeros, Buffer.alloc(1024));
});

test('one changed block changes one frame', async () => {
  const changed = DISKS.map((d) => ({ ...d, blocks: new Map(d.blocks) }));
  changed[0]?.blocks.set(5, Buffer.alloc(MIB, 'changed'));
  const next = await normalise(writeForeignArchive(changed), undefined, { order: 'device' });
  for (const groupBlocks of GROUPS) {
    const before = await compress(archive, plainIndex, groupBlocks);
    const after = await compress(next.archive, decodeIndex(next.summary.index, hash), groupBlocks);
    const [a, b] = [split(before), split(after)];
    assert.equal(a.length, b.length);
    assert.equal(a.filter((frame, i) => !frame.equals(b[i] as Buffer)).length, 1);
  }
});

function split({ bytes, frames }: { bytes: Buffer; frames: FrameTable }): Buffer[] {
  let at = 0;
  return Array.from({ length: frames.lengths.length / 4 }, (_, i) => {
    const length = frames.lengths.readUInt32BE(i * 4);
    at += length;
    return bytes.subarray(at - length, at);
  });
}

test('the places of very many frames are the sums of their lengths', () => {
  const lengths = Buffer.alloc(4 * 2048);
  for (let i = 0; i < 2048; i++) lengths.writeUInt32BE(i + 1, i * 4);
  const [shape] = plainIndex.disks as [IndexedDisk];
  const bits = Buffer.alloc(256, 0xff);
  bits[255] = 0x3f;
  const large = {
    ...shape,
    virtualSizeBytes: 2046 * MIB,
    storedBlocks: 2046,
    presence: createPresence(bits),
  };
  const frames = { parameters: 'test', groupBlocks: 1, lengths };
  const map = createFrameMap({ ...plainIndex, disks: [large], frames });
  for (const n of [0, 1, 254, 255, 256, 511, 512, 2045]) {
    const frame = map.frameOf(large, n);
    assert.equal(frame?.lengthBytes, n + 2);
    assert.equal(frame?.offsetBytes, ((n + 1) * (n + 2)) / 2);
  }
  assert.equal(map.archiveBytes, (2048 * 2049) / 2);
});

test('an index whose frames are too few, too many or of no size is refused', async () => {
  const { frames } = await compress(archive, plainIndex, 4);
  const wrong: FrameTable[] = [
    { ...frames, lengths: frames.lengths.subarray(4) },
    { ...frames, lengths: Buffer.concat([frames.lengths, Buffer.alloc(4)]) },
    { ...frames, groupBlocks: 2 },
    { ...frames, groupBlocks: 0 },
  ];
  for (const table of wrong) {
    assert.throws(
      () => createFrameMap({ ...plainIndex, frames: table }),
      /its frames are not those/,
    );
  }
  assert.throws(() => createFrameMap(plainIndex), /its frames are not those/);
});

test('an archive with other groups than told is not indexed', async () => {
  const { bytes } = await compress(archive, plainIndex, 4);
  for (const groupBlocks of [1, 2, 8]) {
    const input = { hash, digestKey: KEY, compression: { parameters: 'test', groupBlocks } };
    await assert.rejects(
      indexCompressedArchive(fillOf(bytes), input, { signal }),
      /its frames are not/,
    );
  }
});

test('frames that together make the archive, but are not its groups, are refused', async () => {
  const { frames, bytes } = await compress(archive, plainIndex, 2);
  const map = createFrameMap({ ...plainIndex, frames });
  const [first] = plainIndex.disks as [IndexedDisk];
  const [one, two] = [4, 6].map((n) => map.frameOf(first, n)) as [Frame, Frame];
  // as many frames as there should be, the border between two of them one member further on
  const border = two.plainOffsetBytes + BLOCK_MEMBER_BYTES;
  const moved = await Promise.all([
    compressFrame(archive.subarray(one.plainOffsetBytes, border), COMPRESSION.level),
    compressFrame(
      archive.subarray(border, two.plainOffsetBytes + two.plainBytes),
      COMPRESSION.level,
    ),
  ]);
  const rest = bytes.subarray(two.offsetBytes + two.lengthBytes);
  const changed = Buffer.concat([bytes.subarray(0, one.offsetBytes), ...moved, rest]);
  assert.ok((await plainOf(changed)).equals(archive));
  const input = { hash, digestKey: KEY, compression: { parameters: 'test', groupBlocks: 2 } };
  await assert.rejects(
    indexCompressedArchive(fillOf(changed), input, { signal }),
    /its frames are not as we write them/,
  );
});

test('the zstd command decodes the archive, and GNU tar reads it compressed', async (t) => {
  if (spawnSync('zstd', ['--version']).error) return t.skip('no zstd command here');
  const folder = mkdtempSync(join(tmpdir(), 'xvault-zstd-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const groupBlocks of [1, 4]) {
    const { bytes } = await made(groupBlocks);
    const file = join(folder, `${groupBlocks}.xva`);
    writeFileSync(file, bytes);
    const plain = execFileSync('zstd', ['--decompress', '--stdout', file], { maxBuffer: 64 * MIB });
    assert.ok(plain.equals(archive));
    execFileSync('zstd', ['--test', '-q', file]);
    const names = execFileSync('tar', ['--zstd', '-tf', file], { encoding: 'utf8' });
    assert.equal(names.split('\n')[0], 'ova.xml');
    assert.equal(names.trim().split('\n').length, 1 + 2 * (12 + 3));
  }
  execFileSync('tar', ['--zstd', '-xf', '1.xva', 'Ref:001/00000001'], { cwd: folder });
  assert.deepEqual(
    readFileSync(join(folder, 'Ref:001/00000001')),
    contentAt(DISKS[1] ?? assert.fail(), 1),
  );
});

test('a frame compressed by the command alone is read, too', async (t) => {
  if (spawnSync('zstd', ['--version']).error) return t.skip('no zstd command here');
  const bytes = execFileSync('zstd', ['-3', '--stdout', '--stream-size=5000'], {
    input: Buffer.alloc(5000, 'ab'),
  });
  assert.deepEqual(await plainOf(bytes), Buffer.alloc(5000, 'ab'));
});

// ------------------------------------------------------------------------------------------------ one frame

test('content of any length and kind comes back, and the same gives the same', async () => {
  const random = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * i * 7919) >> 5));
  for (const length of [0, 1, 255, 256, 65_535, 65_791, 65_792, 70_000]) {
    for (const plain of [Buffer.alloc(length), random.subarray(0, length)]) {
      const frame = await compressFrame(plain, COMPRESSION.level);
      assert.deepEqual(await compressFrame(plain, COMPRESSION.level), frame);
      assert.deepEqual(await decompressFrame(frame, length), plain);
      const fill = fillOf(Buffer.concat([frame, frame]));
      const read = async (count: number) => {
        const target = Buffer.alloc(count);
        return target.subarray(0, await fill(target));
      };
      const first = await readFrame(read, { maxPlainBytes: 70_000 });
      assert.deepEqual(first, { frame, plainBytes: length });
      assert.deepEqual((await readFrame(read, { maxPlainBytes: 70_000 }))?.frame, frame);
      assert.equal(await readFrame(read, { maxPlainBytes: 70_000 }), undefined);
    }
  }
});

test('a damaged or cut frame is refused, wherever', async () => {
  const plain = Buffer.from('some text, some more text, and the same text again'.repeat(9));
  const frame = await compressFrame(plain, COMPRESSION.level);
  for (let at = 0; at < frame.length; at++) {
    const bad = Buffer.from(frame);
    bad[at] = (bad[at] as number) ^ 0x41;
    await assert.rejects(plainOf(bad), BackupError, `byte ${at}`);
    await assert.rejects(decompressFrame(bad, plain.length), BackupError, `byte ${at}`);
    if (at > 0) await assert.rejects(plainOf(frame.subarray(0, at)), BackupError, `cut at ${at}`);
  }
  await assert.rejects(decompressFrame(frame, plain.length - 1), BackupError);
  await assert.rejects(decompressFrame(frame, plain.length + 1), /it has another length/);
});

const zstdOf = (params: Record<number, number>, input = Buffer.alloc(300, 'x')) =>
  zstdCompressSync(input, { params });
const FOREIGN: [what: string, bytes: Buffer, why: RegExp][] = [
  ['a plain archive', Buffer.from(archive.subarray(0, 4096)), /no magic/],
  ['a skippable frame', Buffer.from('502a4d180300000078797a', 'hex'), /no magic/],
  [
    'a frame of unknown length',
    zstdOf({ [constants.ZSTD_c_contentSizeFlag]: 0 }),
    /tell its length/,
  ],
  [
    'a frame with a dictionary',
    Buffer.from('28b52ffd2101000000000000', 'hex'),
    /wants a dictionary/,
  ],
  ['a frame far too long', Buffer.from('28b52ffda0ffffff7f0000000000', 'hex'), /too long/],
  ['a frame longer than any', Buffer.from('28b52ffde0ffffffffffffffff', 'hex'), /too long/],
  ['a block of no kind', Buffer.from('28b52ffd2005070000', 'hex'), /wrong block/],
  [
    'blocks without end',
    Buffer.concat([Buffer.from('28b52ffd2005', 'hex'), Buffer.alloc(99_999)]),
    /wrong block|ends early/,
  ],
];
for (const [what, bytes, why] of FOREIGN) {
  test(`${what} is no frame of ours`, async () => {
    await assert.rejects(plainOf(bytes), (error: Error) => {
      assert.ok(error instanceof BackupError && error.code === 'data_corrupt');
      return why.test(error.message);
    });
  });
}
