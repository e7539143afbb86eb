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
import type { Quirks } from '../../src/s3/quirks.ts';
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
  /** The default run: what its kind does not do differently is left to the other servers. */
  brief?: boolean;
  /** The byte budget lies in memory threads share, as in production: another one takes the checksums. */
  sharedMemory?: boolean;
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

/** Opens a store through a fault proxy, under a prefix of its own; it knows its server, or `asks` as one in use does. */
export async function openRig(
  server: ServerUnderTest,
  overrides: Partial<StoreSettings> = {},
  options: { units?: number; clock?: Clock; asks?: boolean } = {},
): Promise<Rig> {
  const proxy = await startFaultProxy(server.endpoint);
  const prefix = `t/${randomUUID()}/`;
  const totalBytes = (options.units ?? 6) * UNIT_BYTES;
  const memory = server.sharedMemory
    ? Buffer.from(new SharedArrayBuffer(totalBytes))
    : Buffer.allocUnsafeSlow(totalBytes);
  const arena = createArena({ totalBytes, unitBytes: UNIT_BYTES, memory });
  const opened: ObjectStore[] = [];
  // To find out takes thirty requests, at each of two hundred stores.
  const { conditionalWrites, conditionalComplete } = server.expected;
  const known: Partial<Quirks> = {
    conditionalWrites: conditionalWrites ? 'yes' : 'no',
    conditionalComplete: conditionalComplete ? 'yes' : 'no',
  };
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
        quirks: { ...(options.asks ? {} : known), ...(more.quirks ?? overrides.quirks) },
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

/** Made once for all tests of a file, as long as was ever asked for. */
const samples = new Map<number, Buffer>();

/**
 * The same bytes for the same seed; no two places alike, so that a swapped or repeated part shows. They are everybody's:
 * not to be written to.
 */
export function sampleBytes(length: number, seed = 1): Buffer {
  let sample = samples.get(seed);
  if (sample === undefined || sample.length < length) {
    const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
    sample = cipher.update(Buffer.alloc(length));
    samples.set(seed, sample);
  }
  return sample.subarray(0, length);
}

/** Where an object is not what it should be, -1 where it is; in ranges, so that no server has to give it at once. */
export async function differsAt(
  store: ObjectStore,
  key: string,
  expected: Buffer,
  signal: AbortSignal,
): Promise<number> {
  const { length: sizeBytes } = expected;
  for (let offset = 0; offset < sizeBytes; offset += 16 * MIB) {
    const length = Math.min(16 * MIB, sizeBytes - offset);
    const piece = await store.get(key, { range: { offset, length }, signal });
    const bytes = piece?.bytes ?? new Uint8Array();
    const want = expected.subarray(offset, offset + length);
    if (want.equals(bytes)) continue;
    const at = want.findIndex((byte, i) => byte !== bytes[i]);
    return offset + (at === -1 ? length : at);
  }
  return -1;
}

/** Why a test is left out on a slow server. */
export const SLOW = 'slow server: tried on the others';
/** Why a test is left out in the default run. */
export const BRIEF = 'in the long form here: tried on the others';
