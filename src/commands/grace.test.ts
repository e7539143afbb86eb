import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { BackupError } from '../errors.ts';
import { leaveAfterMs, parseGrace, stopsOf, withinGrace } from './grace.ts';

const stop = (signal?: string) =>
  new BackupError('cancelled', 'stop', signal === undefined ? {} : { details: { signal } });

test('SIGTERM is a wish to leave, anything else one to cancel; also when it came before', () => {
  for (const [signal, leaves] of [
    ['SIGTERM', true],
    ['SIGINT', false],
    [undefined, false],
  ] as const) {
    const given = new AbortController();
    const stops = stopsOf(given.signal);
    assert.ok(!stops.leave.aborted && !stops.cancel.aborted);
    given.abort(stop(signal));
    for (const { leave, cancel } of [stops, stopsOf(given.signal)]) {
      assert.deepEqual([leave.aborted, cancel.aborted], [leaves, !leaves]);
      assert.equal((leaves ? leave : cancel).reason, given.signal.reason);
    }
  }
});

test('a grace is read in seconds and minutes, and its end is kept for leases and the end of the process', () => {
  assert.deepEqual(['5s', '30', '2m'].map(parseGrace), [5000, 30_000, 120_000]);
  for (const wrong of ['', '0', '0s', '61m', '1h', '-5s', '1.5s']) {
    assert.throws(() => parseGrace(wrong), { code: 'invalid_request' });
  }
  assert.deepEqual([1000, 5000, 60_000].map(leaveAfterMs), [600, 3000, 58_000]);
});

test('work that ends is told as it ended; work that hangs is left before the grace is over', async () => {
  const clock = createSimClock();
  const leave = new AbortController();
  const input = { leave: leave.signal, graceMs: 5000, clock };
  const late: number[] = [];
  const tellLate = () => {
    late.push(clock.elapsed());
    return 143 as const;
  };
  const hanging = Promise.withResolvers<number>();
  const ended = withinGrace(input, () => hanging.promise, tellLate);
  await clock.advance(60_000);
  assert.deepEqual(late, [], 'nothing is over as long as nobody asks for it');
  assert.equal(await withinGrace(input, async () => 3, tellLate), 3);
  leave.abort(stop('SIGTERM'));
  await clock.advance(4_400);
  assert.deepEqual(late, []);
  await clock.advance(200);
  assert.equal(await ended, 143);
  assert.deepEqual(late, [64_500]);
  await assert.rejects(
    withinGrace(input, () => Promise.reject(stop()), tellLate),
    { code: 'cancelled' },
  );
  assert.equal(clock.sleepers, 0, 'no timer is left');
});
