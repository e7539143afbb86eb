import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { NEVER } from '../signals.ts';
import { createTurns, type Turn } from './turns.ts';

const options = { signal: NEVER };

/** Uploads that ask for a turn, and what they got so far, in order. */
function setUp() {
  const clock = createSimClock();
  const idle = { share: 0 };
  const turns = createTurns({ clock, idleMs: () => clock.elapsed() * idle.share });
  const given: { name: string; turn: Turn }[] = [];
  const names = () => given.map(({ name }) => name).join(' ');
  const ask = async (name: string, signal: AbortSignal = NEVER) => {
    given.push({ name, turn: await turns.take({ signal }) });
  };
  const turnOf = (name: string) => given.findLast((one) => one.name === name)?.turn;
  return { clock, idle, turns, ask, names, turnOf };
}

test('two read at a time, and whoever came first is next', async () => {
  const { ask, names, turnOf, clock } = setUp();
  for (const name of ['a', 'b', 'c', 'd', 'e']) void ask(name);
  await clock.advance(0);
  assert.equal(names(), 'a b');
  turnOf('b')?.end();
  turnOf('b')?.end();
  void ask('b');
  await clock.advance(0);
  assert.equal(names(), 'a b c');
  turnOf('a')?.end();
  turnOf('c')?.end();
  await clock.advance(0);
  assert.equal(names(), 'a b c d e');
  turnOf('d')?.end();
  await clock.advance(0);
  assert.equal(names(), 'a b c d e b');
});

test('where the thread is idle, whoever moved least recently goes on without a turn', async () => {
  const { ask, names, turnOf, clock, idle } = setUp();
  for (const name of ['a', 'b', 'c', 'd', 'e']) void ask(name);
  await clock.advance(200);
  assert.equal(names(), 'a b', 'a busy thread has no use for another');
  idle.share = 0.9;
  turnOf('a')?.moved();
  await clock.advance(5);
  assert.equal(names(), 'a b c');
  turnOf('b')?.moved();
  turnOf('b')?.end();
  await clock.advance(0);
  assert.equal(names(), 'a b c', 'his turn was another one’s by then');
  await clock.advance(10);
  assert.equal(names(), 'a b c d e');
  await clock.advance(5);
  assert.equal(clock.sleepers, 0, 'nobody waits, nobody looks');
});

test('hosts that say nothing hold nobody up, however busy the thread is', async () => {
  const { ask, names, turnOf, clock } = setUp();
  for (const name of ['dead', 'slow', 'c', 'd']) void ask(name);
  await clock.advance(200);
  turnOf('slow')?.moved();
  await clock.advance(55);
  assert.equal(names(), 'dead slow c');
  await clock.advance(200);
  assert.equal(names(), 'dead slow c d');
});

test('who leaves makes room for who stands behind him', async () => {
  const { ask, names, turnOf, clock, turns } = setUp();
  const leaving = new AbortController();
  void ask('a');
  void ask('b');
  const gone = ask('c', leaving.signal);
  void ask('d');
  const reason = new Error('enough');
  leaving.abort(reason);
  await assert.rejects(gone, (error) => error === reason);
  turnOf('a')?.end();
  await clock.advance(0);
  assert.equal(names(), 'a b d');
  await assert.rejects(turns.take(leaving), (error) => error === reason);
});

test('sixteen that read fast all get as many turns, in a row', async () => {
  const turns = createTurns({ clock: createSimClock(), idleMs: () => 0 });
  const order: number[] = [];
  let most = 0;
  let reading = 0;
  const upload = async (n: number) => {
    for (let part = 0; part < 8; part++) {
      const turn = await turns.take(options);
      order.push(n);
      reading += 1;
      most = Math.max(most, reading);
      for (let piece = 0; piece < 8; piece++) {
        await Promise.resolve();
        turn.moved();
      }
      reading -= 1;
      turn.end();
    }
  };
  await Promise.all(Array.from({ length: 16 }, (_, n) => upload(n)));
  assert.equal(most, 2);
  for (let round = 0; round < 8; round++) {
    const row = order.slice(round * 16, round * 16 + 16);
    assert.deepEqual(
      row.toSorted((a, b) => a - b),
      Array.from({ length: 16 }, (_, n) => n),
    );
  }
});
