import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { jobSchema } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { PIN_JOB_EXAMPLE } from './examples.ts';
import type { HttpProblem } from './problem.ts';
import type { JobView } from './views.ts';

const { id: BACKUP } = exampleBackup();
const PIN = `/v1/backups/${BACKUP}/pin`;

test('a pin is a job with its reason and end, and a strict body', async () => {
  const { post, service } = createHarness();
  const until = '2027-11-23T00:00:00Z';
  const answer = await post(PIN, { reason: ' audit ', until });
  assert.equal(answer.status, 202);
  const job = (await answer.json()) as JobView;
  assert.deepEqual([job.kind, job.backup_id], ['pin', BACKUP]);
  assert.deepEqual(job.pin, { reason: 'audit', until });
  assert.equal(answer.headers.get('location'), job.links.self);
  for (const body of [{ until: 'soon' }, { reason: '' }, { reasons: 'x' }]) {
    assert.equal((await post(PIN, body)).status, 422, JSON.stringify(body));
  }
  assert.equal(service.calls.get('startPin')?.length, 1);
  assert.equal((await post(PIN, {})).status, 202);
});

test('unpinning tells what became of it; nothing there and busy are told apart', async () => {
  const { request, service } = createHarness();
  assert.equal((await request('DELETE', PIN)).status, 404);
  service.backups.set(BACKUP, exampleBackup());
  const answer = await request('DELETE', PIN);
  assert.equal(answer.status, 200);
  assert.deepEqual(await answer.json(), { backup_id: BACKUP, outcome: 'in_rotation' });
  assert.deepEqual(service.calls.get('unpin')?.at(-1), { backupId: BACKUP, by: 'nightly' });
  service.failures.set('unpin', new BackupError('job_conflict', 'unpin backup'));
  const busy = await request('DELETE', PIN);
  assert.equal(busy.status, 409);
  assert.equal(((await busy.json()) as HttpProblem).code, 'job_conflict');
  assert.equal((await request('PUT', PIN)).headers.get('allow'), 'POST, DELETE');
});

test('the example is a valid record but for what only backups have', () => {
  jobSchema.omit({ checkpoint: true, request: true }).parse(PIN_JOB_EXAMPLE);
});
