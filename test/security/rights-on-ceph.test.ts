/**
 * The policy users are given, enforced by a real Ceph RADOS gateway: a user who owns nothing but these rights backs up
 * machines, and cannot delete what he wrote. In the long form only (XVAULT_TEST_LONG=1, `npm run test:long -- test/security`),
 * and skipped where there can be no gateway; test/security/least-privilege.test.ts does the same on the embedded server.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { NEVER } from '../../src/signals.ts';
import { SMALL_MACHINES } from '../e2e/small-machines.ts';
import { startWorld } from '../e2e/world.ts';
import { LIMITED_USER, startCeph } from '../servers/ceph.ts';
import type { S3Server } from '../servers/index.ts';
import { readPolicy } from './policy.ts';

const PREFIX = 'xv/';

/** A bucket of the owner, and what the other user may do in it. */
async function shareBucket(server: S3Server): Promise<string> {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.createBucket('rights');
  const { Statement, ...document } = readPolicy(bucket, PREFIX);
  const Principal = { AWS: [LIMITED_USER.arn] };
  const policy = { ...document, Statement: Statement.map((one) => ({ ...one, Principal })) };
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  try {
    await client.send(
      new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(policy) }),
    );
  } finally {
    client.destroy();
  }
  return bucket;
}

test('on Ceph RGW the rights are enough for good and failed backups and a sweep, not to delete one', async (t) => {
  if (process.env.XVAULT_TEST_LONG !== '1') return t.skip('in the long form only');
  const server = await startCeph({ limitedUser: true });
  if ('skipped' in server) return t.skip(server.skipped);
  t.after(() => server.stop());
  const { arn: _, ...credentials } = LIMITED_USER;
  const { endpoint, region } = server;
  const bucket = await shareBucket(server);
  await using world = await startWorld({
    pool: { machines: SMALL_MACHINES },
    store: { bucket, prefix: 'xv', endpoint, region, pathStyle: true, credentials },
  });
  assert.equal((await world.store.facts({ signal: NEVER })).conditionalWrites, true);
  const good = await world.backup('app');
  assert.equal(good.status, 'succeeded', JSON.stringify(good.error));
  const again = await world.backup('app');
  assert.equal(again.status, 'succeeded', JSON.stringify(again.error));
  world.sim.faults.set('export-error', { afterBytes: 3_000_000 });
  assert.equal((await world.backup('other')).status, 'failed');
  world.sim.faults.clear();
  const report = await world.service.sweep({ dryRun: false }, { signal: NEVER });
  assert.deepEqual(report.errors, []);
  assert.deepEqual(await world.audit(), []);
  for (const key of [good.result?.archive.key ?? '', good.result?.index_key ?? '']) {
    await assert.rejects(world.store.delete(key, { signal: NEVER }), { code: 'store_credentials' });
    assert.ok(await world.store.head(key, { signal: NEVER }), 'it is still there');
  }
});
