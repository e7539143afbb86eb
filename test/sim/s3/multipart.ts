/**
 * Multipart uploads, with the rules that make them fail: part numbers, order, sizes, ETags, checksums, conditions.
 *
 * As Ceph RGW 20 answers, except where AWS is stricter and a client should learn it here: checksums and the object's
 * size sent with Complete are verified. Like RGW (and unlike AWS) a part that was uploaded but is not listed is
 * refused, and Complete repeated after success answers 200 again. With `equalParts` the rule of Cloudflare R2 comes
 * on top: all parts but the last have one size, the last is not larger.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { checksumHeaders, readAttributes } from './attributes.ts';
import { fastEtag, MAX_PUT_BYTES } from './body.ts';
import { type Bytes, join, slice } from './bytes.ts';
import {
  type Answer,
  type Call,
  isoTime,
  needBucket,
  needUpload,
  queryNumber,
  quoted,
  readContent,
  readXml,
} from './call.ts';
import {
  CHECKSUM_ALGORITHMS,
  type Checksum,
  type ChecksumAlgorithm,
  checksumHeader,
  compositeChecksum,
  createHasher,
  defaultType,
  fullObjectChecksum,
} from './checksums.ts';
import { checkWrite } from './conditions.ts';
import { checkPartKey, disguise, encryptionHeaders } from './encryption.ts';
import { invalidArgument, S3Error } from './errors.ts';
import { checkKey, readCopySource, written } from './objects.ts';
import {
  addVersion,
  type Bucket,
  currentVersion,
  newId,
  type Part,
  rememberCompleted,
  type Upload,
  type Version,
} from './state.ts';
import { childrenOf, childText, document, el, malformed, optional, type XmlNode } from './xml.ts';

export const MAX_PARTS = 10_000;
export const MIN_PART_BYTES = 5 * 1024 * 1024;
/** Copied ranges are hashed in steps of this size so that other requests go on meanwhile. */
const HASH_STEP_BYTES = 16 * 1024 * 1024;

/** CreateMultipartUpload. */
export async function createUpload(call: Call): Promise<Answer> {
  checkKey(call.key);
  const bucket = needBucket(call);
  await readContent(call, undefined, 'none');
  const checksum = uploadChecksum(call);
  const upload: Upload = {
    key: call.key,
    uploadId: newId(),
    initiated: call.world.now(),
    attributes: readAttributes(call, bucket),
    parts: new Map(),
    ...(checksum && { checksum }),
  };
  bucket.uploads.set(upload.uploadId, upload);
  return {
    status: 200,
    headers: {
      ...encryptionHeaders(upload.attributes),
      ...(checksum && {
        'x-amz-checksum-algorithm': checksum.algorithm,
        'x-amz-checksum-type': checksum.type,
      }),
    },
    body: document(
      'InitiateMultipartUploadResult',
      el('Bucket', bucket.name),
      el('Key', call.key),
      el('UploadId', upload.uploadId),
    ),
  };
}

function uploadChecksum(call: Call): Upload['checksum'] {
  const named = call.headers['x-amz-checksum-algorithm']?.toUpperCase();
  if (named === undefined) return undefined;
  const algorithm = CHECKSUM_ALGORITHMS.find((each) => each === named);
  if (!algorithm) throw invalidArgument('x-amz-checksum-algorithm is not known');
  const type = call.headers['x-amz-checksum-type']?.toUpperCase() ?? defaultType(algorithm);
  const isCrc = algorithm.startsWith('CRC');
  const allowed = type === 'FULL_OBJECT' ? isCrc : algorithm !== 'CRC64NVME';
  if ((type !== 'FULL_OBJECT' && type !== 'COMPOSITE') || !allowed) {
    throw new S3Error(400, 'InvalidRequest', `${algorithm} can not be ${type}`);
  }
  return { algorithm, type };
}

/** UploadPart. */
export async function uploadPart(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const number = readPartNumber(call);
  const begun = needUpload(call, bucket);
  checkPartKey(call, begun);
  const { checksum } = begun;
  const body = await readContent(call, checksum?.algorithm);
  if (checksum && body.sentAlgorithm && body.sentAlgorithm !== checksum.algorithm) {
    throw new S3Error(
      400,
      'InvalidRequest',
      'the checksum is not of the kind the upload began with',
    );
  }
  // Again: the upload may have been aborted or completed while the body came.
  const upload = needUpload(call, bucket);
  const { bytes, checksums } = body;
  const etag = disguise(body.etag, upload.attributes);
  upload.parts.set(number, { number, bytes, etag, checksums, lastModified: call.world.now() });
  const headers: Record<string, string> = {
    etag: quoted(etag),
    ...encryptionHeaders(upload.attributes),
  };
  for (const [algorithm, value] of checksums) headers[checksumHeader(algorithm)] = value;
  return { status: 200, headers };
}

function readPartNumber(call: Call): number {
  const number = Number(call.query.get('partNumber'));
  if (!Number.isInteger(number) || number < 1 || number > MAX_PARTS) {
    throw invalidArgument('part numbers are 1 to 10000');
  }
  return number;
}

/** UploadPartCopy. */
export async function uploadPartCopy(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const number = readPartNumber(call);
  await readContent(call, undefined, 'none');
  checkPartKey(call, needUpload(call, bucket));
  const { version } = readCopySource(call);
  const { offset, length } = copyRange(call, version.bytes.sizeBytes);
  if (length > MAX_PUT_BYTES) throw new S3Error(400, 'EntityTooLarge', 'a part is at most 5 GiB');
  const bytes = slice(version.bytes, offset, length);
  const algorithm = needUpload(call, bucket).checksum?.algorithm;
  const { etag: plainEtag, checksums } = await digestCopy(call, bytes, algorithm);
  const upload = needUpload(call, bucket);
  const etag = disguise(plainEtag, upload.attributes);
  const lastModified = call.world.now();
  upload.parts.set(number, { number, bytes, etag, checksums, lastModified });
  call.world.count('copiedBytes', length);
  const body = document(
    'CopyPartResult',
    el('LastModified', isoTime(lastModified)),
    el('ETag', quoted(etag)),
    ...[...checksums].map(([name, value]) => el(`Checksum${name}`, value)),
  );
  return { status: 200, body };
}

function copyRange(call: Call, sizeBytes: number): { offset: number; length: number } {
  const header = call.headers['x-amz-copy-source-range'];
  if (header === undefined) return { offset: 0, length: sizeBytes };
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(header.trim()) ?? [];
  const isInside = Number(first) <= Number(last) && Number(last) < sizeBytes;
  if (!isInside) {
    throw new S3Error(416, 'InvalidRange', 'not bytes=first-last, or outside the source');
  }
  return { offset: Number(first), length: Number(last) - Number(first) + 1 };
}

async function digestCopy(
  call: Call,
  bytes: Bytes,
  algorithm: ChecksumAlgorithm | undefined,
): Promise<Pick<Part, 'etag' | 'checksums'>> {
  const isFast = call.world.etag === 'fast';
  const forEtag = createHasher(isFast ? 'CRC32' : 'MD5');
  const forChecksum = algorithm && createHasher(algorithm);
  let sinceYield = 0;
  for (const chunk of bytes.chunks) {
    forEtag.update(chunk);
    forChecksum?.update(chunk);
    sinceYield += chunk.length;
    if (sinceYield < HASH_STEP_BYTES) continue;
    sinceYield = 0;
    await setImmediate();
  }
  const digest = forEtag.digest();
  const checksums: Part['checksums'] = new Map();
  if (algorithm && forChecksum) checksums.set(algorithm, forChecksum.digest().toString('base64'));
  return { etag: isFast ? fastEtag(digest, bytes.sizeBytes) : digest.toString('hex'), checksums };
}

/** CompleteMultipartUpload. */
export async function completeUpload(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const root = await readXml(call, 'CompleteMultipartUpload');
  const uploadId = call.query.get('uploadId') ?? '';
  const done = bucket.completed.get(uploadId);
  if (done?.key === call.key && !call.world.equalParts) {
    return completed(call, bucket, { etag: done.etag });
  }
  const upload = needUpload(call, bucket);
  const parts = listedParts(upload, root, call.world.equalParts);
  checkSizes(parts, call.world.equalParts);
  const checksum = wholeChecksum(upload, parts);
  checkDeclared(call, parts, checksum);
  // R2 looks at conditions when an upload is created, not here.
  if (!call.world.equalParts) checkWrite(call.headers, currentVersion(bucket, call.key));
  const version = addVersion(bucket, {
    key: call.key,
    lastModified: call.world.now(),
    deleteMarker: false,
    etag: multipartEtag(parts),
    bytes: join(parts.map((part) => part.bytes)),
    parts: parts.map((part, index) => partFacts(part, index, upload)),
    ...upload.attributes,
    ...(checksum && { checksum }),
  });
  bucket.uploads.delete(uploadId);
  const { etag, versionId } = version;
  rememberCompleted(bucket, uploadId, { key: call.key, etag, versionId });
  return completed(call, bucket, version, version);
}

function completed(
  call: Call,
  bucket: Bucket,
  { etag, checksum }: { etag: string; checksum?: Checksum },
  version?: Version,
): Answer {
  const { host, key } = call;
  return {
    status: 200,
    headers: version ? { ...written(bucket, version), ...checksumHeaders(version) } : {},
    body: document(
      'CompleteMultipartUploadResult',
      el('Location', `http://${host}/${bucket.name}/${encodeURI(key)}`),
      el('Bucket', bucket.name),
      el('Key', key),
      el('ETag', quoted(etag)),
      checksum && el(`Checksum${checksum.algorithm}`, checksum.value),
      checksum && el('ChecksumType', checksum.type),
    ),
  };
}

/** The parts of the request, in its order, each as uploaded. Errors: `InvalidPart`, `InvalidPartOrder`. */
function listedParts(upload: Upload, root: XmlNode, equalParts: boolean): Part[] {
  const nodes = childrenOf(root, 'Part');
  if (nodes.length === 0 || nodes.length > MAX_PARTS) throw malformed('1 to 10000 parts');
  let previous = 0;
  const parts = nodes.map((node) => {
    const number = Number(childText(node, 'PartNumber'));
    const etag = (childText(node, 'ETag') ?? '').replace(/^"|"$/g, '');
    if (number <= previous) throw new S3Error(400, 'InvalidPartOrder');
    previous = number;
    const part = upload.parts.get(number);
    if (!part || part.etag !== etag) {
      throw new S3Error(400, 'InvalidPart', `part ${number} is not there or has another ETag`);
    }
    for (const [algorithm, value] of part.checksums) {
      const sent = childText(node, `Checksum${algorithm}`);
      if (sent !== undefined && sent !== value) {
        throw new S3Error(400, 'InvalidPart', `part ${number} has another ${algorithm}`);
      }
    }
    return part;
  });
  // R2 drops such a part, as AWS does.
  if (parts.length !== upload.parts.size && !equalParts) {
    throw new S3Error(400, 'InvalidPart', 'a part that was uploaded is not listed');
  }
  return parts;
}

function checkSizes(parts: readonly Part[], equalParts: boolean): void {
  const [first] = parts;
  const last = parts.at(-1);
  for (const part of parts) {
    if (part !== last && part.bytes.sizeBytes < MIN_PART_BYTES) {
      throw new S3Error(400, 'EntityTooSmall', `part ${part.number} is smaller than 5 MiB`);
    }
    if (!equalParts || !first) continue;
    const wanted = first.bytes.sizeBytes;
    const size = part.bytes.sizeBytes;
    if (part === last ? size > wanted : size !== wanted) {
      throw new S3Error(400, 'InvalidPart', 'all non-trailing parts must have the same length');
    }
  }
}

function wholeChecksum(upload: Upload, parts: readonly Part[]): Checksum | undefined {
  if (!upload.checksum) return undefined;
  const { algorithm, type } = upload.checksum;
  const values = parts.map((part) => ({
    value: part.checksums.get(algorithm) ?? '',
    sizeBytes: part.bytes.sizeBytes,
  }));
  if (type === 'COMPOSITE') {
    const value = compositeChecksum(
      algorithm,
      values.map((each) => each.value),
    );
    return { algorithm, type, value };
  }
  const crc = algorithm as 'CRC32' | 'CRC32C' | 'CRC64NVME';
  return { algorithm, type, value: fullObjectChecksum(crc, values) };
}

/** What the client says of the whole: AWS verifies it, Ceph RGW 20 does not look. */
function checkDeclared(call: Call, parts: readonly Part[], checksum: Checksum | undefined): void {
  const size = call.headers['x-amz-mp-object-size'];
  const total = parts.reduce((sum, part) => sum + part.bytes.sizeBytes, 0);
  if (size !== undefined && Number(size) !== total) {
    throw new S3Error(400, 'InvalidRequest', 'the object is not as large as the request says');
  }
  const type = call.headers['x-amz-checksum-type']?.toUpperCase();
  if (type !== undefined && checksum && type !== checksum.type) {
    throw new S3Error(400, 'InvalidRequest', 'the upload began with another checksum type');
  }
  const sent = checksum && call.headers[checksumHeader(checksum.algorithm)];
  if (checksum && sent !== undefined && sent !== checksum.value) {
    throw new S3Error(400, 'BadDigest', `the ${checksum.algorithm} of the object is another`);
  }
}

function multipartEtag(parts: readonly Part[]): string {
  const hash = createHash('md5');
  for (const part of parts) hash.update(Buffer.from(part.etag, 'hex'));
  return `${hash.digest('hex')}-${parts.length}`;
}

function partFacts(part: Part, index: number, upload: Upload): NonNullable<Version['parts']>[0] {
  const checksum = upload.checksum && part.checksums.get(upload.checksum.algorithm);
  const sizeBytes = part.bytes.sizeBytes;
  return { number: index + 1, sizeBytes, ...(checksum && { checksum }) };
}

/** AbortMultipartUpload. */
export async function abortUpload(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  // R2 does not mind an upload that is gone.
  if (!call.world.equalParts) needUpload(call, bucket);
  bucket.uploads.delete(call.query.get('uploadId') ?? '');
  return { status: 204 };
}

/** ListParts. */
export async function listParts(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const upload = needUpload(call, bucket);
  const max = queryNumber(call, 'max-parts', { min: 1, max: 1000, fallback: 1000 });
  const limits = { min: 0, max: MAX_PARTS, fallback: 0 };
  const marker = queryNumber(call, 'part-number-marker', limits);
  const after = [...upload.parts.values()]
    .filter((part) => part.number > marker)
    .toSorted((a, b) => a.number - b.number);
  const page = after.slice(0, max);
  const truncated = after.length > page.length;
  const body = document(
    'ListPartsResult',
    el('Bucket', bucket.name),
    el('Key', upload.key),
    el('UploadId', upload.uploadId),
    el('StorageClass', 'STANDARD'),
    el('PartNumberMarker', marker),
    el('NextPartNumberMarker', page.at(-1)?.number ?? 0),
    el('MaxParts', max),
    el('IsTruncated', truncated),
    optional('ChecksumAlgorithm', upload.checksum?.algorithm),
    optional('ChecksumType', upload.checksum?.type),
    page.map((part) =>
      el(
        'Part',
        el('PartNumber', part.number),
        el('LastModified', isoTime(part.lastModified)),
        el('ETag', quoted(part.etag)),
        el('Size', part.bytes.sizeBytes),
        [...part.checksums].map(([name, value]) => el(`Checksum${name}`, value)),
      ),
    ),
  );
  return { status: 200, body };
}
