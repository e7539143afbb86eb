/**
 * The connection to Redis, and a second one that hears what other instances announce.
 *
 * Nobody waits for Redis to come back: a command fails at once while it is away, and whoever asked goes on without. It is
 * away from the first failure to the next round of the queue that went well.
 */
import { Redis, type RedisOptions } from 'ioredis';
import type { Clock, Log } from '../ports.ts';
import type { Secret } from '../secret.ts';

const CONNECT_MS = 5_000;
/** Redis answers in a millisecond; one that is silent for so long is away. */
const COMMAND_MS = 5_000;
const RECONNECT_STEP_MS = 200;
const RECONNECT_MAX_MS = 2_000;

export interface Link {
  readonly redis: Redis;
  /** Why it cannot be used now. */
  readonly problem: string | undefined;
  away(error: unknown): void;
  /** True when it was away until now. */
  back(): boolean;
  /** Tells this and other instances to look now. */
  announce(): void;
  /** Ends the pause of this one. */
  wake(): void;
  /** Until somebody announces something, or at most so long. */
  pause(ms: number): Promise<void>;
  /** Ends the connections, and the pause. */
  close(): void;
}

/** Connects in the background. `channel`: where instances announce. */
export function openLink(
  { clock, log }: { clock: Clock; log: Log },
  { url, channel }: { url: Secret; channel: string },
): Link {
  const redis = connect(url);
  const listener = redis.duplicate();
  let problem: string | undefined = 'not connected yet';
  let isKnown = false;
  let waking = new AbortController();
  const wake = (): void => waking.abort();
  const away = (error: unknown): void => {
    const message = error instanceof Error ? error.message : String(error);
    if (!isKnown) log.warn('shared queue is away', { error: message });
    isKnown = true;
    problem = message;
  };
  redis.on('error', away);
  redis.on('close', () => away(new Error('the connection was closed')));
  redis.on('ready', wake);
  listener.on('error', () => undefined); // the other connection says so
  listener.on('ready', () => void listener.subscribe(channel).catch(() => undefined)); // polls
  listener.on('message', wake);
  return {
    redis,
    get problem() {
      return problem;
    },
    away,
    back: () => {
      const was = problem !== undefined;
      if (was) log.info('shared queue is there');
      problem = undefined;
      isKnown = false;
      return was;
    },
    wake,
    announce: () => {
      wake();
      redis.publish(channel, '').catch(() => undefined); // the others look by themselves
    },
    pause: async (ms) => {
      await clock.sleep(ms, { signal: waking.signal }).catch(() => undefined); // woken
      waking = new AbortController();
    },
    close: () => {
      wake();
      redis.disconnect();
      listener.disconnect();
    },
  };
}

/** A client that does not wait for a server. `more` changes how. */
export function connect(url: Secret, more: RedisOptions = {}): Redis {
  return new Redis(url.reveal(), {
    connectTimeout: CONNECT_MS,
    commandTimeout: COMMAND_MS,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(times * RECONNECT_STEP_MS, RECONNECT_MAX_MS),
    ...more,
  });
}
