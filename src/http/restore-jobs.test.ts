import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { jobSchema } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { RESTORE_JOB_EXAMPLE } from './examples.ts';
import type { JobView } from './views.ts';

const { id: BACKUP } = exampleBackup();
const RESTORE = `/v1/backups/${BACKUP}/restore`;
const DEFAULTS = {
  disk_srs: {},
  mac: 'new',
  uuid: 'new',
  networks: {},
  start: false,
  via: 'auto',
  dry_run: false,
};

test('a restore is started with all that was asked for, found, and shown as what it is', async () => {
  const { post, get, service } = createHarness();
  const wish = { name: 'web-2', networks: { LAN: 'Lab' }, disks: ['0'], mac: 'keep', start: true };
  const answer = await post(RESTORE, wish);
  assert.equal(answer.status, 202);
  const job = (await answer.json()) as JobView;
  assert.deepEqual([job.kind, job.backup_id], ['restore', BACKUP]);
  assert.deepEqual(job.restore, { ...DEFAULTS, ...wish });
  assert.equal('request' in job, false);
  assert.equal(answer.headers.get('location'), job.links.self);
  assert.equal((await get(job.links.self)).status, 200);
  assert.deepEqual(service.calls.get('startRestore'), [
    {
      backupId: BACKUP,
      request: { ...DEFAULTS, ...wish },
      triggeredBy: 'nightly',
      jobId: undefined,
    },
  ]);
});

test('a repeat with the same key gets the first answer, and Prefer waits for the end', async () => {
  const { post, service } = createHarness();
  const headers = { 'idempotency-key': 'k' };
  const first = await post(RESTORE, {}, headers);
  for (const id of [...service.jobs.keys()]) service.change(id, { status: 'succeeded' });
  const repeat = await post(RESTORE, {}, { ...headers, prefer: 'wait=20' });
  assert.equal(repeat.status, 200);
  assert.equal(((await repeat.json()) as JobView).id, ((await first.json()) as JobView).id);
  assert.equal(service.calls.get('startRestore')?.length, 1);
});

test('a body that says two things, or something unknown, is refused before anything begins', async () => {
  const { post, service } = createHarness();
  const wrong = [
    { replace: true },
    { mac: 'other' },
    { disk: '0', disks: ['1'] },
    { disk: '0', start: true },
    { uuid: 'keep' },
    { disks: [] },
    { networks: { LAN: '' } },
    { name: 'web\u0000' },
  ];
  for (const body of wrong) {
    assert.equal((await post(RESTORE, body)).status, 422, JSON.stringify(body));
  }
  assert.equal((await post('/v1/backups/x/restore', {})).status, 404);
  assert.equal(service.calls.has('startRestore'), false);
});

test('a refusal of the pool comes with its reason and the choices', async () => {
  const { post, service } = createHarness();
  const details = { reason: 'network_missing', choices: [{ uuid: 'n', name: 'Lab' }] };
  const refusal = new BackupError('restore_refused', 'place networks', { details });
  service.failures.set('startRestore', refusal);
  const answer = await post(RESTORE, {});
  assert.equal(answer.status, 409);
  assert.deepEqual(((await answer.json()) as { details: object }).details, details);
});

test('who may back up may not restore', async () => {
  const { post, service } = createHarness();
  for (const scope of ['read', 'backup', 'admin']) {
    const answer = await post(RESTORE, {}, { authorization: `Bearer ${scope}-token` });
    assert.equal(answer.status, 403, scope);
  }
  assert.equal(service.calls.has('startRestore'), false);
  const answer = await post(RESTORE, {}, { authorization: 'Bearer restore-token' });
  assert.equal(answer.status, 202);
});

test('the example is a valid record but for what only backups have', () => {
  jobSchema.omit({ checkpoint: true, request: true }).parse(RESTORE_JOB_EXAMPLE);
});
