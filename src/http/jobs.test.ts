import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../../test/http/records.ts';
import { problemOf } from '../catalog/problem.ts';
import { BackupError } from '../errors.ts';
import type { JobView } from './views.ts';

const START = '/v1/vms/web-1/backups';
const ID = exampleJob().id;
const JOB = `/v1/jobs/${ID}`;

async function jobOf(response: Response): Promise<JobView> {
  return (await response.json()) as JobView;
}

test('a job is shown without its checkpoint, with per cent and a weak entity tag', async () => {
  const { get, service } = createHarness();
  service.change(ID, exampleJob());
  const response = await get(JOB);
  assert.equal(response.headers.get('retry-after'), '5');
  const etag = response.headers.get('etag') ?? '';
  assert.match(etag, /^W\/"[0-9a-f]{16}"$/);
  const job = await jobOf(response);
  assert.equal('checkpoint' in job, false);
  assert.equal(job.progress.percent, 5);

  const same = await get(JOB, { 'if-none-match': `"other", ${etag}` });
  assert.equal(same.status, 304);
  assert.equal(same.headers.get('etag'), etag);
  assert.equal(await same.text(), '');
  service.change(ID, { progress: { ...job.progress, read_bytes: 2_147_483_648 } });
  const changed = await get(JOB, { 'if-none-match': etag });
  assert.equal(changed.status, 200);
  assert.notEqual(changed.headers.get('etag'), etag);
});

test('a failed job is an answer: 200 with the problem inside', async () => {
  const { get, service } = createHarness();
  const error = problemOf(new BackupError('snapshot_refused', 'make snapshot, vm=web-1'));
  service.change(ID, { ...exampleJob(), status: 'failed', error });
  const response = await get(JOB);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('retry-after'), null);
  const job = await jobOf(response);
  assert.equal(job.error?.code, 'snapshot_refused');
  assert.equal(job.links.cancel, undefined);
});

test('an ended job links to its backup and shows 100 per cent', async () => {
  const { get, service } = createHarness();
  service.change(ID, endedJob());
  const job = await jobOf(await get(JOB));
  assert.equal(job.progress.percent, 100);
  assert.equal(job.links.backup, `/v1/backups/${exampleBackup().id}`);
  assert.equal(job.result?.links.xva, `/v1/backups/${exampleBackup().id}/xva`);
});

test('a running job never shows 100 per cent', async () => {
  const { get, service } = createHarness();
  const progress = { read_bytes: 10_000, sent_bytes: 0, copied_bytes: 0, total_bytes: 10_000 };
  service.change(ID, { ...exampleJob(), progress });
  assert.equal((await jobOf(await get(JOB))).progress.percent, 99);
  service.change(ID, { progress: { ...progress, total_bytes: 0 } });
  assert.equal((await jobOf(await get(JOB))).progress.percent, undefined);
});

test('an unknown id is not found, and what is no id never reaches the bucket', async () => {
  const { get, post, service } = createHarness();
  assert.equal((await get(JOB)).status, 404);
  for (const id of ['x', '..%2Fbackups', `${ID}%2F`]) {
    for (const path of [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`, `/v1/backups/${id}`]) {
      assert.equal((await get(path)).status, 404, path);
    }
    assert.equal((await post(`/v1/jobs/${id}/cancel`, {})).status, 404);
  }
  assert.deepEqual(service.calls.get('getJob'), [ID]);
  assert.equal(service.calls.has('getBackup') || service.calls.has('cancelJob'), false);
});

test('Prefer: wait holds a look at a job until it ended', async () => {
  const { get, service } = createHarness();
  service.change(ID, exampleJob());
  const answer = get(JOB, { prefer: 'handling=strict, wait="90"' });
  await until(() => service.watchers === 1);
  service.change(ID, endedJob());
  const response = await answer;
  assert.equal(response.headers.get('preference-applied'), 'wait=55');
  assert.equal((await jobOf(response)).status, 'succeeded');
  assert.deepEqual(service.calls.get('waitJob'), [{ id: ID, timeoutMs: 55_000 }]);
});

test('a wait that runs out answers with the job as it is; an unreadable one is ignored', async () => {
  const { get, service } = createHarness();
  service.change(ID, exampleJob());
  const short = await get(JOB, { prefer: 'wait=1' });
  assert.equal(short.headers.get('preference-applied'), 'wait=1');
  assert.equal((await jobOf(short)).status, 'running');
  for (const prefer of ['wait=0', 'wait=soon', 'wait=-1', 'return=minimal']) {
    const response = await get(JOB, { prefer });
    assert.equal(response.headers.get('preference-applied'), null, prefer);
  }
});

test('a start that waits answers 200 with the ended job, or 202 when the time is up', async () => {
  const { post, service } = createHarness();
  const answer = post(START, {}, { prefer: 'wait=30' });
  await until(() => service.watchers === 1);
  const [id] = [...service.jobs.keys()];
  service.change(id ?? '', { ...endedJob() });
  const ended = await answer;
  assert.equal(ended.status, 200);
  assert.equal(ended.headers.get('retry-after'), null);
  assert.equal(ended.headers.get('preference-applied'), 'wait=30');
  assert.equal((await jobOf(ended)).status, 'succeeded');

  const late = await post(START, {}, { prefer: 'wait=1' });
  assert.equal(late.status, 202);
  assert.equal(late.headers.get('preference-applied'), 'wait=1');
  assert.match(late.headers.get('location') ?? '', /^\/v1\/jobs\//);
  const now = await post(START, {}, { prefer: 'respond-async' });
  assert.equal(now.headers.get('preference-applied'), 'respond-async');
});

test('cancelling asks the job to stop; an ended job stays as it is', async () => {
  const { post, request, service } = createHarness();
  service.change(ID, exampleJob());
  const asked = await request('POST', `${JOB}/cancel`);
  assert.equal(asked.status, 202);
  assert.equal(asked.headers.get('location'), JOB);
  assert.equal((await jobOf(asked)).cancel_requested, true);
  service.change(ID, endedJob());
  const ended = await post(`${JOB}/cancel`, {});
  assert.equal(ended.status, 202);
  assert.equal((await jobOf(ended)).status, 'succeeded');
  assert.equal((await post(`${JOB}/cancel`, { force: true })).status, 422);
});

test('lists hand on their filters and their page tokens', async () => {
  const { get, service } = createHarness();
  for (const n of [1, 2, 3]) service.change(`019aaf4a-0000-7000-8000-00000000000${n}`, {});
  const first = (await (await get('/v1/jobs?page_size=2&status=running&pool=lab')).json()) as {
    jobs: unknown[];
    next_page_token: string;
  };
  assert.equal(first.jobs.length, 2);
  assert.equal(first.next_page_token, 'more');
  await get('/v1/jobs?page_size=99999&page_token=more');
  const last = (await (await get('/v1/jobs?page_token=')).json()) as { next_page_token: string };
  assert.equal(last.next_page_token, '');
  assert.deepEqual(service.calls.get('listJobs'), [
    { pageSize: 2, status: 'running', pool: 'lab' },
    { pageSize: 1000, pageToken: 'more' },
    { pageSize: 50 },
  ]);
  await get('/v1/vms/web%201/backups?retention=weekly');
  await get('/v1/backups?vm=web-1');
  assert.deepEqual(service.calls.get('listBackups'), [
    { pageSize: 50, vm: 'web 1', retention: 'weekly' },
    { pageSize: 50, vm: 'web-1' },
  ]);
  const { vms } = (await (await get('/v1/vms?pool=lab')).json()) as { vms: { name: string }[] };
  assert.equal(vms[0]?.name, 'web-1');
});

test('the archive is a temporary link', async () => {
  const { get, service } = createHarness({ linkSeconds: 600 });
  const { id } = exampleBackup();
  assert.equal((await get(`/v1/backups/${id}/xva`)).status, 404);
  service.backups.set(id, exampleBackup());
  const response = await get(`/v1/backups/${id}/xva`);
  assert.equal(response.status, 307);
  assert.match(response.headers.get('location') ?? '', /^https:.*X-Amz-Expires=600$/);
  const shown = (await (await get(`/v1/backups/${id}`)).json()) as { links: { xva: string } };
  assert.equal(shown.links.xva, `/v1/backups/${id}/xva`);
});

test('events begin with the state, thin the progress out, and end with the end', async () => {
  const { get, service, clock } = createHarness();
  service.change(ID, exampleJob());
  const response = await get(`${JOB}/events`);
  assert.equal(response.headers.get('content-type'), 'text/event-stream');
  assert.equal(response.headers.get('x-accel-buffering'), 'no');
  const events = reader(response);
  assert.deepEqual(await events.next(), { retry: '5000', event: 'state', status: 'running' });

  const read = (read_bytes: number) =>
    service.change(ID, { progress: { read_bytes, sent_bytes: 0, copied_bytes: 0 } });
  read(1);
  assert.deepEqual(await events.after(0), { event: 'progress', read_bytes: 1 });
  read(2);
  await clock.advance(1000);
  read(3);
  await clock.advance(999);
  const late = events.next();
  await clock.advance(1);
  assert.deepEqual(await late, { event: 'progress', read_bytes: 3 });
  service.change(ID, { phase: 'finishing' });
  assert.deepEqual(await events.next(), { event: 'phase', status: 'running', phase: 'finishing' });
  const comment = events.next();
  await clock.advance(15_000);
  assert.deepEqual(await comment, { comment: 'keep-alive' });
  service.change(ID, endedJob());
  assert.deepEqual(await events.next(), { event: 'end', status: 'succeeded' });
  assert.equal(await events.next(), undefined);
  assert.equal(clock.sleepers, 0);

  /** Reads events, in short. */
  function reader({ body }: Response) {
    const source = body?.pipeThrough(new TextDecoderStream()).getReader();
    const next = async () => {
      const chunk = await source?.read();
      return chunk?.value === undefined ? undefined : short(chunk.value);
    };
    return {
      next,
      after: async (ms: number) => {
        const coming = next();
        await clock.advance(ms);
        return await coming;
      },
    };
  }
});

test('events of an ended job are its state and its end', async () => {
  const { get, service } = createHarness();
  service.change(ID, endedJob());
  const text = await (await get(`${JOB}/events`)).text();
  assert.deepEqual(
    [...text.matchAll(/^event: (.*)$/gm)].map(([, name]) => name),
    ['state', 'end'],
  );
});

test('a reader of events that leaves is forgotten', async () => {
  const { get, service, clock } = createHarness();
  service.change(ID, exampleJob());
  const { body } = await get(`${JOB}/events`);
  const source = body?.getReader();
  await source?.read();
  const waiting = source?.read();
  await until(() => service.watchers === 1);
  await source?.cancel();
  await waiting;
  await until(() => service.watchers === 0 && clock.sleepers === 0);
});

function short(text: string): Record<string, unknown> {
  if (text.startsWith(':')) return { comment: text.slice(1).trim() };
  const fields = Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(/: (.*)/s).slice(0, 2)),
  ) as Record<string, string>;
  const { data = '{}', ...shown } = fields;
  const { status, phase, read_bytes } = JSON.parse(data);
  if (shown.event === 'phase') return { ...shown, status, phase };
  return { ...shown, ...(status === undefined ? { read_bytes } : { status }) };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000 && !condition(); turn++) await new Promise(setImmediate);
  assert.ok(condition());
}
