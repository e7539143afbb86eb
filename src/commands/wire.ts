/**
 * Puts the parts together: the one place outside tests where adapters are made.
 *
 * Adapters are imported when they are first used: the AWS SDK alone takes longer than all the rest of a start.
 */

import type { RunningService } from '../backup/create-service.ts';
import { createKeys, type Keys } from '../catalog/keys.ts';
import { systemClock, systemIds } from '../clock.ts';
import type { Settings } from '../config.ts';
import { wantedBy } from '../notify-targets.ts';
import {
  type Arena,
  type Hooks,
  type Log,
  MAX_RESERVE_BYTES,
  type Meter,
  type Notifier,
  type ObjectStore,
  type Pool,
} from '../ports.ts';
import type { SharedQueue } from '../queue-port.ts';
import { serviceSettings } from '../service-settings.ts';
import type { HookSettings } from '../settings-hooks.ts';
import { encryptionByPrefix, locksByPrefix } from '../settings-protection.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import type { Hasher } from '../xva/types.ts';
import { lazyHooks, lazyPool, lazyStore, once } from './lazy.ts';

/** The byte budget is handed out in runs of this: eight blocks, the smallest part that is worth a request. */
export const ARENA_UNIT_BYTES = 8 * MAX_RESERVE_BYTES;

/**
 * What the arena takes of XVAULT_MEMORY_MIB. The rest is for bytes in flight that lie elsewhere: what TLS has encrypted and
 * not sent, what it has decrypted and nobody asked for yet (16 exports at once: 40 MiB of 256, measured by bench/).
 */
const ARENA_SHARE = 5 / 6;

/** Bytes the arena may hand out, of the whole budget. */
export function arenaBytes(memoryBytes: number): number {
  return Math.max(ARENA_UNIT_BYTES, Math.floor(memoryBytes * ARENA_SHARE));
}

export interface WireDeps {
  log: Log;
  /** Takes part in the queue of XVAULT_QUEUE_URL: what accepts jobs for others, or does theirs. Commands do their own. */
  sharesQueue?: boolean;
  /** The service remembers the jobs that ended here. */
  keepsEnded?: boolean;
  meter?: Meter;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
}

export interface Adapters extends AsyncDisposable {
  pools: Pool[];
  store: ObjectStore;
  /** The same as `store` unless XVAULT_STATE_BUCKET is set. */
  stateStore: ObjectStore;
  keys: Keys;
  /** Hashes without a copy what lies in the byte budget. */
  loadHasher(): Promise<Hasher>;
  /** The byte budget. */
  loadArena(): Promise<Arena>;
  /** Makes all of them now. Errors: `configuration`. */
  ready(): Promise<void>;
}

export interface Wired extends Adapters {
  service: RunningService;
  /** Where instances share one. */
  queue: SharedQueue | undefined;
}

const NO_METER: Meter = { count: () => {}, observe: () => {} };

/** Makes pools and stores, each when it is first used. Disposing logs out and closes connections. */
export function wireAdapters(settings: Settings, deps: WireDeps): Adapters {
  const { log, meter = NO_METER, tracer = NO_TRACER } = deps;
  const shared = { clock: systemClock, log, meter, tracer };
  const { name, stateBucket, encryption, locks = {}, ...connection } = settings.bucket;
  const keys = createKeys(settings.bucket.prefix);
  const protection = {
    encryption: encryption && encryptionByPrefix(encryption, keys),
    locks: locksByPrefix(locks, keys),
  };
  const totalBytes = arenaBytes(settings.memoryBytes);
  const loadMemory = once(async () => {
    const { createBlockMemory } = await import('../xva/hash.ts');
    return { wasm: createBlockMemory(totalBytes) };
  });
  const loadArena = once(async () => {
    const [{ createArena }, { wasm }] = await Promise.all([import('../arena.ts'), loadMemory()]);
    const memory = wasm && Buffer.from(wasm.buffer);
    return createArena({ totalBytes, unitBytes: ARENA_UNIT_BYTES, memory });
  });
  const loadHasher = once(async () => {
    const [{ loadHasher }, { wasm }] = await Promise.all([import('../xva/hash.ts'), loadMemory()]);
    return await loadHasher(wasm);
  });
  const loadStore = (bucket: string) =>
    once(async () => {
      const [{ createS3Store }, arena] = await Promise.all([import('../s3/store.ts'), loadArena()]);
      return createS3Store({ ...connection, ...protection, bucket }, { ...shared, arena });
    });
  const loads = [loadStore(name), ...(stateBucket === undefined ? [] : [loadStore(stateBucket)])];
  const [store, stateStore = store] = loads.map(lazyStore) as [ObjectStore, ObjectStore?];
  const poolLoads = settings.pools.map((pool) => ({
    name: pool.name,
    load: once(async () => (await import('../xapi/pool.ts')).createXapiPool(pool, shared)),
  }));
  const pools = poolLoads.map(({ name, load }) => lazyPool(name, load));
  return {
    pools,
    store,
    stateStore,
    keys,
    loadHasher,
    loadArena,
    ready: async () => {
      await Promise.all([...loads, ...poolLoads.map(({ load }) => load)].map((load) => load()));
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(pools.map((pool) => pool.close()));
      store.close();
      if (stateStore !== store) stateStore.close();
    },
  };
}

/** Makes the service and all it needs; `start` it to take over what a dead instance left. */
export async function wire(settings: Settings, deps: WireDeps): Promise<Wired> {
  const { createService } = await import('../backup/create-service.ts');
  const adapters = wireAdapters(settings, deps);
  const queue = deps.sharesQueue ? await wireQueue(settings, deps) : undefined;
  const service = createService(
    {
      ...adapters,
      clock: systemClock,
      ids: systemIds,
      log: deps.log,
      meter: deps.meter ?? NO_METER,
      ...(deps.tracer === undefined ? {} : { tracer: deps.tracer }),
      ...(queue === undefined ? {} : { queue }),
      ...(settings.hooks === undefined ? {} : { hooks: wireHooks(settings.hooks, deps) }),
      ...(settings.notify.length === 0 ? {} : { notifier: wireNotifier(settings, deps) }),
    },
    { ...serviceSettings(settings), keepsEnded: deps.keepsEnded === true },
  );
  const dispose = async () => {
    await queue?.close();
    await adapters[Symbol.asyncDispose]();
  };
  return { ...adapters, service, queue, [Symbol.asyncDispose]: dispose };
}

/** Names the installation to a queue that several may share. */
export function queueName({ stateBucket, name, prefix }: Settings['bucket']): string {
  return `${stateBucket ?? name}/${prefix}`;
}

/** A third of the lease: a job whose instance fell silent has its next turn when the lease has run out. */
const LEASES_PER_LOCK = 3;

/** The queue that instances share, where the settings name one. */
async function wireQueue(
  settings: Settings,
  { log, meter = NO_METER }: WireDeps,
): Promise<SharedQueue | undefined> {
  const { queueUrl: url, instance, bucket, leaseMs } = settings;
  if (url === undefined) return undefined;
  const { createRedisQueue } = await import('../queue/redis.ts');
  return createRedisQueue(
    { clock: systemClock, log, meter },
    {
      url,
      instance,
      name: queueName(bucket),
      pools: settings.pools.map(({ name }) => name),
      lockMs: leaseMs / LEASES_PER_LOCK,
      limits: {
        total: settings.concurrency,
        perPool: settings.concurrencyPerPool,
        perSr: settings.concurrencyPerSr,
        waiting: settings.queueLimit,
      },
    },
  );
}

function wireHooks(settings: HookSettings, { log, tracer = NO_TRACER }: WireDeps): Hooks {
  return lazyHooks(
    once(async () => {
      const { createGuestHooks } = await import('../notify/guest-hooks.ts');
      return createGuestHooks(settings, { clock: systemClock, log, tracer });
    }),
  );
}

/** Who wants to hear of what is known at once; what it takes to tell them is loaded with the first notice. */
function wireNotifier(
  { notify: targets, publicUrl }: Pick<Settings, 'notify' | 'publicUrl'>,
  { log, meter = NO_METER, tracer = NO_TRACER }: WireDeps,
): Notifier {
  const load = once(async () => {
    const { createNotifier } = await import('../notify/notifier.ts');
    return createNotifier(targets, { clock: systemClock, log, meter, tracer, publicUrl });
  });
  return {
    targets: (about) => wantedBy(targets, about),
    send: async (notice, input, options) => (await load()).send(notice, input, options),
  };
}
