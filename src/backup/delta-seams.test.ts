import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { NEVER } from '../signals.ts';
import { blockAt, decodeIndex, encodeIndex } from '../xva/blocks-index.ts';
import { createEntryTable, digestContent } from '../xva/entries.ts';
import { COMPRESSION, createFrameLog } from '../xva/frames.ts';
import { createBlockDigest, createDigestKey, loadHasher } from '../xva/hash.ts';
import { writeMember } from '../xva/member.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES } from '../xva/types.ts';
import { compressFrame } from '../xva/zstd.ts';
import { checkSeams } from './delta-seams.ts';

const OVA_BYTES = 1024;
const BLOCKS = 6;
const hash = await loadHasher();
const digestOf = createBlockDigest(createDigestKey());

/** An archive of one disk of six blocks in a bucket, with its index; each piece a frame of its own, if so wished. */
async function archive({ compressed = false } = {}) {
  const table = createEntryTable();
  const pieces = [Buffer.alloc(OVA_BYTES)];
  for (let number = 0; number < BLOCKS; number += 1) {
    const content = Buffer.alloc(BLOCK_BYTES, number + 1);
    const xxh64 = hash.xxh64(content);
    table.add({ number, xxh64, digest: digestOf(content) });
    const member = Buffer.alloc(BLOCK_MEMBER_BYTES);
    content.copy(member, 512);
    const name = `Ref:000/0000000${number}`;
    writeMember(member, { name, sizeBytes: BLOCK_BYTES, xxh64 });
    pieces.push(member);
  }
  pieces.push(Buffer.alloc(1024));
  const stored = compressed
    ? await Promise.all(pieces.map((piece) => compressFrame(piece, COMPRESSION.level)))
    : pieces;
  const frames = createFrameLog();
  for (const [i, { length }] of stored.entries()) {
    if (i === 0) frames.head(length);
    else if (i <= BLOCKS) frames.add(0, length);
    else frames.end(length);
  }
  const bytes = Buffer.concat(stored);
  const disk = {
    archiveId: 'Ref:000',
    vdiUuid: 'a',
    virtualSizeBytes: BLOCKS * BLOCK_BYTES,
    table,
  };
  const indexBytes = encodeIndex(
    {
      ovaMemberBytes: OVA_BYTES,
      contentDigest: digestContent(table.pieces, hash),
      digestKey: createDigestKey(),
      disks: [disk],
      frames: compressed ? frames.table() : undefined,
    },
    hash,
  );
  const store = createMemoryStore(createSimClock());
  const index = decodeIndex(indexBytes, hash);
  const at = (n: number) => stored.slice(0, n + 1).reduce((sum, piece) => sum + piece.length, 0);
  const check = async (seams: number[], percent = 100) => {
    await store.put('archive', bytes, { signal: NEVER });
    const input = { store, key: 'archive', seams, percent, index, indexBytes, hash };
    return checkSeams(input, { signal: NEVER });
  };
  if (!compressed) assert.equal(blockAt((index.disks as [never])[0], 3).offsetBytes, at(3));
  return { bytes, at, check };
}

test('the members on both sides of a seam are read, each once', async () => {
  const { at, check } = await archive();
  assert.equal(await check([at(2), at(3)]), 3);
  assert.equal(await check([at(2) + 5000]), 1);
  assert.equal(await check([]), 0);
});

test('ova.xml and the end of the archive have no members to look at', async () => {
  const { at, check } = await archive();
  assert.equal(await check([500, OVA_BYTES, at(BLOCKS), at(BLOCKS) + 1024]), 2);
});

test('of many seams a share is drawn, three at least', async () => {
  const { at, check } = await archive();
  const seams = [1, 2, 3, 4, 5].map((n) => at(n) + 100);
  assert.equal(await check(seams, 1), 3);
  assert.equal(await check(seams, 70), 4);
  assert.equal(await check(seams, 0), 0);
});

test('anything of a member that is not as written is found: content, header, checksum, padding, place', async () => {
  const damages: ((bytes: Buffer, at: number) => void)[] = [
    (bytes, at) => bytes.fill(9, at + 512 + 700, at + 512 + 701),
    (bytes, at) => bytes.write('x', at + 3),
    (bytes, at) => bytes.write('x', at + BLOCK_MEMBER_BYTES - 512),
    (bytes, at) => bytes.fill(1, at + BLOCK_MEMBER_BYTES - 1, at + BLOCK_MEMBER_BYTES),
    (bytes, at) => bytes.copyWithin(at, at + BLOCK_MEMBER_BYTES, at + 2 * BLOCK_MEMBER_BYTES),
  ];
  for (const damage of damages) {
    const { bytes, at, check } = await archive();
    damage(bytes, at(3));
    await assert.rejects(check([at(3)]), {
      code: 'data_corrupt',
      details: { key: 'archive', block: 'Ref:000/00000003', offset: at(3) },
    });
  }
});

test('seams of compressed archives are looked at by frame', async () => {
  const { bytes, at, check } = await archive({ compressed: true });
  assert.equal(await check([at(2), at(3)]), 3);
  assert.equal(await check([at(2) + 5]), 1);
  assert.equal(await check([1, at(0), at(BLOCKS), at(BLOCKS) + 3]), 2);
  bytes.writeUInt8(bytes.readUInt8(at(3) + 20) ^ 1, at(3) + 20);
  await assert.rejects(check([at(3)]), { code: 'data_corrupt', message: /Ref:000\/00000003/ });
});

test('a frame in the place of another is found, though it is whole', async () => {
  const { bytes, at, check } = await archive({ compressed: true });
  const length = Math.min(at(4) - at(3), at(3) - at(2));
  bytes.copyWithin(at(3), at(2), at(2) + length);
  await assert.rejects(check([at(3)]), { code: 'data_corrupt' });
});
