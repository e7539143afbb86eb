/**
 * Ranges of objects read from the socket into memory that is there: half the CPU of Node's HTTP client over TLS.
 *
 * Whoever reads an archive reads gigabytes, and an object, an event and a copy for each TLS record cost as much as decrypting it
 * (0.57 against 1.0 CPU s/GiB, Node 24). So GETs of ranges go over connections of their own, whose sockets put what comes into
 * one buffer. They know one answer: 206 with exactly the range and its length. Anything else is left to the SDK's handler, which
 * is asked the same again; but a store that has too much to do (5xx, 429) is told so at once, without its text.
 * HTTP/1.1 (RFC 9112): one request at a time on a connection, kept for the next.
 */
import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';

export interface RangeRequest {
  protocol: string;
  hostname: string;
  port?: number | undefined;
  path: string;
  query?: Record<string, string | string[] | null> | undefined;
  headers: Record<string, string>;
}

export interface RangeAnswer {
  statusCode: number;
  headers: Record<string, string>;
}

export interface RangeSocketSettings {
  connectTimeoutMs: number;
  idleTimeoutMs: number;
  /** Made when a TLS connection is made; the system's unless given. */
  secureContext?: SecureContext | undefined;
}

export interface RangeSockets {
  /**
   * Fills `target` with the range the request asks for; undefined when the answer is another one than that, which then must
   * be asked for in the usual way. Errors: those of the socket, ETIMEDOUT, ERR_STREAM_PREMATURE_CLOSE. Nothing is written to
   * `target` after it has settled.
   */
  get(
    request: RangeRequest,
    target: Uint8Array,
    options: { signal?: AbortSignal | undefined },
  ): Promise<RangeAnswer | undefined>;
  destroy(): void;
}

/** What one read of a socket gives at most: four TLS records. */
const SCRATCH_BYTES = 65_536;
/** S3's have about 1 KiB. */
const MAX_HEAD_BYTES = 32_768;
/** Kept between requests, for each store; a reader has four at most. */
const MAX_IDLE = 32;
const HEAD_END = Buffer.from('\r\n\r\n');

/** One connection, and the answer it waits for. */
interface Line {
  socket: Socket;
  /** Bytes of this connection, ever. */
  seenBytes: number;
  taker: Taker | undefined;
}

/** Takes what came: the first `length` bytes of memory that is used again for what comes next. */
type Taker = (scratch: Buffer, length: number) => void;

/** No connection is made before the first request. */
export function createRangeSockets(settings: RangeSocketSettings): RangeSockets {
  const idle = new Map<string, Line[]>();
  const open = new Set<Socket>();

  const take = (origin: string): Line | undefined => {
    const line = idle.get(origin)?.pop();
    line?.socket.ref();
    return line;
  };
  const keep = (origin: string, line: Line): void => {
    const lines = idle.get(origin) ?? [];
    if (line.socket.destroyed || lines.length >= MAX_IDLE) return void line.socket.destroy();
    line.socket.unref();
    lines.push(line);
    idle.set(origin, lines);
  };
  const dial = async (request: RangeRequest, signal?: AbortSignal): Promise<Line> => {
    const line = await openLine(request, settings, signal);
    open.add(line.socket);
    line.socket.once('close', () => {
      open.delete(line.socket);
      for (const [origin, lines] of idle)
        idle.set(
          origin,
          lines.filter((one) => one !== line),
        );
    });
    return line;
  };

  return {
    get: async (request, target, { signal }) => {
      signal?.throwIfAborted();
      const origin = `${request.protocol}//${request.hostname}:${request.port ?? ''}`;
      const kept = take(origin);
      const first = kept ?? (await dial(request, signal));
      const seen = first.seenBytes;
      const answer = await exchange(first, request, { target, signal }).catch(async (error) => {
        first.socket.destroy();
        // the store closed a connection that was kept as we began to use it again: nothing was answered
        if (kept === undefined || first.seenBytes > seen || signal?.aborted) throw error;
        const fresh = await dial(request, signal);
        try {
          return { ...(await exchange(fresh, request, { target, signal })), line: fresh };
        } catch (again) {
          fresh.socket.destroy();
          throw again;
        }
      });
      const line = 'line' in answer ? answer.line : first;
      if (answer.isReusable) keep(origin, line);
      else line.socket.destroy();
      return answer.answer;
    },
    destroy: () => {
      for (const socket of open) socket.destroy();
      idle.clear();
    },
  };
}

async function openLine(
  { protocol, hostname, port }: RangeRequest,
  { connectTimeoutMs, idleTimeoutMs, secureContext }: RangeSocketSettings,
  signal?: AbortSignal,
): Promise<Line> {
  const line: Omit<Line, 'socket'> = { seenBytes: 0, taker: undefined };
  const isTls = protocol === 'https:';
  // IPv6 comes in brackets
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  const options: TcpNetConnectOpts = {
    host,
    port: port ?? (isTls ? 443 : 80),
    onread: {
      buffer: scratch,
      callback: (length) => {
        line.seenBytes += length;
        // nothing was asked: the store does not speak the same protocol
        if (line.taker === undefined) socket.destroy();
        else line.taker(scratch, length);
        return true;
      },
    },
  };
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const socket = isTls
    ? connectTls({
        ...options,
        ...servername,
        ...(secureContext && { secureContext }),
        ALPNProtocols: ['http/1.1'],
      })
    : connectTcp(options);
  await opened(socket, { event: isTls ? 'secureConnect' : 'connect', connectTimeoutMs, signal });
  // errors of a connection nobody uses end in its being closed
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  socket.setTimeout(idleTimeoutMs, () => socket.destroy(timedOut('the store is silent')));
  return Object.assign(line, { socket });
}

async function opened(
  socket: Socket,
  options: { event: string; connectTimeoutMs: number; signal?: AbortSignal | undefined },
): Promise<void> {
  const { event, connectTimeoutMs, signal } = options;
  const done = Promise.withResolvers<void>();
  const onAbort = () => done.reject(signal?.reason);
  const timer = setTimeout(
    () => done.reject(timedOut('the store takes no connection')),
    connectTimeoutMs,
  );
  socket.once(event, done.resolve).once('error', done.reject);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await done.promise;
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    socket.removeListener('error', done.reject);
    signal?.removeEventListener('abort', onAbort);
  }
}

interface Exchanged {
  answer: RangeAnswer | undefined;
  /** All that was sent was taken, and the store keeps the connection. */
  isReusable: boolean;
}

async function exchange(
  line: Line,
  request: RangeRequest,
  { target, signal }: { target: Uint8Array; signal?: AbortSignal | undefined },
): Promise<Exchanged> {
  const { socket } = line;
  const done = Promise.withResolvers<Exchanged>();
  const onAbort = () => done.reject(signal?.reason);
  const onClose = () => done.reject(cutShort());
  line.taker = createTaker(request, target, done.resolve);
  socket.once('error', done.reject).once('close', onClose);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    if (socket.destroyed) throw cutShort();
    socket.write(headOf(request));
    return await done.promise;
  } finally {
    line.taker = undefined;
    socket.removeListener('error', done.reject).removeListener('close', onClose);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Reads one answer. Bytes behind it make the connection useless. */
function createTaker(
  { headers: { range = '' } }: RangeRequest,
  target: Uint8Array,
  done: (result: Exchanged) => void,
): Taker {
  let head = Buffer.alloc(0);
  let answer: RangeAnswer | undefined;
  let filled = 0;
  // no view of each record is made: there are 65,536 in a GiB
  return (scratch, length) => {
    let [source, from, end] = [scratch, 0, length];
    if (answer === undefined) {
      head = Buffer.concat([head, scratch.subarray(0, length)]);
      const headBytes = head.indexOf(HEAD_END);
      if (headBytes === -1) {
        if (head.length > MAX_HEAD_BYTES) done({ answer: undefined, isReusable: false });
        return;
      }
      answer = parseHead(head.toString('latin1', 0, headBytes));
      const isBusy = answer.statusCode >= 500 || answer.statusCode === 429;
      if (isBusy || !isWanted(answer, range, target.length)) {
        return done({ answer: isBusy ? answer : undefined, isReusable: false });
      }
      [source, from, end] = [head, headBytes + HEAD_END.length, head.length];
    }
    // never into memory that is not ours
    const fits = Math.min(end - from, target.length - filled);
    source.copy(target, filled, from, from + fits);
    filled += fits;
    if (filled < target.length) return;
    const isKept = !/close/i.test(answer.headers.connection ?? '') && fits === end - from;
    done({ answer, isReusable: isKept });
  };
}

/** Exactly the range that was asked for, and its length told. */
function isWanted({ statusCode, headers }: RangeAnswer, range: string, sizeBytes: number): boolean {
  const asked = /^bytes=(\d+-\d+)$/.exec(range)?.[1];
  return (
    statusCode === 206 &&
    headers['content-length'] === String(sizeBytes) &&
    headers['transfer-encoding'] === undefined &&
    headers['content-encoding'] === undefined &&
    asked !== undefined &&
    (headers['content-range'] ?? '').startsWith(`bytes ${asked}/`)
  );
}

/** A head that makes no sense has status 0. */
function parseHead(text: string): RangeAnswer {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 (\d{3})( |$)/.exec(first)?.[1];
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon > 0 && headers[name] === undefined) headers[name] = line.slice(colon + 1).trim();
    else return { statusCode: 0, headers: {} };
  }
  return { statusCode: Number(status ?? 0), headers };
}

function headOf({ path, query = {}, headers }: RangeRequest): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    [value]
      .flat()
      .map((one) => (one === null ? escaped(name) : `${escaped(name)}=${escaped(one)}`)),
  );
  const search = pairs.length === 0 ? '' : `?${pairs.join('&')}`;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path}${search} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** As signatures have it (RFC 3986). */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function timedOut(why: string): Error {
  return Object.assign(new Error(why), { code: 'ETIMEDOUT' });
}

function cutShort(): Error {
  return Object.assign(new Error('answer cut short'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}
