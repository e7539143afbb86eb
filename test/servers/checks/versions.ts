/** Versions, delete markers, object lock. */
import assert from 'node:assert/strict';
import { assertSame, type Check, CONTENT, MIB, REST, type Trial } from '../trial.ts';

const soon = () => new Date(Date.now() + 3_600_000);

async function lockedTarget(t: Trial, name: string) {
  return { Bucket: await t.locked(), Key: t.key(name) };
}

export const VERSION_CHECKS: readonly Check[] = [
  {
    name: 'versions are kept, listed, hidden by a marker and removed',
    run: async (t) => {
      const target = { Bucket: await t.versioned(), Key: t.key('a') };
      const first = await t.answer('first', t.s3.putObject({ ...target, Body: 'one' }));
      const second = await t.answer('second', t.s3.putObject({ ...target, Body: 'two' }));
      assert.ok(first?.VersionId && first.VersionId !== second?.VersionId, 'no version ids');
      const VersionId = first.VersionId;
      const old = await t.read(target.Key, { Bucket: target.Bucket, VersionId });
      t.note('old version', old.toString());
      const where = { Bucket: target.Bucket, Prefix: target.Key };
      const list = await t.answer('list', t.s3.listObjectVersions(where));
      t.note('listed', list?.Versions?.map((each) => each.IsLatest).join(' '));
      const marker = await t.answer('delete', t.s3.deleteObject(target));
      t.note('marker', marker?.DeleteMarker);
      await t.answer('get', t.s3.getObject(target));
      await t.answer(
        'head of the marker',
        t.s3.headObject({ ...target, VersionId: marker?.VersionId }),
      );
      await t.answer(
        'delete the marker',
        t.s3.deleteObject({ ...target, VersionId: marker?.VersionId }),
      );
      t.note('back', (await t.read(target.Key, { Bucket: target.Bucket })).toString());
      await t.answer('delete the old', t.s3.deleteObject({ ...target, VersionId }));
      await t.answer('get the old', t.s3.getObject({ ...target, VersionId }));
    },
  },
  {
    name: 'a part is copied from an older version of the same key',
    run: async (t) => {
      const bucket = await t.versioned();
      const target = { Bucket: bucket, Key: t.key('a') };
      const { VersionId } = await t.s3.putObject({ ...target, Body: CONTENT });
      await t.s3.putObject({ ...target, Body: 'newer' });
      assert.ok(VersionId, 'no version ids');
      const copy = `${bucket}/${target.Key}?versionId=${VersionId}`;
      const parts = [{ copy, range: `bytes=3-${6 * MIB}` }, REST];
      await t.answer('upload', t.upload(target.Key, parts, { bucket }));
      const expected = Buffer.concat([CONTENT.subarray(3, 6 * MIB + 1), REST]);
      assertSame(await t.read(target.Key, { Bucket: bucket }), expected);
    },
  },
  {
    name: 'a delete marker is nothing to a condition',
    run: async (t) => {
      const target = { Bucket: await t.versioned(), Key: t.key('a') };
      await t.s3.putObject({ ...target, Body: '1' });
      await t.s3.deleteObject(target);
      const write = { ...target, Body: '2', IfNoneMatch: '*' };
      await t.answer('over the marker', t.s3.putObject(write));
      await t.answer('again', t.s3.putObject(write));
      const { ETag } = await t.s3.headObject(target);
      await t.answer('right', t.s3.putObject({ ...target, Body: '3', IfMatch: ETag }));
      await t.answer('stale', t.s3.putObject({ ...target, Body: '4', IfMatch: ETag }));
    },
  },
  {
    name: 'a lock in governance mode yields only to who may bypass it',
    run: async (t) => {
      const target = await lockedTarget(t, 'a');
      const lock = { ObjectLockMode: 'GOVERNANCE', ObjectLockRetainUntilDate: soon() } as const;
      const put = await t.answer('put', t.s3Default.putObject({ ...target, Body: 'x', ...lock }));
      const VersionId = put?.VersionId;
      const head = await t.s3.headObject(target);
      t.note('mode', head.ObjectLockMode);
      await t.answer('delete', t.s3.deleteObject({ ...target, VersionId }));
      const bypass = { ...target, VersionId, BypassGovernanceRetention: true };
      await t.answer('delete with bypass', t.s3.deleteObject(bypass));
    },
  },
  {
    name: 'a lock in compliance mode yields to nobody',
    run: async (t) => {
      const bucket = await t.locked();
      const Key = t.key('a');
      const until = new Date(Date.now() + 20_000);
      const create = { ObjectLockMode: 'COMPLIANCE', ObjectLockRetainUntilDate: until } as const;
      const done = await t.answer('upload', t.upload(Key, [REST], { bucket, create }));
      const target = { Bucket: bucket, Key };
      const kept = await t.answer('get', t.s3.getObjectRetention(target));
      t.note('mode', kept?.Retention?.Mode);
      const bypass = { VersionId: done?.VersionId, BypassGovernanceRetention: true };
      await t.answer('delete', t.s3.deleteObject({ ...target, ...bypass }));
      const Retention = {
        Mode: 'COMPLIANCE',
        RetainUntilDate: new Date(Date.now() + 5000),
      } as const;
      await t.answer('shorten', t.s3Default.putObjectRetention({ ...target, Retention }));
      await t.answer('delete without a version', t.s3.deleteObject(target));
    },
  },
  {
    name: 'a legal hold holds until it is lifted',
    run: async (t) => {
      const target = await lockedTarget(t, 'a');
      const hold = { ObjectLockLegalHoldStatus: 'ON' } as const;
      const put = await t.answer('put', t.s3Default.putObject({ ...target, Body: 'x', ...hold }));
      const version = { ...target, VersionId: put?.VersionId, BypassGovernanceRetention: true };
      await t.answer('delete', t.s3.deleteObject(version));
      await t.answer(
        'lift',
        t.s3Default.putObjectLegalHold({ ...target, LegalHold: { Status: 'OFF' } }),
      );
      await t.answer('delete after', t.s3.deleteObject(version));
    },
  },
  {
    name: 'a bucket locks what is put into it by default',
    run: async (t) => {
      const target = await lockedTarget(t, 'a');
      const DefaultRetention = { Mode: 'GOVERNANCE', Days: 1 } as const;
      const ObjectLockConfiguration = {
        ObjectLockEnabled: 'Enabled',
        Rule: { DefaultRetention },
      } as const;
      const { Bucket } = target;
      await t.answer(
        'set',
        t.s3Default.putObjectLockConfiguration({ Bucket, ObjectLockConfiguration }),
      );
      await t.s3Default.putObject({ ...target, Body: 'x' });
      const head = await t.s3.headObject(target);
      t.note('mode', head.ObjectLockMode);
      const got = await t.answer('get', t.s3.getObjectLockConfiguration({ Bucket }));
      t.note('days', got?.ObjectLockConfiguration?.Rule?.DefaultRetention?.Days);
    },
  },
];
