import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCachedDisk, SHELF_BYTES } from '../../test/backup/cached-disk.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { BlockWish } from './block-cache.ts';

const options = { signal: NEVER };
const CONTENT_AT = 100;

function setUp(shelves: number) {
  const loads: [from: number, count: number][] = [];
  let before = async (_from: number, _options: Cancellable): Promise<void> => undefined;
  const { arena, clock, cache, disk } = createCachedDisk({
    shelves,
    contentAt: CONTENT_AT,
    onLoad: async ({ from, count }, to) => {
      loads.push([from, count]);
      await before(from, to);
    },
  });
  const copy = async (wish: BlockWish, to: Cancellable = options) =>
    (await disk.lend(wish, { isQuick: false }, to)).bytes;
  const read = async (position: number, needed = 1) => {
    const piece = await copy({ position, from: 5, length: 3, needed });
    assert.deepEqual([...piece], [position, position, position]);
  };
  const beforeLoad = (work: typeof before) => {
    before = work;
  };
  return { arena, clock, cache, disk, loads, copy, read, beforeLoad };
}

test('one block is one load, however often and by how many it is read', async () => {
  const { read, loads } = setUp(8);
  await Promise.all([read(7), read(7), read(7)]);
  await read(7);
  assert.deepEqual(loads, [[7, 1]]);
});

test('neighbours that are needed come together, and what follows comes before it is asked for', async () => {
  const { read, loads, arena } = setUp(16);
  for (let position = 0; position < 100; position++) await read(position, 100 - position);
  const covered = loads.flatMap(([from, count]) =>
    Array.from({ length: count }, (_, i) => from + i),
  );
  assert.deepEqual(
    covered.toSorted((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
    'each once',
  );
  assert.equal(loads.length, 13);
  assert.ok(arena.usedBytes <= 4 * SHELF_BYTES);
});

test('loads of what follows are on their way while one is waited for', async () => {
  const { read, loads, beforeLoad } = setUp(16);
  await read(0, 100);
  const held = Promise.withResolvers<void>();
  beforeLoad(() => held.promise);
  for (let position = 1; position < 8; position++) await read(position, 100 - position);
  const waiting = read(8, 92);
  await new Promise(setImmediate);
  assert.deepEqual(loads.slice(0, 4), [
    [0, 8],
    [8, 8],
    [16, 8],
    [24, 8],
  ]);
  held.resolve();
  await waiting;
});

test('a load that fails is told to all who waited, and tried again by the next', async () => {
  const { read, loads, beforeLoad } = setUp(8);
  beforeLoad(() => Promise.reject(new Error('away')));
  const both = await Promise.allSettled([read(3), read(3)]);
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  beforeLoad(async () => undefined);
  await read(3);
  assert.equal(loads.length, 2);
});

test('a reader who leaves does not end what others wait for', async () => {
  const { copy, read, loads, beforeLoad } = setUp(8);
  const held = Promise.withResolvers<void>();
  beforeLoad(() => held.promise);
  const leaving = new AbortController();
  const gone = copy({ position: 4, from: 0, length: 1, needed: 1 }, leaving);
  const stays = read(4);
  const reason = new Error('enough');
  leaving.abort(reason);
  await assert.rejects(gone, (error) => error === reason);
  held.resolve();
  await stays;
  assert.equal(loads.length, 1);
});

test('whoever waits for memory gets what is only kept, at once or when the last load there is done', async () => {
  const { arena, read, beforeLoad } = setUp(8);
  await read(1);
  const all = await arena.take(7 * SHELF_BYTES, 7 * SHELF_BYTES, options);
  const rest = await arena.take(SHELF_BYTES, SHELF_BYTES, options);
  all.release();
  rest.release();
  const [begun, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  beforeLoad(() => {
    begun.resolve();
    return held.promise;
  });
  const reading = read(2);
  await begun.promise;
  const taking = arena.take(8 * SHELF_BYTES, 8 * SHELF_BYTES, options);
  held.resolve();
  await reading;
  (await taking).release();
  assert.equal(arena.usedBytes, 0);
});

test('memory goes back when nobody reads any more, and at the end', async () => {
  const { arena, clock, cache, read, beforeLoad } = setUp(8);
  await read(1);
  await clock.advance(9000);
  await read(2);
  await clock.advance(10_000);
  assert.equal(arena.usedBytes, SHELF_BYTES);
  await clock.advance(10_000);
  assert.equal(arena.usedBytes, 0);
  await read(3);
  const begun = Promise.withResolvers<void>();
  beforeLoad((_, { signal }) => {
    begun.resolve();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  });
  const reading = read(4);
  await begun.promise;
  cache.close();
  await assert.rejects(reading, (error) => isBackupError(error, 'draining'));
  assert.equal(arena.usedBytes, 0);
  await assert.rejects(read(3), (error) => isBackupError(error, 'draining'));
});

test('many readers in little memory all read what is right, whatever fails and whoever takes the memory', async () => {
  const { arena, loads, copy, beforeLoad } = setUp(3);
  let state = 7;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  beforeLoad(async () => {
    for (let turns = random(4); turns > 0; turns--) await new Promise(setImmediate);
    if (random(10) === 0) throw new Error('away');
  });
  let failures = 0;
  const reader = async () => {
    for (let times = 0; times < 40; times++) {
      const [position, needed] = [random(200), 1 + random(40)];
      const wish = { position, from: random(1000), length: 1 + random(1000), needed };
      try {
        const piece = await copy(wish);
        assert.deepEqual(piece, Buffer.alloc(wish.length, position), `block ${position}`);
      } catch (error) {
        if ((error as Error).message !== 'away') throw error;
        failures += 1;
      }
    }
  };
  const taker = async () => {
    for (let times = 0; times < 60; times++) {
      const bytes = (1 + random(3)) * SHELF_BYTES;
      const slab = await arena.take(bytes, bytes, options);
      slab.bytes.fill(255, 0, 4096);
      await new Promise(setImmediate);
      slab.release();
    }
  };
  await Promise.all([...Array.from({ length: 12 }, reader), taker()]);
  assert.ok(failures > 0 && loads.length > 50);
});
