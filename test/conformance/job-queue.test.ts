/** The suite of job-queue.ts over both queues. */

import { after, before } from 'node:test';
import { createLocalQueue } from '../../src/backup/local-queue.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { createRedisQueue } from '../../src/queue/redis.ts';
import { createSecret } from '../../src/secret.ts';
import { createTestLog, silentMeter } from '../e2e/world.ts';
import { type RedisServer, redisMissing, startRedis } from '../servers/redis.ts';
import { testJobQueue, until } from './job-queue.ts';

testJobQueue('in one process', async (limits) => createLocalQueue(systemClock, limits));

let redis: RedisServer | undefined;
before(async () => {
  if (redisMissing() === undefined) redis = await startRedis();
});
after(async () => await redis?.[Symbol.asyncDispose]());

testJobQueue('shared, on Redis', async (limits, t) => {
  if (redis === undefined) {
    t.skip(redisMissing());
    return createLocalQueue(systemClock, limits);
  }
  const queue = createRedisQueue(
    { clock: systemClock, log: createTestLog(), meter: silentMeter },
    {
      url: createSecret(redis.url),
      name: systemIds.uuid(),
      instance: 'one',
      pools: ['p', 'q'],
      limits,
      // a process that stalls for so long loses its turns to another: a busy machine does for a second
      lockMs: 3000,
    },
  );
  t.after(() => queue.close());
  await until(
    'the connection',
    () => queue.problem === undefined,
    () => queue.problem,
  );
  return queue;
});
