/**
 * Larger misfortunes than a fault: a host goes down and comes back, the toolstack restarts, another host takes over.
 */
import type { Server } from 'node:http';
import type { HostListener } from './listener.ts';
import { forgetOld, loseVolatileState, moveMaster } from './sessions.ts';
import { hostAt, type Sim } from './sim.ts';
import { text } from './values.ts';

export interface Outage {
  /** The host answers nobody any more: connections are cut, new ones refused, its metrics say not live. */
  stopHost(index: number): Promise<void>;
  startHost(index: number): Promise<void>;
  /** xapi restarts on the master: connections are cut, all sessions and tasks are lost, exports end. */
  restartToolstack(): void;
  /** Another host becomes master: sessions and tasks are lost. */
  promote(index: number): void;
  /** Index of the master. */
  master(): number;
  /** What the pool drops by itself within a day: ended tasks (65 min), sessions nobody used (24 h). */
  forgetOld(): void;
}

/** Listens and returns the port. */
export function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.removeListener('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/** Stops listening; resolves when the last connection is gone. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    if (server.listening) server.close(() => resolve());
    else resolve();
  });
}

function cut({ sockets }: HostListener): void {
  for (const socket of sockets) socket.destroy();
}

/** The outages of one pool. */
export function createOutage(sim: Sim, listeners: HostListener[]): Outage {
  const listenerAt = (index: number): HostListener => {
    const listener = listeners[index];
    if (listener === undefined) throw new Error(`no host ${index}`);
    return listener;
  };
  const setLive = (index: number, live: boolean) => {
    const host = sim.world.get('host', hostAt(sim, index).ref);
    sim.world.set('host_metrics', text(host, 'metrics'), { live });
  };
  return {
    async stopHost(index) {
      const listener = listenerAt(index);
      hostAt(sim, index).lives += 1;
      setLive(index, false);
      const closed = closeServer(listener.server);
      cut(listener);
      await closed;
    },
    async startHost(index) {
      const { address, port } = hostAt(sim, index);
      await listen(listenerAt(index).server, address, port);
      setLive(index, true);
    },
    restartToolstack() {
      hostAt(sim, sim.masterIndex).lives += 1;
      loseVolatileState(sim);
      cut(listenerAt(sim.masterIndex));
    },
    promote: (index) => moveMaster(sim, index),
    master: () => sim.masterIndex,
    forgetOld: () => forgetOld(sim),
  };
}
