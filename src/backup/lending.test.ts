import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCachedDisk, SHELF_BYTES } from '../../test/backup/cached-disk.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { NEVER } from '../signals.ts';
import { SHELF_SLOTS } from './block-cache.ts';
import { createLender, type Lending, type Lent } from './lending.ts';

const options = { signal: NEVER };
const BLOCK = 1_048_576;
const COPY = 262_144;

function setUp(shelves: number) {
  const { arena, clock, cache, disk } = createCachedDisk({ shelves });
  const lend = (position: number, lending: Lending = { isQuick: true }) =>
    disk.lend({ position, from: 0, length: BLOCK, needed: 1 }, lending, options);
  /** Reads so many other blocks, one after the other: all that may be used again is. */
  const churn = async (blocks: number) => {
    for (let i = 0; i < blocks; i++) {
      const piece = await lend(100 + i, { isQuick: false });
      assert.equal(piece.bytes[0], 100 + i);
    }
  };
  return { arena, clock, cache, lend, churn };
}

const isCopy = ({ bytes }: Lent) => bytes.length === COPY;
const holds = ({ bytes }: Lent, value: number) => bytes.every((byte) => byte === value);

test('memory that is lent stays as it is until it comes back, whatever others read', async () => {
  const { lend, churn, arena } = setUp(8);
  const lent = await lend(7);
  assert.equal(lent.bytes.length, BLOCK);
  await churn(40);
  assert.ok(holds(lent, 7));
  assert.equal(arena.usedBytes, 2 * SHELF_BYTES);
  lent.release();
  lent.release();
  await churn(40);
  assert.ok(!holds(lent, 7), 'then it is used again');
});

test('two shelves are lent at most, and never the last one; more, and who is slow, gets copies', async () => {
  const many = setUp(32);
  const loans: Lent[] = [];
  for (let n = 0; n < 40; n++) loans.push(await many.lend(n));
  assert.equal(loans.filter((lent) => !isCopy(lent)).length, 2 * SHELF_SLOTS);
  assert.ok(loans.every((lent, n) => holds(lent, n)));
  for (const lent of loans) lent.release();
  assert.ok(!isCopy(await many.lend(50)), 'what came back is lent again');

  const [few, one] = [setUp(8), setUp(4)];
  for (let n = 0; n < 12; n++) assert.equal(isCopy(await few.lend(n)), n >= SHELF_SLOTS, `${n}`);
  assert.ok(isCopy(await one.lend(0)));
  assert.ok(isCopy(await setUp(8).lend(0, { isQuick: false })));
});

test('who waits for memory waits for what is lent no longer than ten seconds', async () => {
  const { arena, clock, lend } = setUp(8);
  let cutOff = 0;
  const lending: Lending = {
    isQuick: true,
    onWanted: () => {
      cutOff += 1;
      lent.release();
    },
  };
  const lent = await lend(1, lending);
  await clock.advance(60_000);
  assert.equal(cutOff, 0, 'nobody waits');
  const taking = arena.take(8 * SHELF_BYTES, 8 * SHELF_BYTES, options);
  assert.ok(isCopy(await lend(1)), 'nothing more is lent meanwhile');
  await clock.advance(9999);
  assert.equal(cutOff, 0);
  assert.ok(holds(lent, 1));
  await clock.advance(1);
  assert.equal(cutOff, 1);
  (await taking).release();
  assert.equal(arena.usedBytes, 0);
});

test('who gives back in time is not cut off, and at the end all memory is back', async () => {
  const { arena, clock, cache, lend } = setUp(8);
  const lending: Lending = { isQuick: true, onWanted: () => assert.fail('cut off') };
  const lent = await lend(1, lending);
  const taking = arena.take(8 * SHELF_BYTES, 8 * SHELF_BYTES, options);
  await clock.advance(5000);
  lent.release();
  const slab = await taking;
  await clock.advance(60_000);
  slab.release();
  const late = await lend(2, lending);
  cache.close();
  assert.equal(arena.usedBytes, SHELF_BYTES);
  late.release();
  assert.equal(arena.usedBytes, 0);
});

test('who begins to wait as another has just got his memory is heard, too', async () => {
  const clock = createSimClock();
  let cutOff = 0;
  const onWanted = () => {
    cutOff += 1;
  };
  const lender = createLender<object>({ clock, onReturned: () => undefined }, options);
  lender.lend(Buffer.alloc(1), { place: {}, lending: { isQuick: true, onWanted }, most: 2 });
  const answers = [true, false];
  lender.askBack(() => {
    const isWanted = answers.shift() === true;
    if (!isWanted) queueMicrotask(() => lender.askBack(() => true));
    return isWanted;
  });
  await clock.advance(10_000);
  assert.equal(cutOff, 0, 'nobody waited any more');
  await clock.advance(10_000);
  assert.equal(cutOff, 1);
});
