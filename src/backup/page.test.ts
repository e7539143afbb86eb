import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { pageOf } from './page.ts';

const ids = Array.from({ length: 95 }, (_, i) => String(199 - i));
const page = (
  input: { pageSize: number; pageToken?: string },
  keep = (_: string) => true,
  filter = ['f'],
) =>
  pageOf(
    ids,
    input,
    filter,
    (id) => id,
    async (some) => some.map((id) => (keep(id) ? id : undefined)),
  );

test('pages put together are the whole list, each item once', async () => {
  for (const pageSize of [1, 7, 19, 95, 1000]) {
    const all: string[] = [];
    let pageToken: string | undefined;
    do {
      const next: Awaited<ReturnType<typeof page>> = await page({
        pageSize,
        ...(pageToken ? { pageToken } : {}),
      });
      assert.ok(next.items.length <= pageSize);
      all.push(...next.items);
      pageToken = next.nextPageToken;
    } while (pageToken !== undefined);
    assert.deepEqual(all, ids);
  }
});

test('a filter that drops most items still fills the page', async () => {
  const { items } = await page({ pageSize: 5 }, (id) => id.endsWith('0'));
  assert.deepEqual(items, ['190', '180', '170', '160', '150']);
});

test('a token of another filter, or no token at all, is refused', async () => {
  const { nextPageToken } = await page({ pageSize: 5 });
  assert.ok(nextPageToken);
  for (const pageToken of ['', '%', 'e30', Buffer.from('[1,"f"]').toString('base64url')]) {
    await assert.rejects(page({ pageSize: 5, pageToken }), (e) =>
      isBackupError(e, 'invalid_request'),
    );
  }
  await assert.rejects(
    page({ pageSize: 5, pageToken: nextPageToken }, () => true, ['g']),
    (e) => isBackupError(e, 'invalid_request'),
  );
});

test('a page size of nonsense is brought into range', async () => {
  assert.equal((await page({ pageSize: -3 })).items.length, 1);
  assert.equal((await page({ pageSize: 1e9 })).items.length, 95);
});
