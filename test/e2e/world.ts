/**
 * A whole xvault for tests: simulated pool, an S3 server, the real adapters and the real engine between them.
 *
 * `audit()` names all a finished run may leave behind, on the pool and in the bucket; every scenario ends with it.
 */
import { createHash } from 'node:crypto';
import { createArena } from '../../src/arena.ts';
import { createService, type RunningService } from '../../src/backup/create-service.ts';
import { type BackupRequest, backupRequestSchema, type Job } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import type { Clock, Hooks, Log, Meter, ObjectStore, Pool } from '../../src/ports.ts';
import { createS3Store, type StoreSettings } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { createXapiPool, type PoolSettings } from '../../src/xapi/pool.ts';
import type { SimDisk } from '../sim/disk.ts';
import { type SimPool, type SimPoolOptions, startSimPool } from '../sim/pool.ts';
import { type SimS3, type SimS3Options, startSimS3 } from '../sim/s3/index.ts';

export const BUCKET = 'backups';
/** One session and a few idle connections live as long as the service; closing it is tested by itself. */
const STAYS_OPEN = /session|open connections/;
const UNIT_BYTES = 8 * 1_050_112;

/** Lines that were logged, for looking at secrets and warnings. */
export function createTestLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const make = (base: object): Log => {
    const write =
      (level: string) =>
      (message: string, fields: object = {}) => {
        lines.push(JSON.stringify({ level, message, ...base, ...fields }));
      };
    return {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      child: (fields) => make({ ...base, ...fields }),
    };
  };
  return { ...make({}), lines };
}

export const silentMeter: Meter = { count: () => undefined, observe: () => undefined };

export interface WorldOptions {
  pool?: SimPoolOptions;
  /** An S3 server that is already there, with a bucket for this world alone. */
  store?: StoreSettings;
  /** Given to the embedded server. */
  equalParts?: boolean;
  arenaBytes?: number;
  /** Of the embedded server: rights, clocks. */
  s3?: SimS3Options;
  /** Over those that fit the simulated pool and the embedded server. */
  poolSettings?: Partial<PoolSettings>;
  storeSettings?: Partial<StoreSettings>;
  /** For the waits between the adapters' tries. */
  poolClock?: Clock;
  storeClock?: Clock;
  meter?: Meter;
  hooks?: Hooks;
  service?: Partial<Parameters<typeof createService>[1]>;
}

export interface TestWorld extends AsyncDisposable {
  sim: SimPool;
  /** The embedded server; undefined when another store was given. */
  s3: SimS3 | undefined;
  pool: Pool;
  store: ObjectStore;
  service: RunningService;
  log: Log & { lines: string[] };
  meter: Meter;
  /** Starts a backup and waits for its end. */
  backup(vm: string, request?: Partial<BackupRequest>): Promise<Job>;
  /** Everything left on the pool and, beside complete backups and records, in the bucket. */
  audit(): Promise<string[]>;
  /** Another process on the same pool and bucket. */
  secondService(over?: {
    clock?: Clock;
    store?: ObjectStore;
    pool?: Pool;
    /** Beside it. */
    otherPools?: readonly Pool[];
  }): RunningService;
}

/** Starts everything on free loopback ports. */
export async function startWorld(options: WorldOptions = {}): Promise<TestWorld> {
  const sim = await startSimPool(options.pool);
  const s3 = options.store
    ? undefined
    : await startSimS3({
        buckets: [BUCKET],
        equalParts: options.equalParts ?? false,
        etag: 'fast',
        ...options.s3,
      });
  const log = createTestLog();
  const clock = systemClock;
  const arena = createArena({
    totalBytes: options.arenaBytes ?? 16 * UNIT_BYTES,
    unitBytes: UNIT_BYTES,
  });
  const meter = options.meter ?? silentMeter;
  const deps = { clock, log, arena, meter };
  const storeSettings: StoreSettings = {
    ...(options.store ?? embeddedSettings(s3 as SimS3, options)),
    ...options.storeSettings,
  };
  const store = createS3Store(storeSettings, { ...deps, clock: options.storeClock ?? clock });
  const pool = createXapiPool(
    {
      name: 'dc1',
      urls: sim.urls,
      username: sim.username,
      password: sim.password,
      trust: { kind: 'fingerprint', sha256: sim.fingerprints },
      taskPollMs: 100,
      ...options.poolSettings,
    },
    { ...deps, clock: options.poolClock ?? clock },
  );
  const open: TestWorld['secondService'] = (over = {}) => {
    const {
      store: archives,
      pool: only,
      otherPools = [],
      ...rest
    } = {
      store,
      pool,
      ...deps,
      ...over,
    };
    return createService(
      {
        ...rest,
        ...(options.hooks === undefined ? {} : { hooks: options.hooks }),
        loadArena: async () => arena,
        pools: [only, ...otherPools],
        store: archives,
        stateStore: archives,
        ids: systemIds,
      },
      {
        prefix: 'xv',
        concurrency: 4,
        concurrencyPerPool: 4,
        concurrencyPerSr: 4,
        queueLimit: 100,
        retentionClasses: ['daily', 'weekly'],
        instance: systemIds.uuid(),
        ...options.service,
      },
    );
  };
  const service = open();
  return {
    sim,
    s3,
    pool,
    store,
    service,
    log,
    meter,
    secondService: open,
    backup: async (vm, request = {}) => {
      const job = await service.startBackup(
        { vm, request: backupRequestSchema.parse(request), triggeredBy: 'test' },
        { signal: NEVER },
      );
      const ended = await service.waitJob(job.id, { timeoutMs: 120_000 }, { signal: NEVER });
      return ended as Job;
    },
    audit: async () => {
      const uploads = await store.listUploads('xv/', { signal: NEVER });
      const leases = await store.list({ prefix: 'xv/leases/' }, { signal: NEVER });
      const staging = await store.list({ prefix: 'xv/staging/' }, { signal: NEVER });
      return [
        ...(await sim.auditWhenQuiet({ ignore: STAYS_OPEN })),
        ...uploads.map(({ key }) => `unfinished upload ${key}`),
        ...leases.objects.map(({ key }) => `lease ${key}`),
        ...staging.objects.map(({ key }) => `staging object ${key}`),
      ];
    },
    [Symbol.asyncDispose]: async () => {
      await service.drain({ drainMs: 0 });
      await pool.close();
      store.close();
      await sim.close();
      await s3?.close();
    },
  };
}

function embeddedSettings(s3: SimS3, options: WorldOptions): StoreSettings {
  return {
    endpoint: s3.endpoint,
    region: s3.region,
    bucket: BUCKET,
    prefix: 'xv',
    pathStyle: true,
    credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    ...(options.equalParts ? { provider: 'r2' } : {}),
  } as StoreSettings;
}

/** Reads a whole object in ranges, as a client that restores would. */
export async function* readObject(store: ObjectStore, key: string): AsyncGenerator<Uint8Array> {
  const STEP = 8 * 1024 * 1024;
  const facts = await store.head(key, { signal: NEVER });
  if (facts === undefined) throw new Error(`no object ${key}`);
  for (let offset = 0; offset < facts.sizeBytes; offset += STEP) {
    const length = Math.min(STEP, facts.sizeBytes - offset);
    const piece = await store.get(key, { signal: NEVER, range: { offset, length } });
    if (piece === undefined) throw new Error(`object ${key} vanished`);
    yield piece.bytes;
  }
}

/** SHA-256 over a disk's content, holes left out the same way for every implementation. */
export function contentDigest(disk: SimDisk): string {
  const CHUNK = 65_536;
  const hash = createHash('sha256').update(String(disk.sizeBytes));
  const buffer = Buffer.alloc(CHUNK);
  const zeros = Buffer.alloc(CHUNK);
  for (let at = disk.nextData(0); at !== undefined; at = disk.nextData(at + CHUNK)) {
    const length = Math.min(CHUNK, disk.sizeBytes - at);
    disk.read(at, buffer.subarray(0, length));
    if (buffer.subarray(0, length).equals(zeros.subarray(0, length))) continue;
    hash.update(`@${at}:`).update(buffer.subarray(0, length));
  }
  return hash.digest('hex');
}
