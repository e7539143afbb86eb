import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore, type MemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { decodeIndex, encodeIndex } from '../xva/blocks-index.ts';
import { createEntryTable, digestContent } from '../xva/entries.ts';
import { createDigestKey, loadHasher } from '../xva/hash.ts';
import {
  type ArchiveDisk,
  BLOCK_BYTES,
  BLOCK_MEMBER_BYTES,
  type BlocksIndex,
  DIGEST_BYTES,
  type KeptBlock,
} from '../xva/types.ts';
import { type BaseBlocks, baseLoss, createBaseBlocks } from './delta-blocks.ts';

const OVA_BYTES = 2048;
const LAST_BYTES = 5000;
/** Longer than two windows of entries. */
const BLOCKS = 100_000;
const options = { signal: NEVER };
const hash = await loadHasher();

/** Stands for the digest of a content of that name. */
const digestOf = (content: string) => Buffer.from(content.padEnd(DIGEST_BYTES));
const block = (number: number, text: string, over: Partial<KeptBlock> = {}): KeptBlock => ({
  diskIndex: 0,
  number,
  lengthBytes: BLOCK_BYTES,
  xxh64: 0n,
  digest: digestOf(text),
  ...over,
});
const disk = (archiveId: string): ArchiveDisk => ({ archiveId }) as ArchiveDisk;

const offsetOf = async (
  from: BaseBlocks,
  ...[disk, block, to]: Parameters<BaseBlocks['find']>
): Promise<number | undefined> => (await from.find(disk, block, to))?.offsetBytes;

let store: MemoryStore;
let index: BlocksIndex;
let blocks: BaseBlocks;

beforeEach(async () => {
  const small = createEntryTable();
  for (const number of [0, 2, 4]) small.add({ ...block(number, `small ${number}`), xxh64: 1n });
  const large = createEntryTable();
  for (let number = 0; number < BLOCKS; number += 1) {
    large.add({ number, xxh64: 2n, digest: digestOf(`large ${number}`) });
  }
  const input = {
    ovaMemberBytes: OVA_BYTES,
    contentDigest: digestContent([...small.pieces, ...large.pieces], hash),
    digestKey: createDigestKey(),
    disks: [
      {
        archiveId: 'Ref:000',
        vdiUuid: 'a',
        virtualSizeBytes: 4 * BLOCK_BYTES + LAST_BYTES,
        table: small,
      },
      { archiveId: 'Ref:001', vdiUuid: 'b', virtualSizeBytes: BLOCKS * BLOCK_BYTES, table: large },
    ],
  };
  const bytes = encodeIndex(input, hash);
  index = decodeIndex(bytes, hash);
  store = createMemoryStore(createSimClock());
  await store.put('idx', bytes, options);
  blocks = createBaseBlocks(store, { index, indexKey: 'idx' });
});

test('a block with the same digest at the same place is found where it lies', async () => {
  const first = await offsetOf(blocks, disk('Ref:000'), block(0, 'small 0'), options);
  const second = await offsetOf(blocks, disk('Ref:000'), block(2, 'small 2'), options);
  assert.deepEqual([first, second], [OVA_BYTES, OVA_BYTES + BLOCK_MEMBER_BYTES]);
});

test('what was changed, absent, elsewhere, of another length or on another disk is not', async () => {
  const of = (id: string, of: KeptBlock) => offsetOf(blocks, disk(id), of, options);
  assert.equal(await of('Ref:000', block(2, 'other')), undefined);
  assert.equal(await of('Ref:000', block(1, 'small 0')), undefined);
  assert.equal(await of('Ref:000', block(2, 'small 0')), undefined);
  assert.equal(await of('Ref:000', block(4, 'small 4')), undefined, 'the disk has grown');
  assert.equal(await of('Ref:000', block(9, 'small 4')), undefined);
  assert.equal(await of('Ref:002', block(0, 'small 0')), undefined);
  const last = block(4, 'small 4', { lengthBytes: LAST_BYTES });
  assert.equal(await of('Ref:000', last), OVA_BYTES + 2 * BLOCK_MEMBER_BYTES);
});

test('the entries of a large disk are read by windows, each once, and only those asked for', async () => {
  const start = index.disks[1]?.offsetBytes as number;
  for (let number = 0; number < BLOCKS; number += 1000) {
    const found = await offsetOf(
      blocks,
      disk('Ref:001'),
      block(number, `large ${number}`),
      options,
    );
    assert.equal(found, start + number * BLOCK_MEMBER_BYTES);
  }
  assert.equal(blocks.reads, 3);
  const again = createBaseBlocks(store, { index, indexKey: 'idx' });
  await offsetOf(again, disk('Ref:001'), block(BLOCKS - 1, ''), options);
  assert.equal(again.reads, 1);
});

test('while the store is away blocks are sent, and it is asked again after some', async () => {
  let away = true;
  store.onCall = () => {
    if (away) throw new BackupError('store_unavailable', 'reach the store');
  };
  const ask = (number: number) =>
    offsetOf(blocks, disk('Ref:001'), block(number, `large ${number}`), options);
  assert.equal(await ask(0), undefined);
  away = false;
  for (let number = 1; number <= 256; number += 1) assert.equal(await ask(number), undefined);
  assert.notEqual(await ask(257), undefined);
  assert.equal(blocks.reads, 2);
});

test('an index that is gone or has become shorter is a lost base', async () => {
  await store.put('idx', 'short', options);
  const ask = () => offsetOf(blocks, disk('Ref:001'), block(7, 'large 7'), options);
  await assert.rejects(ask, (error) => baseLoss(error) === 'changed');
  await store.delete('idx', options);
  await assert.rejects(ask, (error) => baseLoss(error) === 'gone');
  assert.equal(baseLoss(new BackupError('precondition_failed', 'other')), undefined);
  assert.equal(baseLoss(new Error('x')), undefined);
});
