/** The HTTP front on a real socket with the service's own listener, and raw connections to it. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import {
  createListener,
  LISTENER_LIMITS,
  type ListenerLimits,
} from '../../src/commands/listener.ts';
import { createHarness } from '../http/harness.ts';

export interface Raw {
  socket: Socket;
  /** All that came so far. */
  text(): string;
  /** Resolves when the other side has closed, with all that came. */
  closed: Promise<string>;
  /** Resolves as soon as the text matches. */
  saw(pattern: RegExp): Promise<string>;
}

/** Listens on a free port of the loopback interface; everything is closed when the test ends. */
export async function startListening(t: TestContext, limits: Partial<ListenerLimits> = {}) {
  const harness = createHarness();
  const lines: string[] = [];
  const note = (message: string) => lines.push(message);
  const log = { debug: note, info: note, warn: note, error: note, child: () => log };
  const server = createListener(
    { fetch: harness.app.fetch, log, clock: harness.clock },
    { ...LISTENER_LIMITS, ...limits },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });

  /** Opens a connection and sends this, byte for byte. */
  const open = async (bytes: string): Promise<Raw> => {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    let received = '';
    const closed = new Promise<string>((resolve) => {
      socket.on('close', () => resolve(received));
    });
    socket.on('error', () => undefined); // a reset is an end, too
    socket.on('data', (piece) => {
      received += piece.toString('latin1');
    });
    await once(socket, 'connect');
    if (bytes !== '') socket.write(bytes, 'latin1');
    const saw = (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          if (pattern.test(received)) resolve(received);
        };
        socket.on('data', look);
        look();
        void closed.then(() => reject(new Error(`no ${pattern} in: ${received}`)));
      });
    return { socket, text: () => received, closed, saw };
  };
  return { ...harness, server, port, open, lines };
}

/** A request's head with its empty line, as a careful client writes it. */
export function head(method: string, path: string, ...fields: string[]): string {
  const all = ['Host: localhost', 'Authorization: Bearer all-token', ...fields];
  return `${method} ${path} HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`;
}
