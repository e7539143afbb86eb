/**
 * One host that answers as a script says: for what a well-behaved simulated pool never does.
 *
 * Calls go to `onCall`, which returns a value, throws a XenError, or returns `raw` bytes to be written as they are;
 * GET /export goes to `onExport` with the bare socket.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type Value, XenError } from '../sim/xapi/values.ts';
import { formatResponse, parseCall } from '../sim/xapi/xml-rpc.ts';

export class Raw {
  readonly status: number;
  readonly type: string;
  readonly body: string;

  constructor(status: number, type: string, body: string) {
    this.status = status;
    this.type = type;
    this.body = body;
  }
}

export interface Script {
  onCall(
    method: string,
    params: Value[],
    message: IncomingMessage,
  ): Value | Raw | 'hang up' | 'hang';
  onExport?(socket: Socket, message: IncomingMessage): void;
}

export interface ScriptedHost extends AsyncDisposable {
  url: string;
  port: number;
  /** Methods called, in order. */
  calls: string[];
}

/** Starts the host on a port of its own. */
export async function startScriptedHost(script: Script): Promise<ScriptedHost> {
  const calls: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((message, response) => {
    if (message.method === 'GET') {
      message.socket.on('error', () => {});
      script.onExport?.(message.socket, message);
      return;
    }
    void readBody(message).then((body) => {
      const { method, params } = parseCall(body);
      calls.push(method);
      const answer = answerOf(script, { method, params, message });
      if (answer === 'hang up') message.socket.destroy();
      else if (answer !== 'hang') {
        response.writeHead(answer.status, { 'content-type': answer.type });
        response.end(answer.body);
      }
    });
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    calls,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function answerOf(
  script: Script,
  { method, params, message }: { method: string; params: Value[]; message: IncomingMessage },
): Raw | 'hang up' | 'hang' {
  try {
    const value = script.onCall(method, params, message);
    if (value instanceof Raw || value === 'hang up' || value === 'hang') return value as Raw;
    return new Raw(200, 'text/xml', formatResponse({ Status: 'Success', Value: value as Value }));
  } catch (error) {
    if (!(error instanceof XenError)) throw error;
    const description = [error.code, ...error.params];
    const refusal = { Status: 'Failure', ErrorDescription: description };
    return new Raw(200, 'text/xml', formatResponse(refusal));
  }
}

async function readBody(message: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}
