/**
 * Encryption at rest, played to the letter of what a client sees: nothing is enciphered, every rule about keys holds.
 *
 * Amazon S3 user guide, "Using server-side encryption with customer-provided keys" and "… with AWS KMS keys": the
 * customer's key travels with every request, over https only, with its MD5; a wrong one is 403 AccessDenied, a missing one
 * or one for an object without is 400 InvalidRequest. ETags of what is encrypted with such keys or with a key service's are
 * not the MD5 of the content.
 */
import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { type Answer, type Call, needBucket, readXml } from './call.ts';
import { invalidArgument, S3Error } from './errors.ts';
import type { Bucket, Upload, Version } from './state.ts';
import { child, childText, document, el, malformed, optional } from './xml.ts';

const OWN = 'x-amz-server-side-encryption-customer';
const SOURCE = 'x-amz-copy-source-server-side-encryption-customer';
const MANAGED = 'x-amz-server-side-encryption';
const KEY_ID = 'x-amz-server-side-encryption-aws-kms-key-id';
const ALGORITHMS: readonly string[] = ['AES256', 'aws:kms', 'aws:kms:dsse'];
const KEY_BYTES = 32;

/** What a bucket does to objects that ask for nothing. */
export interface BucketDefault {
  algorithm: string;
  keyId?: string;
}

/** The MD5 of the customer's key; undefined when none is sent. Errors: 400 for what is no key, or over http. */
export function readCustomerKey(call: Call, prefix = OWN): string | undefined {
  const { headers, request } = call;
  const algorithm = headers[`${prefix}-algorithm`];
  const key = headers[`${prefix}-key`];
  const md5 = headers[`${prefix}-key-md5`];
  if (algorithm === undefined && key === undefined && md5 === undefined) return undefined;
  if ((request.socket as TLSSocket).encrypted !== true) {
    throw new S3Error(400, 'InvalidRequest', 'customer keys are taken over https only');
  }
  if (algorithm !== 'AES256') {
    throw new S3Error(400, 'InvalidEncryptionAlgorithmError', 'the algorithm must be AES256');
  }
  const bytes = Buffer.from(key ?? '', 'base64');
  if (bytes.length !== KEY_BYTES) throw invalidArgument('the key must be 256 bits in base64');
  if (createHash('md5').update(bytes).digest('base64') !== md5) {
    throw invalidArgument('the MD5 of the key is another');
  }
  return md5;
}

/** What a request that makes an object says of its encryption, or else its bucket. */
export function readEncryption(
  call: Call,
  bucket: Bucket,
): { headers: Record<string, string>; customerKeyMd5?: string } {
  const { headers, world } = call;
  const customerKeyMd5 = readCustomerKey(call);
  const asked = headers[MANAGED];
  if (asked !== undefined && !ALGORITHMS.includes(asked)) {
    throw invalidArgument('the encryption method is not known');
  }
  if (customerKeyMd5 !== undefined) {
    if (asked !== undefined) throw invalidArgument('one kind of encryption at a time');
    return { headers: {}, customerKeyMd5 };
  }
  if (headers[KEY_ID] !== undefined && !asked?.startsWith('aws:kms')) {
    throw invalidArgument('a key id goes with aws:kms only');
  }
  const byDefault = bucket.encryption;
  const algorithm = asked ?? byDefault?.algorithm;
  if (algorithm === undefined) return { headers: {} };
  const keyId = headers[KEY_ID] ?? byDefault?.keyId;
  if (algorithm === 'AES256' || keyId === undefined) return { headers: { [MANAGED]: algorithm } };
  if (world.kmsKeys !== undefined && !world.kmsKeys.includes(keyId)) {
    throw new S3Error(400, 'KMS.NotFoundException', `there is no key ${keyId}`);
  }
  return { headers: { [MANAGED]: algorithm, [KEY_ID]: keyId } };
}

/** Refuses to give bytes without the very key they were encrypted with. Errors: 400 InvalidRequest, 403 AccessDenied. */
export function checkKey(call: Call, version: Pick<Version, 'customerKeyMd5'>, prefix = OWN) {
  const sent = readCustomerKey(call, prefix);
  const needed = version.customerKeyMd5;
  if (needed === undefined && sent !== undefined) {
    throw new S3Error(400, 'InvalidRequest', 'encryption parameters do not apply to this object');
  }
  if (needed !== undefined && sent === undefined) {
    throw new S3Error(
      400,
      'InvalidRequest',
      'the object was stored using a form of Server Side Encryption, whose parameters are missing',
    );
  }
  if (needed !== sent) throw new S3Error(403, 'AccessDenied', 'access denied');
}

/** The same for the source of a copy. */
export const checkSourceKey = (call: Call, version: Version) => checkKey(call, version, SOURCE);

/** A part carries the key its upload began with. */
export function checkPartKey(call: Call, upload: Upload): void {
  const sent = readCustomerKey(call);
  const needed = upload.attributes.customerKeyMd5;
  if (sent === needed) return;
  if (sent === undefined) {
    throw new S3Error(400, 'InvalidRequest', 'the upload began with encryption parameters');
  }
  throw invalidArgument('the encryption parameters are not those the upload began with');
}

interface Encrypted {
  headers: Record<string, string>;
  customerKeyMd5?: string;
}

/** No MD5 of the content where a key of the customer or of a key service is used. */
export function disguise(etag: string, { headers, customerKeyMd5 }: Encrypted): string {
  const isPlain = customerKeyMd5 === undefined && !headers[MANAGED]?.startsWith('aws:kms');
  if (isPlain) return etag;
  const hidden = createHash('md5').update(`${etag} ${customerKeyMd5 ?? 'kms'}`);
  return hidden.digest('hex');
}

/** Headers of answers about an object or a part. */
export function encryptionHeaders({ headers, customerKeyMd5 }: Encrypted): Record<string, string> {
  const { [MANAGED]: algorithm, [KEY_ID]: keyId } = headers;
  return {
    ...(algorithm && { [MANAGED]: algorithm }),
    ...(keyId && { [KEY_ID]: keyId }),
    ...(customerKeyMd5 && {
      [`${OWN}-algorithm`]: 'AES256',
      [`${OWN}-key-md5`]: customerKeyMd5,
    }),
  };
}

/** GetBucketEncryption. */
export async function getBucketEncryption(call: Call): Promise<Answer> {
  const { encryption } = needBucket(call);
  if (!encryption) throw new S3Error(404, 'ServerSideEncryptionConfigurationNotFoundError');
  const { algorithm, keyId } = encryption;
  const byDefault = el(
    'ApplyServerSideEncryptionByDefault',
    el('SSEAlgorithm', algorithm),
    optional('KMSMasterKeyID', keyId),
  );
  const body = document('ServerSideEncryptionConfiguration', el('Rule', byDefault));
  return { status: 200, body };
}

/** PutBucketEncryption. */
export async function putBucketEncryption(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const root = await readXml(call, 'ServerSideEncryptionConfiguration');
  const rule = child(child(root, 'Rule'), 'ApplyServerSideEncryptionByDefault');
  const algorithm = childText(rule, 'SSEAlgorithm') ?? '';
  if (!ALGORITHMS.includes(algorithm)) throw malformed('a rule needs an algorithm');
  const keyId = childText(rule, 'KMSMasterKeyID');
  bucket.encryption = { algorithm, ...(keyId !== undefined && { keyId }) };
  return { status: 200 };
}

/** DeleteBucketEncryption. */
export async function deleteBucketEncryption(call: Call): Promise<Answer> {
  delete needBucket(call).encryption;
  return { status: 204 };
}
