/**
 * The HTTP/1.1 socket of the service, with every limit spelled out: what a caller can cost before anybody knows who he is.
 *
 * A slow or silent caller is cut off (request head, body, and a connection that neither reads nor writes), heads are
 * small, and connections have a number. Node refuses by itself what could smuggle a request past a proxy: both
 * Content-Length and Transfer-Encoding, two lengths, bare line feeds, blanks before a colon, a missing Host.
 */
import { createServer, type Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import type { Clock, Log } from '../ports.ts';
import { type Exchange, sendBytes } from './send-bytes.ts';

export interface ListenerLimits {
  /** From a connection's start, or a request's first byte, to the end of the head. */
  headMs: number;
  /** The same to the end of the body: it has 1 MiB at most, so 35 kB/s are enough. */
  requestMs: number;
  /** How often the two are looked at. */
  checkEveryMs: number;
  /** An idle connection; longer than the 60 s of common proxies, which must not send into one that closes. */
  keepAliveMs: number;
  /** Neither reads nor writes while an answer is due: longer than the longest silent one, a sweep of ten minutes. */
  silenceMs: number;
  /** Tokens have at most 1,024 characters, so have paths with a name; common proxies allow 8 to 16 KiB as well. */
  headBytes: number;
  /** 500 held answers (http/holds.ts), and as many that come and go. */
  connections: number;
}

export const LISTENER_LIMITS: ListenerLimits = {
  headMs: 15_000,
  requestMs: 30_000,
  checkEveryMs: 5_000,
  keepAliveMs: 65_000,
  silenceMs: 15 * 60_000,
  headBytes: 16 * 1024,
  connections: 1000,
};

/** A flood of connections is one line of the log in this time, not thousands. */
const WARN_EVERY_MS = 60_000;

/** The server, not yet listening. */
export function createListener(
  deps: {
    fetch: (request: Request) => Response | Promise<Response>;
    log: Log;
    clock: Pick<Clock, 'elapsed'>;
  },
  limits: ListenerLimits = LISTENER_LIMITS,
): Server {
  const serverOptions = {
    headersTimeout: limits.headMs,
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: limits.checkEveryMs,
    keepAliveTimeout: limits.keepAliveMs,
    maxHeaderSize: limits.headBytes,
    requireHostHeader: true,
    insecureHTTPParser: false,
  };
  const fetch = async (request: Request, exchange: unknown) =>
    await sendBytes(await deps.fetch(request), { request, ...(exchange as Exchange) }, deps);
  const server = createAdaptorServer({ fetch, createServer, serverOptions }) as Server;
  server.timeout = limits.silenceMs;
  server.maxConnections = limits.connections;
  let warnedAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    if (deps.clock.elapsed() - warnedAt < WARN_EVERY_MS) return;
    warnedAt = deps.clock.elapsed();
    deps.log.warn('connection refused: too many are open', { limit: limits.connections });
  });
  return server;
}
