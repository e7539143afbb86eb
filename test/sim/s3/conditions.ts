/**
 * If-Match, If-None-Match and their relatives: on reads, on writes, on the source of a copy.
 *
 * Writes as AWS documents them ("conditional writes", "conditional deletes"): If-None-Match takes only `*`; If-Match
 * on a key that is not there answers 404.
 */
import { notImplemented, preconditionFailed, S3Error } from './errors.ts';
import type { Version } from './state.ts';

type Headers = Readonly<Record<string, string>>;

/** Refuses a write whose condition does not hold now. The caller writes in the same step. */
export function checkWrite(headers: Headers, current: Version | undefined): void {
  const ifNoneMatch = headers['if-none-match'];
  const ifMatch = headers['if-match'];
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() !== '*') throw notImplemented('If-None-Match with an ETag on a write');
    if (current) throw preconditionFailed('If-None-Match');
  }
  if (ifMatch !== undefined) {
    if (!current) throw new S3Error(404, 'NoSuchKey', 'there is no such key');
    if (!matches(ifMatch, current.etag)) throw preconditionFailed('If-Match');
  }
}

/** What a read condition decides: send the object, or only say that it is not modified. */
export function checkRead(headers: Headers, version: Version): 'send' | 'not-modified' {
  const modified = Math.floor(version.lastModified / 1000) * 1000;
  const ifMatch = headers['if-match'];
  const ifNoneMatch = headers['if-none-match'];
  const since = headers['if-modified-since'];
  const unmodifiedSince = headers['if-unmodified-since'];
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, version.etag)) throw preconditionFailed('If-Match');
  } else if (unmodifiedSince !== undefined && modified > Date.parse(unmodifiedSince)) {
    throw preconditionFailed('If-Unmodified-Since');
  }
  if (ifNoneMatch !== undefined) {
    return matches(ifNoneMatch, version.etag) ? 'not-modified' : 'send';
  }
  return since !== undefined && modified <= Date.parse(since) ? 'not-modified' : 'send';
}

/** The same for the source of a copy, where `not modified` is a refusal too. */
export function checkCopySource(headers: Headers, source: Version): void {
  const renamed: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const [, condition] = /^x-amz-copy-source-(if-.+)$/.exec(name) ?? [];
    if (condition) renamed[condition] = value;
  }
  if (checkRead(renamed, source) === 'not-modified') {
    throw preconditionFailed('x-amz-copy-source-if-…');
  }
}

function matches(condition: string, etag: string): boolean {
  return condition
    .split(',')
    .map((each) => each.trim().replace(/^W\//, '').replace(/^"|"$/g, ''))
    .some((each) => each === '*' || each === etag);
}

/** Where a Range header points. */
export interface Range {
  offset: number;
  length: number;
}

/**
 * Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`. A header that is none of these is ignored, as HTTP says.
 *
 * Errors: `InvalidRange` (416) when nothing of the object lies in it.
 */
export function readRange(header: string | undefined, sizeBytes: number): Range | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  const offset = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? sizeBytes : Math.min(sizeBytes, Number(last) + 1);
  if (first !== '' && last !== '' && Number(last) < offset) return undefined;
  if (offset >= sizeBytes || end <= offset) {
    throw new S3Error(416, 'InvalidRange', 'the range is outside the object', {
      'content-range': `bytes */${sizeBytes}`,
    });
  }
  return { offset, length: end - offset };
}
