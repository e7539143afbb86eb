/**
 * Ranges of objects read from the socket into memory that is there: half the CPU of Node's HTTP client over TLS.
 *
 * Whoever reads an archive reads gigabytes, and an object, an event and a copy for each TLS record cost as much as decrypting it
 * (0.57 against 1.0 CPU s/GiB, Node 24). So GETs of ranges go over connections of their own, whose sockets put what comes where
 * it belongs. They know one answer: 206 with exactly the range and its length. Anything else is left to the SDK's handler, which
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
/** Answers in another form, one after the other, after which a store is not asked in this way any more. */
const MAX_ODD = 3;
const HEAD_END = Buffer.from('\r\n\r\n');

/** One connection, and the answer it waits for. */
interface Line {
  socket: Socket;
  /** Bytes of this connection, ever. */
  seenBytes: number;
  taker: Taker | undefined;
}

/** Takes what came. */
interface Taker {
  /** Where the next bytes are to lie; undefined: anywhere. */
  room(): Uint8Array | undefined;
  /** The first `length` bytes of `from`: the room, or memory that is used again for what comes next. */
  take(from: Uint8Array, length: number): void;
}

/** No connection is made before the first request. */
export function createRangeSockets(settings: RangeSocketSettings): RangeSockets {
  const idle = new Map<string, Line[]>();
  const open = new Set<Socket>();
  /** Store → its answers in another form since the last one in this. */
  const odd = new Map<string, number>();

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
      const head = headOf(request);
      if (head === undefined || (odd.get(origin) ?? 0) >= MAX_ODD) return undefined;
      const kept = take(origin);
      const first = kept ?? (await dial(request, signal));
      const seen = first.seenBytes;
      const answer = await exchange(first, { ...request, head }, { target, signal }).catch(
        async (error) => {
          await drop(first);
          // the store closed a connection that was kept as we began to use it again: nothing was answered
          if (kept === undefined || first.seenBytes > seen || signal?.aborted) throw error;
          const fresh = await dial(request, signal);
          try {
            return {
              ...(await exchange(fresh, { ...request, head }, { target, signal })),
              line: fresh,
            };
          } catch (again) {
            await drop(fresh);
            throw again;
          }
        },
      );
      const line = 'line' in answer ? answer.line : first;
      if (answer.isReusable) keep(origin, line);
      else line.socket.destroy();
      if (answer.answer?.statusCode === 206) odd.delete(origin);
      else if (answer.isOdd) odd.set(origin, (odd.get(origin) ?? 0) + 1);
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
      buffer: () => line.taker?.room() ?? scratch,
      callback: (length, bytes) => {
        line.seenBytes += length;
        // nothing was asked: the store does not speak the same protocol
        if (line.taker === undefined) socket.destroy();
        else line.taker.take(bytes, length);
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
  /** A success in a form that is not ours: another request would be answered alike. */
  isOdd?: boolean;
}

async function exchange(
  line: Line,
  request: RangeRequest & { head: string },
  { target, signal }: { target: Uint8Array; signal?: AbortSignal | undefined },
): Promise<Exchanged> {
  const { socket } = line;
  const done = Promise.withResolvers<Exchanged>();
  const onAbort = () => done.reject(signal?.reason);
  const onClose = () => done.reject(cutShort());
  line.taker = createTaker(request, target, (result) => {
    line.taker = undefined; // what comes behind the answer ends the connection
    done.resolve(result);
  });
  socket.once('error', done.reject).once('close', onClose);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    if (socket.destroyed) throw cutShort();
    socket.write(request.head);
    return await done.promise;
  } finally {
    line.taker = undefined;
    socket.removeListener('error', done.reject).removeListener('close', onClose);
    signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * Ends the connection. A socket that is destroyed as it reads still puts down what it has decrypted, in the memory it was
 * told last; once it is closed it does not.
 */
async function drop({ socket }: Line): Promise<void> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.destroy();
  if (!socket.closed) await closed;
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
  let given: Uint8Array | undefined;
  const room = (): Uint8Array | undefined => {
    // the end comes by way of the scratch: what follows it is noticed there
    const isSoon = target.length - filled <= SCRATCH_BYTES;
    given = answer === undefined || isSoon ? undefined : target.subarray(filled, -SCRATCH_BYTES);
    return given;
  };
  const take = (bytes: Uint8Array, length: number): void => {
    if (bytes === given) {
      filled += length;
      return;
    }
    let [source, from, end] = [bytes as Buffer, 0, length];
    if (answer === undefined) {
      head = Buffer.concat([head, bytes.subarray(0, length)]);
      const headBytes = head.indexOf(HEAD_END);
      if (headBytes === -1) {
        const isOdd = head.length > MAX_HEAD_BYTES;
        if (isOdd) done({ answer: undefined, isReusable: false, isOdd });
        return;
      }
      answer = parseHead(head.toString('latin1', 0, headBytes));
      const isBusy = answer.statusCode >= 500 || answer.statusCode === 429;
      if (isBusy || !isWanted(answer, range, target.length)) {
        const isOdd = answer.statusCode < 300;
        done({ answer: isBusy ? answer : undefined, isReusable: false, isOdd });
        return;
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
  return { room, take };
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

/** They say where an answer ends, or which it is: twice, they would say two things. */
const ONCE = /^(content-length|content-range|content-encoding|transfer-encoding|etag)$/;
/** RFC 9110, 5.1 and 5.5: a token, and a value that ends no line. */
const FIELD = /^([!#$%&'*+.^`|~\w-]+):([^\r\n\0]*)$/;

/** A head that makes no sense has status 0. Fields that come several times are one, as RFC 9110 (5.2) joins them. */
function parseHead(text: string): RangeAnswer {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 (\d{3})( |$)/.exec(first)?.[1];
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name = '', value = ''] = FIELD.exec(line) ?? [];
    const field = name.toLowerCase();
    const before = headers[field];
    if (field === '' || (before !== undefined && ONCE.test(field))) {
      return { statusCode: 0, headers: {} };
    }
    headers[field] = before === undefined ? value.trim() : `${before}, ${value.trim()}`;
  }
  return { statusCode: Number(status ?? 0), headers };
}

/** Undefined when a field would end its line: the usual way says what is wrong with it. */
function headOf({ path, query = {}, headers }: RangeRequest): string | undefined {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    [value]
      .flat()
      .map((one) => (one === null ? escaped(name) : `${escaped(name)}=${escaped(one)}`)),
  );
  const search = pairs.length === 0 ? '' : `?${pairs.join('&')}`;
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  if (!fields.every((field) => FIELD.test(field)) || /\s/.test(path)) return undefined;
  const lines = fields.map((field) => `${field}\r\n`);
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
