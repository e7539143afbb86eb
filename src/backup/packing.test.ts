import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { MAX_RESERVE_BYTES, type ObjectUpload } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { COMPRESSION } from '../xva/frames.ts';
import type { ArchiveDisk, KeptBlock } from '../xva/types.ts';
import { createPacking } from './packing.ts';

const options = { signal: NEVER };
const disk = { index: 0 } as ArchiveDisk;
const block = { number: 0 } as KeptBlock;

/** An upload that only keeps what it is given, and the one block of its base. */
function setUp(found?: { offsetBytes: number; lengthBytes: number }) {
  const committed: { bytes: Buffer; sameOffset?: number | undefined }[] = [];
  let memory = Buffer.alloc(0);
  const upload = {
    reserve: async (sizeBytes: number) => {
      memory = Buffer.alloc(sizeBytes);
      return memory;
    },
    commit: (sizeBytes: number, sameOffset?: number) => {
      committed.push({ bytes: Buffer.from(memory.subarray(0, sizeBytes)), sameOffset });
    },
    write: async (bytes: Uint8Array) => {
      committed.push({ bytes: Buffer.from(bytes) });
    },
  } as unknown as ObjectUpload;
  return { upload, committed, blocks: { find: async () => found } };
}

async function pack(member: Buffer, found?: { offsetBytes: number; lengthBytes: number }) {
  const { upload, committed, blocks } = setUp(found);
  const packing = createPacking({ upload, blocks }, 'zstd');
  await packing.head(Buffer.from('ova'), options);
  const memory = await upload.reserve(MAX_RESERVE_BYTES, options);
  member.copy(memory);
  await packing.block({ memory, memberBytes: member.length, disk, block }, options);
  await packing.end(Buffer.alloc(1024), options);
  return { committed, frames: packing.frames(), plainBytes: packing.plainBytes };
}

test('each piece becomes a frame, and the table tells their lengths in order', async () => {
  const { committed, frames, plainBytes } = await pack(Buffer.alloc(MAX_RESERVE_BYTES, 7));
  assert.equal(plainBytes, 3 + MAX_RESERVE_BYTES + 1024);
  assert.deepEqual(
    committed.map(({ bytes }) => zstdDecompressSync(bytes).length),
    [3, MAX_RESERVE_BYTES, 1024],
  );
  const lengths = committed.map((_, i) => frames?.lengths.readUInt32BE(i * 4));
  assert.deepEqual(
    lengths,
    committed.map(({ bytes }) => bytes.length),
  );
  assert.equal(frames?.parameters, COMPRESSION.parameters);
});

test('what cannot be compressed is longer than the memory, and all of it is committed', async () => {
  const noise = randomBytes(MAX_RESERVE_BYTES);
  const plain = await pack(noise);
  const [, first, rest] = plain.committed as [never, { bytes: Buffer }, { bytes: Buffer }];
  assert.equal(first.bytes.length, MAX_RESERVE_BYTES);
  assert(zstdDecompressSync(Buffer.concat([first.bytes, rest.bytes])).equals(noise));
  const lengthBytes = first.bytes.length + rest.bytes.length;
  const { committed } = await pack(noise, { offsetBytes: 5000, lengthBytes });
  const offsets = committed.map(({ sameOffset }) => sameOffset);
  assert.deepEqual(offsets, [undefined, 5000, 5000 + MAX_RESERVE_BYTES, undefined]);
});

test('a frame of the base that has another length is not copied', async () => {
  const { committed } = await pack(Buffer.alloc(1000), { offsetBytes: 0, lengthBytes: 1 });
  assert.equal(committed[1]?.sameOffset, undefined);
});

test('without compression the memory itself is committed', async () => {
  const { upload, committed, blocks } = setUp({ offsetBytes: 9, lengthBytes: 4 });
  const packing = createPacking({ upload, blocks }, 'none');
  const memory = await upload.reserve(100, options);
  memory.write('data');
  await packing.block({ memory, memberBytes: 4, disk, block }, options);
  assert.deepEqual(committed, [{ bytes: Buffer.from('data'), sameOffset: 9 }]);
  assert.equal(packing.frames(), undefined);
});

test('a range of the base that is longer or shorter than the member is not copied', async () => {
  const { upload, committed, blocks } = setUp({ offsetBytes: 9, lengthBytes: 5 });
  const packing = createPacking({ upload, blocks }, 'none');
  const memory = await upload.reserve(100, options);
  await packing.block({ memory, memberBytes: 4, disk, block }, options);
  assert.equal(committed[0]?.sameOffset, undefined);
});
