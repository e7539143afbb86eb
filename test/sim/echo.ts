/**
 * A connection to oneself, as a measure of how far the system is behind: what was sent before a ping has come when the
 * ping is back. Keeps no process alive.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';

export interface Echo {
  ping(): Promise<void>;
}

/** It ends with the process. */
export async function createEcho(): Promise<Echo> {
  const server = createServer({ noDelay: true }, (socket) => void socket.unref().pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect({ port: (server.address() as AddressInfo).port, noDelay: true });
  await once(socket, 'connect');
  server.unref();
  socket.unref();
  return {
    ping: async () => {
      const back = once(socket, 'data');
      socket.write('.');
      // whoever waits for an answer keeps the process alive
      socket.ref();
      await back;
      socket.unref();
    },
  };
}
