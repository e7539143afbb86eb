/**
 * Generated scenarios: hundreds of seeds by default within a time box, thousands with XVAULT_TEST_LONG=1.
 *
 *   XVAULT_SEED=123 node --test test/scenarios/scenarios.test.ts      repeats one
 *   XVAULT_SEED=1000 XVAULT_SEEDS=500 node --test …                   runs others
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Played } from './player.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const given = process.env.XVAULT_SEED;
const FIRST_SEED = Number(given ?? 1);
const SEEDS = Number(process.env.XVAULT_SEEDS ?? (given === undefined ? (LONG ? 4000 : 500) : 1));
/** Whatever was played by then is enough for a default run; on a busy machine that is less. */
const BOX_MS = LONG || given !== undefined ? Number.POSITIVE_INFINITY : 20_000;
/** Fewer prove too little, however busy the machine is. */
const LEAST_SEEDS = Math.min(SEEDS, 200);
const PLAYERS = Math.min(availableParallelism(), SEEDS);

test('whatever happens to a backup, it ends as told and the audit holds', async (t) => {
  const since = performance.now();
  let next = FIRST_SEED;
  const played: Played[] = [];
  const failures: Played[] = [];
  const isOver = () =>
    failures.length > 0 ||
    next === FIRST_SEED + SEEDS ||
    (performance.now() - since > BOX_MS && played.length >= LEAST_SEEDS);
  const players = Array.from({ length: PLAYERS }, async () => {
    const player = fork(join(import.meta.dirname, 'player.ts'), { execArgv: [] });
    player.on('message', (told: 'ready' | Played) => {
      if (told !== 'ready') played.push(told);
      if (told !== 'ready' && told.error !== undefined) failures.push(told);
      player.send(isOver() ? 'end' : next++);
    });
    const [code] = await once(player, 'exit');
    assert.equal(code, 0, 'the player came to its end');
  });
  await Promise.all(players);
  const endings = Object.groupBy(played, ({ ending = 'failed' }) => ending);
  const counts = Object.entries(endings).map(([name, of]) => `${name} ${of?.length}`);
  t.diagnostic(`${played.length} scenarios from seed ${FIRST_SEED}: ${counts.sort().join(', ')}`);
  assert.deepEqual(failures.map(({ error }) => error).join('\n'), '');
});
