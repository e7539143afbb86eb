/**
 * Operations on one object: put, get, head, delete, copy, attributes.
 */
import { checksumHeaders, describe, overrides, readAttributes, readTags } from './attributes.ts';
import { slice } from './bytes.ts';
import {
  type Answer,
  type Call,
  isoTime,
  needBucket,
  queryNumber,
  quoted,
  readContent,
  readXml,
} from './call.ts';
import { checksumHeader } from './checksums.ts';
import { checkCopySource, checkRead, checkWrite, readRange } from './conditions.ts';
import {
  checkKey as checkEncryption,
  checkSourceKey,
  disguise,
  encryptionHeaders,
} from './encryption.ts';
import { invalidArgument, notImplemented, S3Error } from './errors.ts';
import { expirationHeader } from './lifecycle.ts';
import {
  type Attributes,
  addDeleteMarker,
  addVersion,
  type Bucket,
  currentVersion,
  dropVersion,
  isLocked,
  needVersion,
  type Version,
} from './state.ts';
import { childrenOf, childText, document, el, malformed, optional, type Xml } from './xml.ts';

/** S3's limits: a key in bytes of UTF-8, the source of a plain copy, keys of one DeleteObjects. */
const MAX_KEY_BYTES = 1024;
const MAX_COPY_BYTES = 5 * 1024 ** 3;
const MAX_DELETE_KEYS = 1000;

/** PutObject. */
export async function putObject(call: Call): Promise<Answer> {
  checkKey(call.key);
  const bucket = needBucket(call);
  const attributes = readAttributes(call, bucket);
  checkLockedBody(call, attributes);
  // Refused before the body is read when that is already sure; decided for good after it.
  checkWrite(call.headers, currentVersion(bucket, call.key));
  const body = await readContent(call);
  checkWrite(call.headers, currentVersion(bucket, call.key));
  const [[algorithm, value] = []] = body.checksums;
  const version = addVersion(bucket, {
    key: call.key,
    lastModified: call.world.now(),
    deleteMarker: false,
    etag: disguise(body.etag, attributes),
    bytes: body.bytes,
    ...attributes,
    ...(algorithm && value && { checksum: { algorithm, type: 'FULL_OBJECT', value } }),
  });
  return { status: 200, headers: { ...written(bucket, version), ...checksumHeaders(version) } };
}

/** AWS takes nothing under a lock without a checksum of it, which RGW does not ask for. Errors: `InvalidRequest`. */
function checkLockedBody({ headers }: Call, { retention, legalHold }: Attributes): void {
  if (!retention && !legalHold) return;
  const sums = /^(content-md5|x-amz-trailer|x-amz-checksum-.+)$/;
  if (Object.keys(headers).some((name) => sums.test(name))) return;
  throw new S3Error(400, 'InvalidRequest', 'Content-MD5 or a checksum is needed under a lock');
}

/** Headers of every answer that says something was stored. */
export function written(bucket: Bucket, version: Version): Record<string, string> {
  const expiration = expirationHeader(bucket, version);
  return {
    etag: quoted(version.etag),
    ...(bucket.versioning !== '' && { 'x-amz-version-id': version.versionId }),
    ...(expiration && { 'x-amz-expiration': expiration }),
    ...encryptionHeaders(version),
  };
}

/** Keys longer than S3 allows are refused. Errors: `KeyTooLongError`. */
export function checkKey(key: string): void {
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) throw new S3Error(400, 'KeyTooLongError');
}

/** GetObject and HeadObject. */
export async function getObject(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const version = findForRead(call, bucket);
  checkEncryption(call, version);
  const headers = { ...describe(call, bucket, version), ...overrides(call.query) };
  if (checkRead(call.headers, version) === 'not-modified') {
    return { status: 304, headers: { etag: quoted(version.etag) } };
  }
  const total = version.bytes.sizeBytes;
  const part = partRange(call, version);
  const range = part ?? readRange(call.headers.range, total);
  if (part) headers['x-amz-mp-parts-count'] = String(version.parts?.length ?? 1);
  if (!range) return { status: 200, headers, body: version.bytes };
  const { offset, length } = range;
  headers['content-range'] = `bytes ${offset}-${offset + length - 1}/${total}`;
  // A checksum of the whole says nothing about a piece of it.
  delete headers['x-amz-checksum-type'];
  if (version.checksum) delete headers[checksumHeader(version.checksum.algorithm)];
  // AWS answers a part with 206 as well.
  return { status: part ? 200 : 206, headers, body: slice(version.bytes, offset, length) };
}

/** Without the right to list, a missing key is indistinguishable from a forbidden one. */
function findForRead(call: Call, bucket: Bucket): Version {
  try {
    return needVersion(bucket, call.key, call.query.get('versionId'));
  } catch (error) {
    if (call.allows('s3:ListBucket')) throw error;
    throw new S3Error(403, 'AccessDenied', 'access denied');
  }
}

function partRange(call: Call, version: Version): { offset: number; length: number } | undefined {
  if (!call.query.has('partNumber')) return undefined;
  const number = queryNumber(call, 'partNumber', { min: 1, max: 10_000, fallback: 1 });
  const parts = version.parts ?? [{ number: 1, sizeBytes: version.bytes.sizeBytes }];
  const part = parts[number - 1];
  if (!part) throw new S3Error(416, 'InvalidPartNumber');
  const offset = parts.slice(0, number - 1).reduce((sum, each) => sum + each.sizeBytes, 0);
  return { offset, length: part.sizeBytes };
}

/** GetObjectAttributes. */
export async function getObjectAttributes(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const version = findForRead(call, bucket);
  checkEncryption(call, version);
  const wanted = new Set((call.headers['x-amz-object-attributes'] ?? '').split(/ *, */));
  const parts: Xml[] = (version.parts ?? []).map((part) =>
    el(
      'Part',
      el('PartNumber', part.number),
      el('Size', part.sizeBytes),
      version.checksum && optional(`Checksum${version.checksum.algorithm}`, part.checksum),
    ),
  );
  const { checksum } = version;
  const body = document(
    'GetObjectAttributesResponse',
    wanted.has('ETag') ? el('ETag', version.etag) : undefined,
    wanted.has('Checksum') && checksum
      ? el(
          'Checksum',
          el(`Checksum${checksum.algorithm}`, checksum.value),
          el('ChecksumType', checksum.type),
        )
      : undefined,
    wanted.has('ObjectParts') && version.parts
      ? el('ObjectParts', el('PartsCount', parts.length), el('IsTruncated', false), parts)
      : undefined,
    wanted.has('StorageClass') ? el('StorageClass', 'STANDARD') : undefined,
    wanted.has('ObjectSize') ? el('ObjectSize', version.bytes.sizeBytes) : undefined,
  );
  const modified = new Date(version.lastModified).toUTCString();
  return { status: 200, headers: { 'last-modified': modified }, body };
}

/** DeleteObject. */
export async function deleteObject(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const current = currentVersion(bucket, call.key);
  const ifMatch = call.headers['if-match'];
  // Gone already is fine, with or without a condition; R2 ignores the condition.
  if (ifMatch !== undefined && current && !call.world.equalParts)
    checkWrite({ 'if-match': ifMatch }, current);
  const gone = remove(call, bucket, call.key, call.query.get('versionId'));
  return {
    status: 204,
    headers: {
      ...(gone.deleteMarker && { 'x-amz-delete-marker': 'true' }),
      ...(gone.versionId !== undefined && { 'x-amz-version-id': gone.versionId }),
    },
  };
}

/** Removes a version, or the object as the bucket's versioning means it. Errors: `AccessDenied` when locked. */
function remove(
  call: Call,
  bucket: Bucket,
  key: string,
  versionId: string | undefined,
): { deleteMarker: boolean; versionId?: string } {
  const now = call.world.now();
  const target = versionId ?? (bucket.versioning === '' ? 'null' : undefined);
  if (target === undefined) {
    const marker = addDeleteMarker(bucket, key, now);
    return { deleteMarker: true, versionId: marker.versionId };
  }
  const bypass = call.headers['x-amz-bypass-governance-retention'] === 'true';
  const found = bucket.versions.get(key)?.find((each) => each.versionId === target);
  if (found && isLocked(found, now, bypass && call.allows('s3:BypassGovernanceRetention'))) {
    throw new S3Error(403, 'AccessDenied', 'the version is locked');
  }
  const dropped = dropVersion(bucket, key, target);
  return {
    deleteMarker: dropped?.deleteMarker ?? false,
    ...(versionId !== undefined && { versionId }),
  };
}

/** DeleteObjects. */
export async function deleteObjects(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const root = await readXml(call, 'Delete');
  const objects = childrenOf(root, 'Object');
  if (objects.length === 0 || objects.length > MAX_DELETE_KEYS) throw malformed('1 to 1000 keys');
  const quiet = childText(root, 'Quiet') === 'true';
  const entries = objects.map((node): Xml | undefined => {
    const key = childText(node, 'Key') ?? '';
    const versionId = childText(node, 'VersionId') || undefined;
    try {
      if (!call.allows('s3:DeleteObject', key)) throw new S3Error(403, 'AccessDenied');
      const ifMatch = childText(node, 'ETag');
      if (ifMatch) checkWrite({ 'if-match': ifMatch }, currentVersion(bucket, key));
      const gone = remove(call, bucket, key, versionId);
      if (quiet) return undefined;
      return el(
        'Deleted',
        el('Key', key),
        optional('VersionId', versionId),
        gone.deleteMarker ? el('DeleteMarker', true) : undefined,
        gone.deleteMarker ? optional('DeleteMarkerVersionId', gone.versionId) : undefined,
      );
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      const { code, message } = error;
      return el('Error', el('Key', key), el('Code', code), el('Message', message));
    }
  });
  return { status: 200, body: document('DeleteResult', entries) };
}

/** Finds what x-amz-copy-source names. Errors: `NoSuchKey`, `NoSuchBucket`, `AccessDenied`, lost conditions. */
export function readCopySource(call: Call): { bucket: Bucket; version: Version } {
  const header = call.headers['x-amz-copy-source'] ?? '';
  const [path = '', parameters = ''] = header.split('?');
  const decoded = decodeURIComponent(path).replace(/^\//, '');
  const slash = decoded.indexOf('/');
  if (slash < 1) throw invalidArgument('x-amz-copy-source is not bucket/key');
  const name = decoded.slice(0, slash);
  const key = decoded.slice(slash + 1);
  if (!call.allows('s3:GetObject', key)) {
    throw new S3Error(403, 'AccessDenied', 'no right to read the source');
  }
  const bucket = needBucket(call, name);
  const versionId = new URLSearchParams(parameters).get('versionId') ?? undefined;
  const version = needVersion(bucket, key, versionId);
  const conditional = Object.keys(call.headers).some((each) =>
    each.startsWith('x-amz-copy-source-if-'),
  );
  if (conditional && call.world.equalParts) throw notImplemented('x-amz-copy-source-if-…');
  checkSourceKey(call, version);
  checkCopySource(call.headers, version);
  return { bucket, version };
}

/** CopyObject. */
export async function copyObject(call: Call): Promise<Answer> {
  checkKey(call.key);
  const bucket = needBucket(call);
  await readContent(call, undefined, 'none');
  const { bucket: from, version: source } = readCopySource(call);
  const replaced = call.headers['x-amz-metadata-directive']?.toUpperCase() === 'REPLACE';
  const sameObject = from === bucket && source.key === call.key;
  if (sameObject && !replaced && source.versionId === currentVersion(bucket, call.key)?.versionId) {
    throw new S3Error(400, 'InvalidRequest', 'a copy onto itself must change something');
  }
  if (source.bytes.sizeBytes > MAX_COPY_BYTES) {
    throw new S3Error(400, 'InvalidRequest', 'larger than a plain copy may be: 5 GiB');
  }
  checkWrite(call.headers, currentVersion(bucket, call.key));
  const attributes = copiedAttributes(call, bucket, source, replaced);
  const version = addVersion(bucket, {
    key: call.key,
    lastModified: call.world.now(),
    deleteMarker: false,
    etag: disguise(source.etag, attributes),
    bytes: source.bytes,
    ...attributes,
    ...(source.checksum && { checksum: source.checksum }),
  });
  call.world.count('copiedBytes', version.bytes.sizeBytes);
  const body = document(
    'CopyObjectResult',
    el('LastModified', isoTime(version.lastModified)),
    el('ETag', quoted(version.etag)),
  );
  return { status: 200, headers: written(bucket, version), body };
}

function copiedAttributes(
  call: Call,
  bucket: Bucket,
  source: Version,
  replaced: boolean,
): Attributes {
  const given = readAttributes(call, bucket);
  const { retention, legalHold, customerKeyMd5 } = given;
  const newTags = call.headers['x-amz-tagging-directive']?.toUpperCase() === 'REPLACE';
  const { contentType, headers, metadata } = replaced ? given : source;
  // The copy is encrypted as its own request says, whatever its source was.
  const others = Object.entries(headers).filter(([name]) => !name.includes('-encryption'));
  return {
    contentType,
    headers: { ...Object.fromEntries(others), ...encryptionHeaders({ headers: given.headers }) },
    metadata,
    tags: newTags ? readTags(call.headers['x-amz-tagging'] ?? '') : source.tags,
    ...(retention && { retention }),
    ...(legalHold && { legalHold }),
    ...(customerKeyMd5 && { customerKeyMd5 }),
  };
}
