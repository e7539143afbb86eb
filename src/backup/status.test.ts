import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTime } from '../time.ts';
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
