import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob, exampleBackup } from '../../test/http/records.ts';
import type { StatusReport } from '../backup/service.ts';
import { problemOf } from '../catalog/problem.ts';
import { BackupError } from '../errors.ts';
import { jobTable, statusTable, statusText, vmTable } from './text-views.ts';
import { jobView } from './views.ts';

const TEXT = { accept: 'text/plain', authorization: 'Bearer all-token' };
const HOSTILE = 'web\u202e-1\u001b[2J\nok: all is well';

const PROBLEM = problemOf(new BackupError('pool_unavailable', `reach ${HOSTILE}`));

/** The example's records under a hostile name, in a harness. */
function startFront() {
  const harness = createHarness();
  const { service } = harness;
  const backup = exampleBackup();
  const vm = { ...backup.vm, name: HOSTILE };
  service.backups.set(backup.id, { ...backup, vm });
  const job = { ...endedJob(), vm, status: 'failed' as const, error: PROBLEM };
  delete job.result;
  service.change(job.id, job);
  const text = async (path: string) => {
    const answer = await harness.request('GET', path, { headers: TEXT });
    assert.equal(answer.status, 200, path);
    assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8', path);
    return await answer.text();
  };
  return { ...harness, text, backup, job };
}

test('status, machines, backups and jobs are aligned text for who asks for it', async () => {
  const { text, backup, job } = startFront();
  const paths = ['/v1/status', '/v1/vms', '/v1/backups', '/v1/vms/web-1/backups', '/v1/jobs'];
  for (const path of [...paths, `/v1/backups/${backup.id}`, `/v1/jobs/${job.id}`]) {
    const answer = await text(path);
    assert.match(answer, /\n$/, path);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
    assert.doesNotMatch(answer, /[\u0000-\u0009\u000b-\u001f\u202e]|^ok: all/m, path);
    assert.doesNotMatch(answer, /undefined|NaN|\[object|^[{[]/m, path);
  }
  assert.match(await text('/v1/backups'), /^MACHINE +POOL +TAKEN +SIZE +SENT +DISKS/);
  assert.match(
    await text(`/v1/jobs/${job.id}`),
    new RegExp(`^failed: .*\nwhat to do: .*\njob ${job.id}\n$`),
  );
});

test('JSON stays what everybody else gets, and what was asked for by name wins', async () => {
  const { request } = startFront();
  for (const accept of ['*/*', 'application/json', 'text/plain, application/json', 'text/html']) {
    const headers = { ...TEXT, accept };
    const answer = await request('GET', '/v1/status', { headers });
    assert.match(answer.headers.get('content-type') ?? '', /json/, accept);
  }
  const nagios = await request('GET', '/v1/status?format=nagios', { headers: TEXT });
  assert.match(await nagios.text(), /^(OK|WARNING|CRITICAL) - .*\|/);
  const json = await request('GET', '/v1/status?format=json', { headers: TEXT });
  assert.match(json.headers.get('content-type') ?? '', /json/);
});

test('a status says in one line how it stands, then the worst first, then what else is wrong', () => {
  const report: StatusReport = {
    status: 'critical',
    checked_at: '2026-11-23T02:00:00Z',
    max_age_seconds: 93_600,
    vms: [
      {
        vm: { uuid: 'u1', name: 'db', pool: 'dc1' },
        status: 'critical',
        reason: 'no backup',
        guard: 'due',
      },
      {
        vm: { uuid: 'u2', name: '名前', pool: 'default' },
        status: 'ok',
        reason: 'last backup is young enough',
        last_backup_at: '2026-11-22T23:00:00Z',
        expires_at: '2026-12-06T00:00:00Z',
      },
    ],
    unreachable_pools: ['lab'],
    gone_at_risk: [
      {
        vm: { uuid: 'u3', name: 'old', pool: 'dc1' },
        status: 'warning',
        reason: 'soon',
        last_backup_id: 'b',
      },
    ],
  };
  assert.deepEqual(statusText(report, Date.parse('2026-11-23T02:00:00Z')), [
    'critical: 1 of 2 machines backed up and well',
    'STATUS    MACHINE  POOL     LAST GOOD  DELETED ON  WHY',
    'critical  db       dc1      –          due         no backup',
    'ok        名前     default  3h ago     2026-12-06  last backup is young enough',
    'warning: pool lab does not answer; its machines are known from the bucket',
    'warning: dc1/old is on no pool any more: soon',
  ]);
});

test('a machine says what is done with it now', () => {
  const vm = { uuid: 'u', name: 'web', pool: 'p', power_state: 'Running', tags: [] };
  const rows = vmTable(
    [
      { ...vm, running_job_id: 'j' },
      { ...vm, skipped_because: 'a tag' },
    ],
    0,
  );
  assert.match(rows[1] ?? '', /^web +p +running +– +– +being backed up +u$/);
  assert.match(rows[2] ?? '', / a tag +u$/);
});

test('machines of one name are told apart by their uuids, and no others have them', () => {
  const line = { status: 'ok', reason: 'young enough' } as const;
  const vms = ['u1', 'u2', 'u3'].map((uuid, i) => ({
    ...line,
    vm: { uuid, name: i < 2 ? 'twin' : 'web-1', pool: 'dc1' },
  }));
  const [, ...rows] = statusTable({ vms } as never, 0);
  assert.deepEqual(
    rows.map((row) => row.split(/ {2,}/)[1]),
    ['twin u1', 'twin u2', 'web-1'],
  );
  // two jobs of one machine are no two machines
  const job = { ...jobView(endedJob()), vm: { uuid: 'u1', name: 'web-1', pool: 'dc1' } };
  for (const row of jobTable([job, job], 0).slice(1)) assert.match(row, /web-1 {2,}dc1/);
});
