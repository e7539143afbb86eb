import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StatusReport } from '../backup/service.ts';
import { judge, render } from './check.ts';
import { parseThreshold } from './threshold.ts';

type Entry = StatusReport['vms'][number];

const rules = { warning: parseThreshold('26h', 0), critical: parseThreshold('50h', 0) };

function entry(name: string, ageSeconds: number | undefined, over: Partial<Entry> = {}): Entry {
  return {
    vm: { uuid: `uuid-of-${name}-${ageSeconds}`, name, pool: 'p' },
    status: 'ok',
    reason: '',
    ...(ageSeconds === undefined ? {} : { age_seconds: ageSeconds }),
    ...over,
  };
}

function check(vms: Entry[], over: { vm?: string; silent?: string[] } = {}) {
  const report: StatusReport = {
    status: 'ok',
    checked_at: '2026-01-01T00:00:00Z',
    max_age_seconds: 1,
    vms,
    unreachable_pools: over.silent ?? [],
  };
  const lines = judge(report, { ...rules, vm: over.vm });
  return { state: lines[0]?.state, text: render(lines, rules) };
}

test('one machine is one line with its age as performance data', () => {
  const { state, text } = check([entry('web-1', 10_800), entry('db', undefined)], { vm: 'web-1' });
  assert.equal(state, 'OK');
  assert.equal(text, 'OK - web-1: last backup 3h ago | age=10800s;93600;180000;0\n');
});

test('several machines: worst first, one line each', () => {
  const { state, text } = check([
    entry('fresh', 60),
    entry('old', 27 * 3600),
    entry('ancient', 60 * 3600),
    entry('never', undefined),
  ]);
  assert.equal(state, 'CRITICAL');
  const lines = text.trimEnd().split('\n');
  assert.match(lines[0] ?? '', /^CRITICAL - 1 of 4 machines ok; ancient: .* \| 'ancient'=216000s;/);
  assert.deepEqual(
    lines.slice(1).map((line) => line.split(':')[0]),
    ['CRITICAL', 'CRITICAL', 'WARNING', 'OK'],
  );
});

test('a failed last try warns while the last good backup is young', () => {
  const failed = entry('web', 60, {
    last_job: { id: 'j', status: 'failed', error_code: 'pool_unavailable' },
  });
  const { state, text } = check([failed]);
  assert.equal(state, 'WARNING');
  assert.match(text, /the last try failed \(pool_unavailable\)/);
});

test('it says when the last backup was verified, and warns of what was found', () => {
  const verified = {
    at: '2025-12-29T00:00:00Z',
    kind: 'whole',
    percent: 100,
    ok: true,
    read_bytes: 1,
    checked_blocks: 1,
    job_id: 'j',
  } as const;
  const good = check([entry('web', 60, { verified })]);
  assert.equal(good.state, 'OK');
  assert.match(good.text, /web: last backup 1m ago, verified 3d ago \|/);
  const part = { ...verified, kind: 'sampled', percent: 5 } as const;
  assert.match(check([entry('web', 60, { verified: part })]).text, /, 5 % verified 3d ago/);
  const problem = { part: 'index', code: 'data_corrupt', detail: 'its index is gone' } as const;
  const lost = check([entry('web', 60, { verified: { ...verified, ok: false, problem } })]);
  assert.equal(lost.state, 'WARNING');
  assert.match(lost.text, /web: last backup 1m ago, its index is gone/);
});

test('a damaged newest backup warns over a good young one, and is critical without', () => {
  const over = check([entry('web', 60, { damaged_backup_id: 'b' })]);
  assert.equal(over.state, 'WARNING');
  assert.match(over.text, /web: last good backup 1m ago, backup b is damaged/);
  const none = check([entry('web', undefined, { damaged_backup_id: 'b' })]);
  assert.equal(none.state, 'CRITICAL');
  assert.match(none.text, /web: no good backup, backup b is damaged/);
});

test('a missing machine and a silent pool are critical', () => {
  assert.equal(check([entry('web', 60)], { vm: 'nope' }).state, 'CRITICAL');
  assert.equal(check([entry('web', 60)], { silent: ['p2'] }).state, 'CRITICAL');
});

test('labels are there once and cannot break the line', () => {
  const { text } = check([entry('twin', 1), entry('twin', 2), entry("o'x|=y", 3)]);
  const [first = ''] = text.split('\n');
  const labels = [...first.slice(first.indexOf(' | ') + 3).matchAll(/'([^']*)'=/g)];
  assert.equal(new Set(labels.map(([, label]) => label)).size, 3);
  assert.equal(first.split(' | ').length, 2);
});

test('nothing to back up is fine', () => {
  assert.equal(check([]).text, 'OK - no machine to back up\n');
});

test('a machine with its own age is judged by that, and its figures say so', () => {
  const { state, text } = check([
    entry('weekly', 100 * 3600, { max_age_seconds: 691_200 }),
    entry('hourly', 7200, { max_age_seconds: 3600 }),
  ]);
  assert.equal(state, 'CRITICAL');
  assert.match(text, /^CRITICAL - 1 of 2 machines ok; hourly: /);
  assert.match(text, /'hourly'=7200s;3600;3600;0 'weekly'=360000s;691200;691200;0\n/);
});

test('what the status knows beside the age is never less here', () => {
  const guard = { status: 'critical', reason: 'the bucket deletes it today' } as const;
  const { state, text } = check([entry('web', 60, guard)]);
  assert.equal(state, 'CRITICAL');
  assert.match(text, /^CRITICAL - web: last backup 1m ago, the bucket deletes it today \| age=60s/);
});
