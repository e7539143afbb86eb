import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../../test/conformance/job-queue.ts';
import { createTestLog } from '../../test/e2e/world.ts';
import { redisMissing, startRedis } from '../../test/servers/redis.ts';
import { systemClock } from '../clock.ts';
import { createSecret } from '../secret.ts';
import { createLanes } from './lanes.ts';
import { openLink } from './link.ts';

test('lanes that cannot be opened leave nothing behind, however often it is tried', {
  skip: redisMissing(),
}, async (t) => {
  const redis = await startRedis();
  t.after(() => redis[Symbol.asyncDispose]());
  // the connection is there, and the limits are refused
  await redis.client.acl('SETUSER', 'some', 'on', '>pw', '~*', '&*', '+@all', '-hset');
  const url = createSecret(redis.url.replace('//', '//some:pw@'));
  const link = openLink({ clock: systemClock, log: createTestLog() }, { url, channel: '{n}:c' });
  t.after(() => link.close());
  await until('the connection', () => link.redis.status === 'ready');
  const lanes = createLanes(link, { prefix: '{n}', pools: ['p', 'q'], perPool: 1, lockMs: 1000 });
  const listeners = () =>
    link.redis.eventNames().map((name) => [name, link.redis.listenerCount(name)]);
  const before = listeners();
  for (let tries = 0; tries < 3; tries++) {
    await assert.rejects(lanes.open(), /NOPERM/);
    assert.equal(lanes.areOpen, false);
  }
  assert.deepEqual(listeners(), before);
  await redis.client.acl('SETUSER', 'some', '+hset');
  await lanes.open();
  assert.equal(lanes.areOpen, true);
  await lanes.close();
  assert.deepEqual(listeners(), before);
});
