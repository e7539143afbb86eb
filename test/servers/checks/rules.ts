/** Tags, lifecycle rules, versions, locks, encryption: what lies round the objects. */
import type { LifecycleRule } from '@aws-sdk/client-s3';
import { type Check, REST, type Trial } from '../trial.ts';

const Status = 'Enabled';
const Expiration = { Days: 1 };
const DAILY = { Key: 'keep', Value: 'daily' };
const BOTH = [DAILY, { Key: 'vm', Value: 'web' }];
const RULES = {
  prefix: { ID: 'p', Status, Filter: { Prefix: 'exp/' }, Expiration },
  tag: { ID: 't', Status, Filter: { Tag: DAILY }, Expiration },
  and: { ID: 'a', Status, Filter: { And: { Prefix: 'and/', Tags: BOTH } }, Expiration },
  abort: {
    ID: 'u',
    Status,
    Filter: { Prefix: 'open/' },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
  },
  noncurrent: {
    ID: 'n',
    Status,
    Filter: { Prefix: 'old/' },
    NoncurrentVersionExpiration: { NoncurrentDays: 1 },
  },
  newer: {
    ID: 'k',
    Status,
    Filter: { Prefix: 'keep2/' },
    NoncurrentVersionExpiration: { NoncurrentDays: 1, NewerNoncurrentVersions: 2 },
  },
  size: { ID: 's', Status, Filter: { ObjectSizeGreaterThan: 1000 }, Expiration },
  marker: {
    ID: 'm',
    Status,
    Filter: { Prefix: 'old/' },
    Expiration: { ExpiredObjectDeleteMarker: true },
  },
} satisfies Record<string, LifecycleRule>;

const setRules = (t: Trial, Bucket: string, ...Rules: LifecycleRule[]) =>
  t.s3.putBucketLifecycleConfiguration({ Bucket, LifecycleConfiguration: { Rules } });

const newBucket = (t: Trial, name: string) =>
  t.server.createBucket(`checks-${name}-${Date.now().toString(36)}-${process.pid}`);

const tagsOf = async (t: Trial, key: string) => {
  const { TagSet = [] } = await t.s3.getObjectTagging({ Bucket: t.bucket, Key: key });
  const pairs = TagSet.map((tag) => `${tag.Key}=${tag.Value}`);
  return pairs.toSorted().join(' ');
};

export const RULE_CHECKS: readonly Check[] = [
  {
    name: 'tags come with a put, are replaced and removed',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.answer(
        'put',
        t.s3.putObject({ ...target, Body: 'x', Tagging: 'keep=daily&vm=web%201' }),
      );
      t.note('tags', await tagsOf(t, target.Key));
      const head = await t.s3.headObject(target);
      t.note('count on head', head.TagCount);
      const Tagging = { TagSet: [{ Key: 'keep', Value: 'weekly' }] };
      await t.answer('replace', t.s3.putObjectTagging({ ...target, Tagging }));
      t.note('tags', await tagsOf(t, target.Key));
      await t.answer('remove', t.s3.deleteObjectTagging(target));
      t.note('tags', await tagsOf(t, target.Key));
    },
  },
  {
    name: 'tags come with an upload',
    run: async (t) => {
      const create = { Tagging: 'keep=daily&set=s1' };
      await t.answer('upload', t.upload(t.key('a'), [REST], { create }));
      t.note('tags', await tagsOf(t, t.key('a')));
    },
  },
  {
    name: 'every kind of lifecycle rule comes back as it was given',
    run: async (t) => {
      const Bucket = await newBucket(t, 'rules');
      await t.answer('none', t.s3.getBucketLifecycleConfiguration({ Bucket }));
      for (const [kind, rule] of Object.entries(RULES)) {
        await t.answer(kind, setRules(t, Bucket, rule));
        const { Rules } = await t.s3.getBucketLifecycleConfiguration({ Bucket });
        t.note(
          `${kind} is`,
          JSON.stringify(Rules?.[0], Object.keys(flatten(Rules?.[0])).toSorted()),
        );
      }
      await t.answer('delete', t.s3.deleteBucketLifecycle({ Bucket }));
      await t.answer('none again', t.s3.getBucketLifecycleConfiguration({ Bucket }));
    },
  },
  {
    name: 'rules that are not right are refused',
    run: async (t) => {
      const Bucket = await newBucket(t, 'bad-rules');
      const zero = { ...RULES.prefix, Expiration: { Days: 0 } };
      await t.answer('zero days', setRules(t, Bucket, zero));
      await t.answer('same id', setRules(t, Bucket, RULES.prefix, { ...RULES.tag, ID: 'p' }));
      const { Expiration: _, ...empty } = RULES.prefix;
      await t.answer('no action', setRules(t, Bucket, empty));
    },
  },
  {
    name: 'the expiry forecast is the midnight after the days',
    run: async (t) => {
      const Bucket = await newBucket(t, 'forecast');
      await setRules(t, Bucket, RULES.prefix);
      await t.s3.putObject({ Bucket, Key: 'exp/a', Body: 'x' });
      const head = await t.answer('head', t.s3.headObject({ Bucket, Key: 'exp/a' }));
      const [, date = '', rule] =
        /expiry-date="(.*)", rule-id="(.*)"/.exec(head?.Expiration ?? '') ?? [];
      t.note('rule', rule);
      t.note('at midnight', new Date(date).getTime() % 86_400_000 === 0);
      const days = (new Date(date).getTime() - Date.now()) / 86_400_000;
      t.note('in more than one day, at most two', days > 1 && days <= 2);
      await t.s3.putObject({ Bucket, Key: 'other', Body: 'x' });
      const other = await t.s3.headObject({ Bucket, Key: 'other' });
      t.note('without a rule', other.Expiration);
    },
  },
  {
    name: 'rules remove what they name and nothing else',
    run: async (t) => {
      const Bucket = await newBucket(t, 'expiry');
      await setRules(t, Bucket, RULES.prefix, RULES.tag, RULES.and, RULES.abort);
      const put = (Key: string, Tagging?: string) =>
        t.s3.putObject({ Bucket, Key, Body: 'x', Tagging });
      await put('exp/a');
      await put('other/daily', 'keep=daily');
      await put('other/weekly', 'keep=weekly');
      await put('and/no', 'vm=web');
      await put('and/yes', 'keep=daily&vm=web');
      await t.upload('other/upload', [REST], { bucket: Bucket, create: { Tagging: 'keep=daily' } });
      await t.s3.createMultipartUpload({ Bucket, Key: 'open/a' });
      await t.s3.createMultipartUpload({ Bucket, Key: 'other/open' });
      const state = async () => {
        const { Contents = [] } = await t.s3.listObjectsV2({ Bucket });
        const { Uploads = [] } = await t.s3.listMultipartUploads({ Bucket });
        return [...Contents, ...Uploads].map((each) => each.Key).join(' ');
      };
      const wanted = 'and/no other/weekly other/open';
      t.note('left', await t.afterDays(2, state, wanted));
    },
  },
  {
    name: 'rules remove old versions and keep the newest',
    run: async (t) => {
      const Bucket = await newBucket(t, 'old');
      const VersioningConfiguration = { Status: 'Enabled' as const };
      await t.answer('versioning', t.s3.putBucketVersioning({ Bucket, VersioningConfiguration }));
      await setRules(t, Bucket, RULES.noncurrent, RULES.newer);
      for (let index = 0; index < 5; index++) {
        await t.s3.putObject({ Bucket, Key: 'old/a', Body: String(index) });
        await t.s3.putObject({ Bucket, Key: 'keep2/a', Body: String(index) });
        await t.s3.putObject({ Bucket, Key: 'free/a', Body: String(index) });
      }
      const state = async () => {
        const { Versions = [] } = await t.s3.listObjectVersions({ Bucket });
        const count = (key: string) => Versions.filter((each) => each.Key === key).length;
        return `${count('old/a')} ${count('keep2/a')} ${count('free/a')}`;
      };
      t.note('versions', await t.afterDays(2, state, '1 3 5'));
    },
  },
  {
    name: 'encryption asked of the server',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a'), Body: REST };
      const own = { ServerSideEncryption: 'AES256' } as const;
      await t.answer('SSE-S3', t.s3.putObject({ ...target, ...own }));
      const kms = { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'testkey-1' } as const;
      await t.answer('SSE-KMS', t.s3.putObject({ ...target, ...kms }));
      const customer = {
        SSECustomerAlgorithm: 'AES256',
        SSECustomerKey: Buffer.alloc(32, 7).toString('latin1'),
      };
      await t.answer('SSE-C', t.s3.putObject({ ...target, ...customer }));
    },
  },
];

/** All names that occur in a rule, so that it prints the same whatever the order. */
function flatten(value: unknown, names: Record<string, true> = {}): Record<string, true> {
  if (typeof value !== 'object' || value === null) return names;
  for (const [name, inner] of Object.entries(value)) {
    names[name] = true;
    flatten(inner, names);
  }
  return names;
}
