import assert from 'node:assert/strict';
import { test } from 'node:test';
import { engineName } from './engine-name.ts';

test('the engine is named after what is worked on, and after nothing else', () => {
  const table: [method: string, input: unknown, name: string][] = [
    ['startBackup', { vm: 'Web-1', request: {}, triggeredBy: 'a' }, 'vm:/web-1'],
    ['startBackup', { vm: 'Web-1', request: { pool: 'dc1' }, jobId: 'x' }, 'vm:dc1/web-1'],
    ['startRun', { request: { select: { all: true } } }, 'run:all'],
    ['startRun', { request: { select: { names: ['a'], pool: 'dc1' } } }, 'run:dc1'],
    ['startVerify', { backupId: 'b1' }, 'backup:b1'],
    ['startRestore', { backupId: 'b1', request: {} }, 'backup:b1'],
    ['startIndex', { backupId: 'b1' }, 'backup:b1'],
    ['startPin', { backupId: 'b1' }, 'backup:b1'],
    ['unpin', { backupId: 'b1', by: 'a' }, 'backup:b1'],
    ['openDisk', { backupId: 'b1', disk: 0 }, 'backup:b1'],
    ['openArchive', 'b1', 'backup:b1'],
    ['cancelJob', 'j1', 'engine'],
    ['cancelRun', 'r1', 'engine'],
    ['sweep', { dryRun: true }, 'engine'],
    ['applyRotation', { dryRun: true }, 'engine'],
    ['renewLastGood', { dryRun: true }, 'engine'],
    ['listVms', {}, 'engine'],
    ['somethingNew', undefined, 'engine'],
  ];
  for (const [method, input, name] of table) assert.equal(engineName({ method, input }), name);
});
