/**
 * The Durable Object in workerd: its storage, its alarms and its bucket are the runtime's, its container is played.
 *
 * What the supervisor decides is tested in src/cloudflare/supervisor*.test.ts, in simulated time; here it is whether the
 * runtime does what that takes for granted: alarms that come again after a crash, storage that is there before an answer
 * leaves, records that are written on a condition.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Job } from '../../src/catalog/record.ts';
import { sampleJob } from '../records.ts';
import { type EngineWorld, type Process, startEngineWorld } from './engine-world.ts';

const POST = { method: 'POST', body: '{"mode":"full"}' };
const PATH = '/v1/vms/web/backups';
const ASKED = `POST ${PATH}`;

interface Played {
  /** The last one that was started. */
  kill(reason?: string): void;
  onStart?: () => void;
  livez: 'yes' | 'hangs';
  answer: (request: Request) => Promise<Response>;
}

/** A process that does what a test says. */
function createPlayed(): Played & { start(env: Record<string, string>): Process } {
  let end = Promise.withResolvers<string | undefined>();
  const self: ReturnType<typeof createPlayed> = {
    livez: 'yes',
    answer: async () => Response.json({}),
    kill: (reason) => end.resolve(reason),
    start: () => {
      end = Promise.withResolvers();
      self.onStart?.();
      return {
        ended: end.promise,
        signal: () => self.kill(),
        fetch: async (request) => {
          if (!request.url.endsWith('/livez')) return await self.answer(request);
          return self.livez === 'yes' ? Response.json({}) : await new Promise<never>(() => {});
        },
      };
    },
  };
  return self;
}

async function createWorld(bindings: Record<string, string> = {}) {
  const played = createPlayed();
  const world = await startEngineWorld((env) => played.start(env), bindings);
  /** The engine records a job of this status and says 202. */
  const begins = (status: Job['status'] = 'running'): Job => {
    const job = sampleJob({ status });
    played.answer = async () => {
      await world.putJob(job);
      const headers = { location: `/v1/jobs/${job.id}` };
      return Response.json(job, { status: 202, headers });
    };
    return job;
  };
  return { played, world, begins };
}

const stopped = (world: EngineWorld) =>
  world.until('the container to be stopped', () => !world.running && world.count('signal 15') > 0);

describe('the Durable Object in workerd', { concurrency: 2 }, () => {
  test('a job is watched over crashes of container and object until it ends; then the container is stopped', async () => {
    const { played, world, begins } = await createWorld();
    await using _ = world;
    const job = begins();
    const answer = await world.fetch(PATH, POST);
    assert.equal(answer.status, 202);
    assert.equal(answer.headers.get('location'), `/v1/jobs/${job.id}`);
    assert.equal(((await answer.json()) as Job).id, job.id);
    assert.equal(world.envs[0]?.XVAULT_LISTEN, '0.0.0.0:8080');
    assert.equal(world.envs[0]?.ENGINE_STARTS, undefined);
    assert.match(world.envs[0]?.XVAULT_INSTANCE ?? '', /^engine-[0-9a-f]{16}$/);

    played.kill('exit code 137');
    await world.until('a second start', () => world.count('start') === 2);
    // workerd dies with its object, the container meanwhile
    await world.crash();
    played.kill('gone with the host');
    await world.until('a third start', () => world.count('start') === 3);
    await world.crash();
    const before = world.asked.length;
    await world.until('an alarm', () => world.asked.slice(before).includes('/livez'));
    assert.equal(world.count('start'), 3);

    await world.putJob({ ...job, status: 'succeeded' });
    await stopped(world);
    assert.equal(world.count(ASKED), 1);
    const after = await world.fetch('/v1/sweep', POST);
    assert.equal(after.status, 202);
    assert.equal(world.count('start'), 4);
  });

  test('one that answers 202 and dies at once, each time, is given up: the record in the bucket says so', async () => {
    const { played, world, begins } = await createWorld();
    await using _ = world;
    const job = begins('queued');
    const { answer } = played;
    played.answer = async (request) => {
      const said = await answer(request);
      played.kill('out of memory');
      played.onStart = () => played.kill('out of memory');
      return said;
    };
    assert.equal((await world.fetch(PATH, POST)).status, 202);
    await world.until('the last start', () => world.count('start') === 3 && !world.running);
    const ended = await world.see(job.id, ({ status }) => status === 'failed');
    assert.equal(ended.error?.code, 'engine_unavailable');
    assert.match(ended.error.detail, /started 3 times .*out of memory/);
    assert.equal(world.count('start'), 3);
  });

  test('a caller that hangs up takes nothing back: what the engine begins is watched', async () => {
    const { played, world, begins } = await createWorld();
    await using _ = world;
    const job = begins();
    const { answer } = played;
    const release = Promise.withResolvers<void>();
    played.answer = async (request) => {
      await release.promise;
      return await answer(request);
    };
    const caller = new AbortController();
    const asked = world.fetch(PATH, { ...POST, signal: caller.signal });
    await world.until('the request to arrive', () => world.count(ASKED) === 1);
    caller.abort();
    await assert.rejects(asked);
    release.resolve();
    await world.see(job.id, () => true);
    played.kill();
    await world.until('a second start', () => world.count('start') === 2);
    assert.equal(world.count(ASKED), 1);
    await world.putJob({ ...job, status: 'succeeded' });
    await stopped(world);
  });

  test('a start that hangs is a problem, and the request is not handed on', async () => {
    const { played, world } = await createWorld({ ENGINE_START_SECONDS: '0.3' });
    await using _ = world;
    played.livez = 'hangs';
    const late = await world.fetch(PATH, POST);
    assert.equal(late.status, 503);
    assert.equal(late.headers.get('retry-after'), '10');
    assert.match(await late.text(), /does not answer after 0.3 s/);
    assert.equal(world.count(ASKED), 0);
  });

  test('a container that dies over a request is a problem, and the request went on once', async () => {
    const { played, world } = await createWorld();
    await using _ = world;
    played.answer = async () => {
      played.kill('killed');
      throw new Error('connection reset');
    };
    const gone = await world.fetch(PATH, POST);
    assert.equal(gone.status, 503);
    assert.equal(gone.headers.get('content-type'), 'application/problem+json');
    assert.match(await gone.text(), /same Idempotency-Key/);
    assert.equal(world.count(ASKED), 1);
  });

  test('an object with wrong settings says so, and starts nothing', async () => {
    const { world } = await createWorld({ XVAULT_STATE_BUCKET: 'state' });
    await using _ = world;
    const answer = await world.fetch(PATH, POST);
    assert.equal(answer.status, 500);
    assert.match(await answer.text(), /STATE_BUCKET: is no binding/);
    assert.equal(world.count('start'), 0);
  });
});
