import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createShare } from './share.ts';

function counting() {
  let asked = 0;
  return { ask: async () => ++asked, asked: () => asked };
}

test('all who ask within the time get one answer, who comes later a new one', async () => {
  const clock = createSimClock();
  const share = createShare(clock, { freshMs: 1000 });
  const { ask } = counting();
  assert.deepEqual(
    await Promise.all([share('a', ask), share('a', ask), share('a', ask)]),
    [1, 1, 1],
  );
  await clock.advance(999);
  assert.equal(await share('a', ask), 1);
  assert.equal(await share('b', ask), 2, 'another question');
  await clock.advance(1);
  assert.equal(await share('a', ask), 3);
});

test('an answer from before the world changed is asked anew', async () => {
  const share = createShare(createSimClock(), { freshMs: 1000 });
  const { ask } = counting();
  assert.equal(await share('a', ask, 1), 1);
  assert.equal(await share('a', ask, 2), 2);
  assert.equal(await share('a', ask, 2), 2);
});

test('an error reaches all who wait for it and is not kept', async () => {
  const share = createShare(createSimClock(), { freshMs: 1000 });
  const fail = () => Promise.reject(new Error('away'));
  await assert.rejects(Promise.all([share('a', fail), share('a', fail)]), /away/);
  assert.equal(await share('a', counting().ask), 1);
});

test('nothing is shared for no time', async () => {
  const share = createShare(createSimClock(), { freshMs: 0 });
  const { ask } = counting();
  assert.deepEqual(await Promise.all([share('a', ask), share('a', ask)]), [1, 2]);
});
