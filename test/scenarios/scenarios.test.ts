/**
 * Generated scenarios: hundreds of seeds by default within a time box, thousands with XVAULT_TEST_LONG=1.
 *
 *   XVAULT_SEED=123 node --test test/scenarios/scenarios.test.ts      repeats one
 *   XVAULT_SEED=1000 XVAULT_SEEDS=500 node --test …                   runs others
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describePlan, endingsOf, generate } from './generate.ts';
import { type Stage, startStage } from './play.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const given = process.env.XVAULT_SEED;
const FIRST_SEED = Number(given ?? 1);
const SEEDS = Number(process.env.XVAULT_SEEDS ?? (given === undefined ? (LONG ? 4000 : 300) : 1));
/** Whatever was played by then is enough for a default run; on a busy machine that is less. */
const BOX_MS = LONG || given !== undefined ? Number.POSITIVE_INFINITY : 20_000;
/** A machine so slow that it plays fewer proves too little. */
const LEAST_SEEDS = Math.min(SEEDS, 20);

test('whatever happens to a backup, it ends as told and the audit holds', async (t) => {
  await using stage = await startStage();
  const since = performance.now();
  let played = 0;
  const endings: Record<string, number> = {};
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    if (performance.now() - since > BOX_MS && played >= LEAST_SEEDS) break;
    const ending = await play(stage, seed);
    endings[ending] = (endings[ending] ?? 0) + 1;
    played += 1;
  }
  t.diagnostic(`${played} scenarios from seed ${FIRST_SEED}: ${JSON.stringify(endings)}`);
});

async function play(stage: Stage, seed: number): Promise<string> {
  const plan = generate(seed);
  try {
    const { ending, error } = await stage.play(plan);
    assert.ok(endingsOf(plan).has(ending), `ended with ${ending}: ${error?.message}`);
    return ending;
  } catch (error) {
    const again = `XVAULT_SEED=${seed} node --test test/scenarios/scenarios.test.ts`;
    throw new Error(`seed ${seed}: ${describePlan(plan)}\nrepeat it with: ${again}`, {
      cause: error,
    });
  }
}
