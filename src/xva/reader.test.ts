import assert from 'node:assert/strict';
import { test } from 'node:test';
import { foreignOva, MIB, writeForeignArchive } from '../../test/fuzz/foreign-archive.ts';
import { loadHasher } from './hash.ts';
import { fillFrom, readArchive } from './reader.ts';

const hash = await loadHasher();
const signal = new AbortController().signal;

async function* pieces(bytes: Buffer, sizes: number[]) {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

test('pieces of any size, empty ones too, become exact fills', async () => {
  const fill = fillFrom(pieces(Buffer.from('abcdefgh'), [0, 3, 1]));
  const read = async (length: number) => {
    const target = Buffer.alloc(length);
    return target.toString('latin1', 0, await fill(target));
  };
  assert.deepEqual(
    [await read(2), await read(0), await read(5), await read(5), await read(1)],
    ['ab', '', 'cdefg', 'h', ''],
  );
});

test('a visitor sees the disks, every stored block and all bytes, in order', async () => {
  const blocks = new Map([[1, Buffer.alloc(MIB, 'x')]]);
  const disk = { id: 'Ref:5', uuid: 'u', name: 'd', sizeBytes: 2 * MIB + 9, blocks };
  const archive = writeForeignArchive([disk], { emptyBefore: new Set([1]) });
  const seen: unknown[] = [];
  let written = 0;
  const summary = await readArchive(
    fillFrom(pieces(archive, [700, 65_536])),
    {
      hash,
      visitor: {
        disks: (disks) => void seen.push(disks.length),
        block: (block, content) => void seen.push([block.number, content.length, content[0]]),
        bytes: (bytes) => {
          written += bytes.length;
        },
      },
    },
    { signal },
  );
  assert.deepEqual(seen, [1, [0, MIB, 0], [1, MIB, 120], [2, 9, 0]]);
  assert.equal(summary.archiveBytes, written);
  assert.equal(summary.disks[0]?.storedBytes, 2 * MIB + 9);
});

test('a visitor is optional, and its errors come through', async () => {
  const archive = writeForeignArchive([], { ova: foreignOva([]) });
  await readArchive(fillFrom(pieces(archive, [999])), { hash }, { signal });
  const failing = { bytes: () => Promise.reject(new Error('disk full')) };
  const reading = readArchive(
    fillFrom(pieces(archive, [999])),
    { hash, visitor: failing },
    { signal },
  );
  await assert.rejects(reading, /disk full/);
});
