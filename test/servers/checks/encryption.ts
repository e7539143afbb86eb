/** Encryption at rest: the store's own keys, a key service's, and the customer's, which travels with every request. */
import { createHash } from 'node:crypto';
import type { S3 } from '@aws-sdk/client-s3';
import { CEPH_KMS_KEY } from '../ceph.ts';
import { assertSame, type Check, CONTENT, FIVE_MIB, MIB, REST, type Trial } from '../trial.ts';

/** Of the SDK: it sends the key in base64, and its MD5. */
const customer = (seed: number) => ({
  SSECustomerAlgorithm: 'AES256',
  SSECustomerKey: Buffer.alloc(32, seed) as unknown as string,
});
const KEY = customer(1);
const OTHER = customer(2);
const KMS = { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: CEPH_KMS_KEY } as const;

const sourceKey = ({ SSECustomerAlgorithm, SSECustomerKey }: typeof KEY) => ({
  CopySourceSSECustomerAlgorithm: SSECustomerAlgorithm,
  CopySourceSSECustomerKey: SSECustomerKey,
});

const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest('hex');

function overTls(t: Trial): S3 {
  if (t.server.endpointTls === undefined) throw new Error('no https here');
  return t.client({
    endpoint: t.server.endpointTls,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

async function read(s3: S3, input: Parameters<S3['getObject']>[0]): Promise<Buffer> {
  const output = await s3.getObject(input);
  return Buffer.from((await output.Body?.transformToByteArray()) ?? []);
}

/** Parts that are sent, and one that is copied from an object with the same key. */
async function uploadWithKey(t: Trial, s3: S3, key: string): Promise<void> {
  const target = { Bucket: t.bucket, Key: t.key(key) };
  const from = { ...target, Key: t.key('source') };
  await s3.putObject({ ...from, Body: CONTENT, ...KEY });
  const created = await s3.createMultipartUpload({ ...target, ...KEY, ChecksumAlgorithm: 'CRC32' });
  const upload = { ...target, UploadId: created.UploadId };
  const first = await s3.uploadPart({ ...upload, PartNumber: 1, Body: FIVE_MIB, ...KEY });
  const copy = {
    ...upload,
    PartNumber: 2,
    CopySource: `${from.Bucket}/${from.Key}`,
    CopySourceRange: `bytes=${MIB + 1}-${7 * MIB + 4}`,
  };
  await t.answer('copy without the key of the source', s3.uploadPartCopy({ ...copy, ...KEY }));
  const both = { ...KEY, ...sourceKey(KEY) };
  const second = await t.answer('copy', s3.uploadPartCopy({ ...copy, ...both }));
  await t.answer('part without the key', s3.uploadPart({ ...upload, PartNumber: 3, Body: REST }));
  const wrong = { ...upload, PartNumber: 3, Body: REST, ...OTHER };
  await t.answer('part with another key', s3.uploadPart(wrong));
  const third = await s3.uploadPart({ ...upload, PartNumber: 3, Body: REST, ...KEY });
  const Parts = [first, second?.CopyPartResult, third].map((part, at) => ({
    PartNumber: at + 1,
    ETag: part?.ETag,
  }));
  const done = { ...upload, ...KEY, MultipartUpload: { Parts } };
  await t.answer('complete', s3.completeMultipartUpload(done));
}

export const ENCRYPTION_CHECKS: readonly Check[] = [
  {
    name: "the customer's key opens an object, another or none does not",
    run: async (t) => {
      const s3 = overTls(t);
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const put = await t.answer('put', s3.putObject({ ...target, Body: REST, ...KEY }));
      t.note('ETag is the MD5', put?.ETag === `"${md5(REST)}"`);
      assertSame(await read(s3, { ...target, ...KEY }), REST);
      const part = await read(s3, { ...target, ...KEY, Range: 'bytes=5-20' });
      assertSame(part, REST.subarray(5, 21));
      const head = await t.answer('head', s3.headObject({ ...target, ...KEY }));
      t.note('size', head?.ContentLength === REST.length);
      await t.answer('get without', s3.getObject(target));
      await t.answer('get with another', s3.getObject({ ...target, ...OTHER }));
      await t.answer('head without', s3.headObject(target));
      await t.answer('head with another', s3.headObject({ ...target, ...OTHER }));
    },
  },
  {
    name: "a customer's key for an object without",
    run: async (t) => {
      const s3 = overTls(t);
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await s3.putObject({ ...target, Body: REST });
      await t.answer('get', s3.getObject({ ...target, ...KEY }));
      await t.answer('head', s3.headObject({ ...target, ...KEY }));
      const copy = { CopySource: `${t.bucket}/${t.key('a')}`, ...sourceKey(KEY) };
      await t.answer('copy', s3.copyObject({ ...target, Key: t.key('b'), ...copy }));
    },
  },
  {
    name: "an upload with the customer's key, a part of it copied",
    run: async (t) => {
      const s3 = overTls(t);
      await uploadWithKey(t, s3, 'a');
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const expected = Buffer.concat([FIVE_MIB, CONTENT.subarray(MIB + 1, 7 * MIB + 5), REST]);
      assertSame(await read(s3, { ...target, ...KEY }), expected);
      const Range = `bytes=${5 * MIB - 3}-${11 * MIB + 8}`;
      const across = await read(s3, { ...target, ...KEY, Range });
      assertSame(across, expected.subarray(5 * MIB - 3, 11 * MIB + 9), 'range');
      const head = await s3.headObject({ ...target, ...KEY });
      t.note('size', head.ContentLength === expected.length);
      const listed = await s3.listObjectsV2({ Bucket: t.bucket, Prefix: target.Key });
      t.note('listed size', listed.Contents?.[0]?.Size === expected.length);
    },
  },
  {
    name: "the customer's key over http",
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.answer('put', t.s3.putObject({ ...target, Body: REST, ...KEY }));
    },
  },
  {
    name: 'a key of the key service',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const put = await t.answer('put', t.s3.putObject({ ...target, Body: REST, ...KMS }));
      t.note('ETag is the MD5', put?.ETag === `"${md5(REST)}"`);
      const head = await t.s3.headObject(target);
      t.note('head', `${head.ServerSideEncryption} ${head.SSEKMSKeyId}`);
      assertSame(await t.read(target.Key), REST);
      const unknown = { ...KMS, SSEKMSKeyId: 'no-such-key' };
      await t.answer('unknown key', t.s3.putObject({ ...target, Body: REST, ...unknown }));
    },
  },
  {
    name: 'an upload with a key of the key service, a part of it copied',
    run: async (t) => {
      const from = t.key('source');
      await t.s3.putObject({ Bucket: t.bucket, Key: from, Body: CONTENT, ...KMS });
      const copy = `${t.bucket}/${from}`;
      const parts = [FIVE_MIB, { copy, range: `bytes=7-${6 * MIB}` }, REST];
      await t.answer('upload', t.upload(t.key('a'), parts, { create: KMS }));
      const expected = Buffer.concat([FIVE_MIB, CONTENT.subarray(7, 6 * MIB + 1), REST]);
      assertSame(await t.read(t.key('a')), expected);
      const head = await t.s3.headObject({ Bucket: t.bucket, Key: t.key('a') });
      t.note('head', head.ServerSideEncryption);
    },
  },
  {
    name: 'keys of the store',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const own = { ServerSideEncryption: 'AES256' } as const;
      const put = await t.answer('put', t.s3.putObject({ ...target, Body: REST, ...own }));
      t.note('said', put?.ServerSideEncryption);
    },
  },
  {
    name: 'a bucket encrypts by default',
    run: async (t) => {
      const Bucket = t.other;
      await t.answer('none', t.s3.getBucketEncryption({ Bucket }));
      const rule = { SSEAlgorithm: KMS.ServerSideEncryption, KMSMasterKeyID: KMS.SSEKMSKeyId };
      const ServerSideEncryptionConfiguration = {
        Rules: [{ ApplyServerSideEncryptionByDefault: rule }],
      };
      const set = { Bucket, ServerSideEncryptionConfiguration };
      await t.answer('set', t.s3Default.putBucketEncryption(set));
      const got = await t.answer('get', t.s3.getBucketEncryption({ Bucket }));
      const [found] = got?.ServerSideEncryptionConfiguration?.Rules ?? [];
      t.note('algorithm', found?.ApplyServerSideEncryptionByDefault?.SSEAlgorithm);
      await t.s3.putObject({ Bucket, Key: t.key('a'), Body: REST });
      const head = await t.s3.headObject({ Bucket, Key: t.key('a') });
      t.note('head', head.ServerSideEncryption);
      assertSame(await t.read(t.key('a'), { Bucket }), REST);
      await t.answer('remove', t.s3.deleteBucketEncryption({ Bucket }));
    },
  },
];
