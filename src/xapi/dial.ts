/**
 * Opens one connection to a pool member: TCP, then TLS, then the certificate check; nothing is sent before.
 *
 * The calls (connection.ts) and the exports (receiver.ts) both come through here, so there is one place where trust
 * is decided. TLS 1.2 and up: every supported release speaks it. Sessions are not resumed: a resumed one would not
 * show its certificate again on every version.
 */
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { BackupError } from '../errors.ts';
import { formatAuthority, type Origin } from './origin.ts';
import type { TrustBook } from './trust.ts';

export interface DialInput {
  origin: Origin;
  trust: TrustBook;
  timeoutMs: number;
  /** Where received bytes go, instead of `data` events. */
  onread?: OnReadOpts;
}

/**
 * A connected, trusted socket.
 *
 * Errors: `pool_unavailable` with details.phase = connect (so nothing was sent), `pool_certificate`.
 */
export async function dial(
  { origin, trust, timeoutMs, onread }: DialInput,
  { signal }: { signal: AbortSignal },
): Promise<Socket> {
  signal.throwIfAborted();
  const socket = start(origin, trust, onread);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => reject(new Error(`no connection within ${timeoutMs} ms`)),
    timeoutMs,
  );
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  socket.once(origin.protocol === 'https:' ? 'secureConnect' : 'connect', resolve);
  socket.once('error', reject);
  socket.once('close', () => reject(new Error('closed while connecting')));
  try {
    await promise;
    if (origin.protocol === 'https:') trust.check(socket as TLSSocket, origin.hostname);
    socket.setKeepAlive(true, 30_000);
    return socket;
  } catch (error) {
    // A destroyed socket may still report an error; it was told already.
    socket.on('error', () => {});
    socket.destroy();
    signal.throwIfAborted();
    if (error instanceof BackupError) throw error;
    throw unreachable(origin, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    socket.removeListener('error', reject);
  }
}

function start(origin: Origin, trust: TrustBook, onread: OnReadOpts | undefined): Socket {
  const common = { host: origin.hostname, port: origin.port, ...(onread ? { onread } : {}) };
  if (origin.protocol === 'http:') return connectTcp({ ...common, noDelay: true });
  return connectTls({
    ...common,
    ...(trust.ca === undefined ? {} : { ca: trust.ca }),
    ...(isIP(origin.hostname) === 0 ? { servername: origin.hostname } : {}),
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    // Judged by trust.check, which also knows pins; OpenSSL's verdict is in socket.authorized.
    rejectUnauthorized: false,
  });
}

function unreachable(origin: Origin, error: unknown): BackupError {
  const address = formatAuthority(origin);
  const code = (error as NodeJS.ErrnoException).code;
  return new BackupError('pool_unavailable', `connect to the pool, address=${address}`, {
    details: { address, phase: 'connect', ...(code === undefined ? {} : { reason: code }) },
    cause: error,
  });
}
