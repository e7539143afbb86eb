/** That settings reach the store as they are meant: by class in the environment, by prefix on the wire. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { bucketMaker } from '../../test/servers/server.ts';
import { startSimS3 } from '../../test/sim/s3/index.ts';
import { inspectSettings } from '../config.ts';
import { SILENT_LOG } from '../log.ts';
import { NEVER } from '../signals.ts';
import { wireAdapters } from './wire.ts';

const options = { signal: NEVER };

test('encryption and locks by class are those of the keys below it', async () => {
  await using sim = await startSimS3();
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const bucket = await bucketMaker(sim)('vm-backups', { objectLock: true });
  const { settings } = inspectSettings({
    env: {
      XVAULT_BUCKET: bucket,
      XVAULT_PREFIX: 'xv',
      XVAULT_S3_ENDPOINT: endpoint,
      XVAULT_SSE: 'aws:kms',
      XVAULT_SSE_KMS_KEY: '{"default":"rest","weekly":"long"}',
      XVAULT_LOCK: '{"weekly":{"mode":"governance","days":3}}',
    },
  });
  assert.ok(settings);
  const credentials = { accessKeyId, secretAccessKey };
  Object.assign(settings.bucket, { region, credentials });
  await using adapters = wireAdapters(settings, { log: SILENT_LOG });
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const cases: [string, string, string | undefined][] = [
    ['xv/backups/weekly/dc1/a/b/backup.json', 'long', 'GOVERNANCE'],
    ['xv/backups/daily/dc1/a/b/backup.json', 'rest', undefined],
    ['xv/jobs/1.json', 'rest', undefined],
  ];
  for (const [key, keyId, mode] of cases) {
    await adapters.store.put(key, '{}', options);
    const head = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
    assert.deepEqual([head.SSEKMSKeyId, head.ObjectLockMode], [keyId, mode], key);
  }
  client.destroy();
});
