import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { test } from 'node:test';
import { createCachedDisk, SHELF_BYTES } from '../../test/backup/cached-disk.ts';
import { createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { SHELF_SLOTS } from '../backup/block-cache.ts';
import type { ByteView } from '../backup/disk-view.ts';
import type { Lending, Lent } from '../backup/lending.ts';
import { BackupError } from '../errors.ts';
import { createListener } from './listener.ts';
import { sendBytes } from './send-bytes.ts';

const { id: ID } = exampleBackup();
const PATH = `/v1/backups/${ID}/disks/0`;
const PIECE = 262_144;
const PIECES = 40;

/** A disk whose pieces are spoiled as soon as they come back: who still had one to send would send that. */
function createView() {
  const state = { asked: 0, given: new Set<Uint8Array>(), left: 0, most: 0, failAt: -1 };
  const lendings: Lending[] = [];
  const lend: ByteView['lend'] = async function* ({ offset, length }, lending, { signal }) {
    lendings.push(lending);
    try {
      for (let at = offset; at < offset + length; ) {
        signal.throwIfAborted();
        state.asked += 1;
        if (state.asked === state.failAt) throw new BackupError('data_corrupt', 'read block');
        const size = Math.min(PIECE - (at % PIECE), offset + length - at);
        const bytes = new Uint8Array(size).fill(1 + Math.floor(at / PIECE));
        state.given.add(bytes);
        state.most = Math.max(state.most, state.given.size);
        const release = () => {
          if (state.given.delete(bytes)) bytes.fill(255);
        };
        at += size;
        yield { bytes, release };
      }
    } finally {
      state.left += 1;
    }
  };
  const view: ByteView = {
    sizeBytes: PIECES * PIECE,
    etag: '"disk"',
    fileName: 'disk.raw',
    lend,
    read: () => assert.fail('nobody reads copies'),
  };
  return { view, state, lendings };
}

const CONTENT = Buffer.concat(Array.from({ length: PIECES }, (_, n) => Buffer.alloc(PIECE, n + 1)));

function setUp() {
  const harness = createHarness();
  harness.service.backups.set(ID, exampleBackup());
  const made = createView();
  const use = (view: ByteView) => {
    harness.service.openDisk = async () => view;
  };
  use(made.view);
  return { ...harness, ...made, use };
}

/** A socket that takes what is written when it is told to. */
function createScriptedSocket() {
  const socket = Object.assign(new EventEmitter(), { destroyed: false, destroy });
  const writes: { bytes: Uint8Array; done(): void }[] = [];
  const seen = { status: 0, headers: {} as Record<string, string>, ended: false };
  let change = Promise.withResolvers<void>();
  const changed = (): void => {
    change.resolve();
    change = Promise.withResolvers();
  };
  function destroy() {
    socket.destroyed = true;
    socket.emit('close');
    changed();
    return socket as never;
  }
  const outgoing = {
    writeHead: (status: number, headers: Record<string, string>) => {
      Object.assign(seen, { status, headers });
      return outgoing as never;
    },
    write: (bytes: Uint8Array, done: () => void) => {
      writes.push({ bytes, done });
      changed();
      return false;
    },
    end: () => {
      seen.ended = true;
      changed();
      return outgoing as never;
    },
    destroy,
  };
  return {
    exchange: { incoming: { url: PATH, socket: socket as never }, outgoing: outgoing as never },
    socket,
    writes,
    seen,
    /** Waits until so many writes are due. */
    due: async (count: number) => {
      while (writes.length < count) await change.promise;
      await new Promise(setImmediate);
      assert.equal(writes.length, count);
    },
    /** Takes the oldest write. */
    take: () => {
      const { bytes, done } = writes.shift() ?? assert.fail('nothing was written');
      const copy = Buffer.from(bytes);
      done();
      return copy;
    },
  };
}

type World = Pick<ReturnType<typeof setUp>, 'app' | 'clock' | 'lines'>;

/** Asks for the disk and gives the answer to a scripted socket. */
async function begin({ app, clock, lines }: World, headers: Record<string, string> = {}) {
  const scripted = createScriptedSocket();
  const request = new Request(`http://localhost${PATH}`, {
    headers: { authorization: 'Bearer all-token', ...headers },
  });
  const answer = await app.fetch(request);
  const note = (level: string) => (message: string, fields?: object) => {
    lines.push({ level, message, fields: { ...fields } });
  };
  const log = { error: note('error'), warn: note('warn') } as never;
  const sending = sendBytes(answer, { request, ...scripted.exchange }, { log, clock });
  return { ...scripted, sending };
}

async function startListening(world: ReturnType<typeof setUp>, t: { after(fn: () => void): void }) {
  const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  const server = createListener({ fetch: world.app.fetch, log, clock: world.clock });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function requestText(path: string, ...fields: string[]): string {
  const all = ['Host: localhost', 'Authorization: Bearer all-token', ...fields];
  return `GET ${path} HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`;
}

test('over a connection whose reader pauses, every byte is right and every piece comes back', async (t) => {
  const world = setUp();
  const port = await startListening(world, t);
  const socket = connect(port, '127.0.0.1');
  // one behind the other, as a client that keeps its connection
  const last = requestText(PATH, 'Range: bytes=262100-262200', 'Connection: close');
  socket.write(requestText(PATH) + requestText('/livez') + last);
  const parts: Buffer[] = [];
  for await (const part of socket) {
    parts.push(part);
    // reads at its leisure: the socket is full most of the time
    await new Promise(setImmediate);
  }
  const text = Buffer.concat(parts);
  const from = text.indexOf('\r\n\r\n') + 4;
  assert.match(text.toString('latin1', 0, from), /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(text.toString('latin1', 0, from), /etag: "disk"[\s\S]*request-id: /);
  assert.ok(text.subarray(from, from + CONTENT.length).equals(CONTENT));
  const rest = text.subarray(from + CONTENT.length);
  assert.match(rest.toString('latin1'), /^HTTP\/1\.1 200 OK[\s\S]*HTTP\/1\.1 206 Partial Content/);
  assert.ok(rest.subarray(-101).equals(CONTENT.subarray(262_100, 262_201)));
  assert.equal(world.state.left, 2);
  assert.equal(world.state.given.size, 0);
  assert.ok(world.state.most <= 4, `${world.state.most} at once`);
});

test('of many requests one behind the other each gets its bytes, and nothing is told of a leak', async (t) => {
  const world = setUp();
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on('warning', onWarning);
  t.after(() => void process.off('warning', onWarning));
  const socket = connect(await startListening(world, t), '127.0.0.1');
  const starts = Array.from({ length: 20 }, (_, n) => n * 100_000);
  const length = 3_000_000;
  const texts = starts.map((at) => requestText(PATH, `Range: bytes=${at}-${at + length - 1}`));
  socket.write(texts.join('') + requestText('/livez', 'Connection: close'));
  while (world.lendings.length < starts.length) await new Promise(setImmediate);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part);
  let rest = Buffer.concat(parts);
  for (const at of starts) {
    const from = rest.indexOf('\r\n\r\n') + 4;
    assert.ok(rest.subarray(from, from + length).equals(CONTENT.subarray(at, at + length)));
    rest = rest.subarray(from + length);
  }
  assert.deepEqual(warnings, []);
  assert.equal(world.state.given.size, 0);
});

test('two pieces are on their way, the next is read when one was taken, and then it is used again', async () => {
  const world = setUp();
  const { due, take, writes, seen, sending, socket } = await begin(world);
  const parts: Buffer[] = [];
  for (let n = 0; n < PIECES; n++) {
    await due(Math.min(2, PIECES - n));
    assert.ok(world.state.asked <= n + 2);
    const { bytes = new Uint8Array() } = writes[0] ?? {};
    assert.equal(bytes[0], n + 1, 'not given back before it was taken');
    parts.push(take());
    assert.equal(bytes[0], 255, 'given back at once');
  }
  await sending;
  assert.ok(Buffer.concat(parts).equals(CONTENT));
  assert.deepEqual([seen.status, seen.ended], [200, true]);
  assert.equal(seen.headers['content-length'], String(CONTENT.length));
  assert.equal(world.state.left, 1);
  assert.equal(socket.listenerCount('close'), 0);
});

test('only who takes a piece at once is quick', async () => {
  const world = setUp();
  const { due, take, sending, socket } = await begin(world);
  const lending = world.lendings[0] ?? assert.fail('nothing was read');
  await due(2);
  assert.equal(lending.isQuick, false, 'at first nobody is');
  take();
  assert.equal(lending.isQuick, true);
  await due(2);
  await world.clock.advance(1000);
  take();
  assert.equal(lending.isQuick, false);
  socket.destroy();
  await sending;
});

test('a client that leaves, and one that is in the way, give all back; the reader is left', async () => {
  const world = setUp();
  const gone = await begin(world);
  await gone.due(2);
  gone.socket.destroy();
  await gone.sending;
  assert.deepEqual([world.state.left, world.state.given.size], [1, 0]);
  assert.ok(!gone.seen.ended);
  const stuck = await begin(world);
  await stuck.due(2);
  world.lendings[1]?.onWanted?.();
  await stuck.sending;
  assert.ok(stuck.socket.destroyed);
  assert.deepEqual([world.state.left, world.state.given.size], [2, 0]);
  assert.deepEqual(
    world.lines.filter(({ level }) => level !== 'debug').map(({ level }) => level),
    ['warn'],
  );
});

test('what fails after the first piece ends the connection short of its length, and is logged', async () => {
  const world = setUp();
  world.state.failAt = 3;
  const { due, take, seen, sending, socket } = await begin(world);
  await due(2);
  take();
  await sending;
  assert.deepEqual([socket.destroyed, seen.ended], [true, false]);
  assert.deepEqual([world.state.left, world.state.given.size], [1, 0]);
  const [line] = world.lines.filter(({ level }) => level === 'error');
  assert.equal(line?.fields.code, 'data_corrupt');
});

test('answers that are not these are left as they are', async () => {
  const { app, clock } = setUp();
  for (const [method, path] of [
    ['HEAD', PATH],
    ['GET', '/livez'],
    ['GET', '/v1/backups/x/disks/0'],
  ]) {
    const headers = { authorization: 'Bearer all-token' };
    const request = new Request(`http://localhost${path}`, { method: method ?? '', headers });
    const answer = await app.fetch(request);
    const { exchange } = createScriptedSocket();
    const deps = { log: {} as never, clock };
    assert.equal(await sendBytes(answer, { request, ...exchange }, deps), answer);
  }
});

test('64 clients that stop reading hold two shelves of the budget and their copies, no more', async () => {
  const { arena, clock, disk } = createCachedDisk({ shelves: 16 });
  let copied = 0;
  const lend: ByteView['lend'] = async function* ({ offset }, lending, options) {
    for (let position = offset / PIECE; ; position++) {
      const wish = { position, from: 0, length: 1_048_576, needed: 1 };
      const piece: Lent = await disk.lend(wish, lending, options);
      if (piece.bytes.length === PIECE) copied += 1;
      yield piece;
    }
  };
  const world = setUp();
  world.use({ ...world.view, sizeBytes: 200 * PIECE, lend });
  const sending: Promise<unknown>[] = [];
  const sockets: ReturnType<typeof createScriptedSocket>['socket'][] = [];
  for (let n = 0; n < 64; n++) {
    const client = await begin(world, { range: `bytes=${n * PIECE}-` });
    sending.push(client.sending);
    sockets.push(client.socket);
    await client.due(2);
    client.take(); // quick until now
    await client.due(2);
  }
  const lent = 64 * 3 - copied;
  assert.ok(lent > 0 && lent <= 2 * SHELF_SLOTS, `${lent} lent`);
  assert.ok(arena.usedBytes <= 4 * SHELF_BYTES);
  // a backup that needs it all gets it, after ten seconds at most
  const taking = arena.take(16 * SHELF_BYTES, 16 * SHELF_BYTES, {
    signal: new AbortController().signal,
  });
  await clock.advance(10_000);
  (await taking).release();
  assert.equal(arena.usedBytes, 0);
  assert.equal(sockets.filter(({ destroyed }) => destroyed).length, lent);
  for (const socket of sockets) socket.destroy();
  await Promise.all(sending);
});
