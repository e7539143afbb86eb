/**
 * One host's HTTPS listener: routing by longest prefix, XML-RPC, JSON-RPC, the handlers, xapi's limits.
 *
 * Source: xen-api `ocaml/libs/http-lib/http_svr.ml`, `ocaml/xapi/xapi.ml`. A request's head may have 1024 bytes in all
 * (431), RPC bodies need a Content-Length and at most 300 KiB (else 500), HEAD and friends are 501.
 */
import {
  createServer as createPlainServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer } from 'node:https';
import type { Socket } from 'node:net';
import { dispatch } from './dispatch.ts';
import { handleExport } from './export-handler.ts';
import { handleDiskImport } from './import-disk.ts';
import { handleImport } from './import-handler.ts';
import { formatJsonResponse, parseJsonCall } from './json-rpc.ts';
import { finish, internalError, refusal } from './raw-answer.ts';
import { hostAt, type Sim, type SimHost } from './sim.ts';
import { NoAnswer, toXenError, type Value, type XenError } from './values.ts';
import { formatResponse, parseCall } from './xml-rpc.ts';

/** xapi's max_header_length_tcp: request line, headers and line ends together. */
const MAX_HEAD_BYTES = 1024;

/** Enough for node to read an oversized head and let us refuse it. */
const NODE_HEAD_BYTES = 65_536;

/** xapi's http_limit_max_rpc_size. */
const MAX_RPC_BYTES = 307_200;

type Route = 'xml-rpc' | 'json-rpc' | 'export' | 'import' | 'import-disk' | 'website';

/** Registered paths; the longest that a request's path starts with wins, as in xapi's radix tree. */
const ROUTES: Record<string, readonly (readonly [string, Route])[]> = {
  POST: [
    ['/jsonrpc', 'json-rpc'],
    ['/RPC2', 'xml-rpc'],
    ['/', 'xml-rpc'],
  ],
  GET: [
    ['/export_metadata', 'export'],
    ['/export', 'export'],
    ['/', 'website'],
  ],
  PUT: [
    ['/import_metadata', 'website'],
    ['/import_raw_vdi', 'import-disk'],
    ['/import', 'import'],
  ],
};

export interface HostListener {
  server: Server;
  sockets: Set<Socket>;
}

function headBytes(message: IncomingMessage): number {
  const line = `${message.method} ${message.url} HTTP/${message.httpVersion}\r\n\r\n`;
  let total = Buffer.byteLength(line);
  for (let at = 0; at < message.rawHeaders.length; at += 2) {
    total += Buffer.byteLength(`${message.rawHeaders[at]}: ${message.rawHeaders[at + 1]}\r\n`);
  }
  return total;
}

async function readBody(message: IncomingMessage): Promise<string> {
  const length = Number(message.headers['content-length']);
  if (!Number.isSafeInteger(length) || message.headers['transfer-encoding'] !== undefined) {
    throw new Error('Content-Length required');
  }
  if (length > MAX_RPC_BYTES) throw new Error('body too large');
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

interface Exchange {
  sim: Sim;
  host: SimHost;
  message: IncomingMessage;
  response: ServerResponse;
  signal: AbortSignal;
}

/** A slave names the master's certificate when asked to; the form of the value is our guess (bare hex). */
function thumbprint({ sim, message }: Exchange, error: XenError | undefined) {
  const asked = message.headers['x-xenapi-request-host-certificate-thumbprint'];
  if (error?.code !== 'HOST_IS_SLAVE' || asked !== 'sha-256:master') return {};
  const master = hostAt(sim, sim.masterIndex);
  return { 'x-xenapi-response-host-certificate-thumbprint': master.fingerprint };
}

function answer(exchange: Exchange, type: string, body: string, error?: XenError): void {
  exchange.response.writeHead(200, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-cache, no-store',
    ...thumbprint(exchange, error),
  });
  exchange.response.end(body);
}

type Result = { result: Value } | { error: XenError };

async function run(exchange: Exchange, method: string, params: Value[]): Promise<Result> {
  const { sim, host, signal } = exchange;
  try {
    return { result: await dispatch(sim, { method, params, host, signal }) };
  } catch (error) {
    if (error instanceof NoAnswer) throw error;
    return { error: toXenError(error) };
  }
}

async function answerXml(exchange: Exchange): Promise<void> {
  const { method, params } = parseCall(await readBody(exchange.message));
  const outcome = await run(exchange, method, params);
  if ('error' in outcome) {
    const { code, params: details } = outcome.error;
    const failure = { Status: 'Failure', ErrorDescription: [code, ...details] };
    answer(exchange, 'text/xml', formatResponse(failure), outcome.error);
    return;
  }
  // The one method without the envelope.
  const bare = method === 'system.listMethods';
  const value = bare ? outcome.result : { Status: 'Success', Value: outcome.result };
  answer(exchange, 'text/xml', formatResponse(value));
}

async function answerJson(exchange: Exchange): Promise<void> {
  const call = parseJsonCall(await readBody(exchange.message));
  const outcome = await run(exchange, call.method, call.params);
  const error = 'error' in outcome ? outcome.error : undefined;
  answer(exchange, 'application/json', formatJsonResponse(call, outcome), error);
}

async function serve(exchange: Exchange): Promise<void> {
  const { sim, host, message, signal } = exchange;
  const routes = ROUTES[message.method ?? ''];
  if (routes === undefined) return finish(message.socket, refusal('501 Method Not Implemented'));
  if (headBytes(message) > MAX_HEAD_BYTES) {
    return finish(message.socket, refusal('431 Request Header Fields Too Large'));
  }
  const path = message.url ?? '/';
  const route = routes.find(([prefix]) => path.startsWith(prefix))?.[1];
  if (route === 'xml-rpc') return answerXml(exchange);
  if (route === 'json-rpc') return answerJson(exchange);
  if (route === 'export') return handleExport(sim, host, message, signal);
  if (route === 'import-disk') return handleDiskImport(sim, host, message, signal);
  if (route === 'import') return handleImport(sim, host, message, signal);
  return finish(message.socket, refusal('404 Not Found'));
}

/** Handles one request, whatever happens in it. */
async function handle(
  sim: Sim,
  host: SimHost,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const hungUp = new AbortController();
  const onClose = () => hungUp.abort(new Error('client hung up'));
  message.socket.once('close', onClose);
  const signal = AbortSignal.any([hungUp.signal, sim.closing]);
  try {
    await serve({ sim, host, message, response, signal });
  } catch (error) {
    if (error instanceof NoAnswer || message.socket.destroyed) message.socket.destroy();
    else
      await finish(message.socket, internalError(message.httpVersion, toXenError(error).message));
  } finally {
    message.socket.removeListener('close', onClose);
  }
}

/** Makes a host's listener; `plain` is port 80 of the older personas. It does not listen yet. */
export function createListener(sim: Sim, host: SimHost, options: { plain: boolean }): HostListener {
  const sockets = new Set<Socket>();
  const onRequest = (message: IncomingMessage, response: ServerResponse) => {
    sim.track(handle(sim, host, message, response));
  };
  const common = {
    maxHeaderSize: NODE_HEAD_BYTES,
    requestTimeout: 0,
    keepAliveTimeout: 60_000,
    // xapi does not ask for a Host header.
    requireHostHeader: false,
  };
  const tls = { key: host.keyPem, cert: host.certPem, minVersion: 'TLSv1.2' as const };
  const server = options.plain
    ? createPlainServer(common, onRequest)
    : createServer({ ...common, ...tls }, onRequest);
  // Expect: 100-continue is not implemented by xapi: the header is ignored.
  server.on('checkContinue', onRequest);
  // TCP sockets, so that a connection without a TLS handshake is seen and closed too.
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  });
  server.on('secureConnection', (socket: Socket) => {
    socket.on('error', () => socket.destroy());
  });
  return { server, sockets };
}
