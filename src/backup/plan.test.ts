import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  clusters,
  disk,
  leastSentBytes,
  MEMBER,
  type Piece,
  play,
  random,
} from '../../test/backup/plan-play.ts';
import type { PlanLimits } from '../ports.ts';
import { createPartPlan } from './plan.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const LIMITS: PlanLimits = {
  minPartBytes: 5 * MIB,
  maxCopyBytes: 5 * GIB,
  windowBytes: 16 * MIB,
};
const SMALL_WINDOW: PlanLimits = { ...LIMITS, windowBytes: 7 * MEMBER };
const SEEDS = process.env.XVAULT_TEST_LONG ? 20 : 4;
const OVA: Piece = { sizeBytes: 51_200 };
const END: Piece = { sizeBytes: 1024 };

test('an unchanged disk is one copy behind the first part, and the end is sent', () => {
  const outcome = play([OVA, ...disk(2000, () => false), END], LIMITS);
  assert.deepEqual(outcome, {
    sentBytes: OVA.sizeBytes + 5 * MEMBER + END.sizeBytes,
    copiedBytes: 1995 * MEMBER,
    sends: 2,
    copies: 1,
  });
});

test('a lone changed block is sent with just enough around it', () => {
  const outcome = play(
    disk(2000, (n) => n === 1000),
    LIMITS,
  );
  assert.equal(outcome.sentBytes, 5 * MEMBER);
  assert.deepEqual([outcome.sends, outcome.copies], [1, 2]);
});

test('copies longer than allowed are cut evenly at their end', () => {
  const limits = { ...LIMITS, maxCopyBytes: 100 * MEMBER };
  const outcome = play(
    disk(301, () => false),
    limits,
  );
  assert.deepEqual([outcome.sentBytes, outcome.copies], [0, 4]);
});

test('blocks that lie elsewhere in the base are copied in one range each', () => {
  const pieces = [...disk(40, () => false, 10 ** 9), ...disk(40, () => false, 10 ** 6)];
  assert.deepEqual(play(pieces, LIMITS), {
    sentBytes: 0,
    copiedBytes: 80 * MEMBER,
    sends: 0,
    copies: 2,
  });
});

test('a block that the base does not have does not hide that the range goes on behind it', () => {
  const pieces = [
    ...disk(20, () => false),
    ...disk(5, () => true),
    ...disk(20, () => false, 51_200 + 20 * MEMBER),
  ];
  assert.deepEqual([play(pieces, LIMITS).sends, play(pieces, LIMITS).copies], [1, 2]);
});

test('a small archive is one part', () => {
  assert.equal(play([OVA, ...disk(2, () => true), END], LIMITS).sends, 1);
  assert.deepEqual(createPartPlan(LIMITS).end(), []);
});

test('a long run of changed blocks is cut in parts of the whole window', () => {
  const { sends } = play(
    disk(10_000, () => true),
    LIMITS,
  );
  assert(sends < 10_000 / 14, `${sends} parts`);
});

test('limits that contradict each other are refused', () => {
  assert.throws(() => createPartPlan({ ...LIMITS, windowBytes: 6 * MIB }), /a piece fit/);
  assert.throws(() => createPartPlan({ ...LIMITS, maxCopyBytes: 6 * MIB }), /cut evenly/);
  assert.throws(() => createPartPlan({ ...LIMITS, cellBytes: 16 * MIB }), /a cell and a piece/);
  assert.throws(() => createPartPlan(LIMITS).push({ sizeBytes: MEMBER + 1 }), /a piece fits/);
});

test('scattered single blocks cost at most 5.1 times their size, however near each other', () => {
  for (let distance = 2; distance <= 40; distance += 1) {
    for (const limits of [LIMITS, SMALL_WINDOW]) {
      const count = Math.ceil(4000 / distance);
      const { sentBytes } = play(
        disk(4000, (n) => n % distance === distance - 1),
        limits,
      );
      assert(sentBytes <= 5.1 * count * MEMBER + 5 * MIB, `distance ${distance}`);
    }
  }
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const next = random(seed);
    const pieces = disk(20_000, () => next() < 0.01 * seed);
    const changed = pieces.filter((p) => p.sameOffset === undefined).length * MEMBER;
    const { sentBytes } = play(pieces, LIMITS);
    assert(sentBytes <= 5.1 * changed, `seed ${seed}: ${sentBytes / changed}`);
  }
});

test('clusters cost at most 1.35 times their size and 5 MiB each', () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    for (const mean of [2, 10, 40]) {
      const fresh = clusters(20_480, 50, mean, seed);
      const { sentBytes } = play(
        disk(20_480, (n) => fresh.has(n)),
        LIMITS,
      );
      const bound = 1.35 * fresh.size * MEMBER + 50 * 5 * MIB;
      assert(sentBytes <= bound, `seed ${seed} mean ${mean}: ${sentBytes / bound}`);
    }
  }
});

test('of realistic changes no more than 1/0.95 of the least possible is sent', () => {
  let worst = 1;
  for (let seed = 1; seed <= 2 * SEEDS; seed += 1) {
    for (const [count, mean] of [
      [5, 4],
      [20, 8],
      [60, 3],
      [150, 1],
      [400, 1],
      [30, 40],
    ] as const) {
      const fresh = clusters(4000, count, mean, seed);
      const pieces = [OVA, ...disk(4000, (n) => fresh.has(n)), END];
      const ratio = leastSentBytes(pieces, LIMITS) / play(pieces, LIMITS).sentBytes;
      assert(ratio <= 1, 'nothing is less than the least');
      worst = Math.min(worst, ratio);
    }
  }
  assert(worst >= 0.95, `worst ${worst}`);
});

test('very many tiny pieces are planned as well as few large ones, and in as little time', () => {
  // one change in 19 MiB of frames of 200 bytes; with a path for each place it would take minutes
  const pieces = Array.from({ length: 100_000 }, (_, n) =>
    n === 50_000 ? { sizeBytes: 200 } : { sizeBytes: 200, sameOffset: n * 200 },
  );
  const { sentBytes } = play(pieces, LIMITS);
  assert(sentBytes <= 5.1 * MIB, `${sentBytes}`);
});

const piece = fc.oneof(
  { weight: 8, arbitrary: fc.constant(MEMBER) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: MEMBER }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 5000 }) },
);
/** Runs of the base as it was, with gaps, jumps and fresh pieces between them. */
const archive = fc
  .array(
    fc.record({
      sizes: fc.array(piece, { minLength: 1, maxLength: 30, size: 'max' }),
      fate: fc.oneof(
        { weight: 2, arbitrary: fc.constant('fresh' as const) },
        { weight: 3, arbitrary: fc.constant('same' as const) },
        { weight: 1, arbitrary: fc.integer({ min: 0, max: 10 ** 12 }) },
      ),
    }),
    { maxLength: 40, size: 'max' },
  )
  .map((stretches) => {
    const pieces: Piece[] = [];
    let offset = 0;
    for (const { sizes, fate } of stretches) {
      if (typeof fate === 'number') offset = fate;
      for (const sizeBytes of sizes) {
        if (fate === 'fresh') pieces.push({ sizeBytes });
        else pieces.push({ sizeBytes, sameOffset: offset });
        offset += sizeBytes;
      }
    }
    return pieces;
  });
const limits = fc.record({
  minPartBytes: fc.constantFrom(5 * MIB, MIB, 3),
  maxCopyBytes: fc.constantFrom(5 * GIB, 10 * MIB, 37 * MIB),
  windowBytes: fc.integer({ min: 7 * MEMBER, max: 40 * MEMBER }),
});
const runs = { numRuns: process.env.XVAULT_TEST_LONG ? 5000 : 150 };

test('whatever comes, the parts are the object and all limits hold', () => {
  fc.assert(
    fc.property(archive, limits, (pieces, given) => {
      const { sentBytes } = play(pieces, given);
      assert(sentBytes >= leastSentBytes(pieces, given));
    }),
    runs,
  );
});

test('with equal parts, every cell that is one range of the base is copied and no other', () => {
  fc.assert(
    fc.property(archive, fc.integer({ min: 5 * MIB, max: 16 * MIB }), (pieces, cellBytes) => {
      play(pieces, { ...LIMITS, windowBytes: cellBytes + MEMBER, cellBytes });
    }),
    runs,
  );
  const cell = { ...LIMITS, windowBytes: 5 * MEMBER, cellBytes: 5 * MIB - 1024 };
  assert.throws(() => createPartPlan(cell), /a cell is a part/);
  const limitsOfCells = { ...LIMITS, windowBytes: 6 * MEMBER, cellBytes: 5 * MEMBER };
  const changed = play(
    disk(1000, (n) => n === 500),
    limitsOfCells,
  );
  assert.deepEqual([changed.sends, changed.copies, changed.sentBytes], [1, 199, 5 * MEMBER]);
});

test('of few pieces, the least is sent that any choice would send', () => {
  const few = fc.array(
    fc.tuple(fc.constantFrom(MEMBER, MEMBER, 300_000), fc.constantFrom('fresh', 'same', 'jump')),
    { maxLength: 11, size: 'max' },
  );
  const small = { ...LIMITS, minPartBytes: 2 * MIB + 1000, windowBytes: 16 * MIB };
  fc.assert(
    fc.property(few, (choices) => {
      let offset = 0;
      const pieces = choices.map(([sizeBytes, fate]): Piece => {
        if (fate === 'jump') offset += 10 ** 6;
        const at = offset;
        offset += sizeBytes;
        return fate === 'fresh' ? { sizeBytes } : { sizeBytes, sameOffset: at };
      });
      assert.equal(play(pieces, small).sentBytes, leastOfAllChoices(pieces, small));
    }),
    { numRuns: process.env.XVAULT_TEST_LONG ? 2000 : 200 },
  );
});

/** Tries to send or copy each piece, all ways. */
function leastOfAllChoices(pieces: readonly Piece[], { minPartBytes }: PlanLimits): number {
  let least = Number.POSITIVE_INFINITY;
  for (let choice = 0; choice < 2 ** pieces.length; choice += 1) {
    let sentBytes = 0;
    let runBytes = minPartBytes;
    let isPossible = true;
    for (const [i, { sizeBytes, sameOffset }] of pieces.entries()) {
      const isCopy = ((choice >> i) & 1) === 1;
      const before = pieces[i - 1];
      const wasCopy = i > 0 && ((choice >> (i - 1)) & 1) === 1;
      const isRange =
        before?.sameOffset !== undefined && before.sameOffset + before.sizeBytes === sameOffset;
      const goesOn = i > 0 && isCopy === wasCopy && (!isCopy || isRange);
      isPossible &&= (!isCopy || sameOffset !== undefined) && (goesOn || runBytes >= minPartBytes);
      runBytes = goesOn ? runBytes + sizeBytes : sizeBytes;
      if (!isCopy) sentBytes += sizeBytes;
    }
    if (isPossible) least = Math.min(least, sentBytes);
  }
  return least;
}
