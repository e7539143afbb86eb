import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setUp } from '../../test/backup/engine-world.ts';
import type { ObjectStore } from '../ports.ts';

test('who is to end while the bucket hangs says what ended until then', async () => {
  const world = setUp({ keepsEnded: true });
  let hangs = false;
  const list: ObjectStore['list'] = (...args) =>
    hangs ? new Promise(() => undefined) : world.store.list(...args);
  const service = world.instance('a', { ...world.store, list });
  const { id } = await world.start(service);
  await world.ended(id);
  for (const isBefore of [false, true]) {
    hangs = true;
    const stop = new AbortController();
    if (isBefore) stop.abort();
    const working = service.workOff({ signal: stop.signal });
    await world.clock.advance(10_000);
    stop.abort();
    assert.deepEqual(
      (await working).map((job) => job.id),
      [id],
    );
    hangs = false;
  }
  const done = await service.workOff({ signal: new AbortController().signal });
  assert.equal(done.length, 1, 'nothing waits');
});
