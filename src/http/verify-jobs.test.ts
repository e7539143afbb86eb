import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { jobSchema } from '../catalog/record.ts';
import type { Verification } from '../catalog/verified.ts';
import { RESTORE_TEST_JOB_EXAMPLE, VERIFY_JOB_EXAMPLE } from './examples.ts';
import { backupAnswerSchema } from './schemas.ts';
import type { BackupView, JobView } from './views.ts';

const { id: BACKUP } = exampleBackup();
const VERIFY = `/v1/backups/${BACKUP}/verify`;

test('a verification is started for the whole or a share, found and shown as what it is', async () => {
  const { post, get, service } = createHarness();
  for (const [query, percent] of [
    ['', 100],
    ['?percent=5', 5],
    ['?percent=0.25', 0.25],
  ] as const) {
    const answer = await post(`${VERIFY}${query}`, {});
    assert.equal(answer.status, 202);
    const job = (await answer.json()) as JobView;
    assert.deepEqual([job.kind, job.backup_id, job.verify], ['verify', BACKUP, { percent }]);
    assert.equal(answer.headers.get('location'), job.links.self);
    assert.equal((await get(job.links.self)).status, 200);
  }
  assert.equal(service.calls.get('startVerify')?.length, 3);
});

test('what is no share, and what is no parameter, is refused with its name', async () => {
  const { post, service } = createHarness();
  for (const query of [
    'percent=0',
    'percent=101',
    'percent=five',
    'percent=-1',
    'percent=1e1',
    'share=5',
  ]) {
    const answer = await post(`${VERIFY}?${query}`, {});
    assert.equal(answer.status, 422, query);
    assert.match(await answer.text(), new RegExp(`"parameter":"${query.split('=')[0]}"`));
  }
  assert.equal((await post(VERIFY, { percent: 5 })).status, 422);
  assert.equal((await post('/v1/backups/x/verify', {})).status, 404);
  assert.equal(service.calls.has('startVerify'), false);
});

test('a repeat with the same key gets the first answer, with another share it is another request', async () => {
  const { post, service } = createHarness();
  const headers = { 'idempotency-key': 'k' };
  const first = (await (await post(`${VERIFY}?percent=5`, {}, headers)).json()) as JobView;
  const again = await post(`${VERIFY}?percent=5`, {}, headers);
  assert.equal(((await again.json()) as JobView).id, first.id);
  assert.equal((await post(`${VERIFY}?percent=6`, {}, headers)).status, 422);
  assert.equal(service.calls.get('startVerify')?.length, 1);
});

test('a backup shows the verification that counts', async () => {
  const { get, service } = createHarness();
  const { verified } = VERIFY_JOB_EXAMPLE as { verified: Verification };
  service.backups.set(BACKUP, { ...exampleBackup(), verified } as never);
  const view = (await (await get(`/v1/backups/${BACKUP}`)).json()) as BackupView;
  assert.deepEqual(view.verified, verified);
  assert.deepEqual(backupAnswerSchema.parse(view).verified, verified);
});

test('the example is a valid record but for what only backups have', () => {
  jobSchema.omit({ checkpoint: true, request: true }).parse(VERIFY_JOB_EXAMPLE);
});

test('a restore test is started with its defaults, takes the scope restore, and refuses what it does not know', async () => {
  const { post, request, service } = createHarness();
  const path = `/v1/backups/${BACKUP}/restore-test`;
  const answer = await post(path, {});
  assert.equal(answer.status, 202);
  const job = (await answer.json()) as JobView;
  assert.deepEqual([job.kind, job.restore_test], ['restore_test', { boot_timeout_seconds: 600 }]);
  const wish = { pool: 'dr', sr: 'NFS store', boot_timeout_seconds: 60 };
  assert.equal((await post(path, wish)).status, 202);
  for (const wrong of [{ boot_timeout_seconds: 1 }, { name: 'x' }, { pool: '' }]) {
    assert.equal((await post(path, wrong)).status, 422, JSON.stringify(wrong));
  }
  const backup = { authorization: 'Bearer backup-token' };
  assert.equal((await request('POST', path, { headers: backup })).status, 403);
  assert.equal(service.calls.get('startRestoreTest')?.length, 2);
  jobSchema.omit({ checkpoint: true, request: true }).parse(RESTORE_TEST_JOB_EXAMPLE);
});
