import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NEVER } from '../signals.ts';
import { compareParts, type SentPart, type UploadTarget } from './proof.ts';

const PARTS: SentPart[] = [1, 2, 3].map((partNumber) => ({
  partNumber,
  etag: `"etag-${partNumber}"`,
  sizeBytes: 100 * partNumber,
}));
const LISTED = PARTS.map(({ partNumber: PartNumber, etag: ETag, sizeBytes: Size }) => ({
  PartNumber,
  ETag,
  Size,
}));

/** A store that lists these pages, and the last of them for ever. */
function lists(...pages: object[]): UploadTarget {
  let asked = 0;
  const calls = async () => pages[Math.min(asked++, pages.length - 1)];
  return {
    context: { calls, quirks: { listParts: true } } as never,
    upload: { Bucket: 'b', Key: 'k', UploadId: 'u' },
    call: () => ({ signal: NEVER }) as never,
  };
}

const more = (from: number, to: number) => ({
  Parts: LISTED.slice(from, to),
  IsTruncated: true,
  NextPartNumberMarker: String(to),
});

test('parts that are listed as they were sent are right, however they are paged', async () => {
  const options = { signal: NEVER };
  await compareParts(lists({ Parts: LISTED }), PARTS, options);
  await compareParts(lists(more(0, 2), more(2, 2), { Parts: LISTED.slice(2) }), PARTS, options);
});

test('a part too few, too many or other than it was sent is damage; so is a list without an end', async () => {
  const [first, second] = LISTED;
  for (const [what, ...pages] of [
    ['one is missing', { Parts: LISTED.slice(0, 2) }],
    ['one too many', { Parts: [...LISTED, { ...first, PartNumber: 4 }] }],
    ['another size', { Parts: [first, { ...second, Size: 1 }, LISTED[2]] }],
    ['another ETag', { Parts: [first, { ...second, ETag: '"other"' }, LISTED[2]] }],
    ['empty pages for ever', more(0, 2), more(2, 2)],
    ['the same page for ever', more(0, 2)],
  ] as [string, ...object[]][]) {
    await assert.rejects(
      compareParts(lists(...pages), PARTS, { signal: NEVER }),
      { code: 'data_corrupt' },
      what,
    );
  }
});
