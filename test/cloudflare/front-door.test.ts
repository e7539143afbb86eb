/** The Worker in workerd over a bucket that a process of Node filled: what it answers itself, and what it hands on. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { R2Bucket } from '@cloudflare/workers-types';
import { createKeys } from '../../src/catalog/keys.ts';
import { createRunStore } from '../../src/catalog/run-store.ts';
import { systemClock } from '../../src/clock.ts';
import { createR2Store } from '../../src/cloudflare/r2-store.ts';
import { isBackupError } from '../../src/errors.ts';
import { exampleRun } from '../../src/http/run-answers.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { nextId, sampleBackup, sampleJob } from '../records.ts';
import { type FrontWorld, READ_TOKEN, SECRET, startFrontWorld, TOKEN } from './front-world.ts';

const options = { signal: NEVER };
const keys = createKeys('xv');
const BEARER = { authorization: `Bearer ${TOKEN}` };
const JSON_TYPE = { 'content-type': 'application/json' };
const HOUR_MS = 3_600_000;
const MACHINES = ['web', 'db', 'mail'];

let world: FrontWorld;
const backups: ReturnType<typeof sampleBackup>[] = [];
const jobs: ReturnType<typeof sampleJob>[] = [];
let runId = '';

before(async () => {
  world = await startFrontWorld();
  const { store } = world;
  for (const [at, name] of MACHINES.entries()) {
    const vm = { uuid: `9f0f4b1e-7a43-4b5c-9d11-00000000000${at}`, name, pool: 'dc1' };
    // hours ago: what is told of it does not change with the second
    const created_at = new Date(Date.now() - 5.5 * HOUR_MS).toISOString();
    const backup = sampleBackup({ vm, created_at });
    const parts = { retention: 'daily', pool: 'dc1', vmUuid: vm.uuid, backupId: backup.id };
    const archive = keys.archive(parts, name);
    await store.put(archive, `archive of ${name}`, options);
    const kept = { ...backup, archive: { ...backup.archive, key: archive } };
    await store.put(keys.record(parts), JSON.stringify(kept), options);
    backups.push(kept);
    const job = sampleJob({ vm, status: 'succeeded', finished_at: '2026-01-05T01:00:09.000Z' });
    await store.put(keys.job(job.id), JSON.stringify(job), options);
    jobs.push(job);
  }
  const runs = createRunStore({ store, keys, clock: systemClock });
  const run = { ...exampleRun(), id: nextId() };
  await runs.create(run, options);
  runId = run.id;
});
after(async () => await world.close());

test('reads are what a process of Node answers over the same bucket; they wake no engine and write nothing', async () => {
  const { front, node, asked } = world;
  asked.length = 0;
  const stored = await objects();
  const id = backups[0]?.id ?? '';
  const paths = [
    '/v1/jobs',
    '/v1/jobs?page_size=2',
    '/v1/jobs?status=failed',
    '/v1/jobs?vm=db',
    `/v1/jobs/${jobs[0]?.id}`,
    '/v1/jobs/01988a52-0000-7000-8000-00000000dead',
    '/v1/runs',
    `/v1/runs/${runId}`,
    '/v1/backups',
    '/v1/backups?page_size=1',
    '/v1/backups?vm=mail&pool=dc1',
    '/v1/vms/web/backups',
    '/v1/vms/nobody/backups',
    `/v1/backups/${id}`,
    '/v1/status',
    '/v1/status?format=nagios',
    '/v1/status?pool=dc1&max_age=1h',
    '/v1/status?pool=elsewhere',
    '/v1/rotation',
    '/openapi.json',
    '/docs',
    '/livez',
    '/readyz',
    '/metrics',
    '/nothing',
    '/v1/jobs?no_such=1',
    '/login',
    '/',
    '/runs',
    `/runs/${runId}`,
    `/jobs/${jobs[0]?.id}`,
    `/vms/dc1/${backups[0]?.vm.uuid}`,
  ];
  for (const path of paths) {
    for (const accept of ['application/json', 'text/plain', 'text/html']) {
      const headers = { ...BEARER, accept, 'request-id': 'r-1' };
      const [here, there] = await Promise.all([front(path, { headers }), node(path, { headers })]);
      const where = `${path} as ${accept}`;
      assert.equal(here.status, there.status, where);
      assert.equal(here.headers.get('content-type'), there.headers.get('content-type'), where);
      assert.equal(timeless(await here.text()), timeless(await there.text()), where);
    }
  }
  const tag = (await front(`/v1/jobs/${jobs[0]?.id}`, { headers: BEARER })).headers.get('etag');
  const again = { ...BEARER, 'if-none-match': tag ?? '' };
  assert.equal((await front(`/v1/jobs/${jobs[0]?.id}`, { headers: again })).status, 304);
  assert.equal((await front('/v1/jobs')).status, 401);
  assert.equal(asked.length, 0);
  assert.deepEqual(await objects(), stored);
});

/** Everything in the bucket, with its tag. */
async function objects(): Promise<string[]> {
  const { objects: found, next } = await world.store.list({ prefix: '' }, options);
  assert.equal(next, undefined);
  return found.map(({ key, etag }) => `${key} ${etag}`);
}

/** Ages, times of the answer and what is drawn from them differ by the moment. */
function timeless(text: string): string {
  return text
    .replaceAll(/"(checked_at|from|age_seconds|computed_at)":("[^"]*"|\d+)/g, '"$1":0')
    .replaceAll(/=\d+s;/g, '=0s;')
    .replaceAll(/\d\S* ago/g, 'a while ago')
    .replaceAll(/"endpoint":"[^"]*"/g, '')
    .replaceAll(/\d\d:\d\d:\d\d(\.\d+)?Z?/g, '00:00:00');
}

test('a browser signs in here and looks around, and wakes no engine', async () => {
  const { front, asked } = world;
  asked.length = 0;
  const form = {
    'content-type': 'application/x-www-form-urlencoded',
    'sec-fetch-site': 'same-origin',
  };
  const enter = (token: string) =>
    front('/login', {
      method: 'POST',
      redirect: 'manual',
      headers: form,
      body: new URLSearchParams({ token, to: '/' }).toString(),
    });
  assert.equal((await enter('nobody-s')).status, 401);
  const entered = await enter(READ_TOKEN);
  assert.equal(entered.status, 303);
  const cookie = entered.headers.get('set-cookie')?.split(';')[0] ?? '';
  const page = await front('/', { headers: { cookie, accept: 'text/html' } });
  assert.equal(page.status, 200);
  assert.match(await page.text(), /No pool is asked for this page/);
  assert.equal((await front('/v1/jobs', { headers: { cookie } })).status, 401);
  assert.equal(asked.length, 0);
});

test('a link to an archive is good without credentials', async () => {
  const { front, asked } = world;
  const path = `/v1/backups/${backups[1]?.id}/xva`;
  const answer = await front(path, { headers: BEARER, redirect: 'manual' });
  assert.equal(answer.status, 307);
  const link = new URL(answer.headers.get('location') ?? '');
  assert.equal(await (await fetch(link)).text(), 'archive of db');
  const name = link.searchParams.get('response-content-disposition') ?? '';
  assert.match(name, /^attachment; filename="db\.xva"/);
  link.searchParams.set('X-Amz-Signature', '0'.repeat(64));
  assert.equal((await fetch(link)).status, 403);
  assert.equal(asked.length, 0);
});

test('what changes something reaches its engine byte for byte, and only with the right', async () => {
  const { front, asked } = world;
  asked.length = 0;
  const body = Buffer.from('{ "note": "caf\xe9" }', 'latin1');
  const post = (headers: Record<string, string>) =>
    front('/v1/vms/Web/backups', { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body });
  assert.equal((await post({})).status, 401);
  assert.equal((await post({ authorization: 'Bearer wrong' })).status, 401);
  assert.equal((await post({ authorization: `Bearer ${READ_TOKEN}` })).status, 403);
  const bad = await front('/v1/runs', {
    method: 'POST',
    headers: { ...BEARER, ...JSON_TYPE },
    body: '{"select":{}}',
  });
  assert.equal(bad.status, 422);
  assert.equal(asked.length, 0);
  const good = await post({ ...BEARER, 'idempotency-key': 'k-1', prefer: 'wait=1' });
  assert.equal(good.status, 202);
  // the engine's answer, with our own headers where it has none
  assert.equal(good.headers.get('x-engine'), 'said so');
  assert.equal(good.headers.get('cache-control'), 'no-store');
  assert.equal(await good.text(), '{}');
  const [{ engine, headers, body: passed, method, path }] = asked as [(typeof asked)[0]];
  assert.deepEqual([engine, method, path], ['vm:/web', 'POST', '/v1/vms/Web/backups']);
  assert.deepEqual(passed, body);
  for (const [name, value] of Object.entries({ ...BEARER, 'idempotency-key': 'k-1' })) {
    assert.equal(headers[name], value);
  }
  const id = backups[0]?.id;
  const engines = async (verb: string, at: string, text?: string) => {
    asked.length = 0;
    const more = text === undefined ? {} : { body: text };
    const init = { method: verb, headers: { ...BEARER, ...JSON_TYPE }, ...more };
    assert.equal((await front(at, init)).status, 202, at);
    return asked.map((one) => one.engine);
  };
  assert.deepEqual(await engines('POST', '/v1/runs', '{"select":{"all":true}}'), ['run:all']);
  assert.deepEqual(await engines('DELETE', `/v1/backups/${id}/pin`), [`backup:${id}`]);
  assert.deepEqual(await engines('GET', `/v1/backups/${id}/disks/0`), [`backup:${id}`]);
  assert.deepEqual(await engines('GET', '/v1/vms'), ['engine']);
});

test('deliveries are checked here: a wrong signature wakes nobody, a right one goes on', async () => {
  const { front, asked } = world;
  asked.length = 0;
  const body = JSON.stringify({
    action: 'xvault-backup',
    client_payload: { vm: 'web', pool: 'dc1' },
  });
  const send = (secret: string) => {
    const hex = createHmac('sha256', secret).update(body).digest('hex');
    const headers = {
      ...JSON_TYPE,
      'x-github-event': 'repository_dispatch',
      'x-github-delivery': 'd-1',
      'x-hub-signature-256': `sha256=${hex}`,
    };
    return front('/hooks/github', { method: 'POST', headers, body });
  };
  assert.equal((await send('another secret of theirs')).status, 401);
  assert.equal(asked.length, 0);
  assert.equal((await send(SECRET)).status, 202);
  assert.deepEqual(
    asked.map(({ engine, body: passed }) => [engine, passed.toString()]),
    [['vm:dc1/web', body]],
  );
  const off = await front('/hooks/standard', { method: 'POST', headers: JSON_TYPE, body: '{}' });
  assert.equal(off.status, 404);
});

test('a cron trigger posts the run of the settings once for its time, and throws what went wrong', async () => {
  const { miniflare, asked } = world;
  asked.length = 0;
  const worker = await miniflare.getWorker();
  const scheduledTime = new Date('2026-11-24T01:00:00Z');
  const fired = await worker.scheduled({ scheduledTime, cron: '0 1 * * *' });
  assert.equal(fired.outcome, 'ok');
  assert.equal(asked[0]?.engine, 'run:all');
  assert.equal(asked[0]?.body.toString(), '{"select":{"all":true}}');
  assert.equal(asked[0]?.headers['idempotency-key'], 'cron-2026-11-24T01:00:00.000Z');
  assert.equal(asked[0]?.headers.authorization, BEARER.authorization);
  world.refuse = true;
  const failed = await worker.scheduled({ scheduledTime, cron: '0 1 * * *' });
  assert.notEqual(failed.outcome, 'ok');
  // one that cannot be had yet is asked again, with the same key
  world.refuse = '0';
  asked.length = 0;
  world.onAsked = () => {
    if (asked.length === 3) world.refuse = false;
  };
  const late = await worker.scheduled({ scheduledTime, cron: '0 1 * * *' });
  world.onAsked = () => {};
  assert.equal(late.outcome, 'ok');
  assert.equal(asked.length, 4);
  assert.equal(new Set(asked.map(({ headers }) => headers['idempotency-key'])).size, 1);
});

test('the binding is the bucket of S3: the same bytes, tags, times and pages', async () => {
  const { store: s3, miniflare } = world;
  const bucket = (await miniflare.getR2Bucket('BUCKET')) as unknown as R2Bucket;
  const r2 = createR2Store({ bucket }, { name: 'xvault' });
  const key = 'xv/trial/a';
  await s3.put(key, 'hello world', { ...options, contentType: 'text/plain' });
  const both = async <T>(ask: (store: ObjectStore) => Promise<T>) =>
    assert.deepEqual(await ask(r2), await ask(s3));
  await both(async (store) => {
    const { lastModified, ...head } = (await store.head(key, options)) ?? { lastModified: 0 };
    // the S3 endpoint tells seconds
    return { ...head, at: Math.floor(lastModified / 1000) };
  });
  for (const range of [undefined, { offset: 6, length: 5 }, { offset: 6, length: 500 }]) {
    await both(async (store) => {
      const got = await store.get(key, { ...options, ...(range && { range }) });
      return [Buffer.from(got?.bytes ?? []).toString(), got?.etag];
    });
  }
  await both((store) => store.get('xv/trial/none', options));
  await both((store) => store.head('xv/trial/none', options));
  for (let at = 0; at < 7; at++) await s3.put(`xv/trial/f${at % 3}/${at}`, 'x', options);
  for (const delimiter of [undefined, '/']) {
    await both(async (store) => {
      const pages: unknown[] = [];
      let startAfter: string | undefined;
      do {
        const page = await store.list(
          {
            prefix: 'xv/trial/',
            limit: 2,
            ...(startAfter && { startAfter }),
            ...(delimiter && { delimiter }),
          },
          options,
        );
        pages.push([page.objects.map((o) => [o.key, o.sizeBytes, o.etag]), page.prefixes]);
        startAfter = page.next;
      } while (startAfter !== undefined);
      return pages;
    });
  }
  const lost = (error: unknown) => isBackupError(error, 'precondition_failed');
  const absent = { ...options, ifAbsent: true };
  const { etag } = await r2.put('xv/trial/lease', 'one', absent);
  await assert.rejects(r2.put('xv/trial/lease', 'two', absent), lost);
  const second = await r2.put('xv/trial/lease', 'two', { ...options, ifMatch: etag });
  await assert.rejects(r2.put('xv/trial/lease', 'three', { ...options, ifMatch: etag }), lost);
  await assert.rejects(r2.put('xv/trial/gone', 'x', { ...options, ifMatch: etag }), lost);
  await assert.rejects(r2.delete('xv/trial/lease', { ...options, ifMatch: etag }), lost);
  assert.equal((await s3.head('xv/trial/lease', options))?.etag, second.etag);
  await r2.delete('xv/trial/lease', { ...options, ifMatch: second.etag });
  await r2.delete('xv/trial/lease', options);
  assert.equal(await r2.head('xv/trial/lease', options), undefined);
  const upload = { key, contentType: 'x', stagingPrefix: 'xv/staging/' };
  await assert.rejects(r2.beginUpload(upload, options), (error) =>
    isBackupError(error, 'store_refused'),
  );
  await assert.rejects(r2.lifecycle(options), (error) => isBackupError(error, 'store_refused'));
  const away = AbortSignal.abort(new Error('away'));
  await assert.rejects(r2.get(key, { signal: away }), /away/);
  assert.throws(() => r2.get('../x', options), { name: 'AssertionError' });
});

test('jobs are read from the state bucket where there is one, backups from the other', async () => {
  const { front, miniflare, restart } = world;
  await restart({ XVAULT_STATE_BUCKET: 'state' });
  const state = (await miniflare.getR2Bucket('STATE_BUCKET')) as unknown as R2Bucket;
  const job = sampleJob({ status: 'succeeded' });
  await state.put(keys.job(job.id), JSON.stringify(job));
  const read = async (path: string) =>
    (await (await front(path, { headers: BEARER })).json()) as Record<string, { id: string }[]>;
  assert.deepEqual(
    (await read('/v1/jobs')).jobs?.map(({ id }) => id),
    [job.id],
  );
  assert.equal((await read('/v1/backups')).backups?.length, MACHINES.length);
});

test('a Worker with wrong settings says to everybody what they are, and to its log once', async () => {
  const { front, lines, restart } = world;
  await restart({ XVAULT_BUCKET: '', AWS_ACCESS_KEY_ID: '', XVAULT_POOLS_FILE: '/etc/pools.json' });
  lines.length = 0;
  for (const path of ['/v1/jobs', '/livez']) {
    const answer = await front(path, { headers: BEARER });
    assert.equal(answer.status, 500);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    const { code, detail } = (await answer.json()) as { code: string; detail: string };
    assert.equal(code, 'configuration');
    for (const name of ['XVAULT_BUCKET', 'AWS_ACCESS_KEY_ID', 'XVAULT_POOLS_FILE']) {
      assert.match(detail, new RegExp(name));
    }
  }
  assert.equal(lines.filter((line) => line.includes('settings are wrong')).length, 1);
});
