/**
 * The engine on a scripted pool, a bucket in memory and a clock that only moves when told: for what changes hands, waits
 * or ends at an awkward moment.
 */

import {
  createService,
  type RunningService,
  type ServiceSettings,
} from '../../src/backup/create-service.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { CLOCK_SKEW_MS, LEASE_MS } from '../../src/catalog/lease.ts';
import {
  type BackupRequest,
  backupRequestSchema,
  isEnded,
  type Job,
  jobSchema,
} from '../../src/catalog/record.ts';
import { BackupError } from '../../src/errors.ts';
import type { Log, Meter, Notifier, ObjectStore } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { nextId, sampleJob } from '../records.ts';
import { createSimClock, type SimClock } from '../sim/clock.ts';
import { createMemoryStore, type MemoryStore } from '../sim/memory-store.ts';
import { createScriptedPool, type ScriptedPool } from './scripted-pool.ts';

/** Loaded beforehand: the clock is simulated, and compiling WebAssembly takes real time. */
const HASHER = await loadHasher();

export const options = { signal: NEVER };
export const keys = createKeys('xv');
/** After it, another instance may take over. */
export const LEASE_OVER_MS = LEASE_MS + CLOCK_SKEW_MS + 1000;
const request = backupRequestSchema.parse({});

export interface EngineWorld {
  clock: SimClock;
  store: MemoryStore;
  pool: ScriptedPool;
  lines: string[];
  /** What was counted: `name` → sum. */
  counts: Map<string, number>;
  /** Another process, perhaps with its own connection to the bucket. */
  instance(name: string, store?: ObjectStore, over?: Told): RunningService;
  start(service: RunningService, over?: Partial<BackupRequest>): Promise<Job>;
  record(id: string): Job;
  /** Lets a little time pass, again and again, until `ready` says so. */
  until(what: string, ready: () => boolean): Promise<void>;
  /** Lets time pass until the job ended. */
  ended(id: string): Promise<Job>;
  backups(): string[];
}

/** Who is told; nobody unless given. */
interface Told {
  notifier?: Notifier;
}

/** A machine called web, or those of `pool`; no instance yet. */
export function setUp(
  settings: Partial<ServiceSettings> = {},
  told: Told = {},
  pool: ScriptedPool = createScriptedPool(),
): EngineWorld {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const lines: string[] = [];
  const write = (message: string, fields: object = {}) => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };
  const counts = new Map<string, number>();
  const meter: Meter = {
    count: (name, value) => void counts.set(name, (counts.get(name) ?? 0) + value),
    observe: (name, value) => void counts.set(name, value),
  };
  const record = (id: string): Job => {
    const bytes = store.objects.get(keys.job(id))?.bytes ?? Buffer.alloc(0);
    return jobSchema.parse(JSON.parse(bytes.toString('utf8')));
  };
  return {
    clock,
    store,
    pool,
    lines,
    counts,
    record,
    instance: (name, over = store, { notifier } = told) =>
      createService(
        {
          pools: [pool],
          store: over,
          stateStore: over,
          clock,
          ids: { uuid: nextId },
          log,
          meter,
          loadHasher: async () => HASHER,
          ...(notifier === undefined ? {} : { notifier }),
        },
        {
          prefix: 'xv',
          concurrency: 4,
          concurrencyPerPool: 4,
          concurrencyPerSr: 4,
          queueLimit: 10,
          retentionClasses: ['daily'],
          instance: name,
          ...settings,
        },
      ),
    start: (service, over = {}) =>
      service.startBackup(
        { vm: 'web', request: { ...request, ...over }, triggeredBy: 'test' },
        options,
      ),
    until: async (what, ready) => {
      for (let round = 0; round < 500; round++) {
        if (ready()) return;
        await clock.advance(20);
      }
      throw new Error(`waited in vain for ${what}\n${lines.join('\n')}`);
    },
    ended: async (id) => {
      for (let round = 0; round < 200; round++) {
        const job = record(id);
        if (isEnded(job)) return job;
        await clock.advance(5000);
      }
      throw new Error(`job does not end: ${JSON.stringify(record(id))}\n${lines.join('\n')}`);
    },
    backups: () => [...store.objects.keys()].filter((key) => key.endsWith('/backup.json')),
  };
}

/** The same bucket behind a connection of its own, which can be cut. */
export function connect(store: ObjectStore): { store: ObjectStore; cut(isCut: boolean): void } {
  let away = false;
  const guarded = new Proxy(store, {
    get: (target, name: keyof ObjectStore) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      return (...args: unknown[]) =>
        away
          ? Promise.reject(new BackupError('store_unavailable', 'reach the bucket'))
          : method(...args);
    },
  });
  return {
    store: guarded,
    cut: (isCut) => {
      away = isCut;
    },
  };
}

/** A job record whose instance died in this phase, its lease long over. */
export async function leave(world: EngineWorld, over: Partial<Job>): Promise<Job> {
  const job = sampleJob({ status: 'running', instance: 'dead', ...over });
  await world.store.put(keys.job(job.id), JSON.stringify(job), options);
  return job;
}
