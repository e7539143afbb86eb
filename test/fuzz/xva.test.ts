import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzXva } from './xva.ts';

/** Enough for a slow, busy machine: what is not done by then is left to the long suite. */
const TIME_BOX_MS = 20_000;

const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const cases = Number(process.env.XVAULT_FUZZ_CASES ?? (isLong ? 100_000 : 2000));
const seed = Number(process.env.XVAULT_FUZZ_SEED ?? Date.now() % 1_000_000);
const rounds = Math.ceil(cases / 10_000);

for (let round = 0; round < rounds; round++) {
  const roundSeed = seed + round * 1_000_003;
  test(`damaged archives are refused or read exactly, seed ${roundSeed}`, async (t) => {
    const started = performance.now();
    const isOver = () => !isLong && performance.now() - started > TIME_BOX_MS;
    const result = await fuzzXva({ cases: Math.ceil(cases / rounds), seed: roundSeed, isOver });
    t.diagnostic(JSON.stringify(result));
    assert.ok(result.accepted > 0 && Object.keys(result.refused).length >= 3);
  });
}
