/**
 * What travels beside the bytes: type, metadata, tags, storage class, lock. Read from a request, written on an answer.
 */
import { type Call, isoTime, quoted } from './call.ts';
import { checksumHeader } from './checksums.ts';
import { encryptionHeaders, readEncryption } from './encryption.ts';
import { invalidArgument, S3Error } from './errors.ts';
import { expirationHeader } from './lifecycle.ts';
import type { Attributes, Bucket, Retention, Version } from './state.ts';

const KEPT_HEADERS = [
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'expires',
  'x-amz-storage-class',
  'x-amz-website-redirect-location',
];
const MAX_TAGS = 10;
const MAX_METADATA_BYTES = 2048;
const DAY_MS = 24 * 3600 * 1000;

/** Reads what a put, a create-upload or a copy says about its object. */
export function readAttributes(call: Call, bucket: Bucket): Attributes {
  const { headers } = call;
  const { headers: encryption, customerKeyMd5 } = readEncryption(call, bucket);
  const kept: Record<string, string> = { ...encryption };
  for (const name of KEPT_HEADERS) {
    const value = keptValue(name, headers[name]);
    if (value) kept[name] = value;
  }
  return {
    contentType: headers['content-type'] ?? 'binary/octet-stream',
    headers: kept,
    metadata: readMetadata(headers),
    tags: readTags(headers['x-amz-tagging'] ?? ''),
    ...(customerKeyMd5 && { customerKeyMd5 }),
    ...readLock(call, bucket),
  };
}

/** The framing of a body is no part of the object's own encoding. */
function keptValue(name: string, value: string | undefined): string | undefined {
  if (name !== 'content-encoding') return value;
  return value
    ?.split(',')
    .map((each) => each.trim())
    .filter((each) => each !== 'aws-chunked')
    .join(',');
}

function readMetadata(headers: Readonly<Record<string, string>>): Record<string, string> {
  const metadata: Record<string, string> = {};
  let sizeBytes = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith('x-amz-meta-')) continue;
    metadata[name.slice('x-amz-meta-'.length)] = value;
    sizeBytes += name.length - 'x-amz-meta-'.length + value.length;
  }
  if (sizeBytes > MAX_METADATA_BYTES) throw new S3Error(400, 'MetadataTooLarge');
  return metadata;
}

/** Tags as a query string. Errors: `InvalidTag`. */
export function readTags(text: string): Record<string, string> {
  return checkTags([...new URLSearchParams(text)]);
}

/** Tags as pairs, within S3's limits. Errors: `InvalidTag`, `BadRequest`. */
export function checkTags(pairs: [string, string][]): Record<string, string> {
  if (pairs.length > MAX_TAGS) throw new S3Error(400, 'BadRequest', 'at most 10 tags');
  const tags: Record<string, string> = {};
  for (const [name, value] of pairs) {
    if (name === '' || name.length > 128 || value.length > 256 || name in tags) {
      throw new S3Error(400, 'InvalidTag', `the tag ${name} is not valid`);
    }
    tags[name] = value;
  }
  return tags;
}

function readLock(call: Call, bucket: Bucket): Pick<Attributes, 'retention' | 'legalHold'> {
  const { headers, world } = call;
  const mode = headers['x-amz-object-lock-mode'];
  const until = headers['x-amz-object-lock-retain-until-date'];
  const hold = headers['x-amz-object-lock-legal-hold'];
  if (!bucket.lock) {
    if (mode !== undefined || hold !== undefined) {
      throw new S3Error(400, 'InvalidRequest', 'the bucket has no object lock');
    }
    return {};
  }
  const legalHold = hold === 'ON' && { legalHold: true };
  if (mode !== undefined || until !== undefined) {
    if (!call.allows('s3:PutObjectRetention')) {
      throw new S3Error(403, 'AccessDenied', 'no right to s3:PutObjectRetention');
    }
    return { retention: checkRetention(mode, until, world.now()), ...legalHold };
  }
  const rule = bucket.lockDefault;
  if (!rule) return { ...legalHold };
  const days = rule.days ?? (rule.years ?? 0) * 365;
  return { retention: { mode: rule.mode, until: world.now() + days * DAY_MS }, ...legalHold };
}

/** A retention as a client writes it. Errors: `InvalidArgument`. */
export function checkRetention(
  mode: string | undefined,
  untilText: string | undefined,
  now: number,
): Retention {
  const until = Date.parse(untilText ?? '');
  if ((mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') || !(until > now)) {
    throw invalidArgument('a lock needs a mode and a date in the future');
  }
  return { mode, until };
}

/** Headers of GET and HEAD. */
export function describe(call: Call, bucket: Bucket, version: Version): Record<string, string> {
  const headers: Record<string, string> = {
    'content-type': version.contentType,
    'last-modified': new Date(version.lastModified).toUTCString(),
    etag: quoted(version.etag),
    'accept-ranges': 'bytes',
    ...version.headers,
    ...encryptionHeaders(version),
  };
  for (const [name, value] of Object.entries(version.metadata)) {
    headers[`x-amz-meta-${name}`] = value;
  }
  const tags = Object.keys(version.tags).length;
  if (tags > 0) headers['x-amz-tagging-count'] = String(tags);
  if (bucket.versioning !== '') headers['x-amz-version-id'] = version.versionId;
  if (version.retention && call.allows('s3:GetObjectRetention')) {
    headers['x-amz-object-lock-mode'] = version.retention.mode;
    headers['x-amz-object-lock-retain-until-date'] = isoTime(version.retention.until);
  }
  if (version.legalHold) headers['x-amz-object-lock-legal-hold'] = 'ON';
  const expiration = expirationHeader(bucket, version);
  if (expiration) headers['x-amz-expiration'] = expiration;
  if (call.headers['x-amz-checksum-mode']?.toUpperCase() === 'ENABLED') {
    Object.assign(headers, checksumHeaders(version));
  }
  return headers;
}

/** The checksum of an object as answers carry it. */
export function checksumHeaders(version: Pick<Version, 'checksum'>): Record<string, string> {
  if (!version.checksum) return {};
  const { algorithm, type, value } = version.checksum;
  return { [checksumHeader(algorithm)]: value, 'x-amz-checksum-type': type };
}

/** `response-…` parameters of a link put headers on the answer. */
export function overrides(query: ReadonlyMap<string, string>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of query) {
    const [, header] =
      /^response-(content-(?:type|disposition|encoding|language)|cache-control|expires)$/.exec(
        name,
      ) ?? [];
    if (header) headers[header] = value;
  }
  return headers;
}
