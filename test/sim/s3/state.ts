/**
 * What the embedded server remembers: buckets, versions of objects, open uploads. All in memory.
 *
 * Nothing here waits, so a check and the write that follows it are one step: that is what makes conditional writes
 * atomic, on versioned buckets too (where Ceph RGW 20 is not). Versions of a key are kept newest first; a bucket
 * without versioning has at most one, called `null`.
 */
import { randomBytes } from 'node:crypto';
import { type Bytes, NO_BYTES } from './bytes.ts';
import type { Checksum, ChecksumAlgorithm, ChecksumType } from './checksums.ts';
import type { BucketDefault } from './encryption.ts';
import { S3Error } from './errors.ts';
import type { LifecycleRule } from './lifecycle-rules.ts';

/** Answers to a repeated Complete are remembered for this many uploads of a bucket. */
const MAX_COMPLETED_REMEMBERED = 1000;

export interface Retention {
  mode: 'GOVERNANCE' | 'COMPLIANCE';
  until: number;
}

/** What a client says about an object besides its bytes. */
export interface Attributes {
  contentType: string;
  /** Content-Encoding, Cache-Control, Content-Disposition, Content-Language, Expires, x-amz-storage-class … as sent. */
  headers: Record<string, string>;
  metadata: Record<string, string>;
  tags: Record<string, string>;
  retention?: Retention;
  legalHold?: boolean;
  /** Encrypted with the customer's key, of this MD5. */
  customerKeyMd5?: string;
}

export interface Version extends Attributes {
  key: string;
  versionId: string;
  lastModified: number;
  deleteMarker: boolean;
  /** Without quotes. */
  etag: string;
  bytes: Bytes;
  /** Of a multipart upload, in order. */
  parts?: { number: number; sizeBytes: number; checksum?: string }[];
  checksum?: Checksum;
}

export interface Part {
  number: number;
  etag: string;
  bytes: Bytes;
  lastModified: number;
  checksums: Map<ChecksumAlgorithm, string>;
}

export interface Upload {
  key: string;
  uploadId: string;
  initiated: number;
  attributes: Attributes;
  checksum?: { algorithm: ChecksumAlgorithm; type: ChecksumType };
  parts: Map<number, Part>;
}

export interface CompletedUpload {
  key: string;
  etag: string;
  versionId: string;
}

export interface Bucket {
  name: string;
  created: number;
  versioning: '' | 'Enabled' | 'Suspended';
  /** Object lock was asked for when the bucket was made. */
  lock: boolean;
  encryption?: BucketDefault;
  lockDefault?: { mode: Retention['mode']; days?: number; years?: number };
  lifecycle?: LifecycleRule[];
  /** The UTC day the rules were last applied on. */
  lifecycleDay?: number;
  /** All keys that have a version, in byte order. */
  keys: string[];
  versions: Map<string, Version[]>;
  uploads: Map<string, Upload>;
  completed: Map<string, CompletedUpload>;
}

/** An empty bucket. */
export function createBucket(name: string, created: number): Bucket {
  return {
    name,
    created,
    versioning: '',
    lock: false,
    keys: [],
    versions: new Map(),
    uploads: new Map(),
    completed: new Map(),
  };
}

/** The object as a plain GET sees it; undefined when there is none or a delete marker hides it. */
export function currentVersion(bucket: Bucket, key: string): Version | undefined {
  const latest = bucket.versions.get(key)?.[0];
  return latest?.deleteMarker ? undefined : latest;
}

/** One version. Errors: `NoSuchKey`, also where AWS says `NoSuchVersion` or, of a marker, 405. */
export function needVersion(bucket: Bucket, key: string, versionId?: string): Version {
  const versions = bucket.versions.get(key) ?? [];
  const found = versionId === undefined ? versions[0] : findVersion(versions, versionId);
  if (!found) {
    throw new S3Error(404, 'NoSuchKey', 'there is no such key');
  }
  if (found.deleteMarker) {
    const headers = { 'x-amz-delete-marker': 'true', 'x-amz-version-id': found.versionId };
    throw new S3Error(404, 'NoSuchKey', 'there is only a delete marker', headers);
  }
  return found;
}

function findVersion(versions: readonly Version[], versionId: string): Version | undefined {
  return versions.find((version) => version.versionId === versionId);
}

/** Stores a version as the newest, replacing what the bucket's versioning lets it replace; gives it its id. */
export function addVersion(bucket: Bucket, version: Omit<Version, 'versionId'>): Version {
  const versionId = bucket.versioning === 'Enabled' ? newId() : 'null';
  const added: Version = { ...version, versionId };
  const kept = (bucket.versions.get(version.key) ?? []).filter(
    (each) => each.versionId !== versionId,
  );
  if (!bucket.versions.has(version.key)) insertKey(bucket.keys, version.key);
  bucket.versions.set(version.key, [added, ...kept]);
  return added;
}

/** Takes one version out for good. */
export function dropVersion(bucket: Bucket, key: string, versionId: string): Version | undefined {
  const versions = bucket.versions.get(key) ?? [];
  const dropped = findVersion(versions, versionId);
  if (!dropped) return undefined;
  const kept = versions.filter((each) => each !== dropped);
  if (kept.length > 0) {
    bucket.versions.set(key, kept);
  } else {
    bucket.versions.delete(key);
    bucket.keys.splice(keyIndex(bucket.keys, key), 1);
  }
  return dropped;
}

/** Hides an object behind a delete marker. */
export function addDeleteMarker(bucket: Bucket, key: string, now: number): Version {
  return addVersion(bucket, {
    key,
    lastModified: now,
    deleteMarker: true,
    etag: '',
    bytes: NO_BYTES,
    ...noAttributes(),
  });
}

export function noAttributes(): Attributes {
  return { contentType: 'binary/octet-stream', headers: {}, metadata: {}, tags: {} };
}

/** True while a legal hold or a retention time forbids to remove the version. */
export function isLocked(version: Version, now: number, bypassGovernance: boolean): boolean {
  if (version.legalHold) return true;
  const { retention } = version;
  if (!retention || retention.until <= now) return false;
  return !(retention.mode === 'GOVERNANCE' && bypassGovernance);
}

/** Remembers the answer of a completed upload, forgetting the oldest. */
export function rememberCompleted(bucket: Bucket, uploadId: string, done: CompletedUpload): void {
  bucket.completed.set(uploadId, done);
  for (const oldest of bucket.completed.keys()) {
    if (bucket.completed.size <= MAX_COMPLETED_REMEMBERED) break;
    bucket.completed.delete(oldest);
  }
}

/** Ids of versions and uploads: no meaning, no order. */
export function newId(): string {
  return randomBytes(24).toString('base64url');
}

/** UTF-8 byte order, which is S3's order of keys. */
export function compareKeys(a: string, b: string): number {
  // Only surrogate pairs sort differently as UTF-16; all other keys take the fast way.
  const wide = /[\ud800-\udfff]/;
  if (wide.test(a) || wide.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The first position whose key is not below `key`. */
export function keyIndex(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareKeys(keys[middle] as string, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function insertKey(keys: string[], key: string): void {
  keys.splice(keyIndex(keys, key), 0, key);
}
