/**
 * Carries XenAPI calls to one member at a time: POST / over undici, with a time-out, a signal and limits.
 *
 * What hosts demand: a Content-Length (chunked bodies are answered with 500), and at most 1024 bytes of request head
 * in all (`max_header_length_tcp`), so no header is sent that is not needed; User-Agent stays the same because new
 * hosts limit rates by it. No retries here: session.ts knows which calls may be sent twice.
 */
import { Pool as HttpPool } from 'undici';
import { BackupError } from '../errors.ts';
import { decodeAnswer, encodeCall, type XapiParam, type XapiValue } from './codec.ts';
import { dial } from './dial.ts';
import { formatAuthority, formatOrigin, type Origin } from './origin.ts';
import type { TrustBook } from './trust.ts';

export const USER_AGENT = 'xvault';
/** Connections for calls to one member; exports have their own. */
const MAX_CONNECTIONS = 8;
/** The records of 5,000 machines are about 60 MiB; nothing we ask for is larger. */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;
/** A non-XML answer is quoted in the error so far. */
const MAX_QUOTE_CHARACTERS = 200;

export interface PostInput {
  origin: Origin;
  method: string;
  params: readonly XapiParam[];
  timeoutMs: number;
  headers?: Readonly<Record<string, string>>;
  /** Sees the answer's headers, also those of a refusal. */
  onHeaders?(headers: Readonly<Record<string, string | string[] | undefined>>): void;
}

export interface Connections {
  /** One call. Errors: XapiError, `pool_unavailable` (details.phase connect | answer), `pool_certificate`. */
  post(input: PostInput, options: { signal: AbortSignal }): Promise<XapiValue>;
  close(): Promise<void>;
}

/** Connections to all members of one pool, opened when needed. */
export function createConnections(settings: {
  trust: TrustBook;
  connectTimeoutMs: number;
}): Connections {
  const pools = new Map<string, HttpPool>();
  const poolOf = (origin: Origin): HttpPool => {
    const name = formatOrigin(origin);
    const known = pools.get(name);
    if (known !== undefined) return known;
    const made = new HttpPool(name, {
      connections: MAX_CONNECTIONS,
      pipelining: 1,
      allowH2: false,
      // Our own time-out covers the whole call.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (_options, callback) => {
        const dialing = dial(
          { origin, trust: settings.trust, timeoutMs: settings.connectTimeoutMs },
          { signal: NEVER },
        );
        dialing.then(
          (socket) => callback(null, socket),
          (error: Error) => callback(error, null),
        );
      },
    });
    pools.set(name, made);
    return made;
  };
  return {
    post: async (input, { signal }) => {
      const body = encodeCall(input.method, input.params);
      const timeout = AbortSignal.timeout(input.timeoutMs);
      const both = AbortSignal.any([signal, timeout]);
      try {
        const answer = await send(poolOf(input.origin), { input, body, signal: both });
        return await decodeAnswer(answer);
      } catch (error) {
        signal.throwIfAborted();
        throw timeout.aborted ? timedOut(input) : translateTransport(error, input);
      }
    },
    close: async () => {
      const all = [...pools.values()];
      pools.clear();
      await Promise.all(all.map((pool) => pool.destroy()));
    },
  };
}

/** A connection being made serves whichever call comes first, so no call's signal ends it; its own time-out does. */
const NEVER = new AbortController().signal;

async function send(
  pool: HttpPool,
  { input, body, signal }: { input: PostInput; body: Buffer; signal: AbortSignal },
): Promise<Buffer> {
  const response = await pool.request({
    method: 'POST',
    path: '/',
    headers: { 'user-agent': USER_AGENT, 'content-type': 'text/xml', ...input.headers },
    body,
    signal,
  });
  input.onHeaders?.(response.headers);
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of response.body as AsyncIterable<Buffer>) {
    sizeBytes += piece.length;
    if (sizeBytes > MAX_ANSWER_BYTES) {
      throw new BackupError('pool_refused', 'read answer: too large', {
        details: { method: input.method, limit_bytes: MAX_ANSWER_BYTES },
      });
    }
    pieces.push(piece);
  }
  const answer = Buffer.concat(pieces);
  const type = String(response.headers['content-type'] ?? '');
  if (response.statusCode !== 200 || !/\bxml\b/.test(type)) {
    throw new BackupError(
      'pool_unavailable',
      `read answer: HTTP ${response.statusCode} ${type || 'without type'}, address=${formatAuthority(input.origin)}`,
      {
        details: {
          address: formatAuthority(input.origin),
          method: input.method,
          http_status: response.statusCode,
          body: answer.subarray(0, MAX_QUOTE_CHARACTERS).toString('latin1'),
          phase: 'answer',
        },
      },
    );
  }
  return answer;
}

function timedOut({ origin, method, timeoutMs }: PostInput): BackupError {
  const address = formatAuthority(origin);
  return new BackupError(
    'pool_unavailable',
    `wait for the pool, method=${method} address=${address}`,
    { details: { address, method, timeout_ms: timeoutMs, phase: 'answer' } },
  );
}

function translateTransport(error: unknown, { origin, method }: PostInput): unknown {
  // Refusals and errors of dial.ts are ours already.
  if (error instanceof BackupError || (error instanceof Error && error.name === 'XapiError')) {
    return error;
  }
  const address = formatAuthority(origin);
  const code = (error as NodeJS.ErrnoException).code;
  return new BackupError('pool_unavailable', `call the pool, method=${method} address=${address}`, {
    details: { address, method, phase: 'answer', ...(code === undefined ? {} : { reason: code }) },
    cause: error,
  });
}
