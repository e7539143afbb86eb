import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness, TOKENS } from '../../test/http/harness.ts';
import { createAuth, type Scope } from './auth.ts';

const START = '/v1/vms/web-1/backups';

test('on loopback nobody needs a token, and may do all but restore', async () => {
  const { request, service } = createHarness({ loopbackWithoutToken: true }, []);
  for (const host of ['localhost', 'localhost:8080', '127.0.0.1:8080', '127.1.2.3', '[::1]:8080']) {
    assert.equal((await request('POST', START, { headers: { host } })).status, 202, host);
  }
  const [input] = service.calls.get('startBackup') as { triggeredBy: string }[];
  assert.equal(input?.triggeredBy, 'loopback');
});

test('where nothing real can be overwritten, as in the demo, loopback may restore, too', async () => {
  const id = '01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a';
  const headers = { host: 'localhost', 'content-type': 'application/json' };
  const restore = async (loopbackScopes?: Scope[]) => {
    const { request } = createHarness({ loopbackWithoutToken: true, loopbackScopes }, []);
    return (await request('POST', `/v1/backups/${id}/restore`, { headers, body: '{}' })).status;
  };
  assert.equal(await restore(), 403);
  assert.notEqual(await restore(['restore']), 403);
});

test('a name re-bound to loopback gives itself away by its Host', async () => {
  const { request } = createHarness({ loopbackWithoutToken: true }, []);
  const hosts = ['evil.example', 'localhost.evil.example', '10.0.0.5:8080', '127.0.0.1.nip.io'];
  for (const host of hosts) {
    for (const path of ['/v1/jobs', '/', '/metrics', '/readyz?verbose']) {
      assert.equal((await request('GET', path, { headers: { host } })).status, 403, host);
    }
  }
});

test('a page of another origin cannot use the missing token', async () => {
  const { request } = createHarness({ loopbackWithoutToken: true }, []);
  const host = 'localhost:8080';
  const call = async (headers: Record<string, string>) =>
    (await request('POST', START, { headers: { host, ...headers } })).status;
  assert.equal(await call({ origin: 'https://evil.example' }), 403);
  assert.equal(await call({ origin: 'null' }), 403);
  assert.equal(await call({ origin: 'http://localhost:3000' }), 403);
  assert.equal(await call({ 'sec-fetch-site': 'cross-site' }), 403);
  assert.equal(
    await call({ origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' }),
    202,
  );
});

test('where tokens exist a wrong one is refused on loopback too', async () => {
  const { request } = createHarness({ loopbackWithoutToken: true });
  const headers = { host: 'localhost', authorization: 'Bearer wrong' };
  assert.equal((await request('GET', '/v1/jobs', { headers })).status, 401);
});

test('only Bearer counts for the API, and a token as password of Basic for the page', async () => {
  const { request } = createHarness();
  const basic = `Basic ${btoa('me:read-token')}`;
  const call = async (path: string, authorization: string) =>
    (await request('GET', path, { headers: { authorization } })).status;
  assert.equal(await call('/v1/jobs', basic), 401);
  assert.equal(await call('/v1/jobs', 'read-token'), 401);
  assert.equal(await call('/v1/jobs', 'bearer  read-token '), 200);
  assert.equal(await call('/', basic), 200);
  assert.equal(await call('/', 'Bearer read-token'), 200);
  assert.equal(await call('/', `Basic ${btoa('me:wrong')}`), 401);
  assert.equal(await call('/', `Basic ${btoa('me:backup-token')}`), 403);
  assert.equal(await call('/', 'Basic !!!'), 401);
  assert.equal(await call('/v1/jobs', `Bearer ${'x'.repeat(2000)}`), 401);
});

test('metrics need scope read unless they are opened', async () => {
  const closed = createHarness();
  assert.equal((await closed.request('GET', '/metrics', { headers: {} })).status, 401);
  const open = createHarness({ metricsOpen: true });
  const response = await open.request('GET', '/metrics', { headers: {} });
  assert.equal(await response.text(), 'xvault_up 1\n');
});

test('a token table with a mistake is refused when the app is made', () => {
  const [token] = TOKENS;
  assert.ok(token);
  for (const wrong of [{ sha256: 'abc' }, { name: 'a b' }, { scopes: ['root'] as never }]) {
    assert.throws(() => createAuth([{ ...token, ...wrong }], { loopbackWithoutToken: false }), {
      code: 'configuration',
    });
  }
});
