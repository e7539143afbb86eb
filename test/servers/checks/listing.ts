/** Listings and removals of many. */
import assert from 'node:assert/strict';
import type { Check, Trial } from '../trial.ts';

const KEYS = 1100;
const FOLDERS = 26;
const AT_ONCE = 32;

async function fill(t: Trial): Promise<string[]> {
  const keys = Array.from({ length: KEYS }, (_, index) => {
    const folder = String(index % FOLDERS).padStart(2, '0');
    return t.key(`${folder}/k${String(index).padStart(5, '0')}`);
  });
  const left = [...keys];
  const work = async () => {
    for (let Key = left.pop(); Key !== undefined; Key = left.pop()) {
      await t.s3.putObject({ Bucket: t.other, Key, Body: 'x' });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return keys.toSorted();
}

export const LISTING_CHECKS: readonly Check[] = [
  {
    name: 'many keys are listed in pages, in order, folded at a delimiter, and removed at once',
    run: async (t) => {
      const keys = await fill(t);
      const where = { Bucket: t.other, Prefix: t.key('') };
      const listed: (string | undefined)[] = [];
      let ContinuationToken: string | undefined;
      do {
        const page = await t.s3.listObjectsV2({ ...where, ContinuationToken });
        // A page may hold less than it could: Ceph's do.
        listed.push(...(page.Contents ?? []).map((each) => each.Key));
        ContinuationToken = page.NextContinuationToken;
      } while (ContinuationToken !== undefined && listed.length < KEYS);
      assert.deepEqual(listed, keys);
      t.note('more after all', ContinuationToken !== undefined);

      const StartAfter = keys.at(-100);
      const rest = await t.answer('start after', t.s3.listObjectsV2({ ...where, StartAfter }));
      t.note('after', rest?.KeyCount);
      const Objects = keys.slice(0, 1000).map((Key) => ({ Key }));
      const Delete = { Objects, Quiet: true };
      const removed = await t.answer(
        'delete',
        t.s3Default.deleteObjects({ Bucket: t.other, Delete }),
      );
      t.note('errors', removed?.Errors?.length ?? 0);
      const left = await t.s3.listObjectsV2(where);
      t.note('left', left.KeyCount);
    },
  },
  {
    name: 'a delimiter folds keys, also over pages',
    run: async (t) => {
      for (let index = 0; index < 12; index++) {
        const Key = t.key(`f${String(index).padStart(2, '0')}/x`);
        await t.s3.putObject({ Bucket: t.other, Key, Body: 'x' });
        await t.s3.putObject({ Bucket: t.other, Key: `${Key}y`, Body: 'x' });
      }
      await t.s3.putObject({ Bucket: t.other, Key: t.key('file'), Body: 'x' });
      const where = { Bucket: t.other, Prefix: t.key(''), Delimiter: '/' };
      const all = await t.answer('all', t.s3.listObjectsV2(where));
      t.note('folded', `${all?.CommonPrefixes?.length} prefixes, ${all?.Contents?.length} keys`);
      const first = await t.answer('page', t.s3.listObjectsV2({ ...where, MaxKeys: 10 }));
      const ContinuationToken = first?.NextContinuationToken;
      const second = await t.answer('next', t.s3.listObjectsV2({ ...where, ContinuationToken }));
      const count = (page: typeof first) =>
        `${page?.CommonPrefixes?.length ?? 0}+${page?.Contents?.length ?? 0}`;
      t.note('pages', `${count(first)}, ${count(second)}`);
      const prefixes = first?.CommonPrefixes?.map((each) => each.Prefix) ?? [];
      const StartAfter = prefixes.at(3);
      const after = await t.answer('after a prefix', t.s3.listObjectsV2({ ...where, StartAfter }));
      t.note('after', count(after));
    },
  },
  {
    name: 'a listing shows at once what was put and removed',
    run: async (t) => {
      const where = { Bucket: t.bucket, Prefix: t.key('') };
      for (let index = 1; index <= 10; index++) {
        await t.s3.putObject({ Bucket: t.bucket, Key: t.key(`k${index}`), Body: 'x' });
        const { KeyCount } = await t.s3.listObjectsV2(where);
        assert.equal(KeyCount, index);
      }
      await t.s3.deleteObject({ Bucket: t.bucket, Key: t.key('k1') });
      const { KeyCount } = await t.s3.listObjectsV2(where);
      assert.equal(KeyCount, 9);
    },
  },
  {
    name: 'a missing bucket has no listing',
    run: async (t) => {
      await t.answer('list', t.s3.listObjectsV2({ Bucket: 'checks-no-such-bucket' }));
    },
  },
];
