import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VM_UUID } from '../../test/records.ts';
import { DAY_MS } from '../catalog/forecast.ts';
import type { Holding } from '../catalog/holdings.ts';
import { BackupError } from '../errors.ts';
import { parseTime } from '../time.ts';
import type { MachineGuard } from './endings.ts';
import { goneAtRisk, withGuard } from './guard-verdict.ts';
import type { StatusReport } from './service.ts';
import { statusOf } from './status.ts';

const NOW = parseTime('2026-01-05T12:00:00Z');
const vm = { uuid: VM_UUID, name: 'web', pool: 'dc1' };
const good: Holding = { pool: 'dc1', vmUuid: VM_UUID, backupId: 'b', original: {}, pinned: {} };
const ending = (days: number) => ({
  sureUntil: NOW + days * DAY_MS,
  expiresAt: Math.ceil((NOW + days * DAY_MS) / DAY_MS) * DAY_MS,
  ruleId: 'daily',
});
const guard = (over: Partial<MachineGuard>): MachineGuard => ({
  state: 'safe',
  good,
  end: ending(2),
  drop: [],
  ...over,
});
const ok: StatusReport['vms'][number] = { vm, status: 'ok', reason: 'young enough' };

test('what lasts changes no verdict and tells when it ends', () => {
  const told = withGuard(ok, guard({}), NOW);
  assert.deepEqual([told.status, told.reason], ['ok', 'young enough']);
  assert.equal(told.expires_at, '2026-01-08T00:00:00.000Z');
  assert.equal(told.expires_by, 'daily');
  const endless = { sureUntil: Infinity, expiresAt: Infinity };
  assert.equal(withGuard(ok, guard({ state: 'renewed', end: endless }), NOW).expires_at, undefined);
  assert.deepEqual(withGuard(ok, undefined, NOW), ok);
});

test('about to be deleted and not kept is a warning, within a day critical, with why', () => {
  const soon = withGuard(ok, guard({ state: 'due' }), NOW);
  assert.equal(soon.status, 'warning');
  assert.match(soon.reason, /on 2026-01-08, and it is not copied out of rotation yet/);
  const failure = new BackupError('store_credentials', 'copy: not allowed');
  const now = withGuard(ok, guard({ state: 'due', end: ending(0.5), failure }), NOW);
  assert.equal(now.status, 'critical');
  assert.match(now.reason, /failed \(store_credentials\)/);
  const old = { ...ok, status: 'critical' as const, reason: 'too old' };
  const both = withGuard(old, guard({ state: 'due' }), NOW);
  assert.deepEqual([both.status, both.reason.startsWith('too old; ')], ['critical', true]);
});

test('a failure to tidy up is no reason to wake anybody', () => {
  const failure = new BackupError('store_unavailable', 'delete');
  assert.equal(withGuard(ok, guard({ failure }), NOW).status, 'ok');
});

test('machines that are on no pool any more are told of when theirs is about to go', () => {
  const guards = new Map([['dc1/x', guard({ state: 'due' })]]);
  const known = { seen: [], newest: new Map([['dc1/x', { vm }]]), pool: undefined };
  const atRisk = goneAtRisk(guards, known, NOW);
  assert.deepEqual(
    atRisk.map(({ vm: { name }, status }) => [name, status]),
    [['web', 'warning']],
  );
  const input = { nowMs: NOW, maxAgeSeconds: 1, unreachablePools: [], vms: [], atRisk };
  assert.equal(statusOf(input).status, 'warning');
  assert.deepEqual(goneAtRisk(guards, { ...known, pool: 'dc2' }, NOW), []);
  assert.deepEqual(goneAtRisk(new Map([['dc1/x', guard({})]]), known, NOW), []);
});
