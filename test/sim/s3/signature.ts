/**
 * Signature Version 4, verified: in the Authorization header and in presigned links.
 *
 * Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)". Every `x-amz-*` header of a
 * request must be signed, as AWS asks; any region is taken, as Ceph RGW does. Signature times are compared with the
 * signature clock, which is not the clock of lifecycle rules: a test can let days pass without breaking its client.
 */
import { createHash, createHmac } from 'node:crypto';
import { S3Error } from './errors.ts';

/** AWS refuses a request signed further from its own clock than this. */
const MAX_SKEW_MS = 15 * 60 * 1000;
/** The longest life of a presigned link: seven days. */
const MAX_EXPIRES_SECONDS = 7 * 24 * 3600;

export interface SignedRequest {
  method: string;
  /** As on the request line, before any `?`, still encoded. */
  rawPath: string;
  query: readonly (readonly [string, string])[];
  headers: Readonly<Record<string, string>>;
}

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
}

/** What was proven, and what signed chunks need to go on from. */
export interface Proof {
  /** Value of x-amz-content-sha256: a hash in hex, or one of the named ways of sending. */
  payload: string;
  signingKey: Buffer;
  scope: string;
  timestamp: string;
  signature: string;
}

/**
 * Checks who sent the request.
 *
 * Errors: `AccessDenied` (no or expired signature, an unsigned x-amz header), `InvalidAccessKeyId`,
 * `SignatureDoesNotMatch`, `RequestTimeTooSkewed`, `AuthorizationHeaderMalformed`.
 */
export function verifySignature(
  request: SignedRequest,
  credentials: Credentials,
  now: number,
): Proof {
  const query = new Map(request.query);
  if (query.has('X-Amz-Signature')) return verifyPresigned(request, query, credentials, now);
  if (request.headers.authorization === undefined) {
    throw new S3Error(403, 'AccessDenied', 'the request is not signed');
  }
  return verifyHeader(request, request.headers.authorization, credentials, now);
}

const HEADER =
  /^AWS4-HMAC-SHA256 +Credential=([^/,]+)\/([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$/;

function verifyHeader(
  request: SignedRequest,
  authorization: string,
  credentials: Credentials,
  now: number,
): Proof {
  const [, accessKeyId, scope = '', signedHeaders = '', signature = ''] =
    HEADER.exec(authorization) ?? [];
  const timestamp = request.headers['x-amz-date'] ?? basicTime(request.headers.date);
  const payload = request.headers['x-amz-content-sha256'];
  if (accessKeyId === undefined || timestamp === undefined) {
    throw new S3Error(400, 'AuthorizationHeaderMalformed', 'the authorization header is malformed');
  }
  if (payload === undefined) {
    throw new S3Error(400, 'InvalidRequest', 'missing required header: x-amz-content-sha256');
  }
  checkKeyAndScope(accessKeyId, scope, timestamp, credentials);
  checkSkew(timestamp, now);
  checkAllSigned(request.headers, signedHeaders);
  const signed = { request, signedHeaders, payload, timestamp, scope, without: '' };
  return prove(signed, signature, credentials);
}

function verifyPresigned(
  request: SignedRequest,
  query: ReadonlyMap<string, string>,
  credentials: Credentials,
  now: number,
): Proof {
  const [accessKeyId = '', ...scopeParts] = (query.get('X-Amz-Credential') ?? '').split('/');
  const scope = scopeParts.join('/');
  const timestamp = query.get('X-Amz-Date') ?? '';
  const expires = Number(query.get('X-Amz-Expires'));
  if (query.get('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256' || !(expires > 0)) {
    throw new S3Error(400, 'AuthorizationQueryParametersError', 'the query is not a v4 signature');
  }
  if (expires > MAX_EXPIRES_SECONDS) {
    throw new S3Error(
      400,
      'AuthorizationQueryParametersError',
      'X-Amz-Expires must be less than a week (in seconds)',
    );
  }
  checkKeyAndScope(accessKeyId, scope, timestamp, credentials);
  const signedAt = readTime(timestamp);
  if (signedAt - now > MAX_SKEW_MS) {
    throw new S3Error(403, 'AccessDenied', 'the link is not valid yet');
  }
  if (now > signedAt + expires * 1000) {
    throw new S3Error(403, 'AccessDenied', 'the link has expired');
  }
  const payload =
    query.get('X-Amz-Content-Sha256') ??
    request.headers['x-amz-content-sha256'] ??
    'UNSIGNED-PAYLOAD';
  const signedHeaders = query.get('X-Amz-SignedHeaders') ?? '';
  const without = 'X-Amz-Signature';
  const signed = { request, signedHeaders, payload, timestamp, scope, without };
  return prove(signed, query.get('X-Amz-Signature') ?? '', credentials);
}

function checkKeyAndScope(
  accessKeyId: string,
  scope: string,
  timestamp: string,
  credentials: Credentials,
): void {
  if (accessKeyId !== credentials.accessKeyId) {
    throw new S3Error(403, 'InvalidAccessKeyId', 'there is no such access key');
  }
  const [day, region, service, end, ...rest] = scope.split('/');
  if (day !== timestamp.slice(0, 8) || !region || service !== 's3' || end !== 'aws4_request') {
    throw new S3Error(400, 'AuthorizationHeaderMalformed', 'the credential scope is not valid');
  }
  if (rest.length > 0) {
    throw new S3Error(400, 'AuthorizationHeaderMalformed', 'the credential scope is too long');
  }
}

function checkSkew(timestamp: string, now: number): void {
  if (Math.abs(readTime(timestamp) - now) > MAX_SKEW_MS) {
    throw new S3Error(
      403,
      'RequestTimeTooSkewed',
      'the difference between the request time and the current time is too large',
    );
  }
}

function checkAllSigned(headers: Readonly<Record<string, string>>, signedHeaders: string): void {
  const signed = new Set(signedHeaders.split(';'));
  const unsigned = Object.keys(headers).filter(
    (name) => (name.startsWith('x-amz-') || name === 'host') && !signed.has(name),
  );
  if (unsigned.length > 0) {
    const names = unsigned.join(', ');
    throw new S3Error(403, 'AccessDenied', `there were headers that were not signed: ${names}`);
  }
}

interface Signed {
  request: SignedRequest;
  signedHeaders: string;
  payload: string;
  timestamp: string;
  scope: string;
  /** A query parameter that is not part of what was signed. */
  without: string;
}

function prove(signed: Signed, signature: string, credentials: Credentials): Proof {
  const { request, signedHeaders, payload, timestamp, scope } = signed;
  const canonical = [
    request.method,
    encodePath(decodeURIComponent(request.rawPath)),
    canonicalQuery(request.query, signed.without),
    ...signedHeaders
      .split(';')
      .map((name) => `${name}:${(request.headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders,
    payload,
  ].join('\n');
  const digest = createHash('sha256').update(canonical).digest('hex');
  const signingKey = signingKeyOf(credentials.secretAccessKey, scope);
  const toSign = `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${digest}`;
  if (hmac(signingKey, toSign).toString('hex') !== signature) {
    throw new S3Error(403, 'SignatureDoesNotMatch', 'the signature does not match the request');
  }
  return { payload, signingKey, scope, timestamp, signature };
}

/** The signature of one chunk of a signed stream; the first follows the request's own signature. */
export function chunkSignature(proof: Proof, previous: string, sha256OfChunk: string): string {
  const empty = createHash('sha256').digest('hex');
  return hmac(
    proof.signingKey,
    `AWS4-HMAC-SHA256-PAYLOAD\n${proof.timestamp}\n${proof.scope}\n${previous}\n${empty}\n${sha256OfChunk}`,
  ).toString('hex');
}

/** Of this day and secret, as a rule: four HMACs less for each request. */
let latest: { of: string; key: Buffer } | undefined;

function signingKeyOf(secret: string, scope: string): Buffer {
  const of = `${secret}\n${scope}`;
  if (latest?.of !== of) {
    const parts = scope.split('/');
    const key = parts.reduce<Buffer>((one, part) => hmac(one, part), Buffer.from(`AWS4${secret}`));
    latest = { of, key };
  }
  return latest.key;
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function canonicalQuery(query: SignedRequest['query'], without: string): string {
  return query
    .filter(([name]) => name !== without)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');
}

function encodePath(path: string): string {
  return path.split('/').map(encode).join('/');
}

/** RFC 3986 unreserved characters stay, all others are percent-encoded. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function basicTime(date: string | undefined): string | undefined {
  const time = date === undefined ? Number.NaN : Date.parse(date);
  if (Number.isNaN(time)) return undefined;
  return new Date(time).toISOString().replace(/[-:]|\.\d+/g, '');
}

function readTime(timestamp: string): number {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(timestamp) ?? [];
  if (second === undefined) {
    throw new S3Error(403, 'AccessDenied', 'a valid date or x-amz-date header is needed');
  }
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}
