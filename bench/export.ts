/**
 * What reading an export costs: CPU seconds per GiB of `ExportStream.fill`, over http and https.
 *
 * A child process serves bytes over HTTP/1.0 without length, as `/export` does; this process only fills 1 MiB targets.
 * `node bench/export.ts [GiB]`. Believe ratios of one run, not absolute figures of two.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { dial } from '../src/xapi/dial.ts';
import { createReceiver } from '../src/xapi/receiver.ts';
import { parseHead } from '../src/xapi/response-head.ts';
import { createTrustBook } from '../src/xapi/trust.ts';
import { createCertificate } from '../test/sim/xapi/certificate.ts';

const TARGET_BYTES = 1_048_576;
const PIECE = Buffer.alloc(1_048_576, 0x5a);
const HEAD = 'HTTP/1.0 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n';
const NEVER = new AbortController().signal;
const gibibytes = Number(process.argv[2] ?? 2);

if (process.send === undefined) await measure();
else serve(process.send.bind(process));

function serve(send: (message: unknown) => void): void {
  const answer = (socket: Socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(HEAD);
      let left = gibibytes * 1024;
      const pump = () => {
        while (left > 0) {
          left -= 1;
          if (!socket.write(PIECE)) {
            socket.once('drain', pump);
            return;
          }
        }
        socket.end();
      };
      pump();
    });
  };
  const { keyPem: key, certPem: cert } = createCertificate({
    address: '127.0.0.1',
    serial: 1,
    nowMs: Date.now(),
  });
  const plain = createTcpServer(answer).listen(0, '127.0.0.1');
  const secure = createTlsServer({ key, cert }, answer).listen(0, '127.0.0.1');
  void Promise.all([once(plain, 'listening'), once(secure, 'listening')]).then(() => {
    const port = (server: { address(): unknown }) => (server.address() as { port: number }).port;
    send({ http: port(plain), https: port(secure) });
  });
}

async function measure(): Promise<void> {
  const child = fork(import.meta.filename, process.argv.slice(2));
  const [ports] = (await once(child, 'message')) as [{ http: number; https: number }];
  const rows: Record<string, unknown>[] = [];
  for (let round = 0; round < 3; round += 1) {
    for (const protocol of ['http:', 'https:'] as const) {
      const port = protocol === 'http:' ? ports.http : ports.https;
      rows.push({ protocol, ...(await readAll({ protocol, hostname: '127.0.0.1', port })) });
    }
  }
  child.kill();
  console.table(rows);
}

async function readAll(origin: { protocol: 'http:' | 'https:'; hostname: string; port: number }) {
  const receiver = createReceiver();
  const trust = createTrustBook({ kind: 'insecure' });
  const options = { signal: NEVER };
  const socket = await dial({ origin, trust, timeoutMs: 5000, onread: receiver.onread }, options);
  receiver.attach(socket);
  socket.write('GET /export HTTP/1.0\r\n\r\n');
  const first = await receiver.readSome(options);
  receiver.unread(first.subarray(parseHead(first)?.sizeBytes ?? 0));
  const target = Buffer.allocUnsafeSlow(TARGET_BYTES);
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  let bytes = 0;
  for (;;) {
    const got = await receiver.fill(target, options);
    bytes += got;
    if (got < target.length) break;
  }
  const { user, system } = process.cpuUsage(cpu);
  const size = bytes / 2 ** 30;
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    GiB: size,
    'CPU s/GiB': Number(((user + system) / 1e6 / size).toFixed(3)),
    'GiB/s': Number((size / seconds).toFixed(2)),
    'RSS MiB': Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}
