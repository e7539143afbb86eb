/** What only Redis can do to a queue: hold half of a job, be reached by TLS and a password, take keys away. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { serve, ticket, until } from '../../test/conformance/job-queue.ts';
import { createTestLog, silentMeter } from '../../test/e2e/world.ts';
import { type RedisWish, redisMissing, startRedis } from '../../test/servers/redis.ts';
import { createCertificate } from '../../test/sim/xapi/certificate.ts';
import { systemClock } from '../clock.ts';
import type { Meter } from '../ports.ts';
import { createSecret } from '../secret.ts';
import { createRedisQueue } from './redis.ts';

const skip = redisMissing();

interface OpenWish {
  wish?: RedisWish | undefined;
  /** Of the address: the database. */
  path?: string;
  meter?: Meter;
}

async function open(t: TestContext, { wish, path = '', meter = silentMeter }: OpenWish) {
  const redis = await startRedis(wish);
  const log = createTestLog();
  const queue = createRedisQueue(
    { clock: systemClock, log, meter },
    {
      url: createSecret(`${redis.url}${path}`),
      name: 'n',
      instance: 'one',
      pools: ['p'],
      limits: { total: 4, perPool: 4, perSr: 4, waiting: 9 },
      lockMs: 1500,
    },
  );
  t.after(async () => {
    await queue.close();
    await redis[Symbol.asyncDispose]();
  });
  return { redis, queue, log };
}

async function setUp(t: TestContext, wish?: RedisWish) {
  const { redis, queue, log } = await open(t, { wish });
  await until(
    'the connection',
    () => queue.problem === undefined,
    () => log.lines,
  );
  return { redis, queue, log };
}

test('a job of which Redis forgot all but the id is thrown out, and may be added anew', {
  skip,
}, async (t) => {
  const { redis, queue, log } = await setUp(t);
  for (const id of ['evicted', 'whole']) assert.equal(await queue.add(ticket(id, 'p')), true);
  const [key] = await redis.client.keys('*:evicted');
  assert.equal(await redis.client.del(key ?? ''), 1);
  const turns = serve(queue);
  await until(
    'the turn of the other',
    () => turns.now.has('whole'),
    () => log.lines,
  );
  assert.equal((await queue.ids())?.has('evicted'), false);
  assert.equal(queue.problem, undefined);
  assert.equal(log.lines.filter((line) => line.includes('is away')).length, 0);
  await queue.add(ticket('evicted', 'p'));
  await until('its turn', () => turns.now.has('evicted'));
  for (const id of ['evicted', 'whole']) turns.end(id);
  await queue.idle();
});

test('a Redis that takes keys away when it is full is warned of at the start', {
  skip,
}, async (t) => {
  const { log } = await setUp(t, { settings: { 'maxmemory-policy': 'allkeys-lru' } });
  await until('the warning', () => log.lines.some((line) => /evicts keys.*lru/.test(line)));
});

test('a database that this Redis does not have is not taken for another one', {
  skip,
}, async (t) => {
  const seen: number[] = [];
  const observe: Meter['observe'] = (name, value) => void (name === 'queue_up' && seen.push(value));
  const meter = { ...silentMeter, observe };
  const { redis, queue, log } = await open(t, {
    wish: { settings: { databases: '2' } },
    path: '/2',
    meter,
  });
  const isTold = () => log.lines.some((line) => line.includes('DB index is out of range'));
  await until('the refusal', isTold);
  seen.length = 0;
  await until('some more rounds', () => seen.length >= 3);
  assert.deepEqual(new Set(seen), new Set([0]));
  assert.match(queue.problem ?? '', /out of range/);
  assert.deepEqual(await redis.client.keys('*'), []);
});

/** What doctor says, in a process of its own: CAs are read once, when it starts. */
const LOOK = `
const { checkQueue } = await import(process.env.DOCTOR);
const { createSecret } = await import(process.env.SECRET);
const options = { signal: new AbortController().signal };
for (const url of JSON.parse(process.env.URLS)) {
  const report = ({ state, text, mend }) => console.log(state + ': ' + text + ' → ' + mend);
  await checkQueue({ url: createSecret(url), name: 'n' }, report, options);
}`;

async function askDoctor(urls: string[], env: Record<string, string> = {}): Promise<string[]> {
  const modules = {
    DOCTOR: new URL('../commands/doctor-queue.ts', import.meta.url).href,
    SECRET: new URL('../secret.ts', import.meta.url).href,
  };
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '-e', LOOK],
    { env: { ...modules, ...env, URLS: JSON.stringify(urls) } },
  );
  assert.equal(`${stdout}${stderr}`.includes('s3cret'), false);
  return stdout.trim().split('\n');
}

test('TLS and a password lead to the queue, and doctor says which of them is wrong', {
  skip,
}, async () => {
  const tls = createCertificate({ address: '127.0.0.1', serial: 1, nowMs: systemClock.now() });
  await using redis = await startRedis({ tls, password: 's3cret' });
  const folder = await mkdtemp(join(tmpdir(), 'xvault-ca-'));
  const ca = join(folder, 'ca.pem');
  writeFileSync(ca, tls.certPem);
  const wrong = redis.url.replace('s3cret', 'wr0ng');
  const trusted = { NODE_EXTRA_CA_CERTS: ca };
  const [right, refused] = await askDoctor([redis.url, wrong], trusted);
  await rm(folder, { recursive: true });
  assert.match(right ?? '', /^ok: Redis \d+\.\S+ answers/);
  assert.match(refused ?? '', /^fail: not reached: WRONGPASS/);
  const [stranger] = await askDoctor([redis.url]);
  assert.match(stranger ?? '', /^fail: not reached: self-signed certificate.*EXTRA_CA_CERTS/);
});

test('doctor tells of a Redis that answers and takes nothing: a full one, a replica', {
  skip,
}, async () => {
  await using redis = await startRedis();
  const { client, url } = redis;
  const [right] = await askDoctor([url]);
  assert.match(right ?? '', /^ok: Redis \d+\.\S+ answers/);
  await client.config('SET', 'maxmemory', '1');
  const [full] = await askDoctor([url]);
  await client.config('SET', 'maxmemory', '0');
  await client.replicaof('127.0.0.1', 1);
  const [replica] = await askDoctor([url]);
  assert.match(full ?? '', /^fail: .*cannot be written to: OOM .*maxmemory.* → .*none begins/);
  assert.match(replica ?? '', /^fail: .*cannot be written to: READONLY .* → .*replica/);
});
