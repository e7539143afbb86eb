import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createQueue } from './queue.ts';

const LIMITS = { total: 3, perPool: 2, perSr: 1, waiting: 4 };
const turn = () => new Promise((resolve) => setImmediate(resolve));

function setUp(limits = LIMITS) {
  const queue = createQueue(limits);
  const running = new Map<string, () => void>();
  const order: string[] = [];
  const add = (id: string, pool: string, ...srs: string[]) =>
    queue.add({
      id,
      pool,
      srs: srs.map((name) => ({ uuid: `uuid of ${name}`, name })),
      run: () =>
        new Promise((resolve) => {
          order.push(id);
          running.set(id, resolve);
        }),
    });
  const end = async (id: string) => {
    running.get(id)?.();
    running.delete(id);
    await turn();
  };
  return { queue, running, order, add, end };
}

test('jobs start in order until the total is reached', async () => {
  const { add, order, end } = setUp();
  for (const id of ['a', 'b', 'c', 'd']) add(id, `pool-${id}`, id);
  assert.deepEqual(order, ['a', 'b', 'c']);
  await end('b');
  assert.deepEqual(order, ['a', 'b', 'c', 'd']);
});

test('one SR and one pool carry only so many, and those behind may pass', async () => {
  const { add, order, end } = setUp();
  add('a', 'p', 's1');
  add('b', 'p', 's1');
  add('c', 'p', 's2');
  add('d', 'p', 's3');
  add('e', 'q', 's1');
  assert.deepEqual(order, ['a', 'c', 'e']);
  await end('c');
  assert.deepEqual(order, ['a', 'c', 'e', 'd']);
  await end('a');
  assert.deepEqual(order, ['a', 'c', 'e', 'd', 'b']);
});

test('a job on two SRs needs both free', async () => {
  const { add, order, end } = setUp({ ...LIMITS, perPool: 3 });
  add('a', 'p', 's1');
  add('b', 'p', 's1', 's2');
  await end('a');
  assert.deepEqual(order, ['a', 'b']);
});

test('full is said when the waiting room is full, not when all run', () => {
  const { add, queue } = setUp({ ...LIMITS, waiting: 1 });
  for (const id of ['a', 'b', 'c']) add(id, id, id);
  assert.equal(queue.full, false);
  add('d', 'd', 'd');
  assert.equal(queue.full, true);
});

test('a job that is taken out never starts, and idle waits for all others', async () => {
  const { add, queue, order, end } = setUp({ ...LIMITS, total: 1 });
  add('a', 'p', 's');
  add('b', 'p', 's');
  add('c', 'p', 's');
  assert.equal(queue.remove('b'), true);
  assert.equal(queue.remove('b'), false);
  let idle = false;
  void queue.idle().then(() => {
    idle = true;
  });
  await end('a');
  assert.equal(idle, false);
  assert.deepEqual(order, ['a', 'c']);
  await end('c');
  assert.equal(idle, true);
});

test('a job that needs two busy SRs is passed a while, then both are kept free for it', async () => {
  const queue = createQueue({ total: 16, perPool: 16, perSr: 1, waiting: 1000 });
  const ends: (() => void)[] = [];
  let started = 0;
  let bothStarted: number | undefined;
  const add = (id: string, ...srs: string[]) =>
    queue.add({
      id,
      pool: 'p',
      srs: srs.map((uuid) => ({ uuid, name: uuid })),
      run: () => {
        started += 1;
        if (id === 'both') bothStarted = started;
        return new Promise((resolve) => ends.push(resolve));
      },
    });
  add('a', 'A');
  add('b', 'B');
  add('both', 'A', 'B');
  for (let turn = 0; turn < 200 && bothStarted === undefined; turn++) {
    // one of the two SRs is always busy, and somebody always waits for each
    add(`a${turn}`, 'A');
    add(`b${turn}`, 'B');
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(bothStarted !== undefined && bothStarted <= 16, `started as number ${bothStarted}`);
});
