import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleJob } from '../../test/records.ts';
import { jobView } from '../http/views.ts';
import type { Clock } from '../ports.ts';
import { createSecret } from '../secret.ts';
import { createHttpClient } from './http-client.ts';

interface Sent {
  method: string;
  url: string;
  headers: Headers;
  body: unknown;
}

/** A service that answers by script; waits end at once. */
function scripted(answers: (() => Response)[]) {
  const sent: Sent[] = [];
  const waits: number[] = [];
  const clock: Clock = {
    now: () => 0,
    elapsed: () => 0,
    sleep: (ms) => {
      waits.push(ms);
      return Promise.resolve();
    },
  };
  const send: typeof fetch = (url, init) => {
    const body = typeof init?.body === 'string' ? JSON.parse(init.body) : undefined;
    const headers = new Headers(init?.headers);
    sent.push({ method: init?.method ?? 'GET', url: String(url), headers, body });
    const answer = answers.shift();
    return answer === undefined
      ? Promise.reject(new TypeError('fetch failed', { cause: new Error('ECONNREFUSED') }))
      : Promise.resolve().then(answer);
  };
  const settings = { url: 'http://svc:1/base', token: createSecret('t0ken') };
  return { client: createHttpClient(settings, { fetch: send, clock }), sent, waits };
}

const away = () => {
  throw new TypeError('fetch failed', { cause: new Error('ECONNRESET') });
};
const signal = new AbortController().signal;
const started = jobView(sampleJob());

test('an index job is started by the id of its backup', async () => {
  const { client, sent } = scripted([() => Response.json(started, { status: 202 })]);
  await client.startIndex({ backupId: 'b/1' }, { signal });
  assert.equal(sent[0]?.url, 'http://svc:1/base/v1/backups/b%2F1/index');
  assert.deepEqual([sent[0]?.method, sent[0]?.body], ['POST', {}]);
  assert.ok(sent[0]?.headers.get('idempotency-key'));
});

test('pins are started and taken back by the id of their backup', async () => {
  const { client, sent } = scripted([
    () => Response.json(started, { status: 202 }),
    () => Response.json({ backup_id: 'b', outcome: 'kept' }),
  ]);
  await client.startPin({ backupId: 'b', wish: { reason: 'audit' } }, { signal });
  assert.equal((await client.unpin({ backupId: 'b' }, { signal })).outcome, 'kept');
  assert.deepEqual(
    sent.map(({ method, url, body }) => [method, url, body]),
    [
      ['POST', 'http://svc:1/base/v1/backups/b/pin', { reason: 'audit' }],
      ['DELETE', 'http://svc:1/base/v1/backups/b/pin', undefined],
    ],
  );
});

test('verifications and restore tests are started by the id of their backup', async () => {
  const answers = Array.from({ length: 3 }, () => () => Response.json(started, { status: 202 }));
  const { client, sent } = scripted(answers);
  await client.startVerify({ backupId: 'b', percent: 100 }, { signal });
  await client.startVerify({ backupId: 'b', percent: 2.5 }, { signal });
  await client.startRestoreTest({ backupId: 'b', wish: { sr: 'NFS' } }, { signal });
  assert.deepEqual(
    sent.map(({ url, body }) => [url, body]),
    [
      ['http://svc:1/base/v1/backups/b/verify', {}],
      ['http://svc:1/base/v1/backups/b/verify?percent=2.5', {}],
      ['http://svc:1/base/v1/backups/b/restore-test', { sr: 'NFS' }],
    ],
  );
});

test('a start is sent again with the same key when the answer was lost', async () => {
  const { client, sent } = scripted([away, () => Response.json(started, { status: 202 })]);
  const wishes = { retention: 'weekly' };
  const job = await client.startBackup({ vm: 'büro/1', wishes }, { signal });
  assert.equal(job.id, started.id);
  assert.equal(sent.length, 2);
  assert.equal(sent[0]?.url, 'http://svc:1/base/v1/vms/b%C3%BCro%2F1/backups');
  assert.deepEqual(sent[0]?.body, wishes);
  assert.equal(sent[0]?.headers.get('authorization'), 'Bearer t0ken');
  const keys = sent.map(({ headers }) => headers.get('idempotency-key'));
  assert.ok(keys[0]);
  assert.equal(keys[0], keys[1]);
});

test('a problem becomes the error it was there', async () => {
  const problem = { code: 'vm_ambiguous', detail: 'two of them', details: { candidates: [1] } };
  const { client } = scripted([() => Response.json(problem, { status: 422 })]);
  await assert.rejects(client.startBackup({ vm: 'twin', wishes: {} }, { signal }), {
    name: 'BackupError',
    code: 'vm_ambiguous',
    message: 'two of them',
    details: { candidates: [1] },
  });
});

test('an answer that is none of ours is service_unavailable or invalid_request', async () => {
  const page = (status: number) => () => new Response('<html>', { status });
  const list = (status: number) => {
    const { client } = scripted([page(status)]);
    return client.listJobs({ pageSize: 1 }, { signal });
  };
  await assert.rejects(list(502), { code: 'service_unavailable' });
  await assert.rejects(list(404), { code: 'invalid_request' });
});

test('a service that is not there is service_unavailable with the reason', async () => {
  const { client } = scripted([]);
  await assert.rejects(client.listBackups({ pageSize: 5 }, { signal }), (error: Error) => {
    assert.match(String((error.cause as Error).message), /ECONNREFUSED/);
    return 'code' in error && error.code === 'service_unavailable';
  });
});

test('watching yields each change once, asks with the entity tag and survives a restart', async () => {
  const running = jobView(sampleJob({ status: 'running' }));
  const done = { ...running, status: 'succeeded', finished_at: '2026-01-05T01:00:09.000Z' };
  const tagged = (job: unknown, etag: string) => () => Response.json(job, { headers: { etag } });
  const { client, sent, waits } = scripted([
    tagged(running, 'W/"1"'),
    () => new Response(null, { status: 304 }),
    away,
    tagged(done, 'W/"2"'),
  ]);
  const seen: string[] = [];
  for await (const job of client.watchJob('j', { signal })) seen.push(job.status);
  assert.deepEqual(seen, ['running', 'succeeded']);
  assert.deepEqual(
    sent.map(({ headers }) => headers.get('if-none-match')),
    [null, 'W/"1"', 'W/"1"', 'W/"1"'],
  );
  assert.deepEqual(waits, [1000, 1000, 5000]);
});

test('an aborted call rejects with the signal’s reason', async () => {
  const stop = AbortSignal.abort(new Error('enough'));
  const { client } = scripted([away]);
  await assert.rejects(client.listJobs({ pageSize: 1 }, { signal: stop }), /enough/);
});
