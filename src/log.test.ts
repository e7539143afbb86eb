import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupError } from './errors.ts';
import { createConsoleLog, createLog } from './log.ts';

function capture() {
  const lines: string[] = [];
  return { lines, write: (line: string) => void lines.push(line) };
}

test('an event is one JSON line with time, level, message and fields', () => {
  const { lines, write } = capture();
  const log = createLog({ level: 'info', write }).child({ job_id: 'j1' });
  log.info('export started', { bytes: 5 });
  log.debug('not written');
  assert.equal(lines.length, 1);
  const { time, ...rest } = JSON.parse(lines[0] ?? '');
  assert.ok(Date.parse(time) > 0);
  assert.deepEqual(rest, { level: 'info', msg: 'export started', job_id: 'j1', bytes: 5 });
});

test('secrets are censored by name at any depth, in both formats', () => {
  const fields = {
    password: 'hunter2',
    request: { headers: { Authorization: 'Bearer hunter2' }, list: [{ session_id: 'hunter2' }] },
  };
  const { lines, write } = capture();
  createLog({ level: 'info', write }).info('call', fields);
  createLog({ level: 'info', write }).child(fields).info('call');
  createConsoleLog({ level: 'info', write }).info('call', fields);
  assert.equal(lines.length, 3);
  for (const line of lines) {
    assert.ok(!line.includes('hunter2'), line);
    assert.ok(line.includes('***'), line);
  }
});

test('an error is written as code, message, details and its chain of causes', () => {
  const { lines, write } = capture();
  const cause = Object.assign(new Error('connect failed'), { code: 'ECONNREFUSED' });
  const error = new BackupError('pool_unavailable', 'reach pool', {
    cause,
    details: { pool: 'office', token: 'hunter2' },
  });
  createLog({ level: 'info', write }).error('job failed', { error });
  assert.deepEqual(JSON.parse(lines[0] ?? '').error, {
    code: 'pool_unavailable',
    message: 'reach pool',
    details: { pool: 'office', token: '***' },
    causes: ['connect failed (ECONNREFUSED)'],
  });
});

test('a bug is logged with the stack of where it is', () => {
  const { lines, write } = capture();
  createLog({ level: 'info', write }).error('job failed', { error: new TypeError('x is no y') });
  assert.match(JSON.parse(lines[0] ?? '').error.stack, /log\.test/);
});

test('a circular or endless field does not stop the log', () => {
  const { lines, write } = capture();
  const loop: Record<string, unknown> = { big: 3n, bytes: Buffer.alloc(9) };
  loop.self = loop;
  createLog({ level: 'info', write }).info('odd', loop);
  const line = JSON.parse(lines[0] ?? '');
  assert.equal(line.big, '3');
  assert.equal(line.bytes, '[9 bytes]');
});

test('for people a line has the time of day, the level and name=value pairs', () => {
  const { lines, write } = capture();
  createConsoleLog({ level: 'warn', write }, { pool: 'office' }).warn('retry part', { part: 3 });
  createConsoleLog({ level: 'warn', write }).info('not written');
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d warn {2}retry part {2}pool=office part=3\n$/);
});
