/**
 * The AWS SDK's client, set up for this service: every setting that matters is explicit, since defaults change.
 *
 * - No retries in the SDK: they are in retry.ts, where the reason of each is in one table. (The SDK's own share one
 *   budget for all requests that a long flap empties.)
 * - `Expect: 100-continue` off: the SDK would wait up to 6 s for servers that never answer it.
 * - Checksums only when required: part checksums are ours (multipart.ts), and aws-chunked bodies break older servers.
 * - Part bodies are sent as UNSIGNED-PAYLOAD over http too (SHA-256 of every byte costs 0.6 s a GiB); the length is
 *   signed, and the whole object is compared with its CRC32 where the store gives one.
 * - Time-outs watch progress, not total time: a part over a slow line may take long as long as bytes move. Complete
 *   and copies are silent while the store works, so they get a longer limit.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { createRangeSockets, type RangeRequest } from './range-sockets.ts';

export interface ClientSettings {
  /** undefined: AWS. */
  endpoint?: string | undefined;
  /** undefined: the SDK's chain, and `us-east-1` where an endpoint is set and nothing says a region. */
  region?: string | undefined;
  /** Bucket in the path instead of the host name; default: yes with an endpoint, no on AWS. */
  pathStyle?: boolean | undefined;
  /** PEM text of a CA to trust beside the system's. */
  caPem?: string | undefined;
  /** undefined: the SDK's chain (environment, profile, web identity, instance role). */
  credentials?:
    | { accessKeyId: string; secretAccessKey: string; sessionToken?: string | undefined }
    | undefined;
  connectTimeoutMs?: number | undefined;
  /** Neither a byte sent nor received for this long. */
  idleTimeoutMs?: number | undefined;
  /** The same for requests during which the store works silently: complete, copy. */
  workTimeoutMs?: number | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 60_000;
/** A copy of 5 GiB at 10 MB/s. */
const WORK_TIMEOUT_MS = 10 * 60_000;
/** Sixteen TLS records. */
const SLICE_BYTES = 256 * 1024;
/** Never the limit: parts in flight are bounded by the memory budget, calls by their callers. */
const MAX_SOCKETS = 512;

type Response = Awaited<ReturnType<NodeHttpHandler['handle']>>['response'];
type Handler = Pick<NodeHttpHandler, 'metadata' | 'handle' | 'destroy'>;

/** Given with what is sent: the body of a range goes there, and `isFilled` says so. */
export interface FillWish {
  target: Uint8Array;
  isFilled: boolean;
}

/** Makes the client; nothing is sent yet. */
export function createS3Client(settings: ClientSettings): S3Client {
  const config: S3ClientConfig = {
    requestHandler: createHandler(settings),
    forcePathStyle: settings.pathStyle ?? settings.endpoint !== undefined,
    maxAttempts: 1,
    expectContinueHeader: false,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    followRegionRedirects: false,
    customUserAgent: 'xvault',
  };
  if (settings.endpoint !== undefined) config.endpoint = settings.endpoint;
  if (settings.region !== undefined) config.region = settings.region;
  else if (settings.endpoint !== undefined) config.region = regionOr('us-east-1');
  if (settings.credentials !== undefined) {
    const { accessKeyId, secretAccessKey, sessionToken } = settings.credentials;
    config.credentials = {
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
    };
  }
  const client = new S3Client(config);
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const { headers } = args.request as { headers?: Record<string, string> };
      if (headers && context.commandName === 'UploadPartCommand') {
        headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      return await next(args);
    },
    { step: 'build', name: 'unsignedParts' },
  );
  return client;
}

/** The region the SDK finds by itself, else `fallback`: S3-compatible stores mostly do not care. */
function regionOr(fallback: string): () => Promise<string> {
  return async () => {
    const bare = new S3Client({});
    try {
      return await bare.config.region();
    } catch {
      return fallback; // Nothing in environment or profile names one.
    } finally {
      bare.destroy();
    }
  };
}

/** Two handlers over the same sockets: the SDK's time-out for a silent socket belongs to the handler. */
function createHandler(settings: ClientSettings): Handler {
  const sockets = { keepAlive: true, maxSockets: MAX_SOCKETS };
  const httpAgent = new HttpAgent(sockets);
  const secureContext = settings.caPem === undefined ? undefined : trusting(settings.caPem);
  const httpsAgent = new HttpsAgent({ ...sockets, ...(secureContext && { secureContext }) });
  const ranges = createRangeSockets({
    connectTimeoutMs: settings.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    idleTimeoutMs: settings.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    secureContext,
  });
  const make = (socketTimeout: number) =>
    new NodeHttpHandler({
      httpAgent,
      httpsAgent,
      connectionTimeout: settings.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      socketTimeout,
      requestTimeout: 0,
    });
  const quick = make(settings.idleTimeoutMs ?? IDLE_TIMEOUT_MS);
  const patient = make(settings.workTimeoutMs ?? WORK_TIMEOUT_MS);
  return {
    metadata: quick.metadata,
    handle: async (request, options = {}) => {
      const { fill, abortSignal } = options as { fill?: FillWish; abortSignal?: AbortSignal };
      if (fill !== undefined) {
        const wish = request as RangeRequest;
        const answer = await ranges.get(wish, fill.target, { signal: abortSignal });
        fill.isFilled = answer?.statusCode === 206;
        if (answer !== undefined) {
          return { response: { ...answer, body: Readable.from([]) } as Response };
        }
      }
      const works =
        'x-amz-copy-source' in request.headers ||
        (request.method === 'POST' && request.query?.uploadId !== undefined);
      const body = request.protocol === 'https:' ? sliced(request.body) : request.body;
      return await (works ? patient : quick).handle(Object.assign(request, { body }), options);
    },
    destroy: () => {
      quick.destroy();
      patient.destroy();
      httpAgent.destroy();
      httpsAgent.destroy();
      ranges.destroy();
    },
  };
}

/** Made once: Node would parse all CAs again, and keep them, for every connection (2 MiB each). */
function trusting(caPem: string): SecureContext {
  return createSecureContext({ ca: [...getCACertificates('default'), caPem] });
}

/**
 * A large body as pieces of itself, handed over as the line takes them.
 *
 * Node encrypts what it is given at once: a part of 8 MiB given whole has 8 MiB of ciphertext beside it until the
 * line has taken it, outside the memory budget (measured: 437 against 143 MiB for 28 parts on their way).
 */
function sliced(body: unknown): unknown {
  if (!Buffer.isBuffer(body) || body.length <= SLICE_BYTES) return body;
  let at = 0;
  return new Readable({
    highWaterMark: SLICE_BYTES,
    read() {
      const end = Math.min(at + SLICE_BYTES, body.length);
      this.push(at === end ? null : body.subarray(at, end));
      at = end;
    },
  });
}
