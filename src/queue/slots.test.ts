import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { redisMissing, startRedis } from '../../test/servers/redis.ts';
import { createSlots, type Slots } from './slots.ts';

const skip = redisMissing();

/** Two slots a pool and one an SR. */
async function setUp(t: TestContext, ttlMs = 60_000): Promise<Slots> {
  const redis = await startRedis();
  t.after(() => redis[Symbol.asyncDispose]());
  const limits = { perPool: 2, perSr: 1, settleMs: 0 };
  const slots = createSlots(redis.client, { prefix: '{test}', ttlMs, ...limits });
  await slots.renew([]);
  return slots;
}

function job(id: string, sr: string, pool = 'p') {
  return { id, pool, srs: [{ uuid: sr, name: sr }] };
}

const ids = (found: readonly { id: string }[]) => found.map(({ id }) => id);

test('a slot that is given back calls those that could use it, past any number that could not', {
  skip,
}, async (t) => {
  const slots = await setUp(t);
  for (const [id, sr] of [
    ['x', 'sr-x'],
    ['y', 'sr-y'],
  ] as const) {
    assert.equal((await slots.take(job(id, sr))).got, 'taken');
  }
  for (let number = 0; number < 9; number++) {
    assert.equal((await slots.take(job(`x${number}`, 'sr-x'))).got, 'refused');
  }
  assert.equal((await slots.take(job('y0', 'sr-y'))).got, 'refused');
  assert.deepEqual(await slots.giveBack('y'), [{ id: 'y0', pool: 'p' }]);
});

test('what waited for a slot of an instance that died is called when the slot ran out', {
  skip,
}, async (t) => {
  const slots = await setUp(t, 300);
  assert.equal((await slots.take(job('of the dead', 's'))).got, 'taken');
  assert.equal((await slots.take(job('waits', 's'))).got, 'refused');
  assert.deepEqual((await slots.renew([])).free, []);
  let called: string[] = [];
  while (called.length === 0) called = ids((await slots.renew([])).free);
  assert.deepEqual(called, ['waits']);
});

test('a job that was taken out of the queue is called no more', { skip }, async (t) => {
  const slots = await setUp(t);
  await slots.take(job('runs', 's'));
  for (const id of ['cancelled', 'waits']) await slots.take(job(id, 's'));
  await slots.forget('cancelled');
  assert.deepEqual(ids(await slots.giveBack('runs')), ['waits']);
  assert.equal((await slots.take(job('waits', 's'))).got, 'taken');
  assert.deepEqual(await slots.held(), [{ pool: 'p', srs: ['s'] }]);
});
