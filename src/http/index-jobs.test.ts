import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { jobSchema } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { INDEX_JOB_EXAMPLE } from './examples.ts';
import type { JobView } from './views.ts';

const { id: BACKUP } = exampleBackup();
const INDEX = `/v1/backups/${BACKUP}/index`;

test('an index job is started, found and shown as what it is: about a backup, with nothing asked for', async () => {
  const { post, get, service } = createHarness();
  const answer = await post(INDEX, {});
  assert.equal(answer.status, 202);
  const job = (await answer.json()) as JobView;
  assert.deepEqual([job.kind, job.backup_id], ['index', BACKUP]);
  assert.equal('request' in job, false);
  assert.equal(job.links.backup, `/v1/backups/${BACKUP}`);
  assert.equal(answer.headers.get('location'), job.links.self);
  assert.equal((await get(job.links.self)).status, 200);
  assert.deepEqual(service.calls.get('startIndex'), [
    { backupId: BACKUP, triggeredBy: 'nightly', jobId: undefined },
  ]);
});

test('a repeat with the same key gets the first answer, and Prefer waits for the end', async () => {
  const { post, service } = createHarness();
  const headers = { 'idempotency-key': 'k' };
  const first = await post(INDEX, {}, headers);
  for (const id of [...service.jobs.keys()]) service.change(id, { status: 'succeeded' });
  const repeat = await post(INDEX, {}, { ...headers, prefer: 'wait=20' });
  assert.equal(repeat.status, 200);
  assert.equal(repeat.headers.get('idempotency-replayed'), 'true');
  assert.equal(((await repeat.json()) as JobView).id, ((await first.json()) as JobView).id);
  assert.equal(service.calls.get('startIndex')?.length, 1);
});

test('what is no id, no backup or busy is refused as for backups', async () => {
  const { post, service } = createHarness();
  assert.equal((await post('/v1/backups/x/index', {})).status, 404);
  assert.equal((await post(INDEX, { mode: 'full' })).status, 422);
  assert.equal(service.calls.has('startIndex'), false);
  service.failures.set('startIndex', new BackupError('not_found', 'find backup'));
  assert.equal((await post(INDEX, {})).status, 404);
  const busy = new BackupError('job_conflict', 'start job', { details: { job_id: BACKUP } });
  service.failures.set('startIndex', busy);
  assert.equal((await post(INDEX, {})).status, 409);
});

test('the example is a valid record but for what only backups have', () => {
  jobSchema.omit({ checkpoint: true, request: true }).parse(INDEX_JOB_EXAMPLE);
});
