/** TLS of a host with a certificate of its own: what is trusted, and that no byte is lost on the way. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, test } from 'node:test';
import { createServer, type TLSSocket } from 'node:tls';
import { isBackupError } from '../../src/errors.ts';
import { dial } from '../../src/xapi/dial.ts';
import { createReceiver } from '../../src/xapi/receiver.ts';
import { createTrustBook, type PoolTrust } from '../../src/xapi/trust.ts';
import { createCertificate } from '../sim/xapi/certificate.ts';

const signal = new AbortController().signal;
const certificate = (address: string, serial: number) =>
  createCertificate({ address, serial, nowMs: Date.now() });
const own = certificate('127.0.0.1', 1);
const other = certificate('127.0.0.1', 2);
/** Names another address than the one it is reached at. */
const misnamed = certificate('10.9.8.7', 3);
const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

/** A TLS server; `answer` gets each connection. */
async function serve(answer: (socket: TLSSocket) => void, using = own) {
  const server = createServer({ key: using.keyPem, cert: using.certPem }, (socket) => {
    socket.on('error', () => {});
    answer(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  const { port } = server.address() as { port: number };
  return { protocol: 'https:', hostname: '127.0.0.1', port } as const;
}

for (const [name, trust, using, trusted] of [
  [
    'its fingerprint with colons',
    { kind: 'fingerprint', sha256: [colons(own.fingerprint)] },
    own,
    true,
  ],
  ['one of several fingerprints', pins(other.fingerprint, own.fingerprint), own, true],
  ['a fingerprint of another host', pins(other.fingerprint), own, false],
  ['itself as the CA', { kind: 'ca', pem: own.certPem }, own, true],
  [
    'itself as the CA, reached under another name',
    { kind: 'ca', pem: misnamed.certPem },
    misnamed,
    true,
  ],
  ['another CA', { kind: 'ca', pem: other.certPem }, own, false],
  ['the CAs of the system', { kind: 'system' }, own, false],
  ['nothing, as told', { kind: 'insecure' }, own, true],
] as const satisfies [string, PoolTrust, typeof own, boolean][]) {
  test(`a host is ${trusted ? 'trusted' : 'refused'} by ${name}`, async () => {
    let received = 0;
    const origin = await serve(
      (socket) => socket.on('data', (bytes) => (received += bytes.length)),
      using,
    );
    const input = { origin, trust: createTrustBook(trust), timeoutMs: 5000 };
    if (trusted) (await dial(input, { signal })).destroy();
    else {
      await assert.rejects(dial(input, { signal }), (error) => {
        assert.ok(isBackupError(error, 'pool_certificate'));
        assert.equal(error.details.found_sha256, using.fingerprint);
        return true;
      });
    }
    assert.equal(received, 0);
  });
}

test('a certificate learned for one address is not good for another', async () => {
  const origin = await serve(() => {});
  const trust = createTrustBook(pins(other.fingerprint));
  trust.learn('127.0.0.2', own.fingerprint);
  await assert.rejects(dial({ origin, trust, timeoutMs: 5000 }, { signal }), (error) =>
    isBackupError(error, 'pool_certificate'),
  );
  trust.learn('127.0.0.1', own.fingerprint);
  (await dial({ origin, trust, timeoutMs: 5000 }, { signal })).destroy();
});

test('a server that never finishes the handshake is given up', async () => {
  const { createServer: createTcpServer } = await import('node:net');
  const open: Socket[] = [];
  const server = createTcpServer((socket) => open.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const origin = { protocol: 'https:', hostname: '127.0.0.1', port } as const;
  const trust = createTrustBook({ kind: 'insecure' });
  await assert.rejects(dial({ origin, trust, timeoutMs: 50 }, { signal }), (error) => {
    assert.ok(isBackupError(error, 'pool_unavailable'));
    assert.equal(error.details.phase, 'connect');
    return true;
  });
  for (const socket of open) socket.destroy();
  server.close();
});

for (const [ending, end] of [
  ['properly', (socket: TLSSocket) => socket.end()],
  ['without a close_notify', (socket: TLSSocket) => cut(socket)],
] as const) {
  test(`every byte arrives over TLS with pauses between, the connection ending ${ending}`, async () => {
    const sent = Buffer.alloc(5_000_003);
    for (let at = 0; at + 4 <= sent.length; at += 4)
      sent.writeUInt32LE((at * 2654435761) >>> 0, at);
    const origin = await serve((socket) => socket.write(sent, () => end(socket)));
    const receiver = createReceiver();
    const trust = createTrustBook(pins(own.fingerprint));
    const input = { origin, trust, timeoutMs: 5000, onread: receiver.onread };
    receiver.attach(await dial(input, { signal }));
    const sizes = [100_000, 1, 70_000, 1_050_112, 512];
    const got: Buffer[] = [];
    for (let at = 0; ; at += 1) {
      const target = Buffer.alloc(sizes[at % sizes.length] ?? 1);
      const size = await receiver.fill(target, { signal });
      got.push(target.subarray(0, size));
      if (size < target.length) break;
      // A slow writer: whatever the loop delivers now must wait in the spill or the kernel.
      for (let turn = 0; turn < 3; turn += 1) await new Promise((next) => setImmediate(next));
    }
    assert.ok(Buffer.concat(got).equals(sent));
  });
}

/** Closes the TCP connection below, as stunnel does when it is in a hurry. */
function cut(socket: TLSSocket): void {
  const below = (socket as unknown as { _parent?: Socket })._parent;
  if (below === undefined) socket.destroy();
  else below.end();
}

function pins(...sha256: string[]): PoolTrust {
  return { kind: 'fingerprint', sha256 };
}

function colons(hex: string): string {
  return (hex.match(/../g) ?? []).join(':').toUpperCase();
}
