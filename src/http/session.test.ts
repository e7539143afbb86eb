import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../../test/http/records.ts';
import { ROUTES } from './routes/index.ts';
import { ownPath, sessionToken } from './session.ts';

const HTML = { accept: 'text/html,application/xhtml+xml' };
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const { id: ID } = exampleBackup();

function signIn(
  { request }: ReturnType<typeof createHarness>,
  { token = 'read-token', to = '/', headers = {} }: Record<string, unknown> = {},
): Promise<Response> {
  const body = new URLSearchParams({ token: String(token), to: String(to) }).toString();
  return request('POST', '/login', { headers: { ...FORM, ...(headers as object) }, body });
}

test('a browser without a token is asked for one, and comes back to where it wanted to go', async () => {
  const world = createHarness();
  const sent = await world.request('GET', `/jobs/${ID}`, { headers: HTML });
  assert.equal(sent.status, 303);
  assert.equal(sent.headers.get('location'), `/login?to=%2Fjobs%2F${ID}`);
  const page = await world.request('GET', `/login?to=%2Fjobs%2F${ID}`, { headers: HTML });
  assert.match(await page.text(), new RegExp(`name="to" value="/jobs/${ID}"`));
  const entered = await signIn(world, { to: `/jobs/${ID}` });
  assert.equal(entered.status, 303);
  assert.equal(entered.headers.get('location'), `/jobs/${ID}`);
  const cookie = entered.headers.get('set-cookie') ?? '';
  assert.match(cookie, /^xvault=read-token; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/);
  world.service.change(ID, { ...exampleJob(), id: ID });
  const seen = await world.request('GET', `/jobs/${ID}`, {
    headers: { ...HTML, cookie: 'a=b; xvault=read-token' },
  });
  assert.equal(seen.status, 200);
  assert.match(await seen.text(), /<button>Sign out \(read\)<\/button>/);
});

test('where the browser sees https the cookie is only for https and only for this host', async () => {
  const headers = { origin: 'https://vault.example', host: 'vault.example' };
  const cookie = (await signIn(createHarness(), { headers })).headers.get('set-cookie') ?? '';
  assert.match(cookie, /^__Host-xvault=read-token; Path=\/; .*SameSite=Strict; Secure$/);
  assert.equal(sessionToken('__Host-xvault=read-token'), 'read-token');
});

test('a wrong token and one without scope read get the page again, and no cookie', async () => {
  for (const [token, status, words] of [
    ['guess', 401, /Nobody has this token/],
    ['backup-token', 403, /lacks scope read/],
  ] as const) {
    const answer = await signIn(createHarness(), { token });
    assert.equal(answer.status, status);
    assert.equal(answer.headers.get('set-cookie'), null);
    const page = await answer.text();
    assert.match(page, words);
    assert.equal(page.includes(token), false);
  }
});

test('a form of another site neither signs in nor out', async () => {
  const world = createHarness();
  for (const headers of [
    { origin: 'https://evil.example', host: 'vault.example' },
    { origin: 'null', host: 'vault.example' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: 'https://vault.example', host: 'vault.example' },
  ]) {
    assert.equal((await signIn(world, { headers })).status, 403);
    const out = await world.request('POST', '/logout', { headers: { ...FORM, ...headers } });
    assert.equal(out.status, 403);
    assert.equal(out.headers.get('set-cookie'), null);
  }
});

test('signing out takes the cookie away', async () => {
  const out = await createHarness().request('POST', '/logout', { headers: FORM });
  assert.equal(out.headers.get('location'), '/login');
  assert.match(out.headers.get('set-cookie') ?? '', /^xvault=; Path=\/; Max-Age=0;/);
});

test('the cookie opens pages and archives, and nothing that changes anything', async () => {
  const world = createHarness();
  const headers = { cookie: 'xvault=all-token; __Host-xvault=all-token' };
  world.service.change(ID, endedJob());
  world.service.backups.set(ID, exampleBackup());
  const opened: string[] = [];
  for (const route of ROUTES) {
    if (route.scope === 'none') continue;
    const path = route.path.replaceAll(/\{\w+\}/g, ID);
    const { status, body } = await world.request(route.method, path, { headers });
    await body?.cancel();
    if (status !== 401) opened.push(`${route.method} ${route.path}`);
  }
  assert.deepEqual(opened.sort(), [
    'GET /',
    'GET /jobs/{id}',
    'GET /runs',
    'GET /runs/{id}',
    'GET /v1/backups/{id}/xva',
    'GET /vms/{pool}/{vm}',
  ]);
});

test('a sign-in is never remembered: a repeat with the same key is answered anew', async () => {
  const world = createHarness();
  const headers = { 'idempotency-key': 'again' };
  assert.equal((await signIn(world, { headers })).status, 303);
  const other = await signIn(world, { headers, token: 'guess' });
  assert.equal(other.status, 401);
  assert.equal(other.headers.get('idempotency-replayed'), null);
  assert.equal(JSON.stringify(world.lines).includes('read-token'), false);
});

test('after signing in nobody is led to another site', () => {
  for (const path of ['/', '/jobs/1', '/vms/lab/u%201?x=1']) assert.equal(ownPath(path), path);
  for (const odd of [
    '//evil.example',
    '/\\evil.example',
    'https://evil.example',
    'javascript:alert(1)',
    '/a\\b',
    '/a\r\nset-cookie: x=1',
    '/login?to=/',
    '',
    `/${'a'.repeat(2000)}`,
  ]) {
    assert.equal(ownPath(odd), '/', odd);
  }
});

test('what stands in a cookie is a token of one word or nothing', () => {
  assert.equal(sessionToken(undefined), undefined);
  assert.equal(sessionToken('xvault=a%20b'), undefined);
  assert.equal(sessionToken('xvault=%E0%A4'), undefined);
  assert.equal(sessionToken('xvault='), undefined);
  assert.equal(sessionToken('notxvault=x; xvaults=y'), undefined);
  assert.equal(sessionToken('xvault=a%2Bb'), 'a+b');
});

test('on loopback nobody signs in, and a cookie of another service is no obstacle', async () => {
  const { request } = createHarness({ loopbackWithoutToken: true }, []);
  const host = 'localhost:8080';
  assert.equal((await request('GET', '/', { headers: { ...HTML, host } })).status, 200);
  const stale = { ...HTML, host, cookie: 'xvault=of-another' };
  const sent = await request('GET', '/', { headers: stale });
  assert.equal(sent.headers.get('location'), '/login');
  const cleared = await request('GET', '/login', { headers: stale });
  assert.equal(cleared.status, 303);
  assert.match(cleared.headers.get('set-cookie') ?? '', /^xvault=; /);
});

test('people get what went wrong as a page with the mend, programs as a problem', async () => {
  const { get } = createHarness();
  const page = await get(`/jobs/${ID}`, HTML);
  assert.equal(page.status, 404);
  assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
  assert.match(await page.text(), /Not found.*there is none of that id/s);
  const problem = await get(`/jobs/${ID}`);
  assert.match(problem.headers.get('content-type') ?? '', /problem\+json/);
});
