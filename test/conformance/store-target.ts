/**
 * What the suites for the object store need: a bucket on some server, a fault proxy before it, and stores to try.
 *
 * Waits between retries are skipped (`sleep` only yields), so a test of ten failures takes no longer than the calls.
 */
import { createCipheriv, randomUUID } from 'node:crypto';
import { createArena } from '../../src/arena.ts';
import { systemClock } from '../../src/clock.ts';
import {
  type Arena,
  type Clock,
  type Log,
  MAX_RESERVE_BYTES,
  type ObjectStore,
} from '../../src/ports.ts';
import { createS3Store, type StoreSettings } from '../../src/s3/store.ts';
import type { FaultProxy } from '../sim/fault-proxy.ts';
import { startFaultProxy } from '../sim/fault-proxy.ts';

/** A server to test: where it is and what it is known to be able to do. */
export interface ServerUnderTest {
  endpoint: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
  bucket: string;
  /** Overrides of quirks.ts the server needs, beyond its provider's row. */
  provider?: string;
  /** A few tests that move much and show nothing new on it are left out. */
  slow?: boolean;
  /** A copy may name the ETag its source must have. */
  copyConditions?: boolean;
  expected: {
    conditionalWrites: boolean;
    conditionalComplete: boolean;
    equalParts: boolean;
    /** HEAD gives a CRC32 of objects of several parts. */
    checksum: boolean;
    /** Unfinished uploads can be listed. */
    listUploads: boolean;
  };
}

/** Gives the server, or why there is none on this machine; asked when a test runs. */
export type GetServer = () => ServerUnderTest | { skipped: string };

export const MIB = 1024 ** 2;
/** The smallest unit in which one part fits: uploads of a few dozen MiB then have several parts. */
export const UNIT_BYTES = 5 * MIB + MAX_RESERVE_BYTES;

export const QUIET: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => QUIET,
};

/** `beforeRetry` runs in place of the wait. */
export function hastyClock(beforeRetry: () => Promise<void> | void = () => {}): Clock {
  return {
    ...systemClock,
    sleep: async (_ms, { signal }) => {
      signal.throwIfAborted();
      await beforeRetry();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

export interface Rig extends AsyncDisposable {
  server: ServerUnderTest;
  proxy: FaultProxy;
  /** A prefix no other test uses. */
  prefix: string;
  arena: Arena;
  store: ObjectStore;
  /** Another store on the same bucket. */
  open(overrides?: Partial<StoreSettings>, deps?: { arena?: Arena; clock?: Clock }): ObjectStore;
}

/** Opens a store through a fault proxy, under a prefix of its own. */
export async function openRig(
  server: ServerUnderTest,
  overrides: Partial<StoreSettings> = {},
  options: { units?: number; clock?: Clock } = {},
): Promise<Rig> {
  const proxy = await startFaultProxy(server.endpoint);
  const prefix = `t/${randomUUID()}/`;
  const arena = createArena({
    totalBytes: (options.units ?? 6) * UNIT_BYTES,
    unitBytes: UNIT_BYTES,
  });
  const opened: ObjectStore[] = [];
  const open: Rig['open'] = (more = {}, deps = {}) => {
    const store = createS3Store(
      {
        endpoint: proxy.endpoint,
        region: server.region,
        bucket: server.bucket,
        prefix,
        pathStyle: true,
        credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
        provider: server.provider,
        ...overrides,
        ...more,
      },
      {
        clock: deps.clock ?? options.clock ?? hastyClock(),
        log: QUIET,
        arena: deps.arena ?? arena,
        meter: { count: () => {}, observe: () => {} },
      },
    );
    opened.push(store);
    return store;
  };
  return {
    server,
    proxy,
    prefix,
    arena,
    store: open(),
    open,
    [Symbol.asyncDispose]: async () => {
      for (const store of opened) store.close();
      await proxy.close();
    },
  };
}

/** The same bytes for the same seed; no two places alike, so that a swapped or repeated part shows. */
export function sampleBytes(length: number, seed = 1): Buffer {
  const key = Buffer.alloc(16, seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Reads a whole object in ranges, so that no server has to give it at once. */
export async function readAll(
  store: ObjectStore,
  key: string,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const whole = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += 16 * MIB) {
    const length = Math.min(16 * MIB, sizeBytes - offset);
    const piece = await store.get(key, { range: { offset, length }, signal });
    whole.set(piece?.bytes ?? [], offset);
  }
  return whole;
}

/** Why a test is left out on a slow server. */
export const SLOW = 'slow server: tried on the others';
