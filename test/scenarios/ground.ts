/**
 * The ground scenarios are played on: a simulated pool, an S3 server, and the time both share with all processes.
 *
 * It outlives scenarios, since starting it costs more than a backup. A process is the real engine with the real
 * adapters over connections and a clock of its own (processes.ts).
 */
import assert from 'node:assert/strict';
import { createArena } from '../../src/arena.ts';
import { createService, type RunningService } from '../../src/backup/create-service.ts';
import type { Notice } from '../../src/notices.ts';
import type { Arena, Ids, Notifier, ObjectStore, Pool } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { createXapiPool } from '../../src/xapi/pool.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { createTestLog, silentMeter } from '../e2e/world.ts';
import { createGeneratedDisk, createSparseDisk } from '../sim/disk.ts';
import { createIdleClock, type IdleClock } from '../sim/idle-clock.ts';
import { type DiskSpec, type MachineSpec, type SimPool, startSimPool } from '../sim/pool.ts';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';
import { names, type Process, startProcess, TEST_DOMAIN } from './processes.ts';

export const BUCKET = 'backups';
export const PREFIX = 'xv';
const MIB = 1_048_576;
/** The smallest part there is: an archive of some MiB has several. */
const UNIT_BYTES = 5 * 1_050_112;
const TELLING_MS = 200;
const ARENA_BYTES = 6 * UNIT_BYTES;
/** Loaded beforehand: the clock is simulated, and compiling WebAssembly takes real time. */
const HASHER = await loadHasher();
/** Budgets of processes that are gone: making them costs more than a small backup. */
const arenas: Arena[] = [];

/** A request on its way to the pool or the bucket. */
export interface Seen {
  /** `pool Async.VM.snapshot`, `pool /export`, `store UploadPart archive`. */
  name: string;
  key: string;
  /** False before anything is done, true after. */
  done: boolean;
}

/** `cut` ends the connection; a promise holds the request until it resolves. */
export type Watcher = (seen: Seen) => unknown;

export interface Instance {
  readonly process: Process;
  readonly service: RunningService;
  readonly store: ObjectStore;
  readonly pool: Pool;
  readonly log: { lines: string[] };
  /** Checks that nothing of its memory is in use; it is not used after that. */
  giveBack(): void;
}

export interface Ground extends AsyncDisposable {
  readonly clock: IdleClock;
  readonly sim: SimPool;
  readonly s3: SimS3;
  readonly ids: Ids;
  /** Another process on pool and bucket; it has taken up nothing yet. */
  start(name: string, over?: StartOptions): Instance;
  watch(watcher: Watcher): () => void;
  /** Work that has to be over before the scenario is. */
  later(work: Promise<unknown>): void;
  settled(): Promise<void>;
  /** Times a fault struck, in all. */
  struck(): number;
  strike(): void;
  /** No faults any more, and nobody watching. */
  calm(): void;
  /** Forgets what the bucket holds, and what was told. */
  empty(): void;
  /** By all instances that tell, in the order it arrived. */
  readonly told: readonly Notice[];
}

export interface StartOptions {
  /** Attempts a job has when it fails for a reason that may pass; one unless given. */
  attempts?: number;
  /** As its row says: no conditional writes, equal parts. */
  provider?: string;
  /** What the bucket can do is told; finding out is a third of all requests of a backup. */
  told?: boolean;
  /** Somebody wants to hear of what it does. */
  tells?: boolean;
}

function disk(name: string, sizeBytes: number, density: number): DiskSpec {
  const seed = name.length;
  const open = () =>
    density === 0
      ? createSparseDisk(sizeBytes)
      : createGeneratedDisk({ sizeBytes, seed, density, clusterBytes: 65_536 });
  return { name, storage: 'nfs', bootable: true, open };
}

/** What a pool has, in small: one disk, several with an ISO, more than one part, nothing at all, an odd size. */
export const MACHINES: readonly MachineSpec[] = [
  { name: 'small', power: 'Running', disks: [disk('small root', 3 * MIB, 1)] },
  {
    name: 'several',
    power: 'Running',
    disks: [
      disk('several root', 3 * MIB, 0.5),
      disk('several data', 2 * MIB + 512, 1),
      disk('several empty', 4 * MIB, 0),
    ],
    cd: 'debian-13.iso',
  },
  { name: 'parts', power: 'Running', disks: [disk('parts root', 12 * MIB, 1)] },
  { name: 'diskless', power: 'Halted', disks: [] },
];

/** Pool, bucket and clock; no process yet. */
export async function startGround(): Promise<Ground> {
  const clock = createIdleClock(Date.now());
  const sim = await startSimPool({ machines: MACHINES, clock, plain: true });
  const s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast', clock });
  const watchers = new Set<Watcher>();
  const look = async (seen: Seen): Promise<unknown> => {
    let verdict: unknown;
    for (const watcher of [...watchers]) if ((await watcher(seen)) === 'cut') verdict = 'cut';
    return verdict;
  };
  sim.faults.watch = ({ method, params, done }) =>
    look({ name: `pool ${method}`, key: method === '/export' ? String(params[0]) : '', done });
  s3.faults.watch = ({ operation, key, done }) =>
    look({ name: `store ${operation} ${kindOf(key)}`, key, done });
  const ids = createIds(clock);
  const told: Notice[] = [];
  const ground = { clock, sim, s3, ids, told };
  const works = new Set<Promise<unknown>>();
  let strikes = 0;
  return {
    ...ground,
    later: (work) => void works.add(work.finally(() => works.delete(work))),
    settled: async () => {
      await Promise.all(works);
    },
    strike: () => {
      strikes += 1;
    },
    struck: () =>
      Object.values(s3.faults.struck).reduce((a, b) => a + b, strikes) + sim.faults.struck,
    start: (name, over = {}) => startInstance(ground, name, over),
    watch: (watcher) => {
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    calm: () => {
      watchers.clear();
      sim.faults.clear();
      s3.faults.clear();
      names.found = true;
    },
    empty: () => {
      s3.inspect.emptyBucket(BUCKET);
      told.splice(0);
    },
    [Symbol.asyncDispose]: async () => {
      await sim.close();
      await s3.close();
    },
  };
}

function startInstance(
  {
    clock,
    sim,
    s3,
    ids,
    told: notices,
  }: Pick<Ground, 'clock' | 'sim' | 's3' | 'ids'> & {
    told: Notice[];
  },
  name: string,
  { attempts = 1, provider, told = false, tells = false }: StartOptions,
): Instance {
  const process = startProcess(name, clock);
  const log = createTestLog();
  const arena = arenas.pop() ?? createArena({ totalBytes: ARENA_BYTES, unitBytes: UNIT_BYTES });
  const deps = { clock: process.clock, log, arena, meter: silentMeter, random: () => 0.5 };
  const { accessKeyId, secretAccessKey, region } = s3;
  return process.run(() => {
    const store = createS3Store(
      {
        endpoint: `http://store${TEST_DOMAIN}:${new URL(s3.endpoint).port}`,
        region,
        bucket: BUCKET,
        prefix: PREFIX,
        pathStyle: true,
        credentials: { accessKeyId, secretAccessKey },
        ...(provider === undefined ? {} : { provider }),
        ...(told ? { quirks: { conditionalWrites: 'yes', conditionalComplete: 'yes' } } : {}),
      },
      deps,
    );
    const pool = createXapiPool(
      {
        name: 'dc1',
        urls: sim.urls,
        username: sim.username,
        password: sim.password,
        trust: { kind: 'insecure' },
      },
      deps,
    );
    const service = createService(
      {
        ...deps,
        ...{ ids, pools: [pool], store, stateStore: store, loadHasher: async () => HASHER },
        ...(tells ? { notifier: createEar(process, notices) } : {}),
      },
      {
        prefix: PREFIX,
        concurrency: 4,
        concurrencyPerPool: 4,
        concurrencyPerSr: 4,
        queueLimit: 100,
        retentionClasses: ['daily'],
        retry: { attempts, firstPauseMs: 60_000 },
        instance: `${name}-${ids.uuid()}`,
        catalogTtlMs: 0,
      },
    );
    return {
      process,
      service,
      store,
      pool,
      log,
      giveBack: () => {
        assert.equal(arena.usedBytes, 0, 'all memory is given back');
        arenas.push(arena);
      },
    };
  });
}

/** Hears what a living process tells; it takes a moment. */
function createEar(process: Process, notices: Notice[]): Notifier {
  return {
    targets: () => ['ear'],
    send: async (notice, { targets }, { signal }) => {
      await process.clock.sleep(TELLING_MS, { signal }).catch(() => undefined); // told just so
      if (process.alive) notices.push(notice);
      return targets.map((target) => ({ target, ok: true, attempts: 1 }));
    },
  };
}

/** UUIDv7 of the simulated time: what is judged by the age of an id is judged by the clock of all. */
function createIds(clock: IdleClock): Ids {
  let count = 0;
  return {
    uuid: () => {
      count += 1;
      const time = Math.floor(clock.now()).toString(16).padStart(12, '0');
      const serial = count.toString(16).padStart(15, '0');
      const rest = `${serial.slice(0, 3)}-8${serial.slice(3, 6)}-0${serial.slice(4)}`;
      return `${time.slice(0, 8)}-${time.slice(8)}-7${rest}`;
    },
  };
}

const KINDS = ['jobs', 'leases', 'idempotency', 'staging', 'probe'];

function kindOf(key: string): string {
  const folder = key.split('/')[1] ?? '';
  if (KINDS.includes(folder)) return folder;
  if (key.endsWith('.xva')) return 'archive';
  if (key.endsWith('blocks.idx')) return 'index';
  return key.endsWith('backup.json') ? 'backup' : folder;
}
