/** Tries, waits and lines, whatever the target is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failedNotice, SECRET, setUp, URL_TOKEN } from '../../test/notify/notifier-world.ts';
import { startWebReceiver } from '../../test/notify/receiver.ts';
import { findLeak } from '../../test/security/leaks.ts';
import type { NotifyTarget } from '../notify-targets.ts';
import { createSecret } from '../secret.ts';
import { NEVER } from '../signals.ts';

test('what may pass is tried four times with the same id, what will not is tried once', async () => {
  await using receiver = await startWebReceiver();
  const { send, counts } = setUp({ kind: 'webhook', secrets: [createSecret(SECRET)] }, receiver);
  receiver.answer = () => ({ status: 503, body: 'restarting' });
  const down = await send();
  assert.deepEqual(down, {
    target: 'ops',
    ok: false,
    attempts: 4,
    problem: 'answered 503 "restarting"',
  });
  assert.equal(new Set(receiver.posts.map(({ headers }) => headers['webhook-id'])).size, 1);
  const finals: [number, RegExp][] = [
    [404, /^answered 404 "no_service"$/],
    [410, /^answered 410/],
    [302, /redirects are not followed/],
  ];
  for (const [status, says] of finals) {
    receiver.answer = () => ({ status, body: 'no_service', headers: { location: '/other' } });
    const { attempts, problem } = await send();
    assert.equal(attempts, 1);
    assert.match(problem ?? '', says);
  }
  let calls = 0;
  receiver.answer = () => ({ status: ++calls < 3 ? 429 : 200, headers: { 'retry-after': '1' } });
  assert.deepEqual(await send(), { target: 'ops', ok: true, attempts: 3 });
  assert.equal((await send(failedNotice(), NEVER, 2)).ok, true);
  assert.equal(counts.at(-1), 'notifications_total ops ok');
});

test('a target that does not answer, or is not there, is given up in time', async () => {
  await using receiver = await startWebReceiver();
  const world = setUp({ kind: 'slack' }, receiver);
  receiver.answer = () => {
    setImmediate(world.clock.expire);
    return 'silent';
  };
  const silent = await world.send(failedNotice(), NEVER, 2);
  assert.deepEqual([silent.ok, silent.attempts, silent.problem], [false, 2, 'no answer in 20 s']);
  const gone = setUp({ kind: 'slack', url: createSecret('https://127.0.0.1:1/x') });
  const refused = await gone.send();
  assert.equal(refused.attempts, 4);
  assert.match(refused.problem ?? '', /ECONNREFUSED/);
});

test('a shutdown ends tries and waits at once, and says that it was that', async () => {
  await using receiver = await startWebReceiver();
  const stop = new AbortController();
  receiver.answer = () => {
    setImmediate(() => stop.abort(new Error('stopping')));
    return 'silent';
  };
  const { send, counts } = setUp({ kind: 'slack' }, receiver);
  const sending = Array.from({ length: 5 }, () => send(failedNotice(), stop.signal));
  for (const delivery of await Promise.all(sending)) {
    assert.deepEqual([delivery.ok, delivery.stopped], [false, true]);
  }
  assert.ok(receiver.posts.length <= 2, 'two at once');
  assert.deepEqual([...new Set(counts)], ['notifications_total ops stopped'], 'no alarm');
});

test('one that leaves the line takes nobody’s turn with it', async () => {
  await using receiver = await startWebReceiver();
  const busy = Promise.withResolvers<void>();
  receiver.answer = () => {
    if (receiver.posts.length === 2) busy.resolve();
    return 'silent';
  };
  const { send } = setUp({ kind: 'slack' }, receiver);
  const [first, second, leaver] = [1, 2, 3].map(() => new AbortController());
  assert.ok(first && second && leaver);
  const atWork = [first, second].map(({ signal }) => send(failedNotice(), signal, 1));
  const left = send(failedNotice(), leaver.signal, 1);
  const next = send(failedNotice(), NEVER, 1);
  await busy.promise;
  leaver.abort(new Error('left'));
  assert.equal((await left).stopped, true);
  receiver.answer = () => ({ status: 200 });
  first.abort(new Error('left'));
  assert.equal((await next).ok, true);
  second.abort(new Error('left'));
  await Promise.all(atWork);
});

test('a line that is too long is told at once, and other targets do not wait for it', async () => {
  await using receiver = await startWebReceiver();
  receiver.answer = () => 'silent';
  const stop = new AbortController();
  const { send } = setUp({ kind: 'slack' }, receiver);
  const waiting = Array.from({ length: 200 }, () => send(failedNotice(), stop.signal));
  const late = await send();
  assert.deepEqual([late.ok, late.attempts], [false, 0]);
  assert.match(late.problem ?? '', /200 notices wait/);
  stop.abort(new Error('stopping'));
  await Promise.all(waiting);
});

test('secrets of the settings are in no log line, no record and no other target', async () => {
  await using receiver = await startWebReceiver();
  receiver.answer = () => ({ status: 400, body: 'bad' });
  const secrets = { SECRET, URL_TOKEN, token: 'bearer-secret' };
  const targets: Partial<NotifyTarget>[] = [
    { kind: 'webhook', secrets: [createSecret(SECRET)] },
    { kind: 'slack' },
    { kind: 'cloudevents', source: '/x', token: createSecret('bearer-secret') },
    { kind: 'slack', url: createSecret(`https://127.0.0.1:1/${URL_TOKEN}`) },
  ];
  for (const target of targets) {
    const world = setUp(target as NotifyTarget, receiver);
    const delivery = await world.send();
    const bodies = receiver.posts.map(({ body }) => body);
    assert.equal(
      findLeak([world.logged(), JSON.stringify(delivery), ...bodies], secrets),
      undefined,
    );
    assert.match(world.logged(), /notification failed/);
  }
});
