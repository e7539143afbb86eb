/**
 * Every route of the table, and every method that is none, met without a right to it.
 *
 * Made from the table itself, so that a new route cannot be forgotten; which scope lets in is in src/http/app.test.ts.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { SCOPES } from '../../src/http/auth.ts';
import { type AnyRoute, scopeOf } from '../../src/http/route.ts';
import { ROUTES } from '../../src/http/routes/index.ts';
import { createHarness } from '../http/harness.ts';
import { endedJob, exampleBackup } from '../http/records.ts';

const { id: ID } = exampleBackup();
/** Probes and the description say nothing about machines; triggers carry a signature instead of a token. */
const OPEN = /^\/(livez|readyz|healthz|openapi\.json|docs|login|logout|hooks\/\w+)$/;
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE_', 'PROPFIND'];
const guarded = ROUTES.filter(({ scope }) => scope !== 'none');

function pathOf(route: AnyRoute): string {
  return route.path.replaceAll(/\{\w+\}/g, ID);
}

/** Callers that must be taken for strangers, whatever they try in place of the token `all-token`. */
const STRANGERS: Record<string, Record<string, string>> = {
  'no token': {},
  'an empty one': { authorization: '' },
  'no scheme': { authorization: 'all-token' },
  'a beginning': { authorization: 'Bearer all-toke' },
  'one character more': { authorization: 'Bearer all-token1' },
  'another case': { authorization: 'Bearer ALL-TOKEN' },
  'two at once': { authorization: 'Bearer x, Bearer all-token' },
  'a token with a NUL': { authorization: 'Bearer all-token%00' },
  'the digest': {
    authorization: `Bearer ${createHash('sha256').update('all-token').digest('hex')}`,
  },
  'a name': { authorization: 'Bearer nightly' },
  'a very long one': { authorization: `Bearer ${'a'.repeat(10_000)}` },
  'a token elsewhere': { cookie: 'token=all-token', 'x-api-key': 'all-token' },
  'a proxy that vouches': { 'x-forwarded-user': 'nightly', 'x-forwarded-for': '127.0.0.1' },
  'a loopback name': { host: 'localhost' },
};

test('a route without a token is one of those that show nothing', () => {
  for (const { path, scope } of ROUTES) {
    assert.ok(scope !== 'none' || OPEN.test(path), `${path} needs a scope`);
    assert.ok(scope === 'none' || scope === 'metrics' || SCOPES.includes(scope));
  }
  assert.ok(guarded.length >= 14, `${guarded.length} of ${ROUTES.length} routes are guarded`);
});

for (const route of guarded) {
  test(`${route.method} ${route.path} knows no stranger, and does nothing before it knows who asks`, async () => {
    const { request, service, lines } = createHarness();
    const methods = route.method === 'GET' ? ['GET', 'HEAD'] : [route.method];
    for (const [who, headers] of Object.entries(STRANGERS)) {
      for (const method of methods) {
        const type = { 'content-type': 'application/json' };
        const broken = route.method === 'POST' ? { body: '{"broken' } : {};
        const path = `${pathOf(route)}?access_token=all-token&unknown=1`;
        const answer = await request(method, path, { headers: { ...type, ...headers }, ...broken });
        assert.equal(answer.status, 401, `${method} ${who}`);
        assert.match(answer.headers.get('www-authenticate') ?? '', /^(Bearer|Basic) realm=/);
        const text = await answer.text();
        assert.equal(/all-tok|nightly|ALL-TOK/.test(text), false, `${who}: ${text}`);
      }
    }
    assert.equal(service.calls.size, 0);
    assert.equal(/all-tok/i.test(JSON.stringify(lines)), false);
  });
}

test('a method a route does not have is refused by name and does nothing, with a token or without', async () => {
  for (const headers of [{}, { authorization: 'Bearer all-token' }]) {
    const { request, service } = createHarness();
    for (const route of ROUTES) {
      const known = ROUTES.filter(({ path }) => path === route.path).flatMap(({ method }) =>
        method === 'GET' ? ['GET', 'HEAD'] : [method],
      );
      for (const method of METHODS.filter((one) => !known.includes(one))) {
        const answer = await request(method, pathOf(route), { headers });
        assert.equal(answer.status, 405, `${method} ${route.path}`);
        assert.equal(answer.headers.get('allow'), known.join(', '));
        assert.equal(answer.headers.get('access-control-allow-origin'), null);
      }
    }
    assert.equal(service.calls.size, 0);
  }
});

test('a path that is almost a route is none', async () => {
  const { request, service } = createHarness();
  for (const route of guarded) {
    const path = pathOf(route);
    for (const odd of [`${path}/`, `/${path}`, path.toUpperCase(), `${path}%00`, `${path};x=1`]) {
      if (route.path === '/' || odd === path) continue;
      for (const headers of [{}, { authorization: 'Bearer all-token' }]) {
        const answer = await request(route.method, odd, { headers });
        // an id or a name takes any text; nothing must be done with one nobody has
        const fine = [401, 404, 405].includes(answer.status) || /\{\w+\}$/.test(route.path);
        assert.ok(fine, `${odd}: ${answer.status}`);
      }
    }
  }
  assert.equal(service.calls.has('startBackup') || service.calls.has('sweep'), false);
});

test('on loopback without tokens no route listens to a re-bound name or a foreign page, and none restores', async () => {
  const { request, service } = createHarness({ loopbackWithoutToken: true }, []);
  const foreign = [
    { host: 'evil.example:8080' },
    { host: '' },
    { host: 'localhost.evil.example' },
    { host: 'localhost:8080@evil.example' },
    { host: '127.0.0.1.nip.io' },
    { host: '[::2]:8080' },
    { host: 'localhost', origin: 'https://evil.example' },
    { host: 'localhost', origin: 'null' },
    { host: 'localhost', 'sec-fetch-site': 'cross-site' },
    { host: 'localhost', authorization: 'Bearer guess' },
  ];
  for (const route of guarded) {
    for (const headers of foreign) {
      const answer = await request(route.method, pathOf(route), { headers });
      assert.ok([401, 403].includes(answer.status), `${route.path} ${JSON.stringify(headers)}`);
    }
    if (scopeOf(route) !== 'restore') continue;
    const headers = { host: 'localhost' };
    assert.equal((await request(route.method, pathOf(route), { headers })).status, 403);
  }
  assert.equal(service.calls.size, 0);
});

test('all entries of the table are compared, whichever matches first', async () => {
  const sha256 = createHash('sha256').update('one').digest('hex');
  const other = createHash('sha256').update('other').digest('hex');
  const { request, service } = createHarness({}, [
    { name: 'first', sha256, scopes: ['backup'] },
    { name: 'last', sha256, scopes: ['backup'] },
    { name: 'other', sha256: other, scopes: ['backup'] },
  ]);
  const headers = { authorization: 'Bearer one' };
  service.change(ID, endedJob());
  assert.equal((await request('POST', '/v1/vms/a/backups', { headers })).status, 202);
  const [input] = service.calls.get('startBackup') as { triggeredBy: string }[];
  assert.equal(input?.triggeredBy, 'last', 'a comparison that stopped at the first would say so');
});
