import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_RESERVE_BYTES } from '../ports.ts';
import {
  cutPieces,
  leastSlabBytes,
  partsInFlight,
  planLayout,
  planWindow,
  wantPartBytes,
} from './layout.ts';
import { quirksOf } from './quirks.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;
const UNIT = 8 * MAX_RESERVE_BYTES;
const budget = { totalBytes: 30 * UNIT, unitBytes: UNIT, activeUploads: 1 };
const generic = quirksOf({ provider: 'generic' });
const r2 = quirksOf({ provider: 'r2' });

test('parts begin with two units and grow with what was sent, up to a share of the budget', () => {
  const at = (sentBytes: number, activeUploads = 1) =>
    wantPartBytes({ ...budget, activeUploads }, sentBytes, 5 * GIB) / UNIT;
  assert.equal(at(0), 2);
  assert.equal(at(0, 16), 1);
  assert.equal(at(8 * GIB), 2);
  assert.equal(at(40 * GIB), 5);
  assert.equal(at(10 * TIB), 7);
  assert.equal(at(10 * TIB, 2), 3);
  assert.equal(at(10 * TIB, 100), 1);
});

test('256 MiB of budget take 300 GiB directly and 5 TiB in all', () => {
  const layout = planLayout(generic, budget, undefined);
  let sentBytes = 0;
  for (let part = 0; part < layout.directParts; part += 1) {
    sentBytes += wantPartBytes(budget, sentBytes, generic.maxPartBytes);
  }
  assert(sentBytes > 300 * GIB, `${sentBytes / GIB} GiB`);
  assert(sentBytes + layout.pieces * layout.pieceBytes > 5 * TIB);
});

test('the least memory of a part leaves no part below the smallest allowed', () => {
  assert(leastSlabBytes(5 * MIB) - MAX_RESERVE_BYTES >= 5 * MIB);
});

test('a store without copies takes all its parts directly', () => {
  const layout = planLayout(quirksOf({ provider: 'gcs' }), budget, undefined);
  assert.deepEqual([layout.directParts, layout.stagedParts, layout.pieces], [10_000, 0, 0]);
});

test('equal parts: only what surely fits goes directly, all else is staged', () => {
  const small = planLayout(r2, budget, 100 * GIB);
  assert.equal(small.directParts, 10_000);
  assert.equal(small.fixedPartBytes, 2 * UNIT);
  const unknown = planLayout(r2, budget, undefined);
  assert.equal(unknown.directParts, 0);
  assert(unknown.pieces * unknown.pieceBytes > r2.maxObjectBytes);
});

test('equal parts: pieces of all staging objects have one size, but for the very last', () => {
  fc.assert(
    fc.property(
      fc.record({
        maxParts: fc.integer({ min: 1, max: 10_000 }),
        activeUploads: fc.integer({ min: 1, max: 32 }),
        units: fc.integer({ min: 1, max: 500 }),
      }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      ({ maxParts, activeUploads, units }, fill) => {
        const quirks = { ...r2, maxParts };
        const small = { totalBytes: units * UNIT, unitBytes: UNIT, activeUploads };
        const layout = planLayout(quirks, small, undefined);
        const part = layout.fixedPartBytes ?? 0;
        const objectBytes = layout.stagedParts * part;
        for (const piece of cutPieces(layout, objectBytes)) {
          assert.equal(piece.length, layout.pieceBytes);
        }
        const last = cutPieces(layout, 1 + Math.floor(fill * objectBytes));
        for (const piece of last.slice(0, -1)) assert.equal(piece.length, layout.pieceBytes);
        assert((last.at(-1)?.length ?? 0) <= layout.pieceBytes);
        assert(layout.pieceBytes <= quirks.maxPartBytes && layout.stagedParts <= maxParts);
      },
    ),
  );
});

test('pieces cover a staging object exactly, and none is below the smallest part', () => {
  const layout = planLayout(generic, budget, undefined);
  fc.assert(
    fc.property(fc.integer({ min: 5 * MIB, max: 640 * GIB }), (sizeBytes) => {
      let offset = 0;
      const pieces = cutPieces(layout, sizeBytes);
      for (const piece of pieces) {
        assert.equal(piece.offset, offset);
        assert(piece.length >= generic.minPartBytes && piece.length <= generic.maxPartBytes);
        offset += piece.length;
      }
      assert.equal(offset, sizeBytes);
    }),
  );
});

test('parts on their way are shared out between uploads, one at least for each', () => {
  assert.equal(partsInFlight(6, 1), 6);
  assert.equal(partsInFlight(6, 4), 4);
  assert.equal(partsInFlight(2, 4), 2);
  assert.equal(partsInFlight(6, 16), 1);
  assert.equal(partsInFlight(6, 100), 1);
});

test('a window over a base is 16 MiB if its share allows, and always holds a part and two pieces', () => {
  const of = (totalUnits: number, activeUploads: number) =>
    planWindow(
      generic,
      { totalBytes: totalUnits * UNIT, unitBytes: UNIT, activeUploads },
      undefined,
    );
  assert.equal(of(32, 1).windowBytes, 2 * UNIT);
  assert.equal(of(32, 16).windowBytes, UNIT);
  assert.equal(of(1, 1).windowBytes, UNIT);
  assert.equal(of(32, 1).cellBytes, undefined);
});

test('equal parts over a base are as small as the longest archive allows, or the archive is staged', () => {
  assert.equal(planWindow(r2, budget, 100 * MIB).cellBytes, 5 * MIB);
  assert.equal(planWindow(r2, budget, undefined).cellBytes, 5 * MIB);
  const long = planWindow(r2, budget, 10_000 * 20 * MIB);
  assert.equal(long.cellBytes, 20 * MIB);
  assert(long.windowBytes >= 20 * MIB + MAX_RESERVE_BYTES);
  assert.equal(planLayout(r2, budget, 10_000 * 20 * MIB, long.cellBytes).directParts, 10_000);
  const longest = planWindow(r2, budget, 10_000 * 500 * MIB);
  assert.equal(longest.cellBytes, 5 * MIB);
  assert.equal(planLayout(r2, budget, 10_000 * 500 * MIB, longest.cellBytes).directParts, 0);
});
