import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup, exampleJob } from '../../test/http/records.ts';
import type { StatusReport } from '../backup/service.ts';
import { backupRequestSchema, backupSchema, jobSchema } from '../catalog/record.ts';
import { BackupError, ERROR_CODES } from '../errors.ts';
import { apiPage, errorsPage } from './describe.ts';
import { STATUS_EXAMPLE } from './examples.ts';
import { nagiosText } from './nagios.ts';
import { ageText } from './pages/words.ts';
import { ROUTES } from './routes/index.ts';

interface Operation {
  security: object[];
  parameters?: { name: string; in: string; description?: string }[];
  responses: Record<string, { content?: Record<string, { schema: object; example?: unknown }> }>;
  requestBody?: { content: Record<string, { schema: { additionalProperties?: boolean } }> };
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; securitySchemes: object };
}

async function documentOf(): Promise<Document> {
  const response = await createHarness().request('GET', '/openapi.json', { headers: {} });
  return (await response.json()) as Document;
}

test('the description names every route with its scope, and no other', async () => {
  const { openapi, paths } = await documentOf();
  assert.match(openapi, /^3\.1\./);
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  assert.deepEqual(described.sort(), ROUTES.map((r) => `${r.method} ${r.path}`).sort());
  assert.deepEqual(paths['/v1/jobs/{id}']?.get?.security, [{ bearer: ['read'] }]);
  assert.deepEqual(paths['/livez']?.get?.security, []);
});

test('the description has what a client generator needs', async () => {
  const { paths, components } = await documentOf();
  const start = paths['/v1/vms/{vm}/backups']?.post;
  const names = start?.parameters?.map((parameter) => `${parameter.in} ${parameter.name}`);
  assert.deepEqual(names?.sort(), ['header Idempotency-Key', 'header Prefer', 'path vm']);
  const body = start?.requestBody?.content['application/json']?.schema;
  assert.equal(body?.additionalProperties, false);
  const json = start?.responses['202']?.content?.['application/json'];
  assert.deepEqual(json?.schema, { $ref: '#/components/schemas/Job' });
  jobSchema.omit({ checkpoint: true }).parse(json?.example);
  assert.ok(start?.responses.default?.content?.['application/problem+json']);
  const named = Object.keys(components.schemas);
  assert.ok(
    named.every((name) => /^[A-Z][A-Za-z]+$/.test(name)),
    `types of a client: ${named}`,
  );
  for (const name of ['Backup', 'BackupList', 'Job', 'JobList', 'Problem', 'Status', 'VmList']) {
    assert.ok(named.includes(name), name);
  }
  const listed = paths['/v1/jobs']?.get?.parameters?.map((parameter) => parameter.name);
  assert.deepEqual(listed, ['status', 'vm', 'pool', 'page_size', 'page_token']);
});

test('the examples of the description are valid records', () => {
  backupSchema.parse(exampleBackup());
  jobSchema.parse(exampleJob());
});

test('docs/api.md and docs/errors.md are what the code says now (npm run docs)', () => {
  const read = (name: string) =>
    readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
  assert.equal(read('api.md'), apiPage(ROUTES));
  assert.equal(read('errors.md'), errorsPage());
  for (const code of Object.keys(ERROR_CODES))
    assert.match(errorsPage(), new RegExp(`## ${code}\n`));
});

test('the status page shows machines and jobs, and escapes their names', async () => {
  const { get, service } = createHarness();
  const name = '<script>alert("x")</script>&';
  service.change(exampleJob().id, { ...exampleJob(), vm: { ...exampleJob().vm, name } });
  const response = await get('/');
  const page = await response.text();
  assert.match(response.headers.get('content-type') ?? '', /^text\/html/);
  assert.match(page, /web-1/);
  assert.match(page, /&lt;script&gt;alert\(&quot;x&quot;\)&lt;\/script&gt;&amp;/);
  assert.equal(page.includes('<script>alert'), false);
  assert.match(page, /<noscript><meta http-equiv="refresh" content="15"><\/noscript>/);
});

test('the policy of a page allows its style and script by hash, and nothing else', async () => {
  const { get } = createHarness();
  for (const path of ['/', '/docs']) {
    const response = await get(path);
    const page = await response.text();
    const policy = response.headers.get('content-security-policy') ?? '';
    for (const tag of path === '/' ? ['style', 'script'] : ['style']) {
      const text = new RegExp(`<${tag}>(.*?)</${tag}>`, 's').exec(page)?.[1] ?? '';
      const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
      const hash = Buffer.from(digest).toString('base64');
      assert.ok(policy.includes(`${tag}-src 'sha256-${hash}'`), policy);
    }
    assert.equal(policy.includes('script-src'), path === '/', 'one page has a script');
    assert.equal(/unsafe|\*|https?:/.test(policy), false);
    assert.equal(/ (style|on\w+)="/.test(page), false);
    assert.equal(/(src|href)="(https?:)?\/\//.test(page), false);
  }
});

test('the status page says what it could not read, and shows the rest', async () => {
  const { get, service } = createHarness();
  service.failures.set('status', new BackupError('store_unavailable', 'list backups'));
  const response = await get('/');
  assert.equal(response.status, 200);
  const page = await response.text();
  assert.match(page, /store_unavailable/);
  assert.match(page, /Running and queued/);
});

test('the page at /docs has every route with a curl line', async () => {
  const { request } = createHarness();
  const page = await (await request('GET', 'http://vault.example/docs', { headers: {} })).text();
  for (const route of ROUTES) assert.ok(page.includes(`${route.method} ${route.path}`), route.path);
  assert.ok(page.includes('-X POST -H &quot;Authorization: Bearer $TOKEN&quot;'));
  assert.ok(page.includes('http://vault.example/v1/jobs/$ID/events'));
});

test('the page at /docs tells every field of a body and what it may be', async () => {
  const page = await (await createHarness().request('GET', '/docs', { headers: {} })).text();
  for (const name of Object.keys(backupRequestSchema.shape)) {
    assert.ok(page.includes(`<code>${name}</code>`), name);
  }
  assert.match(page, /<code>\?max_age<\/code>/);
  assert.match(page, /Default<\/span> <code>&quot;daily&quot;<\/code>/);
  assert.equal(page.includes('`'), false, 'backticks have become code');
});

test('the status page has the worst first, and tells machines of one name apart', async () => {
  const { get, service } = createHarness();
  const [good] = STATUS_EXAMPLE.vms;
  assert.ok(good);
  const named = (uuid: string, name: string) => ({ ...good, vm: { uuid, name, pool: 'lab' } });
  const bad = { ...named('u4', 'last'), status: 'critical' as const };
  const vms = [named('u1', 'twin'), named('u2', 'twin'), named('u3', ''), bad];
  service.status = async () => ({ ...STATUS_EXAMPLE, status: 'critical', vms });
  const page = await (await get('/')).text();
  assert.match(page, /3 of 4 backed up/);
  const shown = [
    ...page.matchAll(/<tr><td><a href="\/vms\/lab\/u\d" title="(u\d)">([\w ]*)<\/a>(.*?)<\/td>/g),
  ];
  assert.deepEqual(
    shown.map(([, uuid, name]) => [uuid, name]),
    [
      ['u4', 'last'],
      ['u1', 'twin'],
      ['u2', 'twin'],
      ['u3', 'no name'],
    ],
  );
  assert.deepEqual(
    shown.map(([, uuid = '', , more = '']) => more.includes(uuid)),
    [false, true, true, true],
  );
});

test('status is 200 unless strict is asked for and it is critical', async () => {
  const { get, service } = createHarness();
  const response = await get('/v1/status?max_age=3d&pool=lab');
  assert.equal(((await response.json()) as StatusReport).max_age_seconds, 259_200);
  assert.deepEqual(service.calls.get('status'), [{ maxAgeSeconds: 259_200, pool: 'lab' }]);
  await get('/v1/status');
  assert.deepEqual(service.calls.get('status')?.at(-1), { maxAgeSeconds: 93_600 });

  service.status = async () => ({ ...STATUS_EXAMPLE, status: 'critical' });
  assert.equal((await get('/v1/status')).status, 200);
  assert.equal((await get('/v1/status?strict=0')).status, 200);
  assert.equal((await get('/v1/status?strict=1')).status, 503);
  assert.equal((await get('/v1/status?strict=1&format=nagios')).status, 503);
});

test('nagios gets one line with figures, then the machines, the worst first', async () => {
  const [good] = STATUS_EXAMPLE.vms;
  assert.ok(good);
  const bad = {
    vm: { ...good.vm, name: "bob's|db=1" },
    status: 'critical' as const,
    reason: 'no backup\nyet',
  };
  const text = nagiosText({
    ...STATUS_EXAMPLE,
    status: 'critical',
    vms: [good, bad],
    unreachable_pools: ['lab'],
  });
  assert.equal(
    text,
    "CRITICAL - 1 of 2 machines backed up; bob's db=1: no backup yet; no answer from pool lab | " +
      "ok=1;;;0 warning=0;;;0 critical=1;;;0 'default/web-1'=10800s;;93600;0\n" +
      "CRITICAL - default/bob's db=1: no backup yet\n" +
      'OK - default/web-1: last good backup 3 h ago\n',
  );
  const response = await createHarness().get('/v1/status?format=nagios');
  assert.match(await response.text(), /^OK - 1 of 1 machines backed up \| /);
});

test('nagios labels are there once: machines of one name, and nameless ones, have their uuid', () => {
  const [good] = STATUS_EXAMPLE.vms;
  assert.ok(good);
  const named = (uuid: string, name: string) => ({ ...good, vm: { uuid, name, pool: 'lab' } });
  const vms = [named('u1', 'twin'), named('u2', 'twin'), named('u3', '')];
  const [first = ''] = nagiosText({ ...STATUS_EXAMPLE, vms }).split('\n');
  const labels = [...first.matchAll(/'([^']*)'=/g)].map(([, label]) => label);
  assert.deepEqual(labels, ['lab/twin u1', 'lab/twin u2', 'lab/u3']);
});

test('probes answer without a token, and tell details only with one', async () => {
  const { request, get, service } = createHarness();
  const bare = async (path: string) => await request('GET', path, { headers: {} });
  const live = await bare('/livez');
  assert.equal(live.headers.get('content-type'), 'application/health+json');
  assert.deepEqual(await live.json(), { status: 'pass', version: '0.0.0-test' });
  assert.equal((await bare('/healthz')).status, 200);
  assert.deepEqual(await (await bare('/readyz')).json(), { status: 'pass' });
  assert.equal((await bare('/readyz?verbose')).status, 401);
  assert.deepEqual(await (await get('/readyz?verbose')).json(), {
    status: 'pass',
    checks: { bucket: { status: 'pass', output: 'answers' } },
  });
  service.readiness = async () => ({ status: 'warn', checks: {} });
  assert.equal((await bare('/readyz')).status, 200);
  service.readiness = async () => ({ status: 'fail', checks: {} });
  assert.equal((await bare('/readyz')).status, 503);
});

test('ages are told in the unit that fits', () => {
  const seconds = [45, 119, 7199, 93_600, 172_800, 8_640_000];
  assert.deepEqual(seconds.map(ageText), ['45 s', '119 s', '120 min', '26 h', '2 d', '100 d']);
});

test('the status page tells unreachable pools, unprotected machines and a shutdown', async () => {
  const { get, service } = createHarness();
  const vm = { uuid: 'u', name: 'new-1', pool: 'lab' };
  service.status = async () => ({
    ...STATUS_EXAMPLE,
    status: 'critical',
    vms: [{ vm, status: 'critical', reason: 'no backup yet' }],
    unreachable_pools: ['lab'],
  });
  service.failures.set('listJobs', new BackupError('store_refused', 'list jobs'));
  service.draining = true;
  const page = await (await get('/')).text();
  assert.match(page, /Pool lab does not answer/);
  assert.match(page, /never<\/td>/);
  assert.match(page, /shutting down/);
  assert.match(page, /store_refused<\/span> list jobs/);
});
