import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { redisMissing, startRedis } from '../../test/servers/redis.ts';
import { createSlots, type Slots } from './slots.ts';

const skip = redisMissing();

interface World {
  slots: Slots;
  /** Of another instance. */
  others: Slots;
  /** As if its instance had not renewed it. */
  runOut(id: string): Promise<unknown>;
}

/** Two slots a pool and one an SR. */
async function setUp(t: TestContext): Promise<World> {
  const redis = await startRedis();
  t.after(() => redis[Symbol.asyncDispose]());
  const settings = { prefix: '{test}', perPool: 2, perSr: 1, settleMs: 0, ttlMs: 60_000 };
  const open = (instance: string) => createSlots(redis.client, { instance, ...settings });
  const slots = open('a');
  await slots.renew([]);
  const runOut = (id: string) => redis.client.zadd('{test}:held', 1, id);
  return { slots, others: open('b'), runOut };
}

function job(id: string, sr: string, pool = 'p') {
  return { id, pool, srs: [{ uuid: sr, name: sr }] };
}

const ids = (found: readonly { id: string }[]) => found.map(({ id }) => id);

test('a slot that is given back calls those that could use it, past any number that could not', {
  skip,
}, async (t) => {
  const { slots } = await setUp(t);
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
  const { slots, runOut } = await setUp(t);
  assert.equal((await slots.take(job('of the dead', 's'))).got, 'taken');
  assert.equal((await slots.take(job('waits', 's'))).got, 'refused');
  assert.deepEqual((await slots.renew([])).free, []);
  await runOut('of the dead');
  assert.deepEqual(ids((await slots.renew([])).free), ['waits']);
});

test('a job that was taken out of the queue is called no more', { skip }, async (t) => {
  const { slots } = await setUp(t);
  await slots.take(job('runs', 's'));
  for (const id of ['cancelled', 'waits']) await slots.take(job(id, 's'));
  await slots.forget('cancelled');
  assert.deepEqual(ids(await slots.giveBack('runs')), ['waits']);
  assert.equal((await slots.take(job('waits', 's'))).got, 'taken');
  assert.deepEqual(await slots.held(), [{ pool: 'p', srs: ['s'] }]);
});

test('an instance with a second turn of a job, or that wakes too late, gives no other’s slot back', {
  skip,
}, async (t) => {
  const { slots: a, others: b, runOut } = await setUp(t);
  const one = job('one', 's');
  assert.equal((await a.take(one)).got, 'taken');
  assert.equal((await b.take(one)).got, 'taken', 'the lease decides which of them works');
  await b.giveBack('one');
  assert.equal((await b.take(job('next', 's'))).got, 'refused');
  // a sleeps: b goes on with its job
  await runOut('one');
  assert.equal((await b.take(one)).got, 'taken');
  await a.renew([one]);
  await a.giveBack('one');
  assert.equal((await b.held()).length, 1);
  await b.giveBack('one');
  assert.equal((await b.held()).length, 0);
});
