import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupError } from '../errors.ts';
import { translateStoreError } from './errors.ts';

const site = {
  operation: 'PutObject',
  bucket: 'b',
  key: 'some/key',
  endpoint: 'https://s3.example.com',
};

const answered = (status: number, name: string, more: object = {}) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status }, ...more });
const broken = (code: string) => Object.assign(new Error(code), { code, syscall: 'connect' });

test('each failure becomes the code that says what to do', () => {
  const cases: [unknown, string, RegExp][] = [
    [answered(403, 'AccessDenied'), 'store_credentials', /right s3:PutObject/],
    [answered(403, 'Unknown'), 'store_credentials', /right s3:PutObject/],
    [answered(403, 'InvalidAccessKeyId'), 'store_credentials', /access key id/],
    [answered(403, 'SignatureDoesNotMatch'), 'store_credentials', /secret access key/],
    [answered(400, 'ExpiredToken'), 'store_credentials', /session token/],
    [answered(404, 'NoSuchBucket'), 'configuration', /create the bucket or correct XVAULT_BUCKET/],
    [answered(301, 'PermanentRedirect'), 'configuration', /AWS_REGION/],
    [answered(400, 'AuthorizationHeaderMalformed'), 'configuration', /AWS_REGION/],
    [answered(412, 'PreconditionFailed'), 'precondition_failed', /unchanged/],
    [answered(409, 'ConditionalRequestConflict'), 'precondition_failed', /another write/],
    [answered(409, 'Whatever'), 'precondition_failed', /unchanged/],
    [answered(404, 'NoSuchUpload'), 'store_refused', /aborted by somebody else/],
    [answered(501, 'NotImplemented'), 'store_refused', /find PutObject in this store/],
    [answered(400, 'EntityTooLarge'), 'store_refused', /store_code=EntityTooLarge/],
    [answered(503, 'SlowDown'), 'store_unavailable', /status=503/],
    [broken('ECONNREFUSED'), 'store_unavailable', /endpoint=https:\/\/s3\.example\.com/],
    [broken('ENOTFOUND'), 'store_unavailable', /DNS/],
    [Object.assign(new Error(), { name: 'TimeoutError' }), 'store_unavailable', /TimeoutError/],
    [broken('DEPTH_ZERO_SELF_SIGNED_CERT'), 'configuration', /XVAULT_S3_CA_FILE/],
    [broken('ERR_TLS_CERT_ALTNAME_INVALID'), 'configuration', /XVAULT_S3_CA_FILE/],
    [new Error('Region is missing'), 'configuration', /AWS_REGION/],
    [
      Object.assign(new Error('none'), {
        name: 'CredentialsProviderError',
        cause: broken('ECONNREFUSED'),
      }),
      'store_credentials',
      /give credentials/,
    ],
    [new TypeError('a bug'), 'internal', /bug/],
  ];
  for (const [error, code, text] of cases) {
    const translated = translateStoreError(error, site);
    assert.equal(translated.code, code, String(error));
    assert.match(translated.message, text);
    assert.equal(translated.cause, error);
    assert.equal(translated.details.operation, 'PutObject');
  }
});

test('the store’s own code and status stay in the details', () => {
  const { details } = translateStoreError(answered(400, 'EntityTooLarge'), site);
  assert.equal(details.store_code, 'EntityTooLarge');
  assert.equal(details.store_status, 400);
});

test('a skewed clock is told with both times', () => {
  const error = answered(403, 'RequestTimeTooSkewed', {
    ServerTime: '2026-11-23T08:00:00Z',
    RequestTime: '20261123T071326Z',
  });
  const { code, message, details } = translateStoreError(error, site);
  assert.equal(code, 'store_refused');
  assert.match(message, /own_time=2026-11-23T07:13:26\.000Z store_time=2026-11-23T08:00:00\.000Z/);
  assert.equal(details.store_time, '2026-11-23T08:00:00.000Z');
});

test('what is translated already passes', () => {
  const error = new BackupError('cancelled', 'cancel work');
  assert.equal(translateStoreError(error, site), error);
});

test('a refusal that is about a key of encryption names the setting, and keeps the right that may be missing', () => {
  const said = (name: string, status: number, message: string) =>
    Object.assign(answered(status, name), { message });
  type Encryption = 'AES256' | 'aws:kms' | 'customer' | undefined;
  const cases: [string, unknown, Encryption, string, RegExp][] = [
    ['GetObject', answered(400, 'InvalidRequest'), 'customer', 'configuration', /XVAULT_SSE_C_KEY/],
    ['HeadObject', answered(400, 'Unknown'), undefined, 'configuration', /XVAULT_SSE_C_KEY/],
    [
      'HeadObject',
      answered(403, 'Unknown'),
      'customer',
      'store_credentials',
      /s3:GetObject.*_C_KEY/,
    ],
    ['UploadPartCopy', answered(400, 'InvalidArgument'), 'customer', 'configuration', /_C_KEY/],
    ['GetObject', answered(400, 'InvalidArgument'), undefined, 'store_refused', /InvalidArgument/],
    ['PutObject', answered(403, 'AccessDenied'), undefined, 'store_credentials', /set XVAULT_SSE,/],
    ['PutObject', answered(403, 'AccessDenied'), 'customer', 'store_credentials', /AWS blocks/],
    ['PutObject', answered(403, 'AccessDenied'), 'AES256', 'store_credentials', /credentials, op/],
    ['PutObject', answered(400, 'InvalidArgument'), 'aws:kms', 'configuration', /_KMS_KEY/],
    ['PutObject', answered(501, 'NotImplemented'), 'aws:kms', 'configuration', /no key service/],
    ['PutObject', answered(501, 'NotImplemented'), 'AES256', 'store_refused', /find PutObject/],
    ['PutObject', answered(400, 'KMS.DisabledException'), 'aws:kms', 'configuration', /_KMS_KEY/],
    [
      'GetObject',
      said('AccessDenied', 403, 'User x is not authorized to perform: kms:Decrypt on y'),
      'aws:kms',
      'store_credentials',
      /right kms:Decrypt/,
    ],
    [
      'CreateMultipartUpload',
      said('AccessDenied', 403, 'x is not authorized to perform: s3:PutObjectRetention on y'),
      undefined,
      'store_credentials',
      /right s3:PutObjectRetention/,
    ],
    [
      'CreateMultipartUpload',
      answered(400, 'InvalidRequest'),
      undefined,
      'configuration',
      /XVAULT_LOCK/,
    ],
  ];
  for (const [operation, error, encryption, code, text] of cases) {
    const locks = [{ prefix: 'some/' }];
    const translated = translateStoreError(error, { ...site, operation, encryption, locks });
    assert.equal(translated.code, code, `${operation} ${encryption} ${translated.message}`);
    assert.match(translated.message, text);
    if (code === 'store_credentials') assert.ok(translated.details.right);
  }
});
