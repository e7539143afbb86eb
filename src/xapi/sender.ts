/**
 * Writes to a host that has taken an import: as fast as it reads, and with an ear for what it says meanwhile.
 *
 * A host says nothing while all is well. When it has what it needs, or gives up, it closes the connection with bytes of ours
 * unread, which shows here as an end, a reset or a broken pipe, in any order: none of them tells success from failure, so
 * all of them are just "closed", and the task decides (import.ts). Memory given to `write` is read until the call ends; when it ends
 * by a signal, the socket is destroyed first.
 */
import type { Socket } from 'node:net';
import type { Receiver } from './receiver.ts';
import type { Watched } from './watch.ts';

/** Handed to the kernel at once, so that slow hosts are still seen to move. */
const SLICE_BYTES = 1024 * 1024;
/** An error's page has some 200 bytes. */
const MAX_SAID_BYTES = 64 * 1024;

export interface Sender extends Watched {
  /** The host does not read any more. */
  readonly closed: boolean;
  /** What the host wrote behind its head. */
  readonly said: string;
  /** False when the host does not read any more: the bytes are dropped. Errors: what `fail` was given. Cancel: closed. */
  write(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<boolean>;
  destroy(): void;
}

interface State {
  socket: Socket;
  receiver: Receiver;
  movedBytes: number;
  waiting: boolean;
  closed: boolean;
  said: Buffer;
  failure: Error | undefined;
}

/** The sending end of a connection whose head was read. */
export function createSender({ socket, receiver }: { socket: Socket; receiver: Receiver }): Sender {
  const state: State = {
    socket,
    receiver,
    movedBytes: 0,
    waiting: false,
    closed: false,
    said: Buffer.alloc(0),
    failure: undefined,
  };
  // Ends with the connection, however that ends.
  void listen(state);
  return {
    get movedBytes() {
      return state.movedBytes;
    },
    get waiting() {
      return state.waiting;
    },
    get closed() {
      return state.closed;
    },
    get said() {
      return state.said.toString('utf8');
    },
    write: (bytes, options) => write(state, bytes, options),
    fail: (error) => {
      state.failure ??= error;
      receiver.fail(error);
    },
    destroy: receiver.destroy,
  };
}

/** Never rejects: what goes wrong while listening is told to whoever writes. */
async function listen(state: State): Promise<void> {
  const signal = new AbortController().signal;
  try {
    for (;;) {
      const some = await state.receiver.readSome({ signal });
      if (some.length === 0) break;
      state.said = Buffer.concat([state.said, some]).subarray(0, MAX_SAID_BYTES);
    }
  } catch (error) {
    state.failure ??= error as Error;
  }
  state.closed = true;
  // A write under way would wait for a host that is gone.
  state.socket.destroy();
}

async function write(
  state: State,
  bytes: Uint8Array,
  { signal }: { signal: AbortSignal },
): Promise<boolean> {
  const abort = () => state.socket.destroy();
  signal.throwIfAborted();
  signal.addEventListener('abort', abort, { once: true });
  state.waiting = true;
  try {
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      if (state.failure !== undefined) throw state.failure;
      const slice = bytes.subarray(at, at + SLICE_BYTES);
      if (state.closed || !(await hand(state.socket, slice))) {
        signal.throwIfAborted();
        if (state.failure !== undefined) throw state.failure;
        return false;
      }
      state.movedBytes += slice.length;
    }
    return true;
  } finally {
    state.waiting = false;
    signal.removeEventListener('abort', abort);
  }
}

/** True when the kernel has all of it, false when it never will. */
function hand(socket: Socket, slice: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    socket.write(slice, (error) => resolve(error === undefined || error === null));
  });
}
