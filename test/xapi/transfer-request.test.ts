/** GET /export against hosts that answer by script, and a true redirect between two hosts of a simulated pool. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import { EXPORT, IMPORT } from '../../src/xapi/direction.ts';
import { isXapiError } from '../../src/xapi/errors.ts';
import { type Origin, parseOrigin } from '../../src/xapi/origin.ts';
import { requestTransfer, type TransferRequestDeps } from '../../src/xapi/transfer-request.ts';
import { createTrustBook, type PoolTrust } from '../../src/xapi/trust.ts';
import { createSparseDisk } from '../sim/disk.ts';
import { startSimPool } from '../sim/pool.ts';
import { startScriptedHost } from './scripted-host.ts';

const signal = new AbortController().signal;

function deps(trust: PoolTrust, given: Partial<TransferRequestDeps> = {}): TransferRequestDeps {
  return {
    trust: createTrustBook(trust),
    connectTimeoutMs: 5000,
    isMember: (address) => address.startsWith('127.0.0.'),
    learnCertificate: async () => {},
    onReceiver: () => {},
    ...given,
  };
}

const ask = (origin: Origin, using: TransferRequestDeps) => {
  const request = { direction: EXPORT, origin, path: '/export?ref=r', sessionRef: 'OpaqueRef:s' };
  return requestTransfer(request, using, { signal });
};

/** What the client makes of an answer written by hand. */
async function answered(write: (socket: Socket) => void) {
  const seen: { cookie: string | undefined; bytes: number; version: string }[] = [];
  await using host = await startScriptedHost({
    onCall: () => '',
    onExport: (socket, message) => {
      const bytes = message.rawHeaders.join(': \r\n').length + (message.url?.length ?? 0);
      seen.push({ cookie: message.headers.cookie, bytes, version: message.httpVersion });
      write(socket);
    },
  });
  const outcome = await ask(parseOrigin(host.url), deps({ kind: 'system' })).then(
    async (response) => {
      if (response === undefined) return 'no answer';
      const target = Buffer.alloc(100);
      const size = await response.receiver.fill(target, { signal });
      return target.toString('latin1', 0, size);
    },
    (error: unknown) => error,
  );
  return { outcome, seen };
}

test('the session travels in one cookie, the head is small, and no chunks are asked for', async () => {
  const { outcome, seen } = await answered((socket) => {
    socket.write('HTTP/1.0 200 OK\r\n');
    setImmediate(() => socket.end('content-type: x\r\n\r\nthe archive'));
  });
  assert.equal(outcome, 'the archive');
  assert.equal(seen[0]?.cookie, 'session_id=OpaqueRef:s');
  assert.equal(seen[0]?.version, '1.0');
  assert.ok((seen[0]?.bytes ?? 1000) < 300);
});

test('a connection closed without a byte is no answer', async () => {
  assert.equal((await answered((socket) => socket.end())).outcome, 'no answer');
  assert.equal((await answered((socket) => socket.resetAndDestroy())).outcome, 'no answer');
});

for (const [name, text, code] of [
  ['half a head', 'HTTP/1.0 200 OK\r\ncontent', 'source_failed'],
  ['another protocol', 'SSH-2.0-OpenSSH_9.9\r\n', 'source_failed'],
  ['a head that never ends', `HTTP/1.0 200 OK\r\nx: ${'y'.repeat(20_000)}`, 'source_failed'],
  [
    'a chunked body',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'source_failed',
  ],
  ['401', 'HTTP/1.1 401 Unauthorized\r\n\r\n', 'pool_unavailable'],
  ['403', 'HTTP/1.1 403 Forbidden\r\n\r\n<html>no</html>', 'pool_refused'],
  ['503', 'HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy', 'pool_unavailable'],
  ['a redirect to nowhere', 'HTTP/1.1 302 Found\r\n\r\n', 'source_failed'],
  [
    'a redirect to a stranger',
    'HTTP/1.1 302 Found\r\nLocation: https://evil.example/export?ref=r\r\n\r\n',
    'source_failed',
  ],
] as const) {
  test(`${name} is ${code}`, async () => {
    const { outcome } = await answered((socket) => socket.end(text));
    assert.ok(isBackupError(outcome, code), String(outcome));
  });
}

test("XenAPI's error in the page of a 500 comes out with its params", async () => {
  const page = '<html>An error: VM_BAD_POWER_STATE: [ OpaqueRef:1; halted; running ]</html>';
  const head = `HTTP/1.1 500 Internal Error\r\ncontent-length: ${page.length}\r\n\r\n`;
  const { outcome } = await answered((socket) => socket.write(head + page));
  assert.ok(isXapiError(outcome, 'VM_BAD_POWER_STATE'));
  assert.deepEqual(outcome.params, ['OpaqueRef:1', 'halted', 'running']);
});

test('a redirect is followed to a host with another certificate only when that one is known', async (t) => {
  const storage = { name: 'd', storage: 'local:1', open: () => createSparseDisk(2 ** 21) } as const;
  const sim = await startSimPool({ machines: [{ name: 'far', disks: [storage] }] });
  t.after(() => sim.close());
  if (sim.urls.length < 2) return t.skip('needs two loopback addresses');
  const session = sim.world.create('session', { originator: 'test', last_active: new Date() });
  const path = `/export?ref=${sim.machine('far').ref}`;
  const first: PoolTrust = { kind: 'fingerprint', sha256: sim.fingerprints.slice(0, 1) };
  const origin = parseOrigin(sim.url);
  const request = { direction: EXPORT, origin, path, sessionRef: session };
  await assert.rejects(requestTransfer(request, deps(first), { signal }), (error) =>
    isBackupError(error, 'pool_certificate'),
  );
  const using = deps(first);
  const known = deps(first, {
    trust: using.trust,
    learnCertificate: async (address) => {
      const at = sim.urls.findIndex((url) => new URL(url).hostname === address);
      if (at > 0) using.trust.learn(address, sim.fingerprints[at] ?? '');
    },
  });
  const response = await requestTransfer(request, known, { signal });
  assert.equal(response?.origin.hostname, new URL(sim.urls[1] ?? '').hostname);
  const name = Buffer.alloc(7);
  await response?.receiver.fill(name, { signal });
  assert.equal(name.toString(), 'ova.xml');
  response?.receiver.destroy();
});

test('an import is redirected before a byte of it is sent', async (t) => {
  const sim = await startSimPool({ machines: [] });
  t.after(() => sim.close());
  if (sim.urls.length < 2) return t.skip('needs two loopback addresses');
  const session = sim.world.create('session', { originator: 'test', last_active: new Date() });
  const response = await requestTransfer(
    {
      direction: IMPORT,
      origin: parseOrigin(sim.url),
      path: `/import?sr_id=${sim.storage('local:1').ref}`,
      sessionRef: session,
      sizeBytes: 1024,
    },
    deps({ kind: 'insecure' }),
    { signal },
  );
  assert.equal(response?.origin.hostname, new URL(sim.urls[1] ?? '').hostname);
  response?.receiver.destroy();
  assert.deepEqual(await sim.auditWhenQuiet({ ignore: /^session/ }), []);
});
