/**
 * Generated scenarios: two hundred seeds by default, thousands with XVAULT_TEST_LONG=1.
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
const SEEDS = Number(process.env.XVAULT_SEEDS ?? (given === undefined ? (LONG ? 4000 : 200) : 1));
const PLAYERS = Math.min(availableParallelism(), SEEDS);

test('whatever happens to a backup, it ends as told and the audit holds', async (t) => {
  let next = FIRST_SEED;
  const played: Played[] = [];
  const failures: Played[] = [];
  const isOver = () => failures.length > 0 || next === FIRST_SEED + SEEDS;
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
