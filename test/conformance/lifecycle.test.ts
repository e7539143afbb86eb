/** The rules of a bucket as the adapter reads them, from the embedded server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PutBucketLifecycleConfigurationCommand, S3Client } from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { startSimS3 } from '../sim/s3/index.ts';
import { hastyClock, QUIET, UNIT_BYTES } from './store-target.ts';

const options = { signal: NEVER };

test('rules are read as they are; none, not known and not allowed are told apart', async () => {
  let allowed = true;
  const policy = (action: string) => allowed || action !== 's3:GetLifecycleConfiguration';
  await using sim = await startSimS3({ buckets: ['store'], policy });
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const credentials = { accessKeyId, secretAccessKey };
  const store = createS3Store(
    { endpoint, region, credentials, bucket: 'store', prefix: '' },
    {
      clock: hastyClock(),
      log: QUIET,
      arena: createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES }),
      meter: { count: () => {}, observe: () => {} },
    },
  );
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  assert.deepEqual(await store.lifecycle(options), []);
  const rules = [
    { ID: 'daily', Filter: { Prefix: 'backups/daily/' }, Expiration: { Days: 14 } },
    { ID: 'old', Prefix: 'backups/', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 } },
    {
      ID: 'tagged',
      Filter: { And: { Prefix: 'a/', Tags: [{ Key: 'k', Value: 'v' }] } },
      Expiration: { Days: 1 },
    },
  ].map((rule) => ({ ...rule, Status: 'Enabled' as const }));
  const configuration = { Bucket: 'store', LifecycleConfiguration: { Rules: rules } };
  await client.send(new PutBucketLifecycleConfigurationCommand(configuration));
  assert.deepEqual(await store.lifecycle(options), [
    { id: 'daily', enabled: true, prefix: 'backups/daily/', narrowed: false, expirationDays: 14 },
    { id: 'old', enabled: true, prefix: 'backups/', narrowed: false, abortDays: 7 },
    { id: 'tagged', enabled: true, prefix: 'a/', narrowed: true, expirationDays: 1 },
  ]);
  const effect = { kind: 'status', status: 501, code: 'NotImplemented' } as const;
  sim.faults.add({ effect, operation: 'GetBucketLifecycleConfiguration' });
  assert.equal(await store.lifecycle(options), undefined);
  allowed = false;
  await assert.rejects(store.lifecycle(options), {
    code: 'store_credentials',
    message: /s3:GetLifecycleConfiguration/,
  });
  store.close();
  client.destroy();
});
