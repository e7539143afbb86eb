/**
 * What kind of Redis it is: one that evicts keys forgets jobs and slots one by one, one that is a cluster or too old
 * cannot be used.
 */
import type { Redis } from 'ioredis';
import type { Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { untilAborted } from '../signals.ts';
import { connect } from './link.ts';

/** BullMQ uses commands of it. */
export const OLDEST = '6.2.0';
/** The one policy that never takes a key away. */
export const KEEPS_ALL = 'noeviction';

export interface ServerFacts {
  /** Of Redis, or that of Redis which a Valkey stands for. */
  version: string;
  isCluster: boolean;
  /** Empty where it does not say. */
  eviction: string;
}

/** One that was tried. */
export interface ProbedServer extends ServerFacts {
  /** Why it takes nothing: it is a replica, or full, or the account may not. */
  refusal?: string;
}

/** What every key of the installation of this name begins with. */
export function prefixOf(name: string): string {
  return `{xvault:${name}}`;
}

/** Asks it. Errors: the client's. */
export async function readServer(redis: Redis): Promise<ServerFacts> {
  const text = await redis.info();
  const fact = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(text)?.[1] ?? '';
  return {
    version: fact('redis_version'),
    isCluster: fact('redis_mode') === 'cluster',
    eviction: fact('maxmemory_policy'),
  };
}

/** Writes as instances do all the time, into a key that ends by itself. */
const TRY_WRITE = `return redis.call('SET', KEYS[1], '', 'PX', 1000)`;

/** Connects once, asks, tries to write a key of the installation `name`, and leaves. Errors: the client's. */
export async function probeServer(
  { url, name }: { url: Secret; name: string },
  { signal }: Cancellable,
): Promise<ProbedServer> {
  const redis = connect(url, { lazyConnect: true, retryStrategy: () => null });
  const failed = Promise.withResolvers<never>();
  // the first says why; what the command says after it is only that there is no connection
  redis.on('error', failed.reject);
  try {
    const asked = redis.connect().then(() => probe(redis, name));
    return await untilAborted(Promise.race([failed.promise, asked]), signal);
  } finally {
    redis.disconnect();
  }
}

async function probe(redis: Redis, name: string): Promise<ProbedServer> {
  const facts = await readServer(redis);
  return await redis.eval(TRY_WRITE, 1, `${prefixOf(name)}:probe`).then(
    () => facts,
    (error: Error) => ({ ...facts, refusal: error.message }),
  );
}

/** Whether it is as old as `OLDEST` or newer; what does not say its version is believed. */
export function isNewEnough({ version }: Pick<ServerFacts, 'version'>): boolean {
  return version === '' || version.localeCompare(OLDEST, 'en', { numeric: true }) >= 0;
}
