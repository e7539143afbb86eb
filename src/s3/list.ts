/** Listing, one page a call. Pages are continued by key, so a page token outlives this process. */
import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import type { Cancellable, ObjectPage, ObjectStore } from '../ports.ts';
import type { StoreContext } from './context.ts';

const PAGE_MAX = 1000;
/** Answers that are truncated and yet empty: allowed, but not for ever. */
const EMPTY_PAGES_MAX = 100;

/** Sorts after every character of a plain key: the page after a prefix `a/` begins behind all `a/…`. */
const AFTER_PREFIX = '~';

/** One page of at most `limit` (default and most: 1000) objects and prefixes together. */
export async function listPage(
  { client, calls, bucket }: StoreContext,
  input: Parameters<ObjectStore['list']>[0],
  options: Cancellable,
): Promise<ObjectPage> {
  const { prefix, startAfter, delimiter } = input;
  const request = {
    Bucket: bucket,
    Prefix: prefix,
    MaxKeys: Math.min(PAGE_MAX, Math.max(1, input.limit ?? PAGE_MAX)),
    ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
    ...(startAfter === undefined ? {} : { StartAfter: startAfter }),
  };
  let token: string | undefined;
  for (let pages = 0; ; pages += 1) {
    const page = token === undefined ? request : { ...request, ContinuationToken: token };
    const answer = await calls(
      'ListObjectsV2',
      (to) => client.send(new ListObjectsV2Command(page), to),
      options,
    );
    const objects = (answer.Contents ?? []).map(
      ({ Key, Size, ETag, LastModified, StorageClass }) => ({
        key: Key ?? '',
        sizeBytes: Size ?? 0,
        etag: ETag ?? '',
        lastModified: LastModified?.getTime() ?? 0,
        ...(StorageClass && StorageClass !== 'STANDARD' ? { storageClass: StorageClass } : {}),
      }),
    );
    // Some stores give a prefix again whose keys lie both before and after `startAfter`.
    const prefixes = (answer.CommonPrefixes ?? [])
      .map(({ Prefix }) => Prefix ?? '')
      .filter((found) => startAfter === undefined || found > startAfter);
    token = answer.IsTruncated ? answer.NextContinuationToken : undefined;
    if (objects.length + prefixes.length === 0 && token !== undefined && pages < EMPTY_PAGES_MAX) {
      continue;
    }
    const result: ObjectPage = { objects, prefixes };
    if (token !== undefined) result.next = lastOf(objects.at(-1)?.key, prefixes.at(-1), token);
    return result;
  }
}

function lastOf(key: string | undefined, prefix: string | undefined, token: string): string {
  if (prefix !== undefined && (key === undefined || prefix > key)) return prefix + AFTER_PREFIX;
  return key ?? token;
}
