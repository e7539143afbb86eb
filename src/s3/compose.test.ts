import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compose, type Recipe, type Stretch } from './compose.ts';

const stretches = fc.array(
  fc.record({
    from: fc.nat({ max: 3 }),
    offset: fc.nat({ max: 50 }),
    length: fc.oneof(fc.nat({ max: 12 }), fc.nat({ max: 400 })),
    canCopy: fc.boolean(),
  }),
  { maxLength: 12 },
);

/** Each byte as what it is: `from` and its offset there. */
const bytesOf = (list: readonly Stretch<number>[]) =>
  list.flatMap(({ from, offset, length }) =>
    Array.from({ length }, (_, i) => `${from}:${offset + i}`),
  );
const stretchesOf = (recipe: Recipe<number>) =>
  recipe.kind === 'copy' ? [recipe.stretch] : recipe.stretches;
const sizes = (recipes: Recipe<number>[]) =>
  recipes.map(({ kind, sizeBytes }) => [kind, sizeBytes]);
const at = (offset: number, length: number, canCopy = true): Stretch<number> => ({
  from: 1,
  offset,
  length,
  canCopy,
});

test('parts and rest together are the stretches, byte for byte', () => {
  fc.assert(
    fc.property(stretches, fc.boolean(), fc.boolean(), (list, isCells, isEnd) => {
      const limits = { minPartBytes: 10, maxCopyBytes: 64, ...(isCells ? { cellBytes: 16 } : {}) };
      const { recipes, rest } = compose(list, limits, { isEnd });
      const made = [...recipes.flatMap(stretchesOf), ...(isEnd ? [] : rest)];
      assert.deepEqual(bytesOf(made), bytesOf(list));
      for (const [i, recipe] of recipes.entries()) {
        const isLast = isEnd && i === recipes.length - 1;
        const length = stretchesOf(recipe).reduce((sum, each) => sum + each.length, 0);
        assert.equal(recipe.sizeBytes, length);
        if (isCells && !isLast) assert.equal(length, 16);
        if (!isLast) assert(length >= 10);
        assert(length <= (isCells ? 16 : 64));
        if (recipe.kind === 'copy') assert(recipe.stretch.canCopy);
        // What is read lies in the memory of one part.
        else assert(length <= (isCells ? 16 : 10));
      }
      const restBytes = rest.reduce((sum, { length }) => sum + length, 0);
      assert(restBytes < (isCells ? 16 : 10));
    }),
  );
});

test('no more is read than fills the parts at a border', () => {
  const limits = { minPartBytes: 10, maxCopyBytes: 64 };
  const { recipes } = compose([at(0, 3, false), at(0, 100), at(7, 4)], limits, { isEnd: true });
  assert.deepEqual(sizes(recipes), [
    ['send', 10],
    ['copy', 47],
    ['copy', 46],
    ['send', 4],
  ]);
});

test('equal parts: a cell inside one stretch is copied from any offset, one over a border is read', () => {
  const limits = { minPartBytes: 10, maxCopyBytes: 64, cellBytes: 16 };
  const { recipes, rest } = compose([at(5, 40), at(100, 30)], limits, { isEnd: false });
  assert.deepEqual(sizes(recipes), [
    ['copy', 16],
    ['copy', 16],
    ['send', 16],
    ['copy', 16],
  ]);
  assert.deepEqual(rest, [at(124, 6)]);
});
