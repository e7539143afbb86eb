/**
 * Reads a socket straight into the memory of whoever asks: exact, pulled, without a copy.
 *
 * Node's streams cost more than everything else on the way (a chunk object, garbage and a copy per read), so the kernel
 * is given the caller's own memory (`onread` of net and tls). Node fixes the memory of the next read as soon as
 * the last one is done, before anybody could ask again; so between two calls it is given a small landing of our own.
 * What lands there is copied into the spill, and the socket pauses: the kernel's window is the back-pressure. TLS goes on to
 * deliver what it has decrypted already, at most one read of 64 KiB; the spill takes that, too.
 *
 * The memory given to `fill` is written to until the call ends. When it ends by a signal, the socket is destroyed first:
 * nobody may write into memory that has a new owner.
 */
import type { OnReadOpts, Socket } from 'node:net';
import { BackupError } from '../errors.ts';

/** Small, since it is copied: one per `fill`, so 4 KiB of every MiB. */
const LANDING_BYTES = 4 * 1024;
/** libuv reads 64 KiB of TLS records at once; four times that is never reached. */
const SPILL_BYTES = 256 * 1024;

export interface Receiver {
  readonly onread: OnReadOpts;
  /** Takes the connected socket; once. */
  attach(socket: Socket): void;
  /** Everything received so far, in bytes of the connection. */
  readonly movedBytes: number;
  /** Somebody waits for bytes right now. */
  readonly waiting: boolean;
  /**
   * Fills `target` completely; fewer bytes only at the end. A reset counts as the end when no byte of `target` came:
   * hosts cut the connection hard when they are done. Errors: `source_truncated`. Cancel: the socket is closed.
   */
  fill(target: Uint8Array, options: { signal: AbortSignal }): Promise<number>;
  /** Some bytes, as they come, copied; empty at the end. */
  readSome(options: { signal: AbortSignal }): Promise<Buffer>;
  /** Gives back bytes of `readSome` that belong to the next reader. */
  unread(bytes: Uint8Array): void;
  /** The reset that ended the connection, if one did. */
  readonly reset: Error | undefined;
  /** Ends everything with this error. */
  fail(error: Error): void;
  destroy(): void;
}

interface Pending {
  /** undefined: any byte will do. */
  target: Uint8Array | undefined;
  filledBytes: number;
  resolve(): void;
  reject(error: unknown): void;
}

interface State {
  socket: Socket | undefined;
  pending: Pending | undefined;
  spill: { bytes: Buffer; start: number; end: number };
  movedBytes: number;
  ended: boolean;
  reset: Error | undefined;
  failure: Error | undefined;
}

/** A receiver for one connection. */
export function createReceiver(): Receiver {
  const state: State = {
    socket: undefined,
    pending: undefined,
    spill: { bytes: Buffer.allocUnsafeSlow(SPILL_BYTES), start: 0, end: 0 },
    movedBytes: 0,
    ended: false,
    reset: undefined,
    failure: undefined,
  };
  return {
    onread: createLanding(state),
    attach: (socket) => attach(state, socket),
    get movedBytes() {
      return state.movedBytes;
    },
    get waiting() {
      return state.pending !== undefined;
    },
    get reset() {
      return state.reset;
    },
    fill: (target, options) => fill(state, target, options),
    readSome: (options) => readSome(state, options),
    unread: (bytes) => {
      const { spill } = state;
      const rest = Buffer.concat([bytes, spill.bytes.subarray(spill.start, spill.end)]);
      spill.start = 0;
      spill.end = 0;
      store(state, rest);
    },
    fail: (error) => fail(state, error),
    destroy: () => fail(state, new BackupError('cancelled', 'read export: it was closed')),
  };
}

/** Where the next read goes, and what to do when it is done; called by Node for every read. */
function createLanding(state: State): OnReadOpts {
  const landing = Buffer.allocUnsafeSlow(LANDING_BYTES);
  let aim: Uint8Array = landing;
  return {
    buffer: () => {
      const { pending } = state;
      const target = pending?.target;
      aim =
        pending === undefined || target === undefined || pending.filledBytes === target.length
          ? landing
          : target.subarray(pending.filledBytes);
      return aim;
    },
    callback: (sizeBytes, bytes) => {
      state.movedBytes += sizeBytes;
      const { pending } = state;
      if (bytes !== landing && pending !== undefined) pending.filledBytes += sizeBytes;
      else store(state, landing.subarray(0, sizeBytes));
      settle(state);
      // false stops the reading: only when bytes came that nobody waited for.
      return state.pending !== undefined || state.spill.end === state.spill.start;
    },
  };
}

/** What the target has no room for goes to the spill. */
function store(state: State, bytes: Uint8Array): void {
  let rest = bytes;
  const target = state.pending?.target;
  if (state.pending !== undefined && target !== undefined) {
    const room = target.length - state.pending.filledBytes;
    const direct = rest.subarray(0, room);
    target.set(direct, state.pending.filledBytes);
    state.pending.filledBytes += direct.length;
    rest = rest.subarray(direct.length);
  }
  if (rest.length === 0) return;
  const { spill } = state;
  if (spill.end + rest.length > spill.bytes.length) {
    spill.bytes.copyWithin(0, spill.start, spill.end);
    spill.end -= spill.start;
    spill.start = 0;
  }
  if (spill.end + rest.length > spill.bytes.length) {
    fail(state, new BackupError('internal', 'read export: more came than was asked for'));
    return;
  }
  spill.bytes.set(rest, spill.end);
  spill.end += rest.length;
}

/** Answers whoever waits, if there is enough or no more will come. */
function settle(state: State): void {
  const { pending, spill } = state;
  if (pending === undefined) return;
  const enough =
    pending.target === undefined
      ? spill.end > spill.start
      : pending.filledBytes === pending.target.length;
  if (!enough && !state.ended) return;
  state.pending = undefined;
  pending.resolve();
}

function attach(state: State, socket: Socket): void {
  state.socket = socket;
  const end = () => {
    state.ended = true;
    settle(state);
  };
  socket.on('error', (error) => {
    state.reset ??= error;
    end();
  });
  socket.on('end', end);
  socket.on('close', end);
  if (state.failure !== undefined || socket.destroyed) end();
}

async function fill(
  state: State,
  target: Uint8Array,
  options: { signal: AbortSignal },
): Promise<number> {
  throwIfOver(state, options.signal);
  const copiedBytes = takeSpill(state, target);
  if (copiedBytes === target.length) return copiedBytes;
  const filledBytes = await wait(state, { target, filledBytes: copiedBytes }, options);
  if (filledBytes < target.length && filledBytes > 0 && state.reset !== undefined) {
    throw new BackupError('source_truncated', 'read export: the connection was reset', {
      details: { received_bytes: state.movedBytes },
      cause: state.reset,
    });
  }
  return filledBytes;
}

async function readSome(state: State, options: { signal: AbortSignal }): Promise<Buffer> {
  throwIfOver(state, options.signal);
  const { spill } = state;
  if (spill.end === spill.start) {
    await wait(state, { target: undefined, filledBytes: 0 }, options);
  }
  const some = Buffer.from(spill.bytes.subarray(spill.start, spill.end));
  spill.start = 0;
  spill.end = 0;
  return some;
}

function throwIfOver(state: State, signal: AbortSignal): void {
  signal.throwIfAborted();
  if (state.failure !== undefined) throw state.failure;
  if (state.pending !== undefined) {
    throw new BackupError('internal', 'read export: asked twice at once');
  }
}

function takeSpill(state: State, target: Uint8Array): number {
  const { spill } = state;
  const sizeBytes = Math.min(target.length, spill.end - spill.start);
  target.set(spill.bytes.subarray(spill.start, spill.start + sizeBytes));
  spill.start += sizeBytes;
  if (spill.start === spill.end) {
    spill.start = 0;
    spill.end = 0;
  }
  return sizeBytes;
}

async function wait(
  state: State,
  wanted: { target: Uint8Array | undefined; filledBytes: number },
  { signal }: { signal: AbortSignal },
): Promise<number> {
  if (state.ended) return wanted.filledBytes;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const pending: Pending = { ...wanted, resolve, reject };
  state.pending = pending;
  const abort = () => fail(state, signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    state.socket?.resume();
    await promise;
    return pending.filledBytes;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** The socket first: nothing is read after `destroy`, so the target is its owner's again. */
function fail(state: State, error: Error): void {
  state.failure ??= error;
  state.socket?.destroy();
  const { pending } = state;
  state.pending = undefined;
  pending?.reject(state.failure);
}
