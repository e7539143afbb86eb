/** What a bucket does by itself to protect what is in it, as the adapter reads it, from the embedded server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  PutBucketEncryptionCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { bucketMaker } from '../servers/server.ts';
import { type SimS3, type SimS3Options, startSimS3 } from '../sim/s3/index.ts';
import { hastyClock, QUIET, UNIT_BYTES } from './store-target.ts';

const options = { signal: NEVER };

function open(sim: SimS3, bucket: string) {
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  return createS3Store(
    { endpoint, region, credentials: { accessKeyId, secretAccessKey }, bucket, prefix: '' },
    {
      clock: hastyClock(),
      log: QUIET,
      arena: createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES }),
      meter: { count: () => {}, observe: () => {} },
    },
  );
}

async function start(settings: SimS3Options = {}) {
  const sim = await startSimS3({ buckets: ['plain'], ...settings });
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const credentials = { accessKeyId, secretAccessKey };
  return { sim, client: new S3Client({ endpoint, region, credentials, forcePathStyle: true }) };
}

test('encryption by default is read with its key; none, not known and not allowed are told apart', async () => {
  let allowed = true;
  const policy = () => allowed;
  const { sim, client } = await start({ policy });
  const store = open(sim, 'plain');
  assert.deepEqual(await store.bucketEncryption(options), { algorithm: 'none' });
  const rule = { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: 'alias/a' } as const;
  const Rules = [{ ApplyServerSideEncryptionByDefault: rule }];
  const input = { Bucket: 'plain', ServerSideEncryptionConfiguration: { Rules } };
  await client.send(new PutBucketEncryptionCommand(input));
  const found = { algorithm: 'aws:kms', keyId: 'alias/a' };
  assert.deepEqual(await store.bucketEncryption(options), found);
  const effect = { kind: 'status', status: 501, code: 'NotImplemented' } as const;
  sim.faults.add({ effect, operation: 'GetBucketEncryption' });
  assert.equal(await store.bucketEncryption(options), undefined);
  allowed = false;
  const refused = { code: 'store_credentials', message: /s3:GetEncryptionConfiguration/ };
  await assert.rejects(store.bucketEncryption(options), refused);
  store.close();
  client.destroy();
  await sim.close();
});

test('object lock is read with what it does by default; a bucket and a store without it are told apart', async () => {
  const { sim, client } = await start();
  const locked = await bucketMaker(sim)('locked', { objectLock: true });
  const [store, plain] = [open(sim, locked), open(sim, 'plain')];
  assert.deepEqual(await plain.bucketLock(options), { enabled: false });
  assert.deepEqual(await store.bucketLock(options), { enabled: true });
  for (const [period, days] of [
    [{ Days: 30 }, 30],
    [{ Years: 2 }, 730],
  ] as const) {
    const DefaultRetention = { Mode: 'COMPLIANCE', ...period } as const;
    const ObjectLockConfiguration = {
      ObjectLockEnabled: 'Enabled',
      Rule: { DefaultRetention },
    } as const;
    const input = { Bucket: locked, ObjectLockConfiguration };
    await client.send(new PutObjectLockConfigurationCommand(input));
    const byDefault = { mode: 'compliance', days };
    assert.deepEqual(await store.bucketLock(options), { enabled: true, byDefault });
  }
  // What the bucket locks by itself is written and told all the same.
  await store.put('probe/a', 'x', options);
  assert.ok(((await store.head('probe/a', options))?.lockedUntil ?? 0) > Date.now());
  await sim.close();
  const r2 = await start({ equalParts: true });
  const other = open(r2.sim, 'plain');
  assert.equal(await other.bucketLock(options), undefined);
  for (const one of [store, plain, other]) one.close();
  for (const one of [client, r2.client]) one.destroy();
  await r2.sim.close();
});
