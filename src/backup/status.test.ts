import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Verification } from '../catalog/verified.ts';
import { formatTime, parseTime } from '../time.ts';
import { statusOf } from './status.ts';

const now = parseTime('2026-06-01T00:00:00Z');
const hour = 3600_000;
const vm = (name: string, ageHours?: number, over: object = {}) => ({
  uuid: name,
  name,
  pool: 'p',
  skipped: false,
  ...(ageHours === undefined
    ? {}
    : { lastBackup: { id: `b-${name}`, createdAtMs: now - ageHours * hour } }),
  ...over,
});
const report = (vms: ReturnType<typeof vm>[], unreachablePools: string[] = []) =>
  statusOf({ nowMs: now, maxAgeSeconds: 26 * 3600, unreachablePools, vms });

test('all young enough is ok', () => {
  const { status, vms } = report([vm('a', 1), vm('b', 25.9)]);
  assert.equal(status, 'ok');
  assert.equal(vms[0]?.age_seconds, 3600);
});

test('no backup or one too old is critical, and comes first', () => {
  const { status, vms } = report([vm('a', 1), vm('b', 27), vm('c')]);
  assert.equal(status, 'critical');
  assert.deepEqual(
    vms.map((one) => one.status),
    ['critical', 'critical', 'ok'],
  );
  assert.equal(vms[1]?.reason, 'no backup');
});

test('a failed last try over a young backup is a warning', () => {
  const lastJob = { id: 'j', status: 'failed', errorCode: 'pool_unavailable' };
  const { status, vms } = report([vm('a', 1, { lastJob })]);
  assert.equal(status, 'warning');
  assert.match(vms[0]?.reason ?? '', /pool_unavailable/);
});

test('a silent pool is a warning, a skipped machine nothing', () => {
  assert.equal(report([vm('a', 1)], ['p2']).status, 'warning');
  assert.deepEqual(report([vm('a', undefined, { skipped: true })]).vms, []);
});

const verified = (hoursAgo: number, over: Partial<Verification> = {}): Verification => ({
  at: formatTime(now - hoursAgo * hour),
  kind: 'whole',
  percent: 100,
  ok: true,
  read_bytes: 1,
  checked_blocks: 1,
  job_id: 'j',
  ...over,
});
const fault = (part: 'archive' | 'index', detail: string): Partial<Verification> => ({
  ok: false,
  problem: { part, code: 'data_corrupt', detail },
});

test('a backup that was verified says so, and how much of it', () => {
  const reasonOf = (one: Verification) => {
    const lastBackup = { id: 'b', createdAtMs: now - hour, verified: one };
    const [line] = report([vm('a', undefined, { lastBackup })]).vms;
    assert.equal(line?.status, 'ok');
    assert.deepEqual(line?.verified, one);
    return line?.reason;
  };
  assert.equal(reasonOf(verified(75)), 'last backup is young enough, verified 3 days ago');
  const sample = verified(5, { kind: 'sampled', percent: 5 });
  assert.equal(reasonOf(sample), 'last backup is young enough, 5 % verified 5 h ago');
  const booted = verified(0.5, { kind: 'restored' });
  assert.equal(reasonOf(booted), 'last backup is young enough, restored as a test just now');
});

test('a damaged newest backup is a warning over a good young one, and critical without', () => {
  const damaged = { id: 'new', verified: verified(1, fault('archive', 'block 7 is wrong')) };
  const over = report([vm('a', 3, { damaged })]).vms[0];
  assert.equal(over?.status, 'warning');
  assert.match(over?.reason ?? '', /backup new is damaged \(block 7 is wrong\)/);
  assert.deepEqual([over?.last_backup_id, over?.damaged_backup_id], ['b-a', 'new']);
  for (const age of [30, undefined]) {
    const line = report([vm('a', age, { damaged })]).vms[0];
    assert.equal(line?.status, 'critical');
    assert.match(line?.reason ?? '', /block 7 is wrong/);
  }
});

test('a lost index is a warning that names the mend', () => {
  const one = verified(1, fault('index', 'its index is gone; to make it anew: xvault index b'));
  const lastBackup = { id: 'b', createdAtMs: now - hour, verified: one };
  const [line] = report([vm('a', undefined, { lastBackup })]).vms;
  assert.equal(line?.status, 'warning');
  assert.match(line?.reason ?? '', /xvault index b/);
});

test('a machine with a tag is judged by its own age, and a tag that is no time is a warning', () => {
  const lab = vm('lab', 100, { maxAge: { seconds: 8 * 86_400, wrong: [] } });
  const db = vm('db', 5, { maxAge: { seconds: 3600, wrong: [] } });
  const slip = vm('slip', 1, { maxAge: { wrong: ['xvault:max_age=soon'] } });
  const { vms } = report([lab, db, slip]);
  assert.deepEqual(
    vms.map((one) => [one.vm.name, one.status, one.max_age_seconds]),
    [
      ['db', 'critical', 3600],
      ['slip', 'warning', undefined],
      ['lab', 'ok', 691_200],
    ],
  );
  assert.match(vms[0]?.reason ?? '', /older than 1 hour$/);
  assert.equal(vms[1]?.reason, 'its tag xvault:max_age=soon is no time such as 26h or 8d');
});
