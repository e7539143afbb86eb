import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSender } from './sender.ts';

const { signal } = new AbortController();

function gate() {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  return { job: async () => await promise, open: resolve, fail: reject };
}

test('no more jobs run at once than the limit', async () => {
  const sender = createSender({ limit: () => 2 });
  let running = 0;
  let most = 0;
  for (let i = 0; i < 9; i += 1) {
    sender.add(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    });
  }
  await sender.drain({ signal });
  assert.equal(most, 2);
  assert.equal(running, 0);
});

test('room waits until no more than the limit are pending', async () => {
  const sender = createSender({ limit: () => 1 });
  const [first, second] = [gate(), gate()];
  sender.add(first.job);
  await sender.room({ signal });
  sender.add(second.job);
  let hasRoom = false;
  const waiting = sender.room({ signal }).then(() => {
    hasRoom = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(hasRoom, false);
  first.open();
  await waiting;
  second.open();
  await sender.drain({ signal });
});

test('the first failure drops what waits, aborts what runs, and is what every call throws', async () => {
  const sender = createSender({ limit: () => 2 });
  const failing = gate();
  let aborted = false;
  let ran = false;
  sender.add(failing.job);
  sender.add(async (options) => {
    await new Promise<void>((resolve) =>
      options.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    aborted = true;
    throw new Error('second');
  });
  sender.add(async () => {
    ran = true;
  });
  failing.fail(new Error('first'));
  await assert.rejects(sender.drain({ signal }), /first/);
  await sender.stop(new Error('third'));
  assert.deepEqual([aborted, ran], [true, false]);
  assert.throws(() => sender.add(async () => {}), /first/);
  await assert.rejects(sender.room({ signal }), /first/);
});

test('a failure while draining is thrown, not taken for the end', async () => {
  const sender = createSender({ limit: () => 1 });
  const only = gate();
  sender.add(only.job);
  const draining = sender.drain({ signal });
  only.fail(new Error('late'));
  await assert.rejects(draining, /late/);
});

test('who waits leaves by his own signal, and the jobs go on', async () => {
  const sender = createSender({ limit: () => 1 });
  const only = gate();
  sender.add(only.job);
  const controller = new AbortController();
  const waiting = sender.drain(controller);
  controller.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  assert.equal(sender.signal.aborted, false);
  only.open();
  await sender.drain({ signal });
});
