/**
 * Plays generated scenarios in a process of its own, one after another as the test hands them in.
 *
 * A process a core plays twice as many; and the test runner's bookkeeping of every promise, which only its own process
 * has, costs a sixth of all time. Each has its own clock, pool and bucket, so a seed plays the same in any of them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describePlan, endingsOf, generate } from './generate.ts';
import { type Stage, startStage } from './play.ts';

/** How the scenario of a seed ended, or why it failed. */
export interface Played {
  seed: number;
  ending?: string;
  error?: string;
}

if (process.send !== undefined) {
  await using stage = await startStage();
  const isAsked = () => once(process, 'message') as Promise<[number | 'end']>;
  process.send('ready');
  for (let [seed] = await isAsked(); seed !== 'end'; [seed] = await isAsked()) {
    process.send({ seed, ...(await play(stage, seed)) } satisfies Played);
  }
  process.disconnect();
}

async function play(stage: Stage, seed: number): Promise<Omit<Played, 'seed'>> {
  const plan = generate(seed);
  try {
    const { ending, error } = await stage.play(plan);
    assert.ok(endingsOf(plan).has(ending), `ended with ${ending}: ${error?.message}`);
    return { ending };
  } catch (cause) {
    const again = `XVAULT_SEED=${seed} node --test test/scenarios/scenarios.test.ts`;
    const why = cause instanceof Error ? cause.stack : String(cause);
    return { error: `seed ${seed}: ${describePlan(plan)}\nrepeat it with: ${again}\n${why}` };
  }
}
