/**
 * Everything the store, the SDK or the network can throw, as one BackupError with what to do about it.
 *
 * Called once, where a call leaves this adapter (calls.ts). The store's own code and status go into `details`
 * unchanged; the message names the operation and, for a refusal, the right that is missing.
 */
import { BackupError, type ErrorCode, type Retry } from '../errors.ts';
import { errorFacts } from './retry.ts';

/** Where a call went, for the message. */
export interface CallSite {
  operation: string;
  bucket: string;
  key: string;
  endpoint: string;
  /** What is asked for with every object. */
  encryption?: 'AES256' | 'aws:kms' | 'customer' | undefined;
  /** Objects under these are locked as they are made. */
  locks?: readonly { prefix: string }[] | undefined;
}

/** The IAM action each operation needs, as AWS names it; other stores use the same names or none. */
const RIGHTS: Readonly<Record<string, string>> = {
  PutObject: 's3:PutObject',
  GetObject: 's3:GetObject',
  HeadObject: 's3:GetObject and s3:ListBucket',
  ListObjectsV2: 's3:ListBucket',
  DeleteObject: 's3:DeleteObject',
  CreateMultipartUpload: 's3:PutObject',
  UploadPart: 's3:PutObject',
  CopyObject: 's3:GetObject and s3:PutObject',
  UploadPartCopy: 's3:GetObject and s3:PutObject',
  CompleteMultipartUpload: 's3:PutObject',
  AbortMultipartUpload: 's3:AbortMultipartUpload',
  ListParts: 's3:ListMultipartUploadParts',
  ListMultipartUploads: 's3:ListBucketMultipartUploads',
  GetBucketLifecycleConfiguration: 's3:GetLifecycleConfiguration',
  PutBucketLifecycleConfiguration: 's3:PutLifecycleConfiguration',
  DeleteBucketLifecycle: 's3:PutLifecycleConfiguration',
  GetBucketVersioning: 's3:GetBucketVersioning',
  GetBucketEncryption: 's3:GetEncryptionConfiguration',
  GetObjectLockConfiguration: 's3:GetBucketObjectLockConfiguration',
};

interface Mend {
  code: ErrorCode;
  text: string;
  retry?: Retry;
}

/** By the store's code. */
const MENDS: Readonly<Record<string, Mend>> = {
  NoSuchBucket: {
    code: 'configuration',
    text: 'create the bucket or correct XVAULT_BUCKET',
  },
  InvalidBucketName: { code: 'configuration', text: 'correct XVAULT_BUCKET' },
  PermanentRedirect: {
    code: 'configuration',
    text: "set AWS_REGION or XVAULT_S3_ENDPOINT to the bucket's own",
  },
  AuthorizationHeaderMalformed: {
    code: 'configuration',
    text: "set AWS_REGION to the bucket's region",
  },
  IllegalLocationConstraintException: {
    code: 'configuration',
    text: "set AWS_REGION to the bucket's region",
  },
  InvalidAccessKeyId: { code: 'store_credentials', text: 'correct the access key id' },
  SignatureDoesNotMatch: { code: 'store_credentials', text: 'correct the secret access key' },
  ExpiredToken: { code: 'store_credentials', text: 'renew the session token' },
  InvalidToken: { code: 'store_credentials', text: 'renew the session token' },
  CredentialsProviderError: {
    code: 'store_credentials',
    text: 'give credentials for the object store (AWS_ACCESS_KEY_ID …, a profile or a role)',
  },
  PreconditionFailed: { code: 'precondition_failed', text: 'find the object unchanged' },
  ConditionalRequestConflict: { code: 'precondition_failed', text: 'win against another write' },
  ConcurrentModification: { code: 'precondition_failed', text: 'win against another write' },
  InvalidObjectState: {
    code: 'store_refused',
    text: 'restore the object from its archive class before it is read',
  },
  NoSuchUpload: {
    code: 'store_refused',
    text: 'find the upload: it was aborted by somebody else or by a rule of the bucket',
    retry: 'later',
  },
};

const CERTIFICATE = /^(CERT_|ERR_TLS_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;

/** Translates once; a BackupError passes unchanged. The signal's own abort never gets here. */
export function translateStoreError(error: unknown, site: CallSite): BackupError {
  if (error instanceof BackupError) return error;
  const { code, status } = errorFacts(error);
  const details = {
    operation: site.operation,
    bucket: site.bucket,
    ...(site.key === '' ? {} : { key: site.key }),
    store_code: code,
    ...(status > 0 ? { store_status: status } : {}),
  };
  const make = (to: ErrorCode, text: string, more: object = {}, retry?: Retry) =>
    new BackupError(to, text, {
      details: { ...details, ...more },
      cause: error,
      ...(retry ? { retry } : {}),
    });
  const where = `operation=${site.operation} bucket=${site.bucket} store_code=${code}`;
  if (code === 'RequestTimeTooSkewed') return skewed(error, site, make);
  const mend = MENDS[code];
  if (mend !== undefined) return make(mend.code, `${mend.text}, ${where}`, {}, mend.retry);
  const key = keyMend(error, site);
  if (key !== undefined) return make(key.code, `${key.text}, ${where} key=${site.key}`);
  if (status === 412 || status === 409) {
    return make('precondition_failed', `find the object unchanged, ${where}`);
  }
  if (status === 401 || status === 403) {
    const [right, otherwise] = rightFor(error, site);
    const text = `get the right ${right} for the credentials${otherwise}, ${where} key=${site.key}`;
    return make('store_credentials', text, { right });
  }
  if (status === 301 || status === 307) {
    return make('configuration', `set AWS_REGION or XVAULT_S3_ENDPOINT, ${where}`);
  }
  if (status === 501)
    return make('store_refused', `find ${site.operation} in this store, ${where}`);
  if (status >= 500 || status === 429 || status === 408) {
    return make('store_unavailable', `reach the object store, ${where} status=${status}`);
  }
  if (status >= 400)
    return make('store_refused', `call the object store, ${where} status=${status}`);
  if (error instanceof Error && error.message === 'Region is missing') {
    return make('configuration', "set AWS_REGION to the bucket's region");
  }
  return networkError(error, code, site, make) ?? make('internal', `hit a bug in a call, ${where}`);
}

/** They make an object. */
const WRITES: ReadonlySet<string> = new Set(['PutObject', 'CreateMultipartUpload', 'CopyObject']);
const READS: ReadonlySet<string> = new Set(['GetObject', 'HeadObject']);
const COPIES: ReadonlySet<string> = new Set(['UploadPartCopy', 'CopyObject']);

/** A refusal that is about a key of encryption, or a lock; undefined when it does not seem to be. */
function keyMend(error: unknown, site: CallSite): Mend | undefined {
  const { operation, encryption, key, locks = [] } = site;
  const { code, status } = errorFacts(error);
  const make = (text: string): Mend => ({ code: 'configuration', text });
  if (code.startsWith('KMS.')) {
    return make('mend the key of the key service, or name another in XVAULT_SSE_KMS_KEY');
  }
  if (encryption === 'aws:kms' && WRITES.has(operation) && status === 501) {
    return make('set XVAULT_SSE to what the store can do: it has no key service');
  }
  if (status !== 400) return undefined;
  const isLocked = locks.some(({ prefix }) => key.startsWith(prefix));
  if (WRITES.has(operation) && isLocked && code === 'InvalidRequest') {
    return make('make the bucket with object lock, or unset XVAULT_LOCK');
  }
  if (encryption !== undefined && WRITES.has(operation) && code === 'InvalidArgument') {
    return make('set XVAULT_SSE and XVAULT_SSE_KMS_KEY to what the store can do');
  }
  if (encryption === 'customer') {
    if (!READS.has(operation) && !COPIES.has(operation)) return undefined;
    return make('set XVAULT_SSE_C_KEY to the key the object was encrypted with: this is another');
  }
  // The answer to HEAD has no body, so no code and no text.
  const says = operation === 'HeadObject' || (error instanceof Error && isAboutKeys(error.message));
  if (!READS.has(operation) || !says) return undefined;
  return make('set XVAULT_SSE_C_KEY to the key the object seems to be encrypted with');
}

const isAboutKeys = (message: string) => /encrypt/i.test(message);

/** The right that is missing, and what else a 403 may mean where objects are encrypted. */
function rightFor(error: unknown, { operation, encryption }: CallSite): [string, string] {
  // AWS names the very action, which may be one of keys or locks.
  const message = error instanceof Error ? error.message : '';
  const named = /\b(?:kms|s3):[A-Z]\w+/.exec(message)?.[0];
  if (named !== undefined && named !== RIGHTS[operation]) return [named, ''];
  const right = RIGHTS[operation] ?? operation;
  if (encryption === 'customer') {
    if (READS.has(operation) || COPIES.has(operation)) {
      return [right, '; or set XVAULT_SSE_C_KEY to the key the object was encrypted with'];
    }
    if (WRITES.has(operation)) {
      return [right, '; or have the bucket take SSE-C, which AWS blocks by default'];
    }
  }
  if (encryption !== undefined || !WRITES.has(operation)) return [right, ''];
  return [right, '; or set XVAULT_SSE, if the bucket takes encrypted objects only'];
}

type Make = (to: ErrorCode, text: string, more?: object, retry?: Retry) => BackupError;

function networkError(
  error: unknown,
  code: string,
  site: CallSite,
  make: Make,
): BackupError | undefined {
  const at = `endpoint=${site.endpoint} error=${code}`;
  if (CERTIFICATE.test(code)) {
    const text = `trust the certificate of the object store: give its CA as XVAULT_S3_CA_FILE, ${at}`;
    return make('configuration', text);
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return make('store_unavailable', `find the host of the object store in DNS, ${at}`);
  }
  const fromSystem = (error as { syscall?: string }).syscall !== undefined;
  const known = /^(E[A-Z]+|ERR_STREAM_PREMATURE_CLOSE|HPE_[A-Z_]+|TimeoutError|AggregateError)$/;
  if (fromSystem || known.test(code)) {
    return make('store_unavailable', `reach the object store, ${at}`);
  }
  const parsed = (error as { $response?: unknown }).$response !== undefined;
  return parsed ? make('store_unavailable', `read the object store's answer, ${at}`) : undefined;
}

function skewed(error: unknown, site: CallSite, make: Make): BackupError {
  const e = error as { ServerTime?: unknown; RequestTime?: unknown; $response?: unknown };
  const headers = (e.$response as { headers?: Record<string, string> } | undefined)?.headers;
  const storeTime = asTime(e.ServerTime ?? headers?.date);
  const ownTime = asTime(e.RequestTime) ?? new Date().toISOString();
  return make(
    'store_refused',
    `set the clock right: it differs from the object store's, operation=${site.operation} ` +
      `own_time=${ownTime} store_time=${storeTime ?? 'unknown'}`,
    { own_time: ownTime, store_time: storeTime },
  );
}

/** RFC 3339, from S3's own, an HTTP date or the basic ISO form of the signature (20261123T071326Z). */
function asTime(value: unknown): string | undefined {
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== 'string') return undefined;
  const full = value.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  const time = new Date(full);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}
