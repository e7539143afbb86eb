/** Multipart uploads and the rules that make them fail. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  assertSame,
  type Check,
  CONTENT,
  FIVE_MIB,
  NO_SUCH_ETAG,
  REST,
  SIX_MIB,
  type Trial,
} from '../trial.ts';

interface Begun {
  Bucket: string;
  Key: string;
  UploadId: string | undefined;
}

async function begin(t: Trial, name: string): Promise<Begun> {
  const target = { Bucket: t.bucket, Key: t.key(name) };
  const { UploadId } = await t.s3.createMultipartUpload(target);
  return { ...target, UploadId };
}

async function send(t: Trial, begun: Begun, PartNumber: number, Body: Buffer | string) {
  const { ETag } = await t.s3.uploadPart({ ...begun, PartNumber, Body });
  return { PartNumber, ETag };
}

const finish = (
  t: Trial,
  begun: Begun,
  Parts: { PartNumber: number; ETag: string | undefined }[],
) => t.s3.completeMultipartUpload({ ...begun, MultipartUpload: { Parts } });

export const MULTIPART_CHECKS: readonly Check[] = [
  {
    name: 'uneven parts become one object with the usual ETag',
    run: async (t) => {
      const done = await t.answer('upload', t.upload(t.key('a'), [FIVE_MIB, SIX_MIB, REST]));
      assertSame(await t.read(t.key('a')), CONTENT);
      const hash = createHash('md5');
      for (const part of [FIVE_MIB, SIX_MIB, REST]) {
        hash.update(createHash('md5').update(part).digest());
      }
      t.note('etag is the md5 of md5s', done?.ETag === `"${hash.digest('hex')}-3"`);
    },
  },
  {
    name: 'equal parts and a shorter last one become one object',
    run: async (t) => {
      const parts = [FIVE_MIB, CONTENT.subarray(FIVE_MIB.length, 2 * FIVE_MIB.length), REST];
      await t.answer('upload', t.upload(t.key('a'), parts));
      assertSame(await t.read(t.key('a')), Buffer.concat(parts));
    },
  },
  {
    name: "parts with the SDK's default checksums become one object",
    run: async (t) => {
      const via = t.s3Default;
      await t.answer('upload', t.upload(t.key('a'), [FIVE_MIB, SIX_MIB, REST], { via }));
      assertSame(await t.read(t.key('a')), CONTENT);
    },
  },
  {
    name: 'part numbers may have gaps, come in any order and be sent again',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const nine = await send(t, begun, 9, REST);
      await send(t, begun, 3, SIX_MIB);
      const three = await send(t, begun, 3, FIVE_MIB);
      const seven = await send(t, begun, 7, SIX_MIB);
      await t.answer('complete', finish(t, begun, [three, seven, nine]));
      assertSame(await t.read(begun.Key), CONTENT);
    },
  },
  {
    name: 'a part of unknown length is taken',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const Body = Readable.from([REST.subarray(0, 70_000), REST.subarray(70_000)]);
      // Its own client: a server that refuses leaves a connection behind that is good for nothing.
      const client = t.client({ requestChecksumCalculation: 'WHEN_REQUIRED' });
      const part = await t.answer('part', client.uploadPart({ ...begun, PartNumber: 1, Body }));
      if (!part) return;
      await t.answer('complete', finish(t, begun, [{ PartNumber: 1, ETag: part?.ETag }]));
      assertSame(await t.read(begun.Key), REST);
    },
  },
  {
    name: 'a part that was sent but is not listed',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const first = await send(t, begun, 1, FIVE_MIB);
      await send(t, begun, 2, SIX_MIB);
      const third = await send(t, begun, 3, REST);
      await t.answer('complete', finish(t, begun, [first, third]));
      await t.s3.abortMultipartUpload(begun).catch(() => {});
    },
  },
  {
    name: 'a part under 5 MiB that is not the last is refused',
    run: async (t) => {
      await t.answer('complete', t.upload(t.key('a'), [REST, FIVE_MIB]));
      await t.answer('head', t.s3.headObject({ Bucket: t.bucket, Key: t.key('a') }));
    },
  },
  {
    name: 'lists of parts that are not right are refused',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const first = await send(t, begun, 1, FIVE_MIB);
      const second = await send(t, begun, 2, REST);
      await t.answer(
        'wrong etag',
        finish(t, begun, [first, { PartNumber: 2, ETag: NO_SUCH_ETAG }]),
      );
      await t.answer('empty', finish(t, begun, []));
      await t.answer(
        'never sent',
        finish(t, begun, [first, second, { PartNumber: 3, ETag: first.ETag }]),
      );
      await t.answer('right at last', finish(t, begun, [first, second]));
    },
  },
  {
    name: 'a list of parts in the wrong order',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const first = await send(t, begun, 1, FIVE_MIB);
      const second = await send(t, begun, 2, REST);
      await t.answer('complete', finish(t, begun, [second, first]));
      await t.s3.abortMultipartUpload(begun).catch(() => {});
    },
  },
  {
    name: 'part numbers are 1 to 10000',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const part = (PartNumber: number) => t.s3.uploadPart({ ...begun, PartNumber, Body: 'x' });
      const last = await t.answer('10000', part(10_000));
      await t.answer('10001', part(10_001));
      await t.answer('0', part(0));
      await t.answer('complete', finish(t, begun, [{ PartNumber: 10_000, ETag: last?.ETag }]));
      await t.s3.abortMultipartUpload(begun).catch(() => {});
    },
  },
  {
    name: 'completing again after success',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const part = await send(t, begun, 1, REST);
      const done = await t.answer('first', finish(t, begun, [part]));
      const again = await t.answer('again', finish(t, begun, [part]));
      t.note('same etag', again?.ETag === done?.ETag);
    },
  },
  {
    name: 'parts are listed in pages',
    run: async (t) => {
      const begun = await begin(t, 'a');
      await send(t, begun, 1, FIVE_MIB);
      await send(t, begun, 2, SIX_MIB);
      await send(t, begun, 5, REST);
      const first = await t.answer('first page', t.s3.listParts({ ...begun, MaxParts: 2 }));
      const PartNumberMarker = first?.NextPartNumberMarker;
      const second = await t.answer('second page', t.s3.listParts({ ...begun, PartNumberMarker }));
      const parts = [...(first?.Parts ?? []), ...(second?.Parts ?? [])];
      t.note('parts', parts.map((part) => `${part.PartNumber} ${part.Size}`).join(', '));
      t.note('truncated', `${first?.IsTruncated}, ${second?.IsTruncated}`);
      await t.s3.abortMultipartUpload(begun);
    },
  },
  {
    name: 'open uploads are listed under a prefix, in pages',
    run: async (t) => {
      const begun = [await begin(t, 'u/a'), await begin(t, 'u/b'), await begin(t, 'v/c')];
      const where = { Bucket: t.bucket, Prefix: t.key('u/') };
      const list = await t.answer('list', t.s3.listMultipartUploads(where));
      const ids = list?.Uploads?.map((upload) => upload.UploadId) ?? [];
      t.note(
        'found',
        ids.length === 2 && begun.slice(0, 2).every((each) => ids.includes(each.UploadId)),
      );
      t.note(
        'initiated',
        list?.Uploads?.every((upload) => upload.Initiated instanceof Date),
      );
      const page = await t.answer('page', t.s3.listMultipartUploads({ ...where, MaxUploads: 1 }));
      t.note('truncated', page?.IsTruncated);
      const next = { KeyMarker: page?.NextKeyMarker, UploadIdMarker: page?.NextUploadIdMarker };
      const second = await t.answer('next', t.s3.listMultipartUploads({ ...where, ...next }));
      t.note(
        'second page',
        second?.Uploads?.map((upload) => upload.Key === begun[1]?.Key),
      );
      for (const each of begun) await t.s3.abortMultipartUpload(each);
    },
  },
  {
    name: 'an aborted upload is gone',
    run: async (t) => {
      const begun = await begin(t, 'a');
      const part = await send(t, begun, 1, REST);
      await t.answer('abort', t.s3.abortMultipartUpload(begun));
      await t.answer('part after', send(t, begun, 2, 'x'));
      await t.answer('complete after', finish(t, begun, [part]));
      await t.answer('abort again', t.s3.abortMultipartUpload(begun));
      await t.answer('head', t.s3.headObject(begun));
    },
  },
  {
    name: 'parts of a finished object are known',
    run: async (t) => {
      await t.upload(t.key('a'), [FIVE_MIB, CONTENT.subarray(0, FIVE_MIB.length), REST], {
        via: t.s3Default,
      });
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const ObjectAttributes = ['ObjectParts' as const, 'ObjectSize' as const];
      const facts = await t.answer(
        'attributes',
        t.s3.getObjectAttributes({ ...target, ObjectAttributes }),
      );
      t.note('size', facts?.ObjectSize);
      const head = await t.answer('head part 2', t.s3.headObject({ ...target, PartNumber: 2 }));
      t.note('part 2', `${head?.ContentLength} of ${head?.PartsCount}`);
    },
  },
  {
    name: 'an open upload does not show as an object',
    run: async (t) => {
      const begun = await begin(t, 'a');
      await send(t, begun, 1, REST);
      await t.answer('get', t.s3.getObject({ Bucket: begun.Bucket, Key: begun.Key }));
      const list = await t.s3.listObjectsV2({ Bucket: t.bucket, Prefix: begun.Key });
      assert.equal(list.KeyCount, 0);
      await t.s3.abortMultipartUpload(begun);
    },
  },
];
