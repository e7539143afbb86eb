import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { createKeys } from './catalog/keys.ts';
import { inspectSettings } from './config.ts';
import { type EncryptionWish, encryptionByPrefix, locksByPrefix } from './settings-protection.ts';

const KEY = Buffer.alloc(32, 7);

function read(env: Record<string, string>) {
  return inspectSettings({ env, readFile: () => `${KEY.toString('base64')}\n` });
}

const namesOf = (env: Record<string, string>) => read(env).mistakes.map(({ name }) => name);

test('nothing is asked for unless it is set', () => {
  const { settings, mistakes } = read({});
  assert.deepEqual(mistakes, []);
  assert.equal(settings?.bucket.encryption, undefined);
  assert.equal(settings?.bucket.locks, undefined);
});

test('one key of the key service is for everything; by class, default is for the rest', () => {
  const keys = createKeys('xv');
  const wish = (env: Record<string, string>) =>
    read({ XVAULT_SSE: 'aws:kms', ...env }).settings?.bucket.encryption as EncryptionWish;
  assert.deepEqual(encryptionByPrefix(wish({ XVAULT_SSE_KMS_KEY: 'alias/a' }), keys), {
    kind: 'aws:kms',
    keys: [{ prefix: '', keyId: 'alias/a' }],
  });
  const byClass = '{"default":"alias/a","yearly":"alias/b"}';
  assert.deepEqual(encryptionByPrefix(wish({ XVAULT_SSE_KMS_KEY: byClass }), keys), {
    kind: 'aws:kms',
    keys: [
      { prefix: '', keyId: 'alias/a' },
      { prefix: 'xv/backups/yearly/', keyId: 'alias/b' },
    ],
  });
  assert.deepEqual(encryptionByPrefix(wish({}), keys), { kind: 'aws:kms', keys: [] });
});

test('a key of our own comes in base64 or hex, from a file too, and is never shown', () => {
  const given = [
    { XVAULT_SSE_C_KEY: KEY.toString('base64') },
    { XVAULT_SSE_C_KEY: KEY.toString('hex') },
    { XVAULT_SSE_C_KEY_FILE: '/run/key' },
  ];
  for (const env of given) {
    const report = read(env as Record<string, string>);
    assert.deepEqual(report.mistakes, []);
    const encryption = report.settings?.bucket.encryption;
    assert.equal(
      encryption?.kind === 'customer' && encryption.key.reveal(),
      KEY.toString('base64'),
    );
    for (const text of [inspect(report, { depth: 9 }), JSON.stringify(report)]) {
      assert.ok(!text.includes(KEY.toString('base64')) && !text.includes(KEY.toString('hex')));
    }
  }
});

test('what does not fit together is told by its name', () => {
  const key = { XVAULT_SSE_C_KEY: KEY.toString('base64') };
  assert.deepEqual(namesOf({ XVAULT_SSE_KMS_KEY: 'alias/a' }), ['XVAULT_SSE_KMS_KEY']);
  assert.deepEqual(namesOf({ ...key, XVAULT_SSE: 'AES256' }), ['XVAULT_SSE_C_KEY']);
  assert.deepEqual(namesOf({ ...key, XVAULT_S3_ENDPOINT: 'http://s3.lan' }), ['XVAULT_SSE_C_KEY']);
  assert.deepEqual(namesOf({ ...key, XVAULT_S3_ENDPOINT: 'http://127.0.0.1:9000' }), []);
  assert.deepEqual(namesOf({ ...key, XVAULT_S3_ENDPOINT: 'https://s3.lan' }), []);
  for (const wrong of ['short', `${KEY.toString('base64')}AA`, 'zz'.repeat(32), 'ü'.repeat(44)]) {
    assert.deepEqual(namesOf({ XVAULT_SSE_C_KEY: wrong }), ['XVAULT_SSE_C_KEY'], wrong);
  }
  assert.deepEqual(namesOf({ XVAULT_SSE: 'rot13' }), ['XVAULT_SSE']);
  const kms = { XVAULT_SSE: 'aws:kms' };
  assert.deepEqual(namesOf({ ...kms, XVAULT_SSE_KMS_KEY: '{"a":1}' }), ['XVAULT_SSE_KMS_KEY']);
  assert.deepEqual(namesOf({ ...kms, XVAULT_SSE_KMS_KEY: '{broken' }), ['XVAULT_SSE_KMS_KEY']);
});

test('locks are read by class, and wrong ones are refused', () => {
  const lock = { monthly: { mode: 'governance', days: 390 } };
  const { settings, mistakes } = read({ XVAULT_LOCK: JSON.stringify(lock) });
  assert.deepEqual(mistakes, []);
  assert.deepEqual(locksByPrefix(settings?.bucket.locks ?? {}, createKeys('')), [
    { prefix: 'backups/monthly/', mode: 'governance', days: 390 },
  ]);
  for (const wrong of [
    'no JSON',
    '[]',
    '{"Monthly":{"mode":"governance","days":3}}',
    '{"monthly":{"mode":"none","days":3}}',
    '{"monthly":{"mode":"compliance","days":0}}',
    '{"monthly":{"mode":"compliance","days":3,"more":1}}',
  ]) {
    assert.deepEqual([...new Set(namesOf({ XVAULT_LOCK: wrong }))], ['XVAULT_LOCK'], wrong);
  }
});

test('a class that is none is a mistake wherever it is named: what it says would never be done', () => {
  const lock = '{"mode":"compliance","days":9}';
  assert.deepEqual(
    namesOf({
      XVAULT_LOCK: `{"montly":${lock}}`,
      XVAULT_SSE: 'aws:kms',
      XVAULT_SSE_KMS_KEY: '{"default":"alias/a","yearley":"alias/b"}',
      XVAULT_TRANSITIONS: '{"monthyl":{"days":30,"storage_class":"STANDARD_IA"}}',
    }).sort(),
    ['XVAULT_LOCK', 'XVAULT_SSE_KMS_KEY', 'XVAULT_TRANSITIONS'],
  );
  assert.match(read({ XVAULT_LOCK: `{"montly":${lock}}` }).mistakes[0]?.message ?? '', /montly/);
  const own = { XVAULT_RETENTION_DAYS: '{"own":3}', XVAULT_LOCK: `{"own":${lock}}` };
  assert.deepEqual(namesOf(own), []);
  const oneMistake = { ...own, XVAULT_RETENTION_DAYS: '{"own":0}' };
  assert.deepEqual(namesOf(oneMistake), ['XVAULT_RETENTION_DAYS']);
  for (const days of ['{}', '{"pinned":3}']) {
    assert.deepEqual(namesOf({ XVAULT_RETENTION_DAYS: days }), ['XVAULT_RETENTION_DAYS']);
  }
});
