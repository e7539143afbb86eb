/**
 * GET /export and PUT /import: one request by hand on a raw socket, redirects followed, errors read.
 *
 * HTTP/1.0 is asked for, so nobody may answer in chunks. An import is answered before its body is read, so the head is awaited
 * first and nothing is sent to a host that would say no. Its length is exact: hosts refuse chunks. The session goes into one single cookie: older hosts split the
 * Cookie header at `&`, newer ones at `;` without trimming, and in the query it would end up in access logs and
 * redirect targets. A redirect leads to another member's management address; any other address is refused, since the session would
 * go there. Source: xen-api ocaml/xapi/export.ml, import.ml, ocaml/libs/http-lib.
 */
import type { Socket } from 'node:net';
import { BackupError } from '../errors.ts';
import { USER_AGENT } from './connection.ts';
import { dial } from './dial.ts';
import type { Direction } from './direction.ts';
import { formatAuthority, type Origin, parseOrigin } from './origin.ts';
import { createReceiver, type Receiver } from './receiver.ts';
import { findXapiError, MAX_HEAD_BYTES, parseHead, type ResponseHead } from './response-head.ts';
import type { TrustBook } from './trust.ts';

/** The right host is chosen beforehand; a redirect means the pool changed meanwhile. */
const MAX_REDIRECTS = 3;
/** The pages are some 200 bytes. */
const MAX_ERROR_PAGE_BYTES = 64 * 1024;
const ERROR_PAGE_MS = 10_000;

export interface TransferRequest {
  direction: Direction;
  origin: Origin;
  /** With query, without session. */
  path: string;
  sessionRef: string;
  /** Of the body, for an import. */
  sizeBytes?: number;
}

export interface TransferRequestDeps {
  trust: TrustBook;
  connectTimeoutMs: number;
  /** Members of the pool: nobody else gets the session. */
  isMember(address: string): boolean;
  /** Makes sure the trust book knows the certificate of a member. */
  learnCertificate(address: string, options: { signal: AbortSignal }): Promise<void>;
  /** Sees each connection before it answers, so that somebody can watch it. */
  onReceiver(receiver: Receiver): void;
}

export interface TransferResponse {
  /** What the host says from here on: the export, or what goes wrong with an import. */
  receiver: Receiver;
  socket: Socket;
  origin: Origin;
}

/**
 * The host, ready to send or to read the body.
 *
 * Errors: XapiError when the host's page names one; `pool_unavailable` (401 with details.http_status),
 * the direction's `failed`; undefined when the connection was closed without any answer: the task knows why.
 */
export async function requestTransfer(
  request: TransferRequest,
  deps: TransferRequestDeps,
  options: { signal: AbortSignal },
): Promise<TransferResponse | undefined> {
  const { direction } = request;
  let { origin, path } = request;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const receiver = createReceiver();
    try {
      await deps.learnCertificate(origin.hostname, options);
      const { trust, connectTimeoutMs: timeoutMs } = deps;
      const socket = await dial({ origin, trust, timeoutMs, onread: receiver.onread }, options);
      receiver.attach(socket);
      deps.onReceiver(receiver);
      socket.write(formatRequest(request, origin, path));
      const answer = await readHead(receiver, { direction, ...options });
      if (answer === undefined) {
        receiver.destroy();
        return undefined;
      }
      if (answer.head.status === 200) {
        checkBody(answer.head, direction);
        receiver.unread(answer.rest);
        return { receiver, socket, origin };
      }
      if (answer.head.status !== 302)
        throw await readError(receiver, answer, { direction, origin, ...options });
      ({ origin, path } = followed(answer.head, direction, deps));
      receiver.destroy();
    } catch (error) {
      receiver.destroy();
      throw error;
    }
  }
  const { failed, name } = direction;
  throw new BackupError(failed, `start ${name}: the hosts send us round in a circle`, {
    details: { redirects: MAX_REDIRECTS },
  });
}

function formatRequest(request: TransferRequest, origin: Origin, path: string): string {
  const { direction, sessionRef, sizeBytes } = request;
  return [
    `${direction.method} ${path} HTTP/1.0`,
    `Host: ${formatAuthority(origin)}`,
    `User-Agent: ${USER_AGENT}`,
    `Cookie: session_id=${sessionRef}`,
    ...(sizeBytes === undefined ? [] : [`Content-Length: ${sizeBytes}`]),
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
  { direction, ...options }: { direction: Direction; signal: AbortSignal },
): Promise<Headed | undefined> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const some = await receiver.readSome(options);
    if (some.length === 0) {
      if (bytes.length === 0) return undefined;
      const message = `start ${direction.name}: the connection ended within the head`;
      throw new BackupError(direction.failed, message, {
        details: { received_bytes: bytes.length },
        cause: receiver.reset,
      });
    }
    bytes = Buffer.concat([bytes, some]);
    const head = parseHead(bytes, direction);
    if (head !== undefined) return { head, rest: bytes.subarray(head.sizeBytes) };
    if (bytes.length > MAX_HEAD_BYTES + some.length) return undefined;
  }
}

/** Nothing xapi does; a proxy in between might, and the archive would be damaged. */
function checkBody(head: ResponseHead, { failed, name }: Direction): void {
  if (!head.headers.has('transfer-encoding')) return;
  throw new BackupError(failed, `start ${name}: the answer is chunked; is a proxy between?`);
}

function followed(
  head: ResponseHead,
  { failed, name }: Direction,
  deps: TransferRequestDeps,
): { origin: Origin; path: string } {
  const location = URL.parse(head.headers.get('location') ?? '');
  if (location === null) {
    throw new BackupError(failed, `follow redirect of the ${name}: no valid Location`);
  }
  const origin = parseOrigin(location.href);
  if (!deps.isMember(origin.hostname)) {
    throw new BackupError(
      failed,
      `follow redirect of the ${name}: no member of the pool, address=${origin.hostname}`,
      { details: { address: origin.hostname } },
    );
  }
  return { origin, path: `${location.pathname}${location.search}` };
}

async function readError(
  receiver: Receiver,
  { head, rest }: Headed,
  { direction, origin, signal }: { direction: Direction; origin: Origin; signal: AbortSignal },
): Promise<Error> {
  const address = formatAuthority(origin);
  const page = await readPage(receiver, { head, rest }, signal);
  const said = findXapiError(page);
  if (said !== undefined) return said;
  const details = { address, http_status: head.status };
  const message = `start ${direction.name}: HTTP ${head.status}, address=${address}`;
  // 401: the session is not known there (any more). 503 and 408: overload or a host that starts.
  const code = [401, 408, 503].includes(head.status) ? 'pool_unavailable' : direction.failed;
  if (head.status === 403) {
    const why = `the user's role does not allow ${direction.name}s`;
    return new BackupError('pool_refused', `${message}: ${why}`, { details });
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
