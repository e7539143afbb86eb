/**
 * Lifecycle rules at work: what expires, when, by the server's clock.
 *
 * An action is due at the first midnight UTC after its days have passed (the rule AWS is documented to use, and what
 * Ceph RGW writes into x-amz-expiration). Rules are applied when the UTC day changes or the rules do, before the next
 * request on the bucket; a real service does it some hours later. Locked versions outlive their rule.
 */
import type { LifecycleRule } from './lifecycle-rules.ts';
import {
  addDeleteMarker,
  type Bucket,
  dropVersion,
  isLocked,
  type Upload,
  type Version,
} from './state.ts';

export const DAY_MS = 24 * 3600 * 1000;

/** Applies the bucket's rules, if that was not yet done today. */
export function applyLifecycle(bucket: Bucket, now: number): void {
  const today = Math.floor(now / DAY_MS);
  if (!bucket.lifecycle || bucket.lifecycleDay === today) return;
  bucket.lifecycleDay = today;
  const rules = bucket.lifecycle.filter((rule) => rule.enabled);
  for (const upload of [...bucket.uploads.values()]) {
    if (rules.some((rule) => abortIsDue(rule, upload, now))) {
      bucket.uploads.delete(upload.uploadId);
    }
  }
  for (const key of [...bucket.keys]) expireKey(bucket, key, rules, now);
}

function expireKey(bucket: Bucket, key: string, rules: LifecycleRule[], now: number): void {
  expireNoncurrent(bucket, key, rules, now);
  const [latest, ...older] = bucket.versions.get(key) ?? [];
  if (!latest) return;
  if (latest.deleteMarker) {
    const expires = rules.some((rule) => rule.expiredMarkers && matches(rule, latest));
    if (expires && older.length === 0) dropVersion(bucket, key, latest.versionId);
    return;
  }
  const due = expiryOf(rules, latest);
  if (!due || due.at > now) return;
  if (bucket.versioning === '') dropVersion(bucket, key, latest.versionId);
  else addDeleteMarker(bucket, key, now);
}

/** A version became noncurrent when the next newer one was made. */
function expireNoncurrent(bucket: Bucket, key: string, rules: LifecycleRule[], now: number): void {
  const versions = bucket.versions.get(key) ?? [];
  versions.slice(1).forEach((version, newerNoncurrent) => {
    const since = versions[newerNoncurrent]?.lastModified ?? now;
    const due = rules.some(
      (rule) =>
        rule.noncurrentDays !== undefined &&
        matches(rule, version) &&
        newerNoncurrent >= (rule.newerNoncurrent ?? 0) &&
        dueAt(since, rule.noncurrentDays) <= now,
    );
    if (due && !isLocked(version, now, false)) dropVersion(bucket, key, version.versionId);
  });
}

function abortIsDue(rule: LifecycleRule, upload: Upload, now: number): boolean {
  if (rule.abortDays === undefined || !upload.key.startsWith(rule.filter.prefix ?? ''))
    return false;
  return dueAt(upload.initiated, rule.abortDays) <= now;
}

/** The earliest expiry of a current version, and the rule that says so. */
function expiryOf(
  rules: readonly LifecycleRule[],
  version: Version,
): { at: number; rule: LifecycleRule } | undefined {
  const due = rules
    .filter((rule) => rule.enabled && matches(rule, version))
    .flatMap((rule) => {
      if (rule.expirationDays !== undefined) {
        return [{ at: dueAt(version.lastModified, rule.expirationDays), rule }];
      }
      return rule.expirationDate === undefined ? [] : [{ at: rule.expirationDate, rule }];
    });
  return due.toSorted((a, b) => a.at - b.at)[0];
}

/** The first midnight UTC at or after `days` whole days. */
function dueAt(from: number, days: number): number {
  return Math.ceil((from + days * DAY_MS) / DAY_MS) * DAY_MS;
}

function matches({ filter }: LifecycleRule, version: Version): boolean {
  const sizeBytes = version.bytes.sizeBytes;
  return (
    version.key.startsWith(filter.prefix ?? '') &&
    filter.tags.every(([name, value]) => version.tags[name] === value) &&
    sizeBytes > (filter.greaterThan ?? -1) &&
    sizeBytes < (filter.lessThan ?? Number.POSITIVE_INFINITY)
  );
}

/** The forecast GET, HEAD and puts carry. */
export function expirationHeader(bucket: Bucket, version: Version): string | undefined {
  const due = bucket.lifecycle && expiryOf(bucket.lifecycle, version);
  if (!due) return undefined;
  const date = new Date(due.at).toUTCString();
  return `expiry-date="${date}", rule-id="${encodeURIComponent(due.rule.id)}"`;
}
