import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { quirksOf } from './quirks.ts';

test('a provider is recognised by the host of its endpoint, or named', () => {
  const cases: [string | undefined, string][] = [
    [undefined, 'aws'],
    ['https://s3.eu-central-1.amazonaws.com', 'aws'],
    ['https://bucket.s3.cn-north-1.amazonaws.com.cn', 'aws'],
    ['https://abc123.r2.cloudflarestorage.com', 'r2'],
    ['https://s3.us-east-005.backblazeb2.com', 'b2'],
    ['https://s3.eu-central-1.wasabisys.com', 'wasabi'],
    ['https://storage.googleapis.com', 'gcs'],
    ['https://amazonaws.com.evil.example', 'generic'],
    ['http://127.0.0.1:9000', 'generic'],
  ];
  for (const [endpoint, name] of cases) assert.equal(quirksOf({ endpoint }).name, name, endpoint);
  assert.equal(quirksOf({ provider: 'minio', endpoint: 'http://10.0.0.1:9000' }).name, 'minio');
});

test('an endpoint that is no URL is a setting to correct', () => {
  assert.throws(
    () => quirksOf({ endpoint: 's3.example.com' }),
    (error) => isBackupError(error, 'configuration'),
  );
});
