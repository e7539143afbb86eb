/**
 * Listings: buckets, objects (v2 and v1), versions, open uploads. Paged, with prefix and delimiter, in byte order.
 */
import { type Answer, type Call, isoTime, needBucket, queryNumber, quoted } from './call.ts';
import { S3Error } from './errors.ts';
import { type Bucket, compareKeys, currentVersion, keyIndex, type Version } from './state.ts';
import { document, el, optional, type Xml } from './xml.ts';

const PAGE = { min: 0, max: 1000, fallback: 1000 };
const OWNER = el('Owner', el('ID', 'owner'), el('DisplayName', 'owner'));

/** ListBuckets. */
export async function listBuckets(call: Call): Promise<Answer> {
  const buckets = [...call.world.buckets.values()].toSorted((a, b) => compareKeys(a.name, b.name));
  const entries = buckets.map((bucket) =>
    el('Bucket', el('Name', bucket.name), el('CreationDate', isoTime(bucket.created))),
  );
  const body = document('ListAllMyBucketsResult', OWNER, el('Buckets', entries));
  return { status: 200, body };
}

interface Entry {
  /** A key, or a common prefix. */
  name: string;
  version?: Version;
}

interface Page {
  entries: Entry[];
  truncated: boolean;
}

/** Walks the keys after `after`, folding what lies below a delimiter into one entry. */
function walk(
  bucket: Bucket,
  input: { prefix: string; delimiter: string; after: string; max: number },
): Page {
  const { prefix, delimiter, after, max } = input;
  const entries: Entry[] = [];
  const from = compareKeys(after, prefix) > 0 ? after : prefix;
  for (let index = keyIndex(bucket.keys, from); index < bucket.keys.length; index++) {
    const key = bucket.keys[index] as string;
    if (!key.startsWith(prefix)) break;
    if (after !== '' && compareKeys(key, after) <= 0) continue;
    const version = currentVersion(bucket, key);
    if (!version) continue;
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const folded = cut < 0 ? undefined : key.slice(0, cut + delimiter.length);
    // A page that ended with a common prefix goes on behind everything below it.
    if (folded !== undefined && (folded === after || folded === entries.at(-1)?.name)) continue;
    if (entries.length === max) return { entries, truncated: max > 0 };
    entries.push(folded === undefined ? { name: key, version } : { name: folded });
  }
  return { entries, truncated: false };
}

/** ListObjectsV2. */
export async function listObjectsV2(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const { query } = call;
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const max = queryNumber(call, 'max-keys', PAGE);
  const token = query.get('continuation-token');
  const startAfter = query.get('start-after');
  const after = token === undefined ? (startAfter ?? '') : readToken(token);
  const { entries, truncated } = walk(bucket, { prefix, delimiter, after, max });
  const name = encoder(call);
  const next = truncated ? writeToken(entries.at(-1)?.name ?? '') : undefined;
  const body = document(
    'ListBucketResult',
    el('Name', bucket.name),
    el('Prefix', name(prefix)),
    optional('StartAfter', startAfter === undefined ? undefined : name(startAfter)),
    optional('ContinuationToken', token),
    optional('NextContinuationToken', next),
    el('KeyCount', entries.length),
    el('MaxKeys', max),
    delimiter === '' ? undefined : el('Delimiter', name(delimiter)),
    el('IsTruncated', truncated),
    optional('EncodingType', query.get('encoding-type')),
    contents(entries, name, query.get('fetch-owner') === 'true'),
  );
  return { status: 200, body };
}

/** ListObjects, the first version: some tools still use it. */
export async function listObjectsV1(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const { query } = call;
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const after = query.get('marker') ?? '';
  const max = queryNumber(call, 'max-keys', PAGE);
  const { entries, truncated } = walk(bucket, { prefix, delimiter, after, max });
  const name = encoder(call);
  const next = truncated ? name(entries.at(-1)?.name ?? '') : undefined;
  const body = document(
    'ListBucketResult',
    el('Name', bucket.name),
    el('Prefix', name(prefix)),
    el('Marker', name(after)),
    optional('NextMarker', next),
    el('MaxKeys', max),
    delimiter === '' ? undefined : el('Delimiter', name(delimiter)),
    el('IsTruncated', truncated),
    optional('EncodingType', query.get('encoding-type')),
    contents(entries, name, true),
  );
  return { status: 200, body };
}

function contents(
  entries: readonly Entry[],
  name: (text: string) => string,
  withOwner: boolean,
): Xml[] {
  return entries.map((entry) =>
    entry.version
      ? el(
          'Contents',
          el('Key', name(entry.name)),
          ...facts(entry.version),
          withOwner ? OWNER : undefined,
        )
      : el('CommonPrefixes', el('Prefix', name(entry.name))),
  );
}

function facts(version: Version): (Xml | undefined)[] {
  return [
    el('LastModified', isoTime(version.lastModified)),
    el('ETag', quoted(version.etag)),
    optional('ChecksumAlgorithm', version.checksum?.algorithm),
    optional('ChecksumType', version.checksum?.type),
    el('Size', version.bytes.sizeBytes),
    el('StorageClass', version.headers['x-amz-storage-class'] ?? 'STANDARD'),
  ];
}

/** With encoding-type=url names are percent-encoded, as clients ask that can not trust XML with every character. */
function encoder(call: Call): (text: string) => string {
  if (call.query.get('encoding-type') !== 'url') return (text) => text;
  return (text) => encodeURIComponent(text).replaceAll('%2F', '/');
}

function writeToken(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function readToken(token: string): string {
  const name = Buffer.from(token, 'base64url').toString();
  if (token === '' || writeToken(name) !== token) {
    throw new S3Error(400, 'InvalidArgument', 'the continuation token is not one of ours');
  }
  return name;
}

/** ListObjectVersions. */
export async function listVersions(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const prefix = call.query.get('prefix') ?? '';
  const max = queryNumber(call, 'max-keys', PAGE);
  const keyMarker = call.query.get('key-marker') ?? '';
  const idMarker = call.query.get('version-id-marker') ?? '';
  const all = bucket.keys
    .filter((key) => key.startsWith(prefix) && compareKeys(key, keyMarker) >= 0)
    .flatMap((key) => versionsAfter(bucket, key, keyMarker, idMarker));
  const page = all.slice(0, max);
  const truncated = all.length > page.length;
  const last = page.at(-1);
  const body = document(
    'ListVersionsResult',
    el('Name', bucket.name),
    el('Prefix', prefix),
    el('KeyMarker', keyMarker),
    el('MaxKeys', max),
    el('IsTruncated', truncated),
    truncated ? optional('NextKeyMarker', last?.key) : undefined,
    truncated ? optional('NextVersionIdMarker', last?.versionId) : undefined,
    page.map((version) => versionEntry(bucket, version)),
  );
  return { status: 200, body };
}

function versionsAfter(
  bucket: Bucket,
  key: string,
  keyMarker: string,
  idMarker: string,
): Version[] {
  const versions = bucket.versions.get(key) ?? [];
  if (key !== keyMarker) return versions;
  if (idMarker === '') return [];
  return versions.slice(versions.findIndex((version) => version.versionId === idMarker) + 1);
}

function versionEntry(bucket: Bucket, version: Version): Xml {
  const isLatest = bucket.versions.get(version.key)?.[0] === version;
  const head = [
    el('Key', version.key),
    el('VersionId', version.versionId),
    el('IsLatest', isLatest),
  ];
  return version.deleteMarker
    ? el('DeleteMarker', head, el('LastModified', isoTime(version.lastModified)), OWNER)
    : el('Version', head, ...facts(version), OWNER);
}

/** ListMultipartUploads. */
export async function listUploads(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const prefix = call.query.get('prefix') ?? '';
  const keyMarker = call.query.get('key-marker') ?? '';
  const idMarker = call.query.get('upload-id-marker') ?? '';
  const max = queryNumber(call, 'max-uploads', { ...PAGE, min: 1 });
  const after = [...bucket.uploads.values()]
    .filter((upload) => {
      const order = compareKeys(upload.key, keyMarker);
      const isAfter = order > 0 || (order === 0 && idMarker !== '' && upload.uploadId > idMarker);
      return upload.key.startsWith(prefix) && isAfter;
    })
    .toSorted((a, b) => compareKeys(a.key, b.key) || (a.uploadId < b.uploadId ? -1 : 1));
  const page = after.slice(0, max);
  const truncated = after.length > page.length;
  const last = page.at(-1);
  const body = document(
    'ListMultipartUploadsResult',
    el('Bucket', bucket.name),
    el('Prefix', prefix),
    el('KeyMarker', keyMarker),
    el('UploadIdMarker', idMarker),
    truncated ? optional('NextKeyMarker', last?.key) : undefined,
    truncated ? optional('NextUploadIdMarker', last?.uploadId) : undefined,
    el('MaxUploads', max),
    el('IsTruncated', truncated),
    page.map((upload) =>
      el(
        'Upload',
        el('Key', upload.key),
        el('UploadId', upload.uploadId),
        el('StorageClass', 'STANDARD'),
        el('Initiated', isoTime(upload.initiated)),
      ),
    ),
  );
  return { status: 200, body };
}
