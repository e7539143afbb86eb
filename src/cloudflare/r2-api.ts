/**
 * What a Worker asks of R2's S3 API, because its binding has neither: links that need no credentials, and the bucket's rules.
 *
 * The SDK sends by `fetch` here; the one XML it reads, the rules, needs the parser of its Node build (see [alias] in
 * wrangler.toml: the one for browsers wants a DOM). Source: developers.cloudflare.com/r2/api/s3/api and
 * .../r2/api/workers/workers-api-reference, read in November 2026.
 */
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { Clock, Log, ObjectStore } from '../ports.ts';
import { type Calls, createCalls } from '../s3/calls.ts';
import { translateStoreError } from '../s3/errors.ts';
import { readLifecycle } from '../s3/lifecycle.ts';
import { checked, contentDisposition } from '../s3/names.ts';

/** Part of a page or a list: whoever looks at it waits. */
const CALL_LIMIT_MS = 10_000;
const CALL_BUDGET = { attempts: 2, baseMs: 250, capMs: 1_000 };

export interface R2ApiSettings {
  endpoint: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
}

export type R2Api = Pick<ObjectStore, 'lifecycle' | 'presignGet' | 'close'>;

/** Nothing is sent before the first call. */
export function createR2Api(
  settings: R2ApiSettings,
  { clock, log }: { clock: Clock; log: Log },
): R2Api {
  const { bucket, endpoint, accessKeyId, secretAccessKey } = settings;
  const client = new S3Client({
    endpoint,
    // R2 has one, under this name
    region: 'auto',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const meter = { count: () => {}, observe: () => {} };
  const bare = createCalls(
    { clock, log, meter, random: Math.random },
    { bucket, endpoint, budget: CALL_BUDGET },
  );
  const calls: Calls = (operation, send, options) =>
    bare(operation, (to) => send(to).catch(named), options);
  return {
    lifecycle: async ({ signal }) => {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(CALL_LIMIT_MS)]);
      return await readLifecycle({ client, calls, bucket }, { signal: limited });
    },
    presignGet: async ({ key, expiresSeconds, fileName }) => {
      const command = new GetObjectCommand({
        Bucket: bucket,
        Key: checked(key),
        ResponseContentDisposition: contentDisposition(fileName),
      });
      const site = { operation: 'GetObject', bucket, key, endpoint };
      return await getSignedUrl(client, command, { expiresIn: expiresSeconds }).catch((error) => {
        throw translateStoreError(error, site);
      });
    },
    close: () => client.destroy(),
  };
}

/** A fetch that got no answer fails here with a sentence and no code; the retries go by codes. */
function named(error: unknown): never {
  const { $metadata, name } = error as { $metadata?: { httpStatusCode?: number }; name?: string };
  const isPlain = name === 'Error' || name === 'TypeError';
  if (!(error instanceof Error) || !isPlain || $metadata?.httpStatusCode !== undefined) throw error;
  throw Object.assign(new Error(error.message, { cause: error }), { code: 'ECONNRESET' });
}
