import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob } from '../../test/http/records.ts';
import { BackupError } from '../errors.ts';

const START = '/v1/vms/web-1/backups';

test('a repeated start gives the first status, place and body, and starts nothing', async () => {
  const { post, service } = createHarness();
  const first = await post(START, { note: 'a' }, { 'idempotency-key': '"8e03978e-40d5"' });
  assert.equal(first.headers.get('idempotency-replayed'), null);
  const repeat = await post(START, { note: 'a' }, { 'idempotency-key': '8e03978e-40d5' });
  assert.equal(repeat.status, 202);
  assert.equal(repeat.headers.get('idempotency-replayed'), 'true');
  assert.equal(repeat.headers.get('location'), first.headers.get('location'));
  assert.equal(repeat.headers.get('retry-after'), first.headers.get('retry-after'));
  assert.equal(await repeat.text(), await first.text());
  assert.equal(service.calls.get('startBackup')?.length, 1);

  const other = await post(START, { note: 'b' }, { 'idempotency-key': '8e03978e-40d5' });
  assert.equal(other.status, 422);
  assert.equal(((await other.json()) as { code: string }).code, 'idempotency_mismatch');
});

test('a repeat may wait for the job of the first request', async () => {
  const { post, service } = createHarness();
  const headers = { 'idempotency-key': 'k' };
  await post(START, {}, headers);
  for (const id of [...service.jobs.keys()]) service.change(id, endedJob());
  const repeat = await post(START, {}, { ...headers, prefer: 'wait=20' });
  assert.equal(repeat.status, 200);
  assert.equal(repeat.headers.get('idempotency-replayed'), 'true');
  assert.equal(service.calls.get('startBackup')?.length, 1);
});

test('a lasting refusal is remembered, one that may pass is not', async () => {
  const { post, service } = createHarness();
  const lasting = { 'idempotency-key': 'lasting' };
  service.failures.set('startBackup', new BackupError('not_found', 'find vm, vm=web-1'));
  assert.equal((await post(START, {}, lasting)).status, 404);
  const passing = ['limit_reached', 'draining', 'pool_unavailable', 'job_conflict', 'internal'];
  for (const code of passing as ('draining' | 'internal')[]) {
    service.failures.set('startBackup', new BackupError(code, 'start backup'));
    assert.ok((await post(START, {}, { 'idempotency-key': code })).status >= 409);
  }
  service.failures.clear();
  const repeat = await post(START, {}, lasting);
  assert.equal(repeat.status, 404);
  assert.equal(repeat.headers.get('content-type'), 'application/problem+json');
  assert.equal(repeat.headers.get('idempotency-replayed'), 'true');
  for (const code of passing) {
    assert.equal((await post(START, {}, { 'idempotency-key': code })).status, 202, code);
  }
});

/** Makes the first read of the bucket wait: `reached` when it does, `open` to let it go on. */
function gateReads(store: ReturnType<typeof createHarness>['store']) {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const get = store.get;
  store.get = async (key, options) => {
    reached.resolve();
    await gate.promise;
    return await get(key, options);
  };
  return { reached: reached.promise, open: gate.resolve };
}

test('a repeat while the first is worked on is 409 and told when to come again', async () => {
  const { post, store } = createHarness();
  const reads = gateReads(store);
  const headers = { 'idempotency-key': 'k' };
  const first = post(START, {}, headers);
  await reads.reached;
  const repeat = await post(START, {}, headers);
  assert.equal(repeat.status, 409);
  assert.equal(repeat.headers.get('retry-after'), '1');
  assert.equal(((await repeat.json()) as { code: string }).code, 'idempotency_in_flight');
  reads.open();
  assert.equal((await first).status, 202);
});

test('a key that is empty, too long or not plain is refused', async () => {
  const { post } = createHarness();
  for (const key of ['""', 'x'.repeat(256), `"${'x'.repeat(256)}"`, '"ü"', 'a\tb']) {
    const response = await post(START, {}, { 'idempotency-key': key });
    assert.equal(response.status, 400, key);
  }
  assert.equal((await post(START, {}, { 'idempotency-key': 'x'.repeat(255) })).status, 202);
});

test('a wrong body takes no key', async () => {
  const { post } = createHarness();
  const headers = { 'idempotency-key': 'k' };
  assert.equal((await post(START, { mode: 'fast' }, headers)).status, 422);
  assert.equal((await post(START, { mode: 'full' }, headers)).status, 202);
});

test('a caller who hangs up has still started his backup', async () => {
  const { app, post, service, store } = createHarness();
  const reads = gateReads(store);
  const leaving = new AbortController();
  const headers = {
    authorization: 'Bearer all-token',
    'content-type': 'application/json',
    'idempotency-key': 'k',
  };
  const init = { method: 'POST', headers, body: '{}', signal: leaving.signal };
  const first = app.request(START, init);
  await reads.reached;
  leaving.abort();
  reads.open();
  await first;
  assert.equal(service.calls.get('startBackup')?.length, 1);
  assert.equal((await post(START, {}, headers)).headers.get('idempotency-replayed'), 'true');
});
