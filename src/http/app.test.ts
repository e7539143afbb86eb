import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../../test/http/records.ts';
import { STATUS_OF } from '../catalog/problem.ts';
import { BackupError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import { SCOPES } from './auth.ts';
import { createHolds } from './holds.ts';
import type { HttpProblem } from './problem.ts';
import { ROUTES } from './routes/index.ts';
import { exampleRun } from './run-answers.ts';

const START = '/v1/vms/web-1/backups';

async function problemOf(response: Response): Promise<HttpProblem> {
  assert.equal(response.headers.get('content-type'), 'application/problem+json');
  const problem = (await response.json()) as HttpProblem;
  assert.equal(problem.status, response.status);
  assert.equal(problem.request_id, response.headers.get('request-id'));
  assert.ok(problem.title && problem.detail && problem.type.endsWith(problem.code));
  return problem;
}

function vmOf(input: unknown): string {
  return (input as { vm: string }).vm;
}

function concrete(path: string): string {
  return path.replace('{vm}', 'web-1').replace('{id}', exampleBackup().id).replace('{n}', '0');
}

/** Of the routes that cannot do without one. */
const NEEDED_BODIES: Record<string, { headers: Record<string, string>; body: string }> = {
  '/v1/runs': {
    headers: { 'content-type': 'application/json' },
    body: '{"select":{"all":true}}',
  },
};

for (const route of ROUTES) {
  test(`${route.method} ${route.path} lets in exactly the scope ${route.scope}`, async () => {
    const { request, service } = createHarness();
    service.change(exampleBackup().id, {});
    service.change(exampleBackup().id, endedJob());
    service.backups.set(exampleBackup().id, exampleBackup());
    service.runs.set(exampleBackup().id, exampleRun());
    const path = concrete(route.path);
    const { headers: type, ...body } = NEEDED_BODIES[route.path] ?? { headers: {} };
    const call = (headers: Record<string, string>) =>
      request(route.method, path, {
        headers: { ...type, ...headers },
        ...(route.method === 'GET' ? {} : body),
      });

    if (route.sender !== undefined) {
      // who may is in hooks.test.ts; nobody who is not set up
      assert.equal((await problemOf(await call({}))).code, 'not_found');
      return;
    }
    if (route.scope === 'none') {
      assert.ok((await call({})).status < 400);
      return;
    }
    const nobody = await call({});
    assert.equal((await problemOf(nobody)).code, 'unauthenticated');
    assert.match(
      nobody.headers.get('www-authenticate') ?? '',
      route.basic ? /^Basic / : /^Bearer /,
    );
    const stranger = await call({ authorization: 'Bearer wrong' });
    assert.equal(stranger.status, 401);
    const needed = route.scope === 'metrics' ? 'read' : route.scope;
    for (const scope of SCOPES) {
      const response = await call({ authorization: `Bearer ${scope}-token` });
      if (scope === needed) assert.ok(response.status < 400, `${scope}: ${response.status}`);
      else {
        assert.equal((await problemOf(response)).code, 'forbidden');
        const challenge = response.headers.get('www-authenticate') ?? '';
        assert.match(challenge, new RegExp(`insufficient_scope", scope="${needed}"`));
      }
    }
    assert.equal((await call({ authorization: 'Bearer idle-token' })).status, 403);
  });
}

test('starting a backup answers 202 with the job, where it is and when to look', async () => {
  const { post, service } = createHarness();
  const response = await post(START, { retention: 'weekly', note: 'before the upgrade' });
  assert.equal(response.status, 202);
  const job = (await response.json()) as Record<string, unknown>;
  assert.equal(response.headers.get('location'), `/v1/jobs/${job.id}`);
  assert.equal(response.headers.get('retry-after'), '5');
  assert.equal(job.status, 'queued');
  assert.equal(job.triggered_by, 'nightly');
  assert.equal('checkpoint' in job, false);
  assert.deepEqual(job.links, {
    self: `/v1/jobs/${job.id}`,
    events: `/v1/jobs/${job.id}/events`,
    vm: `/v1/vms/${exampleBackup().vm.uuid}/backups`,
    cancel: `/v1/jobs/${job.id}/cancel`,
  });
  assert.deepEqual(service.calls.get('startBackup')?.map(vmOf), ['web-1']);
  assert.deepEqual(job.request, {
    mode: 'auto',
    retention: 'weekly',
    exclude_disks: [],
    compression: 'none',
    note: 'before the upgrade',
    dry_run: false,
    quiesce: 'never',
  });
});

test('a machine name may hold blanks, slashes, per cent signs and umlauts', async () => {
  const { post, service } = createHarness();
  for (const name of ['Büro 1/2 (100%25)', '%2F', 'a?b#c', '..%5c..']) {
    const response = await post(`/v1/vms/${encodeURIComponent(name)}/backups`, {});
    assert.equal(response.status, 202);
    assert.deepEqual(service.calls.get('startBackup')?.map(vmOf).at(-1), name);
  }
});

test('an empty body means all defaults, whatever its label', async () => {
  const { request } = createHarness();
  const form = 'application/x-www-form-urlencoded';
  const authorization = 'Bearer all-token';
  assert.equal((await request('POST', START)).status, 202);
  const headers = { authorization, 'content-type': form };
  assert.equal((await request('POST', START, { headers, body: '' })).status, 202);
});

test('a body that is not labelled as JSON is refused with the right curl line', async () => {
  const { request } = createHarness();
  for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
    const headers = { authorization: 'Bearer all-token', 'content-type': type };
    const response = await request('POST', START, { headers, body: '{"mode":"full"}' });
    assert.equal(response.status, 415);
    assert.equal(response.headers.get('accept'), 'application/json');
    const problem = await problemOf(response);
    assert.equal(problem.code, 'invalid_request');
    assert.match(problem.detail, /curl -X POST -H 'Content-Type: application\/json'/);
  }
});

test('broken JSON is 400', async () => {
  const { request } = createHarness();
  const headers = { authorization: 'Bearer all-token', 'content-type': 'application/json' };
  const response = await request('POST', START, { headers, body: '{"mode":' });
  assert.equal(response.status, 400);
  assert.match((await problemOf(response)).detail, /JSON/);
});

test('every wrong or unknown field is named by its pointer', async () => {
  const { request, service } = createHarness();
  const headers = { authorization: 'Bearer all-token', 'content-type': 'application/json' };
  const body = '{"mode":"fast","exclude_disks":["0",""],"a/b~c":1,"__proto__":{"x":1}}';
  const response = await request('POST', START, { headers, body });
  assert.equal(response.status, 422);
  const { errors = [] } = await problemOf(response);
  assert.deepEqual(errors.map((error) => error.pointer).sort(), [
    '#/__proto__',
    '#/a~1b~0c',
    '#/exclude_disks/1',
    '#/mode',
  ]);
  assert.equal(service.calls.has('startBackup'), false);
  for (const value of ['[]', 'null', '"x"', '1']) {
    const other = await request('POST', START, { headers, body: value });
    assert.equal(other.status, 422);
    assert.equal((await problemOf(other)).errors?.[0]?.pointer, '#');
  }
});

test('a body over 1 MiB is 413, with and without a stated length', async () => {
  const { app, post } = createHarness();
  const note = 'x'.repeat(1024 * 1024);
  const stated = await post(START, { note });
  assert.equal(stated.status, 413);
  assert.equal((await problemOf(stated)).code, 'invalid_request');
  const chunk = new TextEncoder().encode(note);
  const body = new ReadableStream({
    start: (controller) => {
      controller.enqueue(chunk);
      controller.enqueue(chunk);
      controller.close();
    },
  });
  const headers = { authorization: 'Bearer all-token', 'content-type': 'application/json' };
  const init: RequestInit & { duplex: 'half' } = { method: 'POST', headers, body, duplex: 'half' };
  const streamed = await app.request(START, init);
  assert.equal(streamed.status, 413);
});

test('an unknown path is 404, a known one with another method 405 with Allow', async () => {
  const { request } = createHarness();
  assert.equal((await problemOf(await request('GET', '/v1/nothing'))).code, 'not_found');
  assert.equal((await request('POST', '/v1/run')).status, 404);
  assert.equal((await request('GET', '/v1/jobs/')).status, 404);
  const wrong = await request('DELETE', '/v1/jobs/x');
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get('allow'), 'GET, HEAD');
  const both = await request('PUT', START);
  assert.equal(both.headers.get('allow'), 'POST, GET, HEAD');
  assert.equal((await problemOf(both)).code, 'invalid_request');
});

test('unknown, repeated and wrong query parameters are refused by name', async () => {
  const { get } = createHarness();
  const cases: [string, string][] = [
    ['/v1/jobs?state=running', 'state'],
    ['/v1/jobs?status=done', 'status'],
    ['/v1/jobs?vm=a&vm=b', 'vm'],
    ['/v1/jobs?page_size=-1', 'page_size'],
    ['/v1/jobs?page_size=0', 'page_size'],
    ['/v1/jobs/019aaf4a-0000-7000-8000-000000000001?x=1', 'x'],
    ['/v1/status?max_age=26', 'max_age'],
    ['/v1/status?max_age=26%20h', 'max_age'],
    ['/v1/backups?retention=Daily', 'retention'],
    ['/v1/backups/019aaf4a-0000-7000-8000-000000000001/xva?direct=yes', 'direct'],
  ];
  for (const [path, parameter] of cases) {
    const response = await get(path);
    assert.equal(response.status, 422, path);
    assert.equal((await problemOf(response)).errors?.[0]?.parameter, parameter);
  }
  assert.equal((await get('/livez?t=1')).status, 200);
});

test('every error code has its status, and none shows another request id', async () => {
  const { post, service } = createHarness();
  for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
    service.failures.set('startBackup', new BackupError(code, 'start backup, vm=web-1'));
    const response = await post(START, {}, { 'request-id': `r-${code}` });
    assert.equal(response.status, STATUS_OF[code]);
    const problem = await problemOf(response);
    assert.equal(problem.code, code);
    assert.equal(problem.request_id, `r-${code}`);
    if ([429, 503].includes(response.status)) {
      assert.match(response.headers.get('retry-after') ?? '', /^\d+$/, code);
    }
  }
});

test('a full queue says how many jobs run at once and when to come again', async () => {
  const { post, service } = createHarness({ concurrency: 7 });
  const details = { retry_after_seconds: 12 };
  service.failures.set('startBackup', new BackupError('limit_reached', 'queue job', { details }));
  const response = await post(START, {});
  assert.equal(response.status, 429);
  assert.equal(response.headers.get('retry-after'), '12');
  assert.equal(response.headers.get('ratelimit-policy'), '"jobs";q=7;qu="concurrent-requests"');
  assert.equal(response.headers.get('ratelimit'), '"jobs";r=0;t=12');
});

test('a conflict links to the job that runs, an ambiguous name lists the candidates', async () => {
  const { post, service } = createHarness();
  const { id } = exampleJob();
  const conflict = new BackupError('job_conflict', 'start backup', { details: { job_id: id } });
  service.failures.set('startBackup', conflict);
  const response = await post(START, {});
  assert.equal(response.status, 409);
  assert.equal(response.headers.get('link'), `</v1/jobs/${id}>; rel="related"`);
  const problem = await problemOf(response);
  assert.equal(problem.job_id, id);
  assert.deepEqual(problem.links, { job: `/v1/jobs/${id}` });

  const candidates = [{ uuid: 'a', name: 'web-1', pool: 'default' }];
  const ambiguous = new BackupError('vm_ambiguous', 'choose vm', { details: { candidates } });
  service.failures.set('startBackup', ambiguous);
  assert.deepEqual((await problemOf(await post(START, {}))).details, { candidates });
});

test('a bug is logged with its text and shown without it', async () => {
  const { post, service, lines } = createHarness();
  service.failures.set('startBackup', new TypeError('secret in here'));
  const response = await post(START, {});
  assert.equal(response.status, 500);
  assert.equal(JSON.stringify(await problemOf(response)).includes('secret'), false);
  const [line] = lines.filter(({ level }) => level === 'error');
  assert.match(String(line?.fields.error), /secret in here/);
  assert.equal(line?.fields.request_id, response.headers.get('request-id'));
});

test('a request id is taken over if it is plain, else made', async () => {
  const { get } = createHarness();
  const plain = await get('/livez', { 'request-id': 'ci-run.42' });
  assert.equal(plain.headers.get('request-id'), 'ci-run.42');
  for (const odd of ['a b', 'x'.repeat(65), '{"a":1}']) {
    const made = (await get('/livez', { 'request-id': odd })).headers.get('request-id');
    assert.match(made ?? '', /^019aaf4a-/);
  }
});

test('every answer forbids storing, sniffing and framing', async () => {
  const { get } = createHarness();
  for (const path of ['/v1/jobs', '/v1/nothing', '/livez', '/', '/docs']) {
    const { headers } = await get(path);
    assert.equal(headers.get('cache-control'), 'no-store', path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.match(
      headers.get('content-security-policy') ?? '',
      /^default-src 'none'.*frame-ancestors 'none'/,
    );
  }
});

test('a draining instance closes its connections and is not ready, but answers', async () => {
  const { get, service } = createHarness();
  service.draining = true;
  const response = await get('/v1/jobs');
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('connection'), 'close');
  assert.equal((await get('/readyz')).status, 503);
  assert.equal((await get('/livez')).status, 200);
});

test('the log has a line for each request that changes something, with who asked and what began', async () => {
  const { post, get, lines } = createHarness();
  await get('/v1/jobs');
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  const answer = await post(START, {}, { 'request-id': 'r-1', traceparent });
  const infos = lines.filter(({ level }) => level === 'info');
  assert.equal(infos.length, 1);
  const { seconds: _, ...fields } = infos[0]?.fields ?? {};
  assert.deepEqual(fields, {
    request_id: 'r-1',
    method: 'POST',
    path: START,
    status: 202,
    token_name: 'nightly',
    started: answer.headers.get('location'),
    trace_id: 'a'.repeat(32),
  });
});

test('places for held answers are limited and given back once', () => {
  const holds = createHolds(2);
  const release = holds.take();
  holds.take();
  assert.equal(holds.tryTake(), undefined);
  assert.throws(() => holds.take(), { code: 'limit_reached' });
  release();
  release();
  assert.equal(holds.open, 1);
});
