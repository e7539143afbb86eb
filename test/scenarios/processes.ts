/**
 * Processes played inside one: each has its own clock and connections, and can be killed as by `kill -9`.
 *
 * Everything one of them does runs in an asynchronous context of its own, so every connection is known to be
 * somebody's. The dead have no time (whoever sleeps there never wakes) and no network (connections are closed as the
 * system closes them, new ones fail at once), so nothing they would still like to do reaches anybody. Names under
 * `.xvault.test` are looked up here: where a test says so, they are not found any more.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import dns from 'node:dns';
import type { Socket } from 'node:net';
import type { Clock } from '../../src/ports.ts';
import type { IdleClock } from '../sim/idle-clock.ts';

export interface Process {
  readonly name: string;
  readonly clock: Clock;
  readonly alive: boolean;
  /** Runs `work` as part of this process. */
  run<T>(work: () => T): T;
  kill(): void;
}

interface State {
  sockets: Set<Socket>;
  alive: boolean;
}

const context = new AsyncLocalStorage<State>();

subscribe('net.client.socket', (message) => {
  const { socket } = message as { socket: Socket };
  const state = context.getStore();
  if (state === undefined) return;
  if (!state.alive) {
    socket.destroy(new Error('the process is dead'));
    return;
  }
  state.sockets.add(socket);
  socket.once('close', () => state.sockets.delete(socket));
});

/** A process that lives. */
export function startProcess(name: string, clock: IdleClock): Process {
  const state: State = { sockets: new Set(), alive: true };
  const own = clock.branch();
  return {
    name,
    clock: own,
    get alive() {
      return state.alive;
    },
    run: (work) => context.run(state, work),
    kill: () => {
      state.alive = false;
      own.stop();
      for (const socket of state.sockets) socket.destroy();
    },
  };
}

export const TEST_DOMAIN = '.xvault.test';

export interface Names {
  /** False: names under TEST_DOMAIN are not found. */
  found: boolean;
}

/** What looking names up gives from now on. */
export const names: Names = { found: true };

type Lookup = (
  host: string,
  options: { all?: boolean },
  done: (...given: unknown[]) => void,
) => void;
const systemLookup = dns.lookup as unknown as Lookup;

(dns as unknown as { lookup: Lookup }).lookup = (host, options, done) => {
  if (!host.endsWith(TEST_DOMAIN)) {
    systemLookup(host, options, done);
    return;
  }
  const answer = (): void => {
    if (!names.found) {
      const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), {
        code: 'ENOTFOUND',
        syscall: 'getaddrinfo',
        hostname: host,
      });
      done(error);
    } else if (options.all) done(null, [{ address: '127.0.0.1', family: 4 }]);
    else done(null, '127.0.0.1', 4);
  };
  setImmediate(answer);
};
