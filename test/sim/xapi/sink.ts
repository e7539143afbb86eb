/**
 * Writes an archive to a socket (or a compressor before it): few reused buffers, back-pressure, planned accidents.
 */
import type { Writable } from 'node:stream';
import { type Sink, SLAB_BYTES } from './archive.ts';

/** Buffers of one export: enough to keep a socket busy while the next block is made. */
const SLABS = 4;

/** What happens once `afterBytes` of body were written; it may throw to end the export. */
export interface Accident {
  afterBytes: number;
  happen(): Promise<void>;
}

/** A sink onto `stream`; rejects when the stream fails or `signal` is aborted. */
export function createSink(
  stream: Writable,
  options: { signal: AbortSignal; accidents: Accident[] },
): Sink & { flush(): Promise<void> } {
  const { signal } = options;
  const accidents = [...options.accidents].sort((a, b) => a.afterBytes - b.afterBytes);
  const free: Buffer[] = Array.from({ length: SLABS }, () => Buffer.alloc(SLAB_BYTES));
  const waiting: { resolve(slab: Buffer): void; reject(error: unknown): void }[] = [];
  let failure: Error | undefined;
  let sent = 0;

  const fail = (error: Error) => {
    failure ??= error;
    for (const waiter of waiting.splice(0)) waiter.reject(failure);
  };
  const give = (slab: Buffer) => {
    const waiter = waiting.shift();
    if (waiter === undefined) free.push(slab);
    else waiter.resolve(slab);
  };
  const abort = () => fail(signal.reason);
  signal.addEventListener('abort', abort);
  stream.on('error', fail);
  stream.on('close', () => {
    // the pool's signal lives on: it must not keep the slabs of every export there was
    signal.removeEventListener('abort', abort);
    fail(new Error('Unix_error EPIPE'));
  });
  if (signal.aborted) fail(signal.reason);

  const push = (bytes: Uint8Array, done: () => void) => {
    if (failure !== undefined) throw failure;
    stream.write(bytes, (error) => {
      if (error) fail(error);
      done();
    });
  };
  const slab = (): Promise<Buffer> => {
    if (failure !== undefined) return Promise.reject(failure);
    const one = free.pop();
    if (one !== undefined) return Promise.resolve(one);
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  };
  const flush = async () => {
    const all = await Promise.all(Array.from({ length: SLABS }, slab));
    for (const one of all) give(one);
  };
  const runAccident = async (bytes: Uint8Array): Promise<Uint8Array> => {
    const [next] = accidents;
    if (next === undefined || sent + bytes.length < next.afterBytes) return bytes;
    accidents.shift();
    const head = bytes.subarray(0, Math.max(0, next.afterBytes - sent));
    sent += head.length;
    await new Promise<void>((resolve) => push(Buffer.from(head), resolve));
    await next.happen();
    return bytes.subarray(head.length);
  };
  return {
    slab,
    flush,
    async send(one, length) {
      const rest = await runAccident(one.subarray(0, length));
      sent += rest.length;
      if (rest.length === 0) give(one);
      else push(rest, () => give(one));
    },
    async write(bytes) {
      const rest = await runAccident(bytes);
      sent += rest.length;
      await new Promise<void>((resolve) => push(rest, resolve));
      if (failure !== undefined) throw failure;
    },
  };
}
