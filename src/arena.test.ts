import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createArena } from './arena.ts';
import { isBackupError } from './errors.ts';
import type { Slab } from './ports.ts';

const signal = new AbortController().signal;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

test('a slab is as long as wished when that much is free in one piece', async () => {
  const arena = createArena({ totalBytes: 100, unitBytes: 10 });
  const slab = await arena.take(10, 35, { signal });
  assert.equal(slab.bytes.length, 40);
  assert.equal(arena.usedBytes, 40);
});

test('slabs lie in the memory that is given', async () => {
  const memory = Buffer.alloc(64);
  const arena = createArena({ totalBytes: 60, unitBytes: 10, memory });
  const slab = await arena.take(10, 20, { signal: new AbortController().signal });
  slab.bytes.fill(7);
  assert.deepEqual([...memory.subarray(0, 21)], [...Array(20).fill(7), 0]);
  assert.throws(() => createArena({ totalBytes: 80, unitBytes: 10, memory }), /memory=64/);
});

test('a slab is shorter than wished, but never below the minimum, when memory is short', async () => {
  const arena = createArena({ totalBytes: 50, unitBytes: 10 });
  await arena.take(30, 30, { signal });
  const slab = await arena.take(10, 50, { signal });
  assert.equal(slab.bytes.length, 20);
});

test('the lowest free address is taken first', async () => {
  const arena = createArena({ totalBytes: 50, unitBytes: 10 });
  const first = await arena.take(10, 10, { signal });
  const second = await arena.take(10, 10, { signal });
  const offset = first.bytes.byteOffset;
  first.release();
  const third = await arena.take(10, 10, { signal });
  assert.equal(third.bytes.byteOffset, offset);
  assert.notEqual(second.bytes.byteOffset, offset);
});

test('giving back twice frees once', async () => {
  const arena = createArena({ totalBytes: 20, unitBytes: 10 });
  const slab = await arena.take(10, 10, { signal });
  slab.release();
  const again = await arena.take(20, 20, { signal });
  slab.release();
  assert.equal(arena.usedBytes, 20);
  again.release();
  assert.equal(arena.usedBytes, 0);
});

test('a large wish at the head is not overtaken by a small one behind it', async () => {
  const arena = createArena({ totalBytes: 30, unitBytes: 10 });
  const held = [await arena.take(10, 10, { signal }), await arena.take(10, 10, { signal })];
  const order: string[] = [];
  const large = arena.take(30, 30, { signal }).then((slab) => {
    order.push('large');
    return slab;
  });
  const small = arena.take(10, 10, { signal }).then(() => order.push('small'));
  await settled();
  assert.deepEqual(order, []);
  for (const slab of held) slab.release();
  (await large).release();
  await small;
  assert.deepEqual(order, ['large', 'small']);
});

test('an aborted waiter leaves with the reason and lets those behind it go on', async () => {
  const arena = createArena({ totalBytes: 30, unitBytes: 10 });
  await arena.take(10, 10, { signal });
  const gone = new AbortController();
  const large = arena.take(30, 30, { signal: gone.signal });
  const small = arena.take(10, 10, { signal });
  gone.abort(new Error('enough'));
  await assert.rejects(large, /enough/);
  assert.equal((await small).bytes.length, 10);
});

test('an aborted signal takes nothing', async () => {
  const arena = createArena({ totalBytes: 30, unitBytes: 10 });
  await assert.rejects(arena.take(1, 1, { signal: AbortSignal.abort(new Error('no')) }), /no/);
  assert.equal(arena.usedBytes, 0);
});

test('a minimum above the whole budget is a setting to mend, not a wait for ever', async () => {
  const arena = createArena({ totalBytes: 30, unitBytes: 10 });
  await assert.rejects(arena.take(31, 31, { signal }), (e) => isBackupError(e, 'configuration'));
  assert.throws(
    () => createArena({ totalBytes: 9, unitBytes: 10 }),
    (error) => isBackupError(error, 'configuration'),
  );
});

type Step = { take: { min: number; more: number } } | { release: number } | { abort: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ take: fc.record({ min: fc.integer({ min: 1, max: 80 }), more: fc.nat(80) }) }),
  fc.record({ release: fc.nat(20) }),
  fc.record({ abort: fc.nat(20) }),
);

test('whatever the order of taking, giving back and leaving: no overlap, in order, all served', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const arena = createArena({ totalBytes: 80, unitBytes: 10 });
      const base = (await arena.take(10, 10, { signal })).bytes.byteOffset;
      const held: { slab: Slab; turn: number }[] = [];
      const waiting = new Map<number, AbortController>();
      const granted: number[] = [];
      let aborted = 0;
      let turn = 0;
      for (const action of steps) {
        if ('take' in action) {
          const mine = turn++;
          const controller = new AbortController();
          waiting.set(mine, controller);
          const min = Math.min(action.take.min, 70);
          const taking = arena.take(min, min + action.take.more, controller);
          taking.then(
            (slab) => {
              assert(slab.bytes.length >= min && slab.bytes.byteOffset > base);
              granted.push(mine);
              waiting.delete(mine);
              held.push({ slab, turn: mine });
            },
            () => {
              aborted += 1;
              waiting.delete(mine);
            },
          );
        } else if ('release' in action) {
          held.splice(action.release % (held.length || 1), 1)[0]?.slab.release();
        } else {
          const ids = [...waiting.keys()];
          waiting.get(ids[action.abort % (ids.length || 1)] ?? -1)?.abort();
        }
        await settled();
        const ranges = held
          .map(({ slab }) => [slab.bytes.byteOffset, slab.bytes.length] as const)
          .sort(([a], [b]) => a - b);
        for (const [i, [offset]] of ranges.entries()) {
          const before = ranges[i - 1];
          assert(before === undefined || before[0] + before[1] <= offset, 'slabs overlap');
        }
        const heldBytes = ranges.reduce((sum, [, length]) => sum + length, 0);
        assert.equal(arena.usedBytes, heldBytes + 10);
      }
      for (let rounds = 0; waiting.size > 0 && rounds < 200; rounds += 1) {
        for (const { slab } of held.splice(0)) slab.release();
        await settled();
      }
      assert.equal(granted.length + aborted, turn);
      assert.deepEqual(
        granted,
        [...granted].sort((a, b) => a - b),
      );
    }),
    { numRuns: 300 },
  );
});
