import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { ALL, createHarness } from '../../test/http/harness.ts';
import { exampleBackup, exampleJob } from '../../test/http/records.ts';
import { createSecret } from '../secret.ts';
import type { Elsewhere } from './elsewhere.ts';
import { ROUTES } from './routes/index.ts';

const ID = '01988a52-0000-7000-8000-000000000001';
const SECRET = 'a secret of sixteen characters';
const SENDERS = {
  github: { secrets: [createSecret(SECRET)], vms: ['web-*'] },
  slack: {
    secrets: [createSecret(SECRET)],
    vms: ['*'],
    users: { U1: ['run', 'status'] as const },
  },
};
const JSON_TYPE = { 'content-type': 'application/json' };

function createFront() {
  const asked: Elsewhere[] = [];
  const elsewhere = async (one: Elsewhere) => {
    asked.push(one);
    return Response.json({ from: 'engine' }, { status: 202, headers: { location: '/v1/jobs/1' } });
  };
  const harness = createHarness({ senders: SENDERS }, undefined, { elsewhere });
  return { ...harness, asked };
}

function githubHeaders(body: string, event = 'repository_dispatch') {
  const hex = createHmac('sha256', SECRET).update(body).digest('hex');
  const id = { 'x-github-event': event, 'x-github-delivery': 'd-1' };
  return { ...JSON_TYPE, ...id, 'x-hub-signature-256': `sha256=${hex}` };
}

test('what changes something goes on as it came, and nothing of it is remembered here', async () => {
  const { app, asked, store } = createFront();
  // no UTF-8: a text would have lost it
  const body = Buffer.from('{ "note" : "caf\xe9" }', 'latin1');
  const headers = { authorization: 'Bearer all-token', 'idempotency-key': 'k-1', ...JSON_TYPE };
  const answer = await app.request('/v1/vms/web-1/backups?x', { method: 'POST', headers, body });
  assert.equal(answer.status, 422, 'a query there is none of is refused here');
  const good = await app.request('/v1/vms/web-1/backups', { method: 'POST', headers, body });
  assert.equal(good.status, 202);
  assert.deepEqual(await good.json(), { from: 'engine' });
  assert.equal(good.headers.get('content-type'), 'application/json');
  assert.match(good.headers.get('request-id') ?? '', /./);
  assert.equal(good.headers.get('cache-control'), 'no-store');
  assert.equal(good.headers.get('location'), '/v1/jobs/1');
  assert.equal(asked.length, 1);
  const [{ wanted, request: passed, path, identity }] = asked as [Elsewhere];
  assert.equal(path, '/v1/vms/{vm}/backups');
  assert.equal(identity?.name, 'nightly');
  assert.equal(wanted.method, 'startBackup');
  assert.equal((wanted.input as { vm: string }).vm, 'web-1');
  assert.equal(passed.method, 'POST');
  assert.equal(new URL(passed.url).pathname, '/v1/vms/web-1/backups');
  for (const [name, value] of Object.entries(headers))
    assert.equal(passed.headers.get(name), value);
  assert.match(passed.headers.get('request-id') ?? '', /./);
  assert.deepEqual(Buffer.from(await passed.arrayBuffer()), body);
  assert.deepEqual(
    (await store.list({ prefix: '' }, { signal: new AbortController().signal })).objects,
    [],
  );
});

test('nobody reaches the engine without a token, with one that lacks the scope, or with a wrong body', async () => {
  const { app, asked } = createFront();
  const changing = ROUTES.filter(
    ({ method, form, sender }) => method !== 'GET' && !form && !sender,
  );
  assert.ok(changing.length > 10);
  for (const { method, path, body } of changing) {
    const at = path.replace('{vm}', 'web-1').replace('{id}', ID);
    const send = (token: string | undefined, text = '{}') =>
      app.request(at, {
        method,
        headers: { ...JSON_TYPE, ...(token && { authorization: `Bearer ${token}` }) },
        ...(method === 'POST' ? { body: text } : {}),
      });
    assert.equal((await send(undefined)).status, 401, path);
    assert.equal((await send('nobody')).status, 401, path);
    assert.equal((await send('read-token')).status, 403, path);
    if (method === 'POST')
      assert.equal((await send('all-token', '{"no_field": 1}')).status, 422, path);
    if (method === 'POST') assert.equal((await send('all-token', '{')).status, 400, path);
    assert.equal(asked.length, 0, path);
    if (body?.safeParse({}).success === false) continue;
    assert.equal((await send('all-token')).status, 202, path);
    assert.equal(asked.splice(0).length, 1, path);
  }
});

test('what the bucket knows is answered here, bytes and machines of the pool are not', async () => {
  const { app, get, request, service, asked } = createFront();
  service.jobs.set(exampleJob().id, exampleJob());
  service.backups.set(ID, exampleBackup());
  // whatever is read that is new is answered here, or named below
  const theirs = ['/v1/vms', '/v1/backups/{id}/disks/{n}'];
  const here = ROUTES.filter(({ method, path }) => method === 'GET' && !theirs.includes(path));
  assert.ok(here.length > 20);
  for (const { path } of here) {
    const id = /^(\/v1)?\/jobs\//.test(path) ? exampleJob().id : ID;
    const at = path.replace('{id}', id).replace('{pool}', 'dc1').replace('{vm}', 'web-1');
    const answer = await app.request(at, { headers: { ...ALL, prefer: 'wait=0' } });
    assert.ok(answer.status < 500, `${path} ${answer.status}`);
    await answer.body?.cancel();
    assert.equal(asked.length, 0, path);
  }
  assert.equal((await get(`/v1/jobs/${exampleJob().id}`)).status, 200);
  assert.equal((await get('/v1/status?format=nagios')).status, 200);
  for (const path of ['/v1/vms', `/v1/backups/${ID}/disks/0`, `/v1/backups/${ID}/xva?direct=1`]) {
    assert.equal((await get(path)).status, 202, path);
    assert.equal((await request('GET', path, { headers: {} })).status, 401, path);
    assert.equal(asked.splice(0).length, 1, path);
  }
  await request('HEAD', `/v1/backups/${ID}/disks/0`);
  assert.equal(asked[0]?.request.method, 'HEAD');
});

test('a delivery goes on when its signature is right and its sender may name the machine', async () => {
  const { app, asked } = createFront();
  const send = (value: unknown, more: Record<string, string> = {}, event?: string) => {
    const body = JSON.stringify(value);
    const headers = { ...githubHeaders(body, event), ...more };
    return app.request('/hooks/github', { method: 'POST', body, headers });
  };
  const wish = (vm: string) => ({ action: 'xvault-backup', client_payload: { vm } });
  const wrong = { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` };
  assert.equal((await send(wish('web-1'), wrong)).status, 401);
  assert.equal((await send(wish('db-1'))).status, 403);
  assert.equal((await send({ zen: 'Design for failure.' }, {}, 'ping')).status, 200);
  assert.equal(asked.length, 0);
  assert.equal((await send(wish('web-1'))).status, 202);
  const [{ request }] = asked as [Elsewhere];
  assert.equal(await request.text(), JSON.stringify(wish('web-1')));
  assert.match(request.headers.get('x-hub-signature-256') ?? '', /^sha256=/);
});

test('a chat hears here what is known, and a command that does something goes on', async () => {
  const { app, clock, lines, asked } = createFront();
  const say = (text: string) => {
    const body = new URLSearchParams({ user_id: 'U1', text }).toString();
    const at = String(Math.floor(clock.now() / 1000));
    const hex = createHmac('sha256', SECRET).update(`v0:${at}:${body}`).digest('hex');
    const signed = { 'x-slack-request-timestamp': at, 'x-slack-signature': `v0=${hex}` };
    const type = { 'content-type': 'application/x-www-form-urlencoded' };
    return app.request('/hooks/slack', { method: 'POST', body, headers: { ...type, ...signed } });
  };
  assert.match(await (await say('status')).text(), /ephemeral/);
  assert.match(await (await say('list web-1')).text(), /may not/);
  assert.equal(asked.length, 0);
  assert.equal((await say('run web-1')).status, 202);
  assert.equal(asked[0]?.wanted.method, 'startBackup');
  assert.deepEqual(
    lines.filter(({ level }) => level === 'error'),
    [],
  );
});
