/** The shared queue on a clock that only moves when told: the server's answers take what they take. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { serve, ticket, until } from '../../test/conformance/job-queue.ts';
import { createTestLog, silentMeter } from '../../test/e2e/world.ts';
import { redisMissing, startRedis } from '../../test/servers/redis.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createSecret } from '../secret.ts';
import { createRedisQueue } from './redis.ts';

const skip = redisMissing();

/** One job an SR. */
async function setUp(t: TestContext) {
  const redis = await startRedis();
  const clock = createSimClock();
  const queue = createRedisQueue(
    { clock, log: createTestLog(), meter: silentMeter },
    {
      url: createSecret(redis.url),
      name: 'n',
      instance: 'one',
      pools: ['p'],
      limits: { total: 4, perPool: 4, perSr: 1, waiting: 9 },
      lockMs: 1500,
    },
  );
  t.after(async () => {
    await queue.close();
    await redis[Symbol.asyncDispose]();
  });
  await until('the connection', () => queue.problem === undefined);
  return { clock, queue };
}

test('it closes at once, though it was about to pause', { skip }, async (t) => {
  const { clock, queue } = await setUp(t);
  await until('the pause', () => clock.sleepers > 0);
  await queue.close();
  assert.equal(clock.sleepers, 0, 'no timer is left');
});

test('what a job waited for is not told for ever', { skip }, async (t) => {
  const { clock, queue } = await setUp(t);
  const turns = serve(queue);
  const move = () => void clock.advance(10_000);
  await queue.add(ticket('runs', 'p', ['sr']));
  await until('its turn', () => turns.now.has('runs') || move());
  await queue.add(ticket('waits', 'p', ['sr']));
  await until('its refusal', () => queue.reasonOf('waits') !== undefined || move());
  assert.match(queue.reasonOf('waits') ?? '', /SR sr/);
  assert.equal(await queue.remove(ticket('waits', 'p')), true);
  await until('the end of it', () => queue.reasonOf('waits') === undefined || move());
  turns.end('runs');
  await queue.idle();
});
