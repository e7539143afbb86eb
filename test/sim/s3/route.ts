/**
 * From a request line to the operation it asks for, with the right (in IAM's words) it needs.
 */

import * as buckets from './buckets.ts';
import type { Answer, Call } from './call.ts';
import * as encryption from './encryption.ts';
import { notImplemented, S3Error } from './errors.ts';
import * as listing from './listing.ts';
import * as multipart from './multipart.ts';
import * as objects from './objects.ts';

export interface Operation {
  /** As the API reference calls it: statistics and faults go by this name. */
  name: string;
  /** As a policy calls the right. */
  action: string;
  handle: (call: Call) => Promise<Answer>;
}

type Row = readonly [
  /** `GET bucket`, `PUT object` … and the query parameter that tells operations apart. */
  selector: string,
  name: string,
  action: string,
  handle: Operation['handle'],
];

/** The first row that fits wins: rows with a parameter stand before those without. */
const ROWS: readonly Row[] = [
  ['GET service', 'ListBuckets', 's3:ListAllMyBuckets', listing.listBuckets],

  ['GET bucket location', 'GetBucketLocation', 's3:GetBucketLocation', buckets.getLocation],
  ['GET bucket versioning', 'GetBucketVersioning', 's3:GetBucketVersioning', buckets.getVersioning],
  ['PUT bucket versioning', 'PutBucketVersioning', 's3:PutBucketVersioning', buckets.putVersioning],
  [
    'GET bucket lifecycle',
    'GetBucketLifecycleConfiguration',
    's3:GetLifecycleConfiguration',
    buckets.getLifecycle,
  ],
  [
    'PUT bucket lifecycle',
    'PutBucketLifecycleConfiguration',
    's3:PutLifecycleConfiguration',
    buckets.putLifecycle,
  ],
  [
    'DELETE bucket lifecycle',
    'DeleteBucketLifecycle',
    's3:PutLifecycleConfiguration',
    buckets.deleteLifecycle,
  ],
  [
    'GET bucket object-lock',
    'GetObjectLockConfiguration',
    's3:GetBucketObjectLockConfiguration',
    buckets.getLock,
  ],
  [
    'PUT bucket object-lock',
    'PutObjectLockConfiguration',
    's3:PutBucketObjectLockConfiguration',
    buckets.putLock,
  ],
  [
    'GET bucket encryption',
    'GetBucketEncryption',
    's3:GetEncryptionConfiguration',
    encryption.getBucketEncryption,
  ],
  [
    'PUT bucket encryption',
    'PutBucketEncryption',
    's3:PutEncryptionConfiguration',
    encryption.putBucketEncryption,
  ],
  [
    'DELETE bucket encryption',
    'DeleteBucketEncryption',
    's3:PutEncryptionConfiguration',
    encryption.deleteBucketEncryption,
  ],
  ['GET bucket versions', 'ListObjectVersions', 's3:ListBucketVersions', listing.listVersions],
  [
    'GET bucket uploads',
    'ListMultipartUploads',
    's3:ListBucketMultipartUploads',
    listing.listUploads,
  ],
  ['POST bucket delete', 'DeleteObjects', '', objects.deleteObjects],
  ['GET bucket list-type', 'ListObjectsV2', 's3:ListBucket', listing.listObjectsV2],
  ['GET bucket', 'ListObjects', 's3:ListBucket', listing.listObjectsV1],
  ['PUT bucket', 'CreateBucket', 's3:CreateBucket', buckets.makeBucket],
  ['HEAD bucket', 'HeadBucket', 's3:ListBucket', buckets.headBucket],
  ['DELETE bucket', 'DeleteBucket', 's3:DeleteBucket', buckets.deleteBucket],

  ['GET object tagging', 'GetObjectTagging', 's3:GetObjectTagging', buckets.getTags],
  ['PUT object tagging', 'PutObjectTagging', 's3:PutObjectTagging', buckets.putTags],
  ['DELETE object tagging', 'DeleteObjectTagging', 's3:DeleteObjectTagging', buckets.deleteTags],
  ['GET object retention', 'GetObjectRetention', 's3:GetObjectRetention', buckets.getRetention],
  ['PUT object retention', 'PutObjectRetention', 's3:PutObjectRetention', buckets.putRetention],
  ['GET object legal-hold', 'GetObjectLegalHold', 's3:GetObjectLegalHold', buckets.getLegalHold],
  ['PUT object legal-hold', 'PutObjectLegalHold', 's3:PutObjectLegalHold', buckets.putLegalHold],
  ['GET object attributes', 'GetObjectAttributes', 's3:GetObject', objects.getObjectAttributes],
  ['POST object uploads', 'CreateMultipartUpload', 's3:PutObject', multipart.createUpload],
  ['PUT object uploadId copy', 'UploadPartCopy', 's3:PutObject', multipart.uploadPartCopy],
  ['PUT object uploadId', 'UploadPart', 's3:PutObject', multipart.uploadPart],
  ['POST object uploadId', 'CompleteMultipartUpload', 's3:PutObject', multipart.completeUpload],
  [
    'DELETE object uploadId',
    'AbortMultipartUpload',
    's3:AbortMultipartUpload',
    multipart.abortUpload,
  ],
  ['GET object uploadId', 'ListParts', 's3:ListMultipartUploadParts', multipart.listParts],
  ['PUT object copy', 'CopyObject', 's3:PutObject', objects.copyObject],
  ['PUT object', 'PutObject', 's3:PutObject', objects.putObject],
  ['GET object', 'GetObject', 's3:GetObject', objects.getObject],
  ['HEAD object', 'HeadObject', 's3:GetObject', objects.getObject],
  ['DELETE object', 'DeleteObject', 's3:DeleteObject', objects.deleteObject],
];

/** Parameters that name something this server has no operation for must not fall through to a plain GET or PUT. */
const SUBRESOURCES = new Set(
  `accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle
  location logging metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock
  replication requestPayment restore retention select tagging torrent uploads versioning versions website
  uploadId`.split(/\s+/),
);

const TABLE = ROWS.map(([selector, name, action, handle]) => {
  const [method, level, ...wanted] = selector.split(' ');
  return { method, level, wanted, operation: { name, action, handle } };
});

/** Finds the operation. Errors: `NotImplemented`, `MethodNotAllowed`. */
export function route(
  request: Pick<Call, 'bucketName' | 'key' | 'query' | 'headers'> & { method: string },
): Operation {
  const { method, query, headers } = request;
  const level = request.key !== '' ? 'object' : request.bucketName !== '' ? 'bucket' : 'service';
  const isCopy = headers['x-amz-copy-source'] !== undefined;
  const has = (name: string) => (name === 'copy' ? isCopy : query.has(name));
  const found = TABLE.find(
    (row) => row.method === method && row.level === level && row.wanted.every(has),
  );
  const unknown = [...query.keys()].find(
    (name) => SUBRESOURCES.has(name) && !found?.wanted.includes(name),
  );
  if (unknown !== undefined) throw notImplemented(`${method} of ?${unknown}`);
  if (!found) throw new S3Error(405, 'MethodNotAllowed');
  return found.operation;
}

/** What Cloudflare R2 does not have, refused as R2 does. Source: developers.cloudflare.com/r2/api/s3/api. */
export function refuseAsR2(operation: Operation, headers: Call['headers']): void {
  const missing =
    /Tagging|Versioning|Versions|ObjectLock|Retention|LegalHold|Attributes/.test(operation.name) ||
    Object.keys(headers).some((name) =>
      /^x-amz-(tagging|object-lock-|server-side-encryption-aws-kms)/.test(name),
    );
  if (missing) throw notImplemented(`${operation.name} with what it asks for`);
}
