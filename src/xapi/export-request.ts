/**
 * GET /export: one request by hand on a raw socket, redirects followed, errors read.
 *
 * HTTP/1.0 is asked for, so nobody may answer in chunks. The session goes into one single cookie: older hosts split the
 * Cookie header at `&`, newer ones at `;` without trimming, and in the query it would end up in access logs and
 * redirect targets. A redirect leads to another member's management address; any other address is refused, since the session would
 * go there. Source: xen-api ocaml/xapi/export.ml, ocaml/libs/http-lib.
 */
import { BackupError } from '../errors.ts';
import { USER_AGENT } from './connection.ts';
import { dial } from './dial.ts';
import { formatAuthority, type Origin, parseOrigin } from './origin.ts';
import { createReceiver, type Receiver } from './receiver.ts';
import { findXapiError, MAX_HEAD_BYTES, parseHead, type ResponseHead } from './response-head.ts';
import type { TrustBook } from './trust.ts';

/** The right host is chosen beforehand; a redirect means the pool changed meanwhile. */
const MAX_REDIRECTS = 3;
/** The pages are some 200 bytes. */
const MAX_ERROR_PAGE_BYTES = 64 * 1024;
const ERROR_PAGE_MS = 10_000;

export interface ExportRequest {
  origin: Origin;
  /** With query, without session. */
  path: string;
  sessionRef: string;
}

export interface ExportRequestDeps {
  trust: TrustBook;
  connectTimeoutMs: number;
  /** Members of the pool: nobody else gets the session. */
  isMember(address: string): boolean;
  /** Makes sure the trust book knows the certificate of a member. */
  learnCertificate(address: string, options: { signal: AbortSignal }): Promise<void>;
  /** Sees each connection before it answers, so that somebody can watch it. */
  onReceiver(receiver: Receiver): void;
}

export interface ExportResponse {
  receiver: Receiver;
  origin: Origin;
}

/**
 * The body of the export, ready to be read.
 *
 * Errors: XapiError when the host's page names one; `pool_unavailable` (401 with details.http_status),
 * `source_failed`; undefined when the connection was closed without any answer: the task knows why.
 */
export async function requestExport(
  request: ExportRequest,
  deps: ExportRequestDeps,
  options: { signal: AbortSignal },
): Promise<ExportResponse | undefined> {
  let { origin, path } = request;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const receiver = createReceiver();
    try {
      await deps.learnCertificate(origin.hostname, options);
      const { trust, connectTimeoutMs: timeoutMs } = deps;
      const socket = await dial({ origin, trust, timeoutMs, onread: receiver.onread }, options);
      receiver.attach(socket);
      deps.onReceiver(receiver);
      socket.write(formatRequest(origin, path, request.sessionRef));
      const answer = await readHead(receiver, options);
      if (answer === undefined) {
        receiver.destroy();
        return undefined;
      }
      if (answer.head.status === 200) {
        checkBody(answer.head);
        receiver.unread(answer.rest);
        return { receiver, origin };
      }
      if (answer.head.status !== 302)
        throw await readError(receiver, answer, { origin, ...options });
      ({ origin, path } = followed(answer.head, deps));
      receiver.destroy();
    } catch (error) {
      receiver.destroy();
      throw error;
    }
  }
  throw new BackupError('source_failed', 'start export: the hosts send us round in a circle', {
    details: { redirects: MAX_REDIRECTS },
  });
}

function formatRequest(origin: Origin, path: string, sessionRef: string): string {
  return [
    `GET ${path} HTTP/1.0`,
    `Host: ${formatAuthority(origin)}`,
    `User-Agent: ${USER_AGENT}`,
    `Cookie: session_id=${sessionRef}`,
    'Connection: close',
    '',
    '',
  ].join('\r\n');
}

interface Headed {
  head: ResponseHead;
  /** The first bytes of the body, read with the head. */
  rest: Buffer;
}

async function readHead(
  receiver: Receiver,
  options: { signal: AbortSignal },
): Promise<Headed | undefined> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const some = await receiver.readSome(options);
    if (some.length === 0) {
      if (bytes.length === 0) return undefined;
      throw new BackupError('source_failed', 'start export: the connection ended within the head', {
        details: { received_bytes: bytes.length },
        cause: receiver.reset,
      });
    }
    bytes = Buffer.concat([bytes, some]);
    const head = parseHead(bytes);
    if (head !== undefined) return { head, rest: bytes.subarray(head.sizeBytes) };
    if (bytes.length > MAX_HEAD_BYTES + some.length) return undefined;
  }
}

/** Nothing xapi does; a proxy in between might, and the archive would be damaged. */
function checkBody(head: ResponseHead): void {
  if (!head.headers.has('transfer-encoding')) return;
  throw new BackupError(
    'source_failed',
    'start export: the answer is chunked; is a proxy between?',
  );
}

function followed(head: ResponseHead, deps: ExportRequestDeps): { origin: Origin; path: string } {
  const location = URL.parse(head.headers.get('location') ?? '');
  if (location === null) {
    throw new BackupError('source_failed', 'follow redirect of the export: no valid Location');
  }
  const origin = parseOrigin(location.href);
  if (!deps.isMember(origin.hostname)) {
    throw new BackupError(
      'source_failed',
      `follow redirect of the export: no member of the pool, address=${origin.hostname}`,
      { details: { address: origin.hostname } },
    );
  }
  return { origin, path: `${location.pathname}${location.search}` };
}

async function readError(
  receiver: Receiver,
  { head, rest }: Headed,
  { origin, signal }: { origin: Origin; signal: AbortSignal },
): Promise<Error> {
  const address = formatAuthority(origin);
  const page = await readPage(receiver, { head, rest }, signal);
  const said = findXapiError(page);
  if (said !== undefined) return said;
  const details = { address, http_status: head.status };
  const message = `start export: HTTP ${head.status}, address=${address}`;
  // 401: the session is not known there (any more). 503 and 408: overload or a host that starts.
  const code = [401, 408, 503].includes(head.status) ? 'pool_unavailable' : 'source_failed';
  if (head.status === 403) {
    return new BackupError('pool_refused', `${message}: the user's role does not allow exports`, {
      details,
    });
  }
  return new BackupError(code, message, { details });
}

/** Bounded in bytes and time: a page that does not come must not hide the status. */
async function readPage(receiver: Receiver, { head, rest }: Headed, signal: AbortSignal) {
  const limitBytes = Math.min(
    Number(head.headers.get('content-length') ?? MAX_ERROR_PAGE_BYTES) || 0,
    MAX_ERROR_PAGE_BYTES,
  );
  const pieces = [rest];
  let sizeBytes = rest.length;
  const both = AbortSignal.any([signal, AbortSignal.timeout(ERROR_PAGE_MS)]);
  try {
    while (sizeBytes < limitBytes) {
      const some = await receiver.readSome({ signal: both });
      if (some.length === 0) break;
      pieces.push(some);
      sizeBytes += some.length;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!both.aborted) throw error;
  }
  return Buffer.concat(pieces).toString('utf8');
}
