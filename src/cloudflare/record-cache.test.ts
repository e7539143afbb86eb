import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { createKeys } from '../catalog/keys.ts';
import type { ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { createRecordCache } from './record-cache.ts';

const options = { signal: NEVER };
const keys = createKeys('xv');
const recordOf = (at: number) =>
  keys.record({
    retention: 'daily',
    pool: 'dc1',
    vmUuid: '9f0f4b1e-7a43-4b5c-9d11-111111111111',
    backupId: `01988a52-0000-7000-8000-00000000000${at}`,
  });

test('a record of a backup is read once, everything else each time, and the oldest goes first', async () => {
  const store = createMemoryStore(createSimClock());
  const read: string[] = [];
  const counting: ObjectStore = {
    ...store,
    get: (key, more) => {
      read.push(key);
      return store.get(key, more);
    },
  };
  const cache = createRecordCache(20);
  // each request has a store of its own
  const get = async (key: string, more = {}) =>
    (await cache.over(counting, keys).get(key, { ...options, ...more }))?.bytes.length;
  const job = keys.job('01988a52-0000-7000-8000-000000000001');
  for (const key of [recordOf(1), recordOf(2), recordOf(3), job]) {
    await store.put(key, '0123456789', options);
  }
  assert.equal(await get(recordOf(9)), undefined);
  assert.equal(await get(recordOf(9)), undefined);
  assert.equal(read.splice(0).length, 2, 'what is not there may come');
  for (const _ of [1, 2]) assert.equal(await get(recordOf(1)), 10);
  assert.equal(read.splice(0).length, 1);
  for (const _ of [1, 2]) assert.equal(await get(job), 10);
  assert.equal(read.splice(0).length, 2);
  assert.equal(await get(recordOf(1), { range: { offset: 2, length: 3 } }), 3);
  assert.equal(read.splice(0).length, 1);
  await get(recordOf(2));
  await get(recordOf(3));
  read.length = 0;
  await get(recordOf(2));
  await get(recordOf(1));
  assert.deepEqual(read, [recordOf(1)]);
});
