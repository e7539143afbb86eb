import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ImportStream } from '../imports.ts';
import { NEVER } from '../signals.ts';
import { BLOCK_BYTES } from '../xva/types.ts';
import { type RawTarget, sendDisks } from './restore-send.ts';

test('a hole that travels as zeros is told of as it is sent, not at its end', async () => {
  const sent: number[] = [];
  let sentBytes = 0;
  const stream = {
    write: async (bytes: Uint8Array) => {
      sentBytes += bytes.length;
    },
    settle: async () => undefined,
    get sentBytes() {
      return sentBytes;
    },
  } as unknown as ImportStream<void>;
  const facts = { archiveId: 'Ref:3', virtualSizeBytes: 4 * BLOCK_BYTES };
  const target = { disk: { facts }, open: async () => stream } as unknown as RawTarget;
  const visitor = sendDisks([target], {
    signal: NEVER,
    onSent: () => sent.push(visitor.sentBytes()),
  });
  await visitor.disks?.([{ index: 0, archiveId: 'Ref:3' }] as never);
  const block = { diskIndex: 0, number: 3, lengthBytes: BLOCK_BYTES };
  await visitor.block?.(block as never, Buffer.alloc(BLOCK_BYTES, 1));
  assert.deepEqual(sent, [BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES]);
  assert.equal(visitor.sentBytes(), 4 * BLOCK_BYTES);
});
