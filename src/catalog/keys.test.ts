import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { createKeys, leaseKey, safeName } from './keys.ts';

const parts = {
  retention: 'daily',
  pool: 'dc1',
  vmUuid: '9f0f4b1e-7a43-4b5c-9d11-111111111111',
  backupId: '019ab000-0000-7000-8000-000000000001',
};

test('a record key is parsed back into what it was built from', () => {
  for (const prefix of ['', 'xv', 'xv/', 'a/b.c']) {
    const keys = createKeys(prefix);
    assert.deepEqual(keys.parseRecord(keys.record(parts)), parts);
    assert.ok(keys.record(parts).startsWith(keys.vmPrefix('daily', 'dc1', parts.vmUuid)));
    assert.ok(keys.record(parts).startsWith(keys.classPrefix('daily')));
  }
});

test('keys of other kinds are no records', () => {
  const keys = createKeys('p');
  assert.equal(keys.parseRecord(keys.index(parts)), undefined);
  assert.equal(keys.parseRecord(keys.archive(parts, 'web')), undefined);
  assert.equal(keys.parseRecord(`x${keys.record(parts)}`), undefined);
  assert.equal(keys.parseJob(keys.record(parts)), undefined);
  assert.equal(keys.parseJob(keys.job(parts.backupId)), parts.backupId);
});

test('an archive, a lease and a staging object tell whose they are', () => {
  for (const prefix of ['', 'xv']) {
    const keys = createKeys(prefix);
    assert.deepEqual(keys.parseArchive(keys.archive(parts, 'web')), parts);
    assert.equal(keys.parseArchive(keys.record(parts)), undefined);
    assert.equal(keys.parseArchive(`other/${keys.archive(parts, 'web')}`), undefined);
    const { pool, vmUuid, backupId } = parts;
    assert.deepEqual(keys.parseLease(keys.lease(pool, vmUuid)), { pool, vmUuid });
    assert.equal(keys.parseLease(keys.job(backupId)), undefined);
    assert.equal(keys.parseStaging(`${keys.staging(backupId)}x/1`), backupId);
    assert.equal(keys.parseStaging(`${keys.stagingPrefix}somebody/1`), undefined);
  }
});

test('a job about a backup holds the lease of that backup, any other its machine’s, a dry run its own', () => {
  const keys = createKeys('p');
  const { pool, vmUuid, backupId } = parts;
  const job = { id: 'job', vm: { pool, uuid: vmUuid }, request: { dry_run: false } };
  assert.equal(leaseKey(keys, job), `p/leases/dc1/${vmUuid}`);
  assert.equal(leaseKey(keys, { ...job, backup_id: backupId }), `p/leases/dc1/${backupId}`);
  assert.equal(leaseKey(keys, { ...job, request: { dry_run: true } }), 'p/leases/dc1/job');
  assert.equal(keys.rebuiltIndex(backupId), `p/indexes/${backupId}.idx`);
});

test('any machine name becomes one plain path segment', () => {
  const names = [
    'web',
    'a/b',
    '../../etc',
    '\0',
    '🦊',
    '',
    ' ',
    '.',
    '..',
    'Ünïcode naïve',
    'x'.repeat(1000),
  ];
  for (const name of names) {
    assert.match(safeName(name), /^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$/, JSON.stringify(name));
    assert.equal(createKeys('').archive(parts, name).split('/').length, 6);
  }
});

test('a prefix or pool name that would leave its folder is refused', () => {
  assert.throws(() => createKeys('/abs'), isConfiguration);
  assert.throws(() => createKeys('a b'), isConfiguration);
  assert.throws(() => createKeys('').lease('a/b', parts.vmUuid), isConfiguration);
  assert.throws(() => createKeys('').lease('..', parts.vmUuid), isConfiguration);
});

function isConfiguration(error: unknown): boolean {
  return isBackupError(error, 'configuration');
}
