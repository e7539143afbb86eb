import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { runSchema } from '../catalog/run.ts';
import { BackupError } from '../errors.ts';
import { exampleRun, type RunView, runAnswerSchema } from './run-answers.ts';

const BODY = {
  select: { tags: ['nightly'] },
  skip: ['test-'],
  deadline: '8h',
  retention: 'weekly',
};

test('a run is started with its defaults, found, listed and cancelled', async () => {
  const { post, get, service } = createHarness();
  const answer = await post('/v1/runs', BODY);
  assert.equal(answer.status, 202);
  const run = (await answer.json()) as RunView;
  runAnswerSchema.parse(run);
  const { request } = runSchema.parse(run);
  assert.deepEqual(request.select, { all: false, tags: ['nightly'], names: [] });
  assert.deepEqual([request.mode, request.retention, request.dry_run], ['auto', 'weekly', false]);
  assert.equal(answer.headers.get('location'), `/v1/runs/${run.id}`);
  assert.equal(answer.headers.get('retry-after'), '5');
  assert.equal(((await (await get(run.links.self)).json()) as RunView).triggered_by, 'nightly');
  const list = (await (await get('/v1/runs?page_size=5')).json()) as { runs: RunView[] };
  assert.deepEqual(
    list.runs.map(({ id }) => id),
    [run.id],
  );
  const cancelled = await post(`/v1/runs/${run.id}/cancel`, {});
  assert.equal(cancelled.status, 202);
  assert.equal(((await cancelled.json()) as RunView).cancel_requested, true);
  assert.equal(service.calls.get('cancelRun')?.length, 1);
});

test('the list of runs is aligned text for who asks for it', async () => {
  const { post, get } = createHarness();
  assert.equal(await (await get('/v1/runs', { accept: 'text/plain' })).text(), 'no runs\n');
  const { id } = (await (await post('/v1/runs', BODY)).json()) as RunView;
  const answer = await get('/v1/runs', { accept: 'text/plain' });
  assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
  const [head, row] = (await answer.text()).split('\n');
  assert.match(head ?? '', /^RUN +STARTED +STATUS +BY +WHAT$/);
  assert.match(row ?? '', new RegExp(`^${id} .* machines backed up`));
});

test('a dry run is 200 and nowhere to be found', async () => {
  const { post, get } = createHarness();
  const answer = await post('/v1/runs', { ...BODY, dry_run: true });
  assert.equal(answer.status, 200);
  const { id } = (await answer.json()) as RunView;
  assert.equal((await get(`/v1/runs/${id}`)).status, 404);
});

test('a repeat with the same key is the same run, and its id is the key’s own', async () => {
  const { post, service } = createHarness();
  const headers = { 'idempotency-key': 'night-of-23' };
  const first = (await (await post('/v1/runs', BODY, headers)).json()) as RunView;
  const again = await post('/v1/runs', BODY, headers);
  assert.equal(again.headers.get('idempotency-replayed'), 'true');
  assert.equal(((await again.json()) as RunView).id, first.id);
  assert.equal((await post('/v1/runs', { ...BODY, skip: [] }, headers)).status, 422);
  const [input] = service.calls.get('startRun') as [{ runId: string }];
  assert.equal(service.calls.get('startRun')?.length, 1);
  assert.equal(input.runId, first.id);
});

test('a body that does not say which machines, or says what a run does not know, is refused by name', async () => {
  const { post, service } = createHarness();
  const cases: [object, RegExp][] = [
    [{}, /"pointer":"#\/select"/],
    [{ select: {} }, /either all, or tags or names/],
    [{ select: { all: true, names: ['a'] } }, /either all, or tags or names/],
    [{ select: { all: true }, pool: 'dc1' }, /pool/],
    [{ select: { all: true }, deadline: 'soon' }, /"pointer":"#\/deadline"/],
  ];
  for (const [body, text] of cases) {
    const answer = await post('/v1/runs', body);
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.match(await answer.text(), text);
  }
  assert.equal(service.calls.has('startRun'), false);
  service.failures.set('startRun', new BackupError('not_found', 'select machines: none is left'));
  assert.equal((await post('/v1/runs', BODY)).status, 404);
  assert.equal((await post('/v1/runs/x/cancel', {})).status, 404);
});

test('who asks for text gets the report, who waits gets the end', async () => {
  const { get, request, service } = createHarness();
  const run = exampleRun();
  service.runs.set(run.id, run);
  const path = `/v1/runs/${run.id}`;
  const authorization = 'Bearer all-token';
  const text = await request('GET', path, { headers: { authorization, accept: 'text/plain' } });
  assert.match(text.headers.get('content-type') ?? '', /^text\/plain/);
  const report = await text.text();
  assert.match(report, /^running: 1 of 2 machines backed up, 1 waiting, 1 left out\n/);
  assert.match(report, /\nweb-1 +default +succeeded +4\.5 GiB +136 MiB +1m 42s +delta\n/);
  assert.match(report, /\n {2}test-7 \(default\): test- is in the skip list\n/);
  for (const accept of ['*/*', 'application/json', 'text/plain, application/json']) {
    const json = await request('GET', path, { headers: { authorization, accept } });
    assert.match(json.headers.get('content-type') ?? '', /json/, accept);
  }
  const waited = await request('GET', path, { headers: { authorization, prefer: 'wait=3' } });
  assert.equal(waited.headers.get('preference-applied'), 'wait=3');
  assert.deepEqual(service.calls.get('waitRun'), [{ id: run.id, timeoutMs: 3000 }]);
  const etag = (await get(path)).headers.get('etag') ?? '';
  const same = await request('GET', path, { headers: { authorization, 'if-none-match': etag } });
  assert.equal(same.status, 304);
});

test('the example is a valid record', () => {
  runSchema.parse(exampleRun());
});
