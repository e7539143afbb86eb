/**
 * The port ObjectStore, rules of the bucket: what is written is what is read, and what others wrote stays.
 *
 * A store that has no rules says so. Each test has the bucket's rules for itself and leaves none.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PutBucketLifecycleConfigurationCommand, S3Client } from '@aws-sdk/client-s3';
import { ALL_RULES } from '../../src/bucket-rule.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { planRotation } from '../../src/catalog/rotation.ts';
import { type GetServer, openRig, type ServerUnderTest } from './store-target.ts';

const { signal } = new AbortController();

/** Somebody else's: tags, a size, old versions. */
const FOREIGN = [
  {
    ID: 'tagged',
    Status: 'Enabled',
    Filter: { And: { Prefix: 'logs/', Tags: [{ Key: 'keep', Value: 'no' }] } },
    Expiration: { Days: 3 },
  },
  {
    ID: 'large',
    Status: 'Enabled',
    Filter: { And: { Prefix: 'tmp/', ObjectSizeGreaterThan: 1000 } },
    Expiration: { Days: 900 },
    NoncurrentVersionExpiration: { NoncurrentDays: 5, NewerNoncurrentVersions: 2 },
  },
] as const;

async function putForeign({ endpoint, region, bucket, ...server }: ServerUnderTest) {
  const { accessKeyId, secretAccessKey } = server;
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  });
  const Rules = FOREIGN.map((rule) => structuredClone(rule));
  const input = { Bucket: bucket, LifecycleConfiguration: { Rules } };
  await client.send(new PutBucketLifecycleConfigurationCommand(input as never));
  client.destroy();
}

/** Declares the tests; `server` is asked for when they run. */
export function testRules(name: string, server: GetServer): void {
  describe(`object store, rules: ${name}`, () => {
    for (const versioned of [false, true]) {
      test(`ours are written beside others’, kept, replaced and removed${versioned ? ', for old versions, too' : ''}`, async (t) => {
        const target = server();
        if ('skipped' in target) return t.skip(target.skipped);
        await using rig = await openRig(target);
        const { store } = rig;
        if ((await store.lifecycle({ signal })) === undefined) return t.skip('no rules here');
        await putForeign(target);
        const others = (await store.lifecycle({ signal })) ?? [];
        assert.equal(others.length, 2);
        const { lifecycle = ALL_RULES } = await store.facts({ signal });
        const plan = (found: typeof others, daily: number) =>
          planRotation({
            found,
            wish: {
              keys: createKeys(rig.prefix),
              retentionDays: { daily, monthly: 400 },
              rotation: { transitions: {}, noncurrentDays: 7 },
              holds: { archives: true, state: true },
              versioned,
            },
            limits: lifecycle,
            classesInUse: [],
          });
        const first = plan(others, 14);
        await store.putLifecycle({ found: others, rules: first.rules }, { signal });
        const found = (await store.lifecycle({ signal })) ?? [];
        const isOther = ({ id }: { id: string }) => !id.startsWith('xvault:');
        const inOrder = (rules: typeof others) => rules.toSorted((a, b) => (a.id < b.id ? -1 : 1));
        assert.deepEqual(inOrder(found.filter(isOther)), inOrder(others));
        const again = plan(found, 14);
        assert.ok(again.changes.every(({ action }) => action === 'keep'));
        const longer = plan(found, 30);
        await store.putLifecycle({ found, rules: longer.rules }, { signal });
        const replaced = (await store.lifecycle({ signal })) ?? [];
        assert.ok(replaced.some(({ expirationDays }) => expirationDays === 30));
        assert.equal(replaced.length, found.length);
        await store.putLifecycle({ found: replaced, rules: [] }, { signal });
        assert.deepEqual(await store.lifecycle({ signal }), []);
      });
    }
  });
}
