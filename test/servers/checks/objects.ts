/** Puts, reads, ranges, links, who may ask. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { assertSame, type Check, CONTENT, MIB, NO_SUCH_ETAG, REST, type Trial } from '../trial.ts';

const pieces = () => Readable.from([REST.subarray(0, 70_000), REST.subarray(70_000)]);

async function putRest(t: Trial, name: string): Promise<{ Bucket: string; Key: string }> {
  const target = { Bucket: t.bucket, Key: t.key(name) };
  await t.s3.putObject({ ...target, Body: REST });
  return target;
}

async function fetchLink(url: string, init?: RequestInit) {
  const response = await fetch(url, init);
  return { response, bytes: Buffer.from(await response.arrayBuffer()) };
}

export const OBJECT_CHECKS: readonly Check[] = [
  {
    name: 'a bucket is made, found, listed and removed',
    run: async (t) => {
      const Bucket = `checks-x-${Date.now().toString(36)}-${process.pid}`;
      await t.answer('create', t.s3.createBucket({ Bucket }));
      await t.answer('head', t.s3.headBucket({ Bucket }));
      const list = await t.answer('list', t.s3.listBuckets({}));
      t.note(
        'listed',
        list?.Buckets?.some((bucket) => bucket.Name === Bucket),
      );
      await t.s3.putObject({ Bucket, Key: 'a', Body: 'x' });
      await t.answer('delete while not empty', t.s3.deleteBucket({ Bucket }));
      await t.s3.deleteObject({ Bucket, Key: 'a' });
      await t.answer('delete', t.s3.deleteBucket({ Bucket }));
      await t.answer('head after', t.s3.headBucket({ Bucket }));
      await t.answer('put after', t.s3.putObject({ Bucket, Key: 'a', Body: 'x' }));
    },
  },
  {
    name: "a buffer with the SDK's default checksum is read back",
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const ContentType = 'application/x-xva';
      const put = await t.answer(
        'put',
        t.s3Default.putObject({ ...target, Body: REST, ContentType }),
      );
      const got = await t.answer('get', t.s3Default.getObject(target));
      assertSame(Buffer.from((await got?.Body?.transformToByteArray()) ?? []), REST);
      t.note('etag is the md5', put?.ETag === `"${createHash('md5').update(REST).digest('hex')}"`);
      t.note('type', got?.ContentType);
    },
  },
  {
    name: 'a stream of known length as aws-chunked with a trailer is read back',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const body = { Body: pieces(), ContentLength: REST.length };
      await t.answer('put', t.s3Default.putObject({ ...target, ...body }));
      assertSame(await t.read(target.Key), REST);
      const head = await t.s3.headObject(target);
      t.note('content-encoding', head.ContentEncoding);
    },
  },
  {
    name: 'a stream of known length with an unsigned payload is read back',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const body = { Body: pieces(), ContentLength: REST.length };
      await t.answer('put', t.s3.putObject({ ...target, ...body }));
      assertSame(await t.read(target.Key), REST);
    },
  },
  {
    name: 'lib-storage uploads a stream of unknown length',
    run: async (t) => {
      const Key = t.key('a');
      const stream = Readable.from(
        Array.from({ length: Math.ceil(CONTENT.length / 300_000) }, (_, index) =>
          CONTENT.subarray(index * 300_000, (index + 1) * 300_000),
        ),
      );
      const params = { Bucket: t.bucket, Key, Body: stream };
      const upload = new Upload({ client: t.s3Default, params, partSize: 5 * MIB, queueSize: 3 });
      await t.answer('upload', upload.done());
      assertSame(await t.read(Key), CONTENT);
    },
  },
  {
    name: 'content that is not what the request says is refused',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a'), Body: 'hello' };
      const ContentMD5 = createHash('md5').update('x').digest('base64');
      await t.answer('wrong md5', t.s3.putObject({ ...target, ContentMD5 }));
      await t.answer('no md5 at all', t.s3.putObject({ ...target, ContentMD5: 'nonsense' }));
      await t.answer('wrong crc32', t.s3.putObject({ ...target, ChecksumCRC32: 'AAAAAA==' }));
    },
  },
  {
    name: 'who is not known, or signs wrongly, or at another time, is refused',
    run: async (t) => {
      const target = await putRest(t, 'a');
      const { accessKeyId } = t.server;
      const wrongSecret = t.client({ credentials: { accessKeyId, secretAccessKey: 'wrong' } });
      await t.answer('wrong secret', wrongSecret.getObject(target));
      const stranger = { accessKeyId: 'AKIANOBODY', secretAccessKey: 'wrong' };
      await t.answer('unknown key', t.client({ credentials: stranger }).getObject(target));
      const late = t.client({ systemClockOffset: -3_600_000 });
      await t.answer('an hour late', late.getObject(target));
      const { response } = await fetchLink(`${t.server.endpoint}/${target.Bucket}/${target.Key}`);
      t.note('unsigned', response.status);
    },
  },
  {
    name: 'metadata and headers of an object are kept',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const Metadata = { vm: 'a b c', 'sr-uuid': '1234', big: 'v'.repeat(1500) };
      const more = { ContentDisposition: 'attachment', CacheControl: 'no-store' };
      await t.answer('put', t.s3.putObject({ ...target, Body: 'x', Metadata, ...more }));
      const head = await t.s3.headObject(target);
      assert.deepEqual(head.Metadata, Metadata);
      t.note('headers', `${head.ContentDisposition}, ${head.CacheControl}`);
      await t.upload(t.key('b'), [REST], { create: { Metadata: { vm: 'm' } } });
      const uploaded = await t.s3.headObject({ Bucket: t.bucket, Key: t.key('b') });
      t.note('metadata of an upload', uploaded.Metadata?.vm);
    },
  },
  {
    name: 'ranges of an object are read',
    run: async (t) => {
      const target = await putRest(t, 'a');
      const size = REST.length;
      const got = await t.answer('middle', t.s3.getObject({ ...target, Range: 'bytes=1000-1999' }));
      t.note('content-range', got?.ContentRange?.replace(String(size), 'size'));
      assertSame(
        Buffer.from((await got?.Body?.transformToByteArray()) ?? []),
        REST.subarray(1000, 2000),
      );
      const read = (Range: string) => t.read(target.Key, { Range });
      assertSame(await read('bytes=-100'), REST.subarray(size - 100), 'suffix');
      assertSame(await read(`bytes=${size - 10}-`), REST.subarray(size - 10), 'open end');
      assertSame(await read(`bytes=${size - 10}-${size + 500}`), REST.subarray(size - 10), 'over');
      await t.answer('past the end', t.s3.getObject({ ...target, Range: `bytes=${size + 1}-` }));
      await t.answer('at the end', t.s3.getObject({ ...target, Range: `bytes=${size}-` }));
    },
  },
  {
    name: 'an empty object is an object',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.answer('put', t.s3.putObject({ ...target, Body: '' }));
      const head = await t.answer('head', t.s3.headObject(target));
      t.note('size', head?.ContentLength);
      await t.answer('get', t.s3.getObject(target));
    },
  },
  {
    name: 'what is not there is not found',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('none') };
      await t.answer('get', t.s3.getObject(target));
      await t.answer('head', t.s3.headObject(target));
      await t.answer('delete', t.s3.deleteObject(target));
      await t.answer('no bucket', t.s3.getObject({ ...target, Bucket: 'checks-no-such-bucket' }));
    },
  },
  {
    name: 'conditions on reads hold',
    run: async (t) => {
      const target = await putRest(t, 'a');
      const { ETag } = await t.s3.headObject(target);
      await t.answer('if-match', t.s3.getObject({ ...target, IfMatch: ETag }));
      await t.answer('if-match stale', t.s3.getObject({ ...target, IfMatch: NO_SUCH_ETAG }));
      await t.answer('if-none-match same', t.s3.getObject({ ...target, IfNoneMatch: ETag }));
    },
  },
  {
    name: 'a link reads a range, names the file, and expires',
    run: async (t) => {
      const target = await putRest(t, 'a');
      const ResponseContentDisposition = 'attachment; filename="web 1.xva"';
      const get = new GetObjectCommand({ ...target, ResponseContentDisposition });
      for (const [label, client] of [
        ['link', t.s3],
        ['link of the default client', t.s3Default],
      ] as const) {
        const url = await getSignedUrl(client, get, { expiresIn: 300 });
        const { response, bytes } = await fetchLink(url, { headers: { range: 'bytes=5-14' } });
        t.note(label, response.status);
        assertSame(bytes, REST.subarray(5, 15));
        t.note('disposition', response.headers.get('content-disposition'));
      }
      const head = await getSignedUrl(t.s3, new HeadObjectCommand(target), { expiresIn: 300 });
      const { response } = await fetchLink(head, { method: 'HEAD' });
      t.note('head', response.status);
      t.note(
        'head by a link for get',
        (await fetchLink(await getSignedUrl(t.s3, get), { method: 'HEAD' })).response.status,
      );
      const signingDate = new Date(Date.now() - 600_000);
      const old = await getSignedUrl(t.s3, get, { expiresIn: 60, signingDate });
      const expired = await fetchLink(old);
      t.note('expired', expired.response.status);
    },
  },
  {
    name: 'keys with any characters are kept apart',
    run: async (t) => {
      const names = ['sp ace', 'plus+', 'per%25cent', 'é/ü.xva', 'a//b', "q'()*!~", '日本'];
      for (const name of names) {
        await t.s3.putObject({ Bucket: t.bucket, Key: t.key(name), Body: name });
      }
      for (const name of names) {
        assert.equal((await t.read(t.key(name))).toString(), name);
      }
      const list = await t.s3.listObjectsV2({ Bucket: t.bucket, Prefix: t.key('') });
      const listed = list.Contents?.map((entry) => entry.Key?.slice(t.key('').length));
      t.note('listed', JSON.stringify(listed));
    },
  },
  {
    name: 'an object is copied with new metadata, and not onto itself unchanged',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.s3.putObject({ ...target, Body: REST, Metadata: { a: '1' } });
      const CopySource = `${t.bucket}/${t.key('a')}`;
      const copy = { Bucket: t.bucket, Key: t.key('b'), CopySource };
      const MetadataDirective = 'REPLACE';
      const Metadata = { b: '2' };
      await t.answer('copy', t.s3.copyObject({ ...copy, MetadataDirective, Metadata }));
      const head = await t.s3.headObject({ Bucket: t.bucket, Key: t.key('b') });
      assert.deepEqual(head.Metadata, Metadata);
      assertSame(await t.read(t.key('b')), REST);
      await t.answer('onto itself', t.s3.copyObject({ ...target, CopySource }));
      const missing = `${t.bucket}/${t.key('none')}`;
      await t.answer('missing source', t.s3.copyObject({ ...copy, CopySource: missing }));
    },
  },
];
