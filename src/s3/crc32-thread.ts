/**
 * A second thread that computes the CRC32 of parts on their way out, while the first reads on.
 *
 * Node's CRC32 takes a seventh of the processor time of an export, and all exports of a process share one thread: with
 * this one, sixteen at once go as fast as one alone (docs/performance.md). It reads the byte budget where it lies, which
 * WebAssembly can share between threads. Nothing hangs on it: where there is one processor only, memory that is not shared, or
 * a thread that could not be started, ended or keeps silent, the caller's thread does the work.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import type { Log } from '../ports.ts';

export interface Crc32Thread {
  /** Whether the thread would read these bytes: nothing is gained by `read` otherwise. */
  reads(bytes: Buffer): boolean;
  /**
   * The CRC32 of each of the pieces `bytes` consists of, in order. Whoever changes `bytes` meanwhile gets those of
   * something else. Errors: none.
   */
  read(bytes: Buffer, sizes: readonly number[]): Promise<number[]>;
  /** Ends the thread; what is still asked is answered without it. */
  close(): void;
}

/** A text, not a file: the same in src/ and in what is compiled of it. It needs little memory of its own. */
const PROGRAM = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { crc32 } = require('node:zlib');
  parentPort.on('message', ({ id, offset, sizes }) => {
    let at = offset;
    const found = sizes.map((size) => {
      at += size;
      return crc32(new Uint8Array(workerData, at - size, size));
    });
    parentPort.postMessage({ id, found });
  });
`;
/** A part takes milliseconds. */
const SILENCE_MS = 30_000;
/** Limits the program was started with go before these. */
const LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 16 };

interface Question {
  bytes: Buffer;
  sizes: readonly number[];
  resolve(found: number[]): void;
}

interface State {
  log: Log;
  silenceMs: number;
  worker: Worker | undefined;
  /** The memory it was started for. */
  memory: ArrayBufferLike | undefined;
  /** It is not started again: what ended it once would again. */
  isOver: boolean;
  asked: Map<number, Question>;
  lastId: number;
}

/**
 * Makes it; the thread is started by the first question. `processors`: how many there are, default: as the system says.
 * `silenceMs`: how long an answer may take.
 */
export function createCrc32Thread({
  log,
  processors = availableParallelism(),
  silenceMs = SILENCE_MS,
}: {
  log: Log;
  processors?: number;
  silenceMs?: number;
}): Crc32Thread {
  const isOver = processors < 2;
  const state: State = {
    log,
    silenceMs,
    worker: undefined,
    memory: undefined,
    isOver,
    asked: new Map(),
    lastId: 0,
  };
  const reads = ({ buffer }: Buffer) =>
    !state.isOver && buffer instanceof SharedArrayBuffer && (state.memory ?? buffer) === buffer;
  return {
    reads,
    read: async (bytes, sizes) =>
      reads(bytes) ? await ask(state, bytes, sizes) : sums(bytes, sizes),
    close: () => {
      state.isOver = true;
      // Resolves always; 'exit' answers what is still asked.
      void state.worker?.terminate();
    },
  };
}

function sums(bytes: Buffer, sizes: readonly number[]): number[] {
  let at = 0;
  return sizes.map((size) => {
    at += size;
    return crc32(bytes.subarray(at - size, at));
  });
}

async function ask(state: State, bytes: Buffer, sizes: readonly number[]): Promise<number[]> {
  const worker = state.worker ?? start(state, bytes.buffer);
  if (worker === undefined) return sums(bytes, sizes);
  state.lastId += 1;
  const id = state.lastId;
  const { promise, resolve } = Promise.withResolvers<number[]>();
  state.asked.set(id, { bytes, sizes, resolve });
  // The process stays for the answer, and for nothing else.
  worker.ref();
  worker.postMessage({ id, offset: bytes.byteOffset, sizes });
  const timer = setTimeout(() => {
    end(state, new Error(`no answer within ${state.silenceMs} ms`));
    void worker.terminate();
  }, state.silenceMs);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function start(state: State, memory: ArrayBufferLike): Worker | undefined {
  try {
    const options = { eval: true, workerData: memory, env: {}, execArgv: [], name: 'crc32' };
    const worker = new Worker(PROGRAM, { ...options, resourceLimits: LIMITS });
    worker.on('message', ({ id, found }: { id: number; found: number[] }) => {
      state.asked.get(id)?.resolve(found);
      state.asked.delete(id);
      if (state.asked.size === 0) worker.unref();
    });
    worker.on('error', (reason) => end(state, reason));
    worker.on('exit', (reason) => end(state, reason));
    state.worker = worker;
    state.memory = memory;
    return worker;
  } catch (error) {
    end(state, error);
    return undefined;
  }
}

/** From now on it is done without the thread; what was asked is answered. */
function end(state: State, reason: unknown): void {
  if (!state.isOver)
    state.log.warn('checksum thread ended; its work is done without it', { reason });
  state.isOver = true;
  for (const { bytes, sizes, resolve } of state.asked.values()) resolve(sums(bytes, sizes));
  state.asked.clear();
}
