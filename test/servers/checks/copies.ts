/** UploadPartCopy: objects made of pieces of others. */
import {
  assertSame,
  type Check,
  CONTENT,
  FIVE_MIB,
  MIB,
  NO_SUCH_ETAG,
  REST,
  SIX_MIB,
  type Trial,
} from '../trial.ts';

async function source(t: Trial): Promise<string> {
  await t.s3.putObject({ Bucket: t.bucket, Key: t.key('source'), Body: CONTENT });
  return `${t.bucket}/${t.key('source')}`;
}

/** Half-open, as everywhere; the inclusive form stands only here. */
const range = (from: number, to: number) => `bytes=${from}-${to - 1}`;

export const COPY_CHECKS: readonly Check[] = [
  {
    name: 'a whole object is copied as a part',
    run: async (t) => {
      const copy = await source(t);
      await t.answer('upload', t.upload(t.key('a'), [{ copy }]));
      assertSame(await t.read(t.key('a')), CONTENT);
    },
  },
  {
    name: 'uneven ranges are mixed with parts that were sent',
    run: async (t) => {
      const copy = await source(t);
      const parts = [
        { copy, range: range(0, 5 * MIB + 123) },
        SIX_MIB,
        { copy, range: range(7 * MIB + 1, 12 * MIB + 513) },
        FIVE_MIB,
        { copy, range: range(17, 100) },
      ];
      await t.answer('upload', t.upload(t.key('a'), parts));
      const expected = Buffer.concat([
        CONTENT.subarray(0, 5 * MIB + 123),
        SIX_MIB,
        CONTENT.subarray(7 * MIB + 1, 12 * MIB + 513),
        FIVE_MIB,
        CONTENT.subarray(17, 100),
      ]);
      assertSame(await t.read(t.key('a')), expected);
    },
  },
  {
    name: 'equal ranges at any offset are mixed with equal parts that were sent',
    run: async (t) => {
      const copy = await source(t);
      const parts = [
        { copy, range: range(0, 5 * MIB) },
        FIVE_MIB,
        { copy, range: range(5 * MIB + 7, 10 * MIB + 7) },
        { copy, range: range(10 * MIB, CONTENT.length) },
      ];
      await t.answer('upload', t.upload(t.key('a'), parts));
      const expected = Buffer.concat([
        FIVE_MIB,
        FIVE_MIB,
        CONTENT.subarray(5 * MIB + 7, 10 * MIB + 7),
        CONTENT.subarray(10 * MIB),
      ]);
      assertSame(await t.read(t.key('a')), expected);
    },
  },
  {
    name: 'a range crosses the borders of the parts its source was made of',
    run: async (t) => {
      const sent = [FIVE_MIB, CONTENT.subarray(5 * MIB, 10 * MIB), CONTENT.subarray(10 * MIB)];
      await t.upload(t.key('source'), sent);
      const copy = `${t.bucket}/${t.key('source')}`;
      const parts = [
        { copy, range: range(4 * MIB, 11 * MIB + 100) },
        { copy, range: range(0, 10) },
      ];
      await t.answer('upload', t.upload(t.key('a'), parts));
      const expected = [CONTENT.subarray(4 * MIB, 11 * MIB + 100), CONTENT.subarray(0, 10)];
      assertSame(await t.read(t.key('a')), Buffer.concat(expected));
    },
  },
  {
    name: 'an object is replaced by one made of its own pieces',
    run: async (t) => {
      const copy = await source(t);
      const parts = [{ copy, range: range(0, 5 * MIB) }, REST];
      await t.answer('upload', t.upload(t.key('source'), parts));
      assertSame(await t.read(t.key('source')), Buffer.concat([FIVE_MIB, REST]));
    },
  },
  {
    name: 'a range comes from another bucket',
    run: async (t) => {
      const copy = await source(t);
      const parts = [{ copy, range: range(0, 6 * MIB + 1) }, REST];
      await t.answer('upload', t.upload(t.key('a'), parts, { bucket: t.other }));
      const expected = Buffer.concat([CONTENT.subarray(0, 6 * MIB + 1), REST]);
      assertSame(await t.read(t.key('a'), { Bucket: t.other }), expected);
    },
  },
  {
    name: 'ranges and sources that are not there are refused',
    run: async (t) => {
      const copy = await source(t);
      const end = CONTENT.length;
      await t.answer('past the end', t.upload(t.key('a'), [{ copy, range: range(0, end + 1) }]));
      await t.answer('behind', t.upload(t.key('a'), [{ copy, range: range(end + 5, end + 9) }]));
      await t.answer('open range', t.upload(t.key('a'), [{ copy, range: 'bytes=5-' }]));
      const missing = `${t.bucket}/${t.key('none')}`;
      await t.answer('missing key', t.upload(t.key('a'), [{ copy: missing }]));
      await t.answer('missing bucket', t.upload(t.key('a'), [{ copy: 'checks-no-such-bucket/a' }]));
    },
  },
  {
    name: 'the condition on the source of a copy',
    run: async (t) => {
      const copy = await source(t);
      const { ETag = '' } = await t.s3.headObject({ Bucket: t.bucket, Key: t.key('source') });
      const first = range(0, 10);
      await t.answer('right', t.upload(t.key('a'), [{ copy, range: first, ifMatch: ETag }]));
      await t.answer(
        'stale',
        t.upload(t.key('a'), [{ copy, range: first, ifMatch: NO_SUCH_ETAG }]),
      );
    },
  },
  {
    name: 'the source of a copy may have any characters in its key',
    run: async (t) => {
      const key = t.key('sp ace+plus%25é/ü.xva');
      await t.s3.putObject({ Bucket: t.bucket, Key: key, Body: CONTENT });
      const copy = encodeURIComponent(`${t.bucket}/${key}`).replaceAll('%2F', '/');
      await t.answer('upload', t.upload(t.key('a'), [{ copy, range: range(0, 100) }]));
      assertSame(await t.read(t.key('a')), CONTENT.subarray(0, 100));
    },
  },
];
