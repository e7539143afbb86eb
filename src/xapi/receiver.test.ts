/** A real socket each time: what is tested is what Node and the kernel do with memory that is not theirs. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { dial } from './dial.ts';
import { createReceiver } from './receiver.ts';
import { createTrustBook } from './trust.ts';

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});
const signal = new AbortController().signal;

/** A receiver connected to a server that does `answer` with its end. */
async function connect(answer: (socket: Socket) => void) {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    answer(socket);
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const origin = { protocol: 'http:', hostname: '127.0.0.1', port } as const;
  const receiver = createReceiver();
  const trust = createTrustBook({ kind: 'system' });
  const input = { origin, trust, timeoutMs: 5000, onread: receiver.onread };
  receiver.attach(await dial(input, { signal }));
  return receiver;
}

/** Bytes that tell their own position, so that a shifted or doubled one is seen. */
function pattern(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at + 4 <= sizeBytes; at += 4) bytes.writeUInt32LE((at * 2654435761) >>> 0, at);
  return bytes;
}

test('every fill is exact, whatever the sizes, and the rest at the end is shorter', async () => {
  const sent = pattern(3_000_001);
  const receiver = await connect((socket) => socket.end(sent));
  const sizes = [1, 511, 512, 4096, 4097, 70_000, 1_048_576, 1_050_112, 3];
  const got: Buffer[] = [];
  for (let at = 0; ; at += 1) {
    const target = Buffer.alloc(sizes[at % sizes.length] ?? 1);
    const size = await receiver.fill(target, { signal });
    got.push(target.subarray(0, size));
    if (size < target.length) break;
  }
  assert.ok(Buffer.concat(got).equals(sent));
  assert.equal(receiver.movedBytes, sent.length);
  assert.equal(await receiver.fill(Buffer.alloc(10), { signal }), 0);
});

test('nothing is read between two calls beyond a small landing', async () => {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const receiver = await connect((socket) => {
    socket.write(pattern(50_000));
    resolve(socket);
  });
  await promise;
  await receiver.fill(Buffer.alloc(1000), { signal });
  // Let whatever the event loop would deliver be delivered.
  for (let turn = 0; turn < 20; turn += 1) await new Promise((next) => setImmediate(next));
  assert.ok(receiver.movedBytes <= 2 * 4096, `received ${receiver.movedBytes}`);
  receiver.destroy();
});

test('bytes given back come first', async () => {
  const receiver = await connect((socket) => socket.end('head\r\nbody of it'));
  let first = Buffer.alloc(0);
  while (first.length < 6) first = Buffer.concat([first, await receiver.readSome({ signal })]);
  receiver.unread(first.subarray(6));
  const target = Buffer.alloc(10);
  assert.equal(await receiver.fill(target, { signal }), 10);
  assert.equal(target.toString(), 'body of it');
  assert.equal(await receiver.fill(target, { signal }), 0);
});

test('a reset after all bytes is the end, and is remembered', async () => {
  const { promise: served, resolve } = Promise.withResolvers<Socket>();
  const receiver = await connect((socket) => {
    socket.write('0123456789');
    resolve(socket);
  });
  const target = Buffer.alloc(10);
  assert.equal(await receiver.fill(target, { signal }), 10);
  (await served).resetAndDestroy();
  assert.equal(await receiver.fill(target, { signal }), 0);
  assert.match(String(receiver.reset), /ECONNRESET/);
});

test('a reset in the middle of what was asked for is a truncated source', async () => {
  const receiver = await connect((socket) => {
    socket.write('0123456789', () => setImmediate(() => socket.resetAndDestroy()));
  });
  await receiver.fill(Buffer.alloc(5), { signal });
  await assert.rejects(receiver.fill(Buffer.alloc(1000), { signal }), (error) =>
    isBackupError(error, 'source_truncated'),
  );
});

test('a fill that is aborted leaves its memory alone afterwards', async () => {
  const { promise: served, resolve } = Promise.withResolvers<Socket>();
  const receiver = await connect((socket) => {
    socket.write('x'.repeat(100));
    resolve(socket);
  });
  const stop = new AbortController();
  const target = Buffer.alloc(10_000);
  const filling = receiver.fill(target, { signal: stop.signal });
  const socket = await served;
  stop.abort(new Error('enough'));
  await assert.rejects(filling, /enough/);
  target.fill(0);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('y'.repeat(5000));
  await closed;
  assert.ok(target.every((byte) => byte === 0));
  await assert.rejects(receiver.fill(target, { signal }), /enough/);
});

test('failing from outside ends the fill under way with that error', async () => {
  const receiver = await connect(() => {});
  const filling = receiver.fill(Buffer.alloc(10), { signal });
  assert.equal(receiver.waiting, true);
  receiver.fail(new Error('it hangs'));
  await assert.rejects(filling, /it hangs/);
  assert.equal(receiver.waiting, false);
});

test('asking twice at once is a bug that is told', async () => {
  const receiver = await connect(() => {});
  const filling = receiver.fill(Buffer.alloc(10), { signal });
  await assert.rejects(receiver.fill(Buffer.alloc(10), { signal }), (error) =>
    isBackupError(error, 'internal'),
  );
  receiver.destroy();
  await assert.rejects(filling);
});
