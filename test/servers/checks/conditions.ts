/** Conditional writes, one after another and in races: what leases stand on. */
import assert from 'node:assert/strict';
import {
  assertSame,
  type Check,
  describeError,
  FIVE_MIB,
  NO_SUCH_ETAG,
  REST,
  type Trial,
} from '../trial.ts';

const WRITERS = 20;
const ROUNDS = process.env.XVAULT_TEST_LONG === '1' ? 5 : 2;

async function put(t: Trial, name: string, Body: string, Bucket = t.bucket) {
  const target = { Bucket, Key: t.key(name) };
  const { ETag } = await t.s3.putObject({ ...target, Body });
  return { target, ETag };
}

/** All writers at once: exactly one wins, what it wrote is there, and the others are told that they lost. */
async function race(
  t: Trial,
  write: (round: number, writer: number) => Promise<unknown>,
  read: (round: number) => Promise<string>,
): Promise<void> {
  const winners = new Set<number>();
  const losses = new Set<string>();
  let foreign = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const tries = Array.from({ length: WRITERS }, (_, writer) => write(round, writer));
    const results = await Promise.allSettled(tries);
    const won = results.flatMap((each, writer) => (each.status === 'fulfilled' ? [writer] : []));
    for (const each of results) {
      if (each.status === 'rejected') losses.add(describeError(each.reason));
    }
    winners.add(won.length);
    if (won.length > 0 && !won.map(String).includes(await read(round))) foreign += 1;
  }
  t.note('one winner in every round', winners.size === 1 && winners.has(1));
  // Which of the two codes a loser sees depends on the moment.
  const told = [...losses].every((each) => each.startsWith('412 ') || each.startsWith('409 '));
  t.note('losers are told with 409 or 412', told);
  assert.equal(foreign, 0, 'what is there is no winner’s');
}

async function openUploads(t: Trial, name: string) {
  const uploads: Parameters<typeof t.s3.completeMultipartUpload>[0][][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const target = { Bucket: t.bucket, Key: t.key(`${name}${round}`) };
    uploads[round] = await Promise.all(
      Array.from({ length: WRITERS }, async (_, writer) => {
        const { UploadId } = await t.s3.createMultipartUpload(target);
        const part = { ...target, UploadId, PartNumber: 1 };
        const { ETag } = await t.s3.uploadPart({ ...part, Body: String(writer) });
        return { ...target, UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] } };
      }),
    );
  }
  return uploads;
}

const readText = (t: Trial, key: string, Bucket = t.bucket) =>
  t.read(key, { Bucket }).then((bytes) => bytes.toString());

export const CONDITION_CHECKS: readonly Check[] = [
  {
    name: 'a put only if nothing is there',
    run: async (t) => {
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.answer('first', t.s3.putObject({ ...target, Body: '1', IfNoneMatch: '*' }));
      await t.answer('second', t.s3.putObject({ ...target, Body: '2', IfNoneMatch: '*' }));
      t.note('content', await readText(t, target.Key));
    },
  },
  {
    name: 'a put only if it is still the same',
    run: async (t) => {
      const { target, ETag } = await put(t, 'a', '1');
      await t.answer('right', t.s3.putObject({ ...target, Body: '2', IfMatch: ETag }));
      await t.answer('stale', t.s3.putObject({ ...target, Body: '3', IfMatch: ETag }));
      t.note('content', await readText(t, target.Key));
      const missing = { ...target, Key: t.key('none') };
      await t.answer('missing', t.s3.putObject({ ...missing, Body: '4', IfMatch: ETag }));
      await t.answer('missing, any', t.s3.putObject({ ...missing, Body: '4', IfMatch: '*' }));
    },
  },
  {
    name: 'completing only if nothing is there',
    run: async (t) => {
      const complete = { IfNoneMatch: '*' };
      await t.answer('absent', t.upload(t.key('a'), [REST], { complete }));
      const target = { Bucket: t.bucket, Key: t.key('a') };
      const { UploadId } = await t.s3.createMultipartUpload(target);
      const part = await t.s3.uploadPart({ ...target, UploadId, PartNumber: 1, Body: FIVE_MIB });
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag: part.ETag }] };
      const again = { ...target, UploadId, MultipartUpload };
      await t.answer('present', t.s3.completeMultipartUpload({ ...again, ...complete }));
      assertSame(await t.read(target.Key), REST, 'the first object');
      await t.answer('the lost upload, unconditionally', t.s3.completeMultipartUpload(again));
    },
  },
  {
    name: 'completing only if it is still the same',
    run: async (t) => {
      const { target, ETag } = await put(t, 'a', '1');
      const stale = { complete: { IfMatch: NO_SUCH_ETAG } };
      await t.answer('stale', t.upload(target.Key, [REST], stale));
      t.note('content', await readText(t, target.Key).then((text) => text.slice(0, 1) === '1'));
      const right = { complete: { IfMatch: ETag ?? '' } };
      await t.answer('right', t.upload(target.Key, [REST], right));
      await t.answer('missing', t.upload(t.key('none'), [REST], stale));
    },
  },
  {
    name: 'deleting only if it is still the same',
    run: async (t) => {
      const { target, ETag } = await put(t, 'a', '1');
      await t.answer('stale', t.s3.deleteObject({ ...target, IfMatch: NO_SUCH_ETAG }));
      await t.answer('still there', t.s3.headObject(target));
      await t.answer('right', t.s3.deleteObject({ ...target, IfMatch: ETag }));
      await t.answer('gone', t.s3.headObject(target));
      await t.answer('missing', t.s3.deleteObject({ ...target, IfMatch: ETag }));
    },
  },
  {
    name: 'copying only if nothing is there',
    run: async (t) => {
      const { target } = await put(t, 'a', '1');
      await put(t, 'source', '2');
      const CopySource = `${t.bucket}/${t.key('source')}`;
      await t.answer('present', t.s3.copyObject({ ...target, CopySource, IfNoneMatch: '*' }));
    },
  },
  {
    name: 'race: puts if nothing is there',
    run: (t) => {
      const target = (round: number) => ({ Bucket: t.bucket, Key: t.key(`r${round}`) });
      return race(
        t,
        (round, writer) =>
          t.s3.putObject({ ...target(round), Body: String(writer), IfNoneMatch: '*' }),
        (round) => readText(t, t.key(`r${round}`)),
      );
    },
  },
  {
    name: 'race: puts if it is still the same',
    run: async (t) => {
      const before = await Promise.all(
        Array.from({ length: ROUNDS }, (_, round) => put(t, `r${round}`, 'start')),
      );
      await race(
        t,
        (round, writer) => {
          const { target, ETag } = before[round] as (typeof before)[number];
          return t.s3.putObject({ ...target, Body: String(writer), IfMatch: ETag });
        },
        (round) => readText(t, t.key(`r${round}`)),
      );
    },
  },
  {
    name: 'race: completing if nothing is there',
    run: async (t) => {
      const uploads = await openUploads(t, 'r');
      await race(
        t,
        (round, writer) => {
          const upload = uploads[round]?.[writer];
          assert.ok(upload);
          return t.s3.completeMultipartUpload({ ...upload, IfNoneMatch: '*' });
        },
        (round) => readText(t, t.key(`r${round}`)),
      );
    },
  },
  {
    name: 'race: completing if it is still the same',
    run: async (t) => {
      const before = await Promise.all(
        Array.from({ length: ROUNDS }, (_, round) => put(t, `r${round}`, 'start')),
      );
      const uploads = await openUploads(t, 'r');
      await race(
        t,
        (round, writer) => {
          const upload = uploads[round]?.[writer];
          assert.ok(upload);
          return t.s3.completeMultipartUpload({ ...upload, IfMatch: before[round]?.ETag });
        },
        (round) => readText(t, t.key(`r${round}`)),
      );
    },
  },
  {
    name: 'race: a delete and a put of the same ETag do not both win',
    run: async (t) => {
      const { target, ETag } = await put(t, 'a', '1');
      const deletes = Array.from({ length: 10 }, () =>
        t.s3.deleteObject({ ...target, IfMatch: ETag }),
      );
      const puts = Array.from({ length: 10 }, (_, writer) =>
        t.s3.putObject({ ...target, Body: `new ${writer}`, IfMatch: ETag }),
      );
      const results = await Promise.allSettled([...deletes, ...puts]);
      const won = results.slice(10).filter((each) => each.status === 'fulfilled').length;
      assert.ok(won <= 1, `${won} puts won`);
      if (won === 0) return;
      const there = await t.s3.headObject(target).then(
        () => true,
        () => false,
      );
      assert.ok(there, 'a put won and its object was deleted by a condition that no longer held');
    },
  },
];

export const VERSIONED_RACES: readonly Check[] = [
  {
    name: 'race: puts if nothing is there, versioned',
    run: async (t) => {
      const Bucket = await t.versioned();
      await race(
        t,
        (round, writer) =>
          t.s3.putObject({
            Bucket,
            Key: t.key(`r${round}`),
            Body: String(writer),
            IfNoneMatch: '*',
          }),
        (round) => readText(t, t.key(`r${round}`), Bucket),
      );
    },
  },
  {
    name: 'race: puts if it is still the same, versioned',
    run: async (t) => {
      const Bucket = await t.versioned();
      const before = await Promise.all(
        Array.from({ length: ROUNDS }, (_, round) => put(t, `r${round}`, 'start', Bucket)),
      );
      await race(
        t,
        (round, writer) => {
          const { target, ETag } = before[round] as (typeof before)[number];
          return t.s3.putObject({ ...target, Body: String(writer), IfMatch: ETag });
        },
        (round) => readText(t, t.key(`r${round}`), Bucket),
      );
    },
  },
];
