import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createSecureContext, createServer as createTlsServer } from 'node:tls';
import { createCertificate } from '../../test/sim/xapi/certificate.ts';
import { createRangeSockets, type RangeRequest } from './range-sockets.ts';

const BODY = Buffer.from(Array.from({ length: 200_000 }, (_, at) => at % 251));
const CERTIFICATE = createCertificate({ address: '127.0.0.1', serial: 1, nowMs: Date.now() });
const OK = (from: number, to: number, more = '') =>
  `HTTP/1.1 206 Partial Content\r\nContent-Length: ${to - from}\r\nContent-Range: bytes ${from}-${to - 1}/${BODY.length}\r\nETag: "e"\r\n${more}\r\n`;

/** A server that answers the n-th request of all with the n-th script; `asked` has their heads. */
async function setUp(
  t: TestContext,
  scripts: ((socket: Socket) => void)[],
  { idleTimeoutMs = 5000, isTls = false } = {},
) {
  const asked: string[] = [];
  const accepted: Socket[] = [];
  const { keyPem: key, certPem: cert } = CERTIFICATE;
  const accept = (socket: Socket) => {
    accepted.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      asked.push(bytes.toString('latin1'));
      scripts[asked.length - 1]?.(socket);
    });
  };
  const server = isTls ? createTlsServer({ key, cert }, accept) : createServer(accept);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const secureContext = createSecureContext({ ca: cert });
  const sockets = createRangeSockets({ connectTimeoutMs: 5000, idleTimeoutMs, secureContext });
  t.after(() => {
    sockets.destroy();
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const requestOf = (
    from: number,
    to: number,
    more: Record<string, string> = {},
  ): RangeRequest => ({
    protocol: isTls ? 'https:' : 'http:',
    hostname: '127.0.0.1',
    port,
    path: '/bucket/key',
    query: { 'x-id': 'GetObject', tag: ["it's", 'b c'] },
    headers: { host: `127.0.0.1:${port}`, range: `bytes=${from}-${to - 1}`, ...more },
  });
  const getWith = async (
    more: Record<string, string>,
    from: number,
    to: number,
    signal?: AbortSignal,
  ) => {
    const request = requestOf(from, to, more);
    const memory = Buffer.alloc(to - from + 20, 255);
    const answer = await sockets.get(request, memory.subarray(10, -10), { signal });
    const around = Buffer.concat([memory.subarray(0, 10), memory.subarray(-10)]);
    assert.ok(
      around.every((byte) => byte === 255),
      'nothing is written beside the memory',
    );
    return { answer, bytes: memory.subarray(10, -10) };
  };
  const get = async (from: number, to: number, signal?: AbortSignal) =>
    await getWith({}, from, to, signal);
  const memory = Buffer.alloc(BODY.length, 255);
  /** The whole of BODY into `memory`. */
  const fill = async (signal: AbortSignal) =>
    await sockets.get(requestOf(0, BODY.length), memory, { signal });
  return { get, getWith, asked, accepted, memory, fill };
}

const send = (from: number, to: number, more?: string) => (socket: Socket) =>
  void socket.write(Buffer.concat([Buffer.from(OK(from, to, more)), BODY.subarray(from, to)]));

for (const isTls of [false, true]) {
  test(`ranges fill memory, one after another over one ${isTls ? 'TLS' : 'TCP'} connection`, async (t) => {
    const { get, asked, accepted } = await setUp(t, [
      send(0, 200_000),
      send(7, 8),
      send(100, 150_000),
    ]);
    for (const [from, to] of [
      [0, 200_000],
      [7, 8],
      [100, 150_000],
    ] as const) {
      const { answer, bytes } = await get(from, to);
      assert.equal(answer?.headers.etag, '"e"');
      assert.ok(bytes.equals(BODY.subarray(from, to)));
    }
    assert.equal(accepted.length, 1);
    assert.match(
      asked[0] ?? '',
      /^GET \/bucket\/key\?x-id=GetObject&tag=it%27s&tag=b%20c HTTP\/1\.1\r\n/,
    );
  });
}

test('an answer may come byte by byte, and at once with its head', async (t) => {
  const slowly = async (socket: Socket) => {
    for (const byte of Buffer.concat([Buffer.from(OK(3, 9)), BODY.subarray(3, 9)])) {
      socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
  };
  const { get } = await setUp(t, [(socket) => void slowly(socket)]);
  assert.ok((await get(3, 9)).bytes.equals(BODY.subarray(3, 9)));
});

const ODD: Record<string, string> = {
  'another status': 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789',
  'a refusal': 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno',
  'another range': OK(10, 20),
  'another length': OK(0, 10).replace('Length: 10', 'Length: 11'),
  'no length': OK(0, 10).replace(/Content-Length.*\r\n/, ''),
  chunks: OK(0, 10, 'Transfer-Encoding: chunked\r\n'),
  'compressed bytes': OK(0, 10, 'Content-Encoding: gzip\r\n'),
  'two lengths': OK(0, 10, 'Content-Length: 10\r\n'),
  'a name that ends in a space': OK(0, 10, 'Transfer-Encoding : chunked\r\n'),
  'a line without a name': OK(0, 10, ' X: folded\r\n'),
  'a folded line': OK(0, 10, ' folded\r\n'),
  'another protocol': 'SSH-2.0-x\r\n\r\n',
  'an endless head': `HTTP/1.1 206 x\r\nA: ${'a'.repeat(40_000)}`,
};

for (const [what, text] of Object.entries(ODD)) {
  test(`${what} is left to the usual way, and the connection is not used again`, async (t) => {
    const { get, accepted } = await setUp(t, [(socket) => void socket.write(text), send(0, 10)]);
    assert.equal((await get(0, 10)).answer, undefined);
    assert.ok((await get(0, 10)).bytes.equals(BODY.subarray(0, 10)));
    assert.equal(accepted.length, 2);
  });
}

test('a field that comes twice, as Vary of MinIO does, is one answer all the same', async (t) => {
  const twice = 'Vary: Origin\r\nVary: Accept-Encoding\r\n';
  const { get, accepted } = await setUp(t, [send(0, 10, twice), send(10, 20)]);
  const { answer, bytes } = await get(0, 10);
  assert.equal(answer?.headers.vary, 'Origin, Accept-Encoding');
  assert.ok(bytes.equals(BODY.subarray(0, 10)));
  await get(10, 20);
  assert.equal(accepted.length, 1);
});

test('a store whose ranges always come in another form is not asked everything twice', async (t) => {
  const chunks = (socket: Socket) =>
    void socket.write(OK(0, 10).replace(/Content-Length.*\r\n/, 'Transfer-Encoding: chunked\r\n'));
  const { get, asked } = await setUp(t, Array(20).fill(chunks));
  for (let i = 0; i < 20; i++) assert.equal((await get(0, 10)).answer, undefined);
  assert.equal(asked.length, 3);
});

test('a field that would end its line is not sent', async (t) => {
  const { getWith, asked } = await setUp(t, [send(0, 10)]);
  assert.equal((await getWith({ 'if-match': '"e"\r\nx-evil: 1' }, 0, 10)).answer, undefined);
  assert.equal(asked.length, 0);
});

test('what comes behind an answer in records of their own is never taken for the next', async (t) => {
  const behind = (socket: Socket) => {
    socket.cork();
    send(0, 10)(socket);
    send(10, 20)(socket); // as if somebody else's
    socket.uncork();
  };
  const { get, accepted } = await setUp(t, [behind, send(10, 20, 'X-Right: yes\r\n')], {
    isTls: true,
  });
  await get(0, 10);
  assert.equal((await get(10, 20)).answer?.headers['x-right'], 'yes');
  assert.equal(accepted.length, 2);
});

test('a store that has too much to do is told of at once', async (t) => {
  const slow = 'HTTP/1.1 503 Slow Down\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\n<xml>';
  const { get, asked } = await setUp(t, [(socket) => void socket.write(slow)]);
  const { answer } = await get(0, 10);
  assert.deepEqual([answer?.statusCode, answer?.headers['retry-after']], [503, '7']);
  assert.equal(asked.length, 1);
});

test('more bytes than were told are not taken, and end the connection', async (t) => {
  const more = (socket: Socket) =>
    void socket.write(Buffer.concat([Buffer.from(OK(0, 10)), BODY.subarray(0, 30)]));
  const { get, accepted } = await setUp(t, [more, send(0, 10)]);
  assert.ok((await get(0, 10)).bytes.equals(BODY.subarray(0, 10)));
  await get(0, 10);
  assert.equal(accepted.length, 2);
});

test('a connection that was kept and is closed by the store as it is used is replaced', async (t) => {
  const { get, accepted } = await setUp(t, [
    send(0, 10),
    (socket) => void socket.destroy(),
    send(5, 15),
  ]);
  await get(0, 10);
  assert.ok((await get(5, 15)).bytes.equals(BODY.subarray(5, 15)));
  assert.equal(accepted.length, 2);
});

test('an answer cut short is an error, and none but the caller asks again', async (t) => {
  const cut = (socket: Socket) =>
    void socket.end(Buffer.concat([Buffer.from(OK(0, 100)), BODY.subarray(0, 50)]));
  const { get, asked } = await setUp(t, [send(0, 10), cut]);
  await get(0, 10);
  const code = (error: NodeJS.ErrnoException) => error.code === 'ERR_STREAM_PREMATURE_CLOSE';
  await assert.rejects(get(0, 100), code);
  assert.equal(asked.length, 2);
});

test('a silent store is left after a while, and at once by who leaves', async (t) => {
  const { get } = await setUp(t, [(socket) => void socket.write(OK(0, 100))], {
    idleTimeoutMs: 30,
  });
  await assert.rejects(get(0, 100), (error: NodeJS.ErrnoException) => error.code === 'ETIMEDOUT');
  const begun = Promise.withResolvers<void>();
  const quiet = await setUp(t, [() => begun.resolve()]);
  const leaving = new AbortController();
  const reading = quiet.get(0, 100, leaving.signal);
  await begun.promise;
  const reason = new Error('enough');
  leaving.abort(reason);
  await assert.rejects(reading, (error) => error === reason);
});

test('who leaves half-way has his memory back at once: nothing of what still comes lies in it', async (t) => {
  const slowly = async (socket: Socket) => {
    socket.write(OK(0, 200_000));
    for (let at = 0; at < 190_000 && !socket.destroyed; at += 1000) {
      socket.write(BODY.subarray(at, at + 1000));
      await new Promise(setImmediate);
    }
  };
  const { memory, fill } = await setUp(t, [(socket) => void slowly(socket)], { isTls: true });
  const leaving = new AbortController();
  const filling = fill(leaving.signal);
  while (memory[20_000] === 255) await new Promise(setImmediate);
  leaving.abort(new Error('enough'));
  await assert.rejects(filling, /enough/);
  memory.fill(254);
  for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
  assert.ok(memory.every((byte) => byte === 254));
});

test('an IPv6 address is reached', async (t) => {
  const server = createServer((socket) => void socket.once('data', () => send(0, 10)(socket)));
  server.listen(0, '::1');
  const [error] = await Promise.race([once(server, 'error'), once(server, 'listening')]);
  if (error !== undefined) return t.skip('no IPv6 here');
  const sockets = createRangeSockets({ connectTimeoutMs: 5000, idleTimeoutMs: 5000 });
  t.after(() => {
    sockets.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const headers = { host: `[::1]:${port}`, range: 'bytes=0-9' };
  const request = { protocol: 'http:', hostname: '[::1]', port, path: '/', headers };
  const memory = Buffer.alloc(10);
  assert.equal((await sockets.get(request, memory, {}))?.statusCode, 206);
  assert.ok(memory.equals(BODY.subarray(0, 10)));
});

test('where nobody listens the socket says so', async (t) => {
  const sockets = createRangeSockets({ connectTimeoutMs: 5000, idleTimeoutMs: 5000 });
  t.after(() => sockets.destroy());
  const request = { protocol: 'http:', hostname: '127.0.0.1', port: 1, path: '/', headers: {} };
  const refused = (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED';
  await assert.rejects(sockets.get(request, Buffer.alloc(1), {}), refused);
});
