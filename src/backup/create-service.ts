/** The engine behind HTTP and command line: wires queue, catalogue and pools to the questions of `Service`. */
import { createBackupCatalog } from '../catalog/backups.ts';
import { DAY_MS } from '../catalog/forecast.ts';
import { createJobStore } from '../catalog/job-store.ts';
import { createKeys } from '../catalog/keys.ts';
import { CLOCK_SKEW_MS, createLeases, leaseTiming } from '../catalog/lease.ts';
import type { Job } from '../catalog/record.ts';
import { createUnreadable } from '../catalog/unreadable.ts';
import { createVerifications } from '../catalog/verifications.ts';
import { toBackupError } from '../errors.ts';
import type {
  Arena,
  Clock,
  Hooks,
  Ids,
  Log,
  Meter,
  Notifier,
  ObjectStore,
  Pool,
} from '../ports.ts';
import { DEFAULT_PRICES, type Prices } from '../prices.ts';
import type { SharedQueue } from '../queue-port.ts';
import { DEFAULT_ROTATION, type RotationSettings } from '../settings-rotation.ts';
import { NEVER } from '../signals.ts';
import { parseTime } from '../time.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import { loadHasher } from '../xva/hash.ts';
import { createNormaliser } from '../xva/normaliser.ts';
import type { Hasher } from '../xva/types.ts';
import { createAdoptService } from './adopt-service.ts';
import type { Engine } from './context.ts';
import { createDiskViews } from './disk-view.ts';
import { createEndings, type Endings } from './endings.ts';
import { createForecastService } from './forecast-service.ts';
import { createFreshnessWatch } from './freshness-watch.ts';
import { createGuard, type Guard } from './guard.ts';
import { createGuardSchedule, type GuardSchedule } from './guard-schedule.ts';
import { createJobRunner, type JobRunner } from './jobs.ts';
import { createNotices } from './notices.ts';
import { createPinService } from './pin-service.ts';
import { createQueries, type Queries } from './queries.ts';
import type { QueueLimits } from './queue.ts';
import { repeat } from './repeat.ts';
import { createRestoreService } from './restore-service.ts';
import { createRotationService } from './rotation-service.ts';
import { createRuns } from './runs.ts';
import type { Readiness, Service } from './service.ts';
import { createSweep } from './sweep.ts';
import { createSweepSchedule, type SweepSchedule } from './sweep-schedule.ts';
import type { RetryPolicy } from './try-again.ts';
import { createRestoreTestService } from './verify-boot-service.ts';
import { createVerifyService } from './verify-service.ts';
import { createWatch, type Watch } from './watch.ts';
import { createWorkOff } from './work-off.ts';

/** A dead instance's jobs are looked for at start and then this often, or more often where leases are short. */
const RESUME_EVERY_MS = 60_000;

/** A listing of the bucket's backups serves this long, unless something is known to have changed. */
const LISTING_KEPT_MS = 30_000;
/** Machines and jobs are listed this often at most, however many ask; as often as a job's record is read. */
const LISTED_EVERY_MS = 1000;

export interface ServiceDeps {
  pools: readonly Pool[];
  /** Archives. */
  store: ObjectStore;
  /** Jobs, leases, idempotency keys; usually the same. */
  stateStore: ObjectStore;
  clock: Clock;
  ids: Ids;
  log: Log;
  meter: Meter;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
  /** Absent where the settings allow none. */
  hooks?: Hooks;
  /** Absent where nobody wants to be told. */
  notifier?: Notifier;
  /** Where instances share one. */
  queue?: SharedQueue;
  /** One that knows the memory blocks lie in; unless given one that copies what it hashes. */
  loadHasher?(): Promise<Hasher>;
  /** The byte budget, for blocks of backups that are read; unless given a small one of its own. */
  loadArena?(): Promise<Arena>;
}

export interface ServiceSettings {
  prefix: string;
  concurrency: number;
  concurrencyPerPool: number;
  concurrencyPerSr: number;
  queueLimit: number;
  /** A name of this process, new at every start: leases and job records carry it. */
  instance: string;
  /** The classes of XVAULT_RETENTION_DAYS. */
  retentionClasses: readonly string[];
  /** XVAULT_LEASE_SECONDS; 90 s unless given. */
  leaseMs?: number;
  /** Attempts of a job that fails for a reason that may pass; none is made again unless given. */
  retry?: RetryPolicy;
  /** How long a listing of the bucket may be old. */
  catalogTtlMs?: number;
  /** XVAULT_RETENTION_DAYS: when the bucket's rules remove a backup; never unless given. */
  retentionDays?: Readonly<Record<string, number>>;
  /** XVAULT_LOCK: retention class → days. */
  lockDays?: Readonly<Record<string, number>>;
  /** XVAULT_TIME_ZONE and what the bucket's rules are to do. */
  rotation?: RotationSettings;
  /** XVAULT_SEAM_CHECK_PERCENT; all unless given. */
  seamCheckPercent?: number;
  /** XVAULT_S3_PRICES. */
  prices?: Prices;
  /** The jobs that ended here are remembered: for a process that tells of them and ends. */
  keepsEnded?: boolean;
  /** Jobs that wait in a queue of other instances are theirs. */
  leaveParked?: boolean;
  /** XVAULT_MAX_AGE_HOURS; who is told of machines without a fresh backup is told by this, nobody unless given. */
  maxAgeSeconds?: number;
  /** This instance reaches no pool and only reads: the status tells of the machines the bucket knows. */
  poolsElsewhere?: boolean;
}

export interface RunningService extends Service {
  /** Takes over what a dead instance left, now and every minute, and sweeps, now and every hour. */
  start(): Promise<void>;
  readonly running: number;
  readonly waiting: number;
}

/** The service over one bucket and its pools. */
export function createService(deps: ServiceDeps, settings: ServiceSettings): RunningService {
  const { engine, leaving } = createEngineToLeave(deps, settings);
  const { clock, log } = deps;
  let isStarted = false;
  const ended: Job[] = [];
  const { guard, guards, endings } = createGuards(engine, settings);
  const runner = createJobRunner(engine, {
    ...runnerSettings(settings),
    shared: deps.queue,
    onDoubt: () => void (isStarted && resume()),
    onLeaseLost: () => sweeps.soon(),
    onEnded: (job) => {
      guards.jobEnded(job);
      if (settings.keepsEnded) ended.push(job);
    },
  });
  const runs = createRuns(engine, { runner, stateStore: deps.stateStore, ...settings });
  const sweeps = createSweeps(engine, { runner, deps, settings });
  const queries = createQueries(engine, {
    stateStore: deps.stateStore,
    endings,
    freshMs: Math.min(LISTED_EVERY_MS, settings.catalogTtlMs ?? LISTED_EVERY_MS),
    poolsElsewhere: settings.poolsElsewhere,
  });
  const freshness = createFreshnessWatch(engine, queries, settings);
  const disks = createDiskViews(engine, deps);
  const resumeEveryMs = Math.min(RESUME_EVERY_MS, (engine.leases.timing.leaseMs * 2) / 3);
  const stopped = new AbortController();

  const resume = async (): Promise<void> => {
    try {
      await runner.resume({ signal: NEVER });
      await runs.resume({ signal: NEVER });
    } catch (error) {
      // nothing is lost: the records stay, the next round looks again
      log.warn('left jobs not looked at', { error: toBackupError(error).message });
    }
  };

  return {
    ...queries,
    ...runs.service,
    ...createAnswers(engine, { runner, guard, guards, deps, settings }),
    openDisk: disks.openDisk,
    openArchive: disks.openArchive,
    readiness: async (options) => withQueue(await queries.readiness(options), deps.queue),
    ...createWorkOff(engine, { runner, queue: deps.queue, ended }),
    ...createJobAnswers(runner, createWatch(engine, runner), queries),
    sweep: sweeps.sweep,
    renewLastGood: guards.renewLastGood,
    start: async () => {
      await warnOfStore(deps);
      isStarted = true;
      runner.takeTurns();
      await resume();
      void repeat(clock, resumeEveryMs, stopped.signal, resume);
      sweeps.start();
      freshness.start();
      guards.start();
    },
    drain: async (input) => {
      stopped.abort();
      freshness.stop();
      if (input.leaveMs === undefined) await runs.stop();
      else void clock.sleep(input.leaveMs, { signal: NEVER }).then(() => leaving.abort());
      // a bucket that hangs must not keep the jobs from cleaning up on the pool
      await Promise.all([runs.stop(), runner.drain(input), sweeps.stop()]);
      await guards.stop(input);
      await engine.notices?.drain();
      disks.close();
    },
    get draining() {
      return runner.draining;
    },
    get running() {
      return runner.running;
    },
    get waiting() {
      return runner.waiting;
    },
  };
}

/** What `leaving` aborts gives every lease back. */
function createEngineToLeave(deps: ServiceDeps, settings: ServiceSettings) {
  const leaving = new AbortController();
  const engine = { ...createEngine(deps, settings), leaving: leaving.signal };
  return { engine: withNotices(engine, deps), leaving };
}

/** Jobs wait while it is away, and nothing is lost: a warning. */
function withQueue(ready: Readiness, queue: SharedQueue | undefined): Readiness {
  if (queue === undefined) return ready;
  const { problem } = queue;
  const output = `the shared queue is away (${problem}): what runs goes on, new jobs wait in the bucket`;
  const check = problem === undefined ? { status: 'pass' } : { status: 'warn', output };
  const status = problem !== undefined && ready.status === 'pass' ? 'warn' : ready.status;
  return { status, checks: { ...ready.checks, queue: check as Readiness['checks'][string] } };
}

type JobAnswers = 'startBackup' | 'startIndex' | 'cancelJob' | 'listJobs' | keyof Watch;

function createJobAnswers(
  runner: JobRunner,
  { shown, ...watch }: Watch,
  queries: Queries,
): Omit<Pick<Service & Watch, JobAnswers>, 'shown'> {
  return {
    ...watch,
    startBackup: (input, options) => runner.start(input, options),
    startIndex: (input, options) => runner.startIndex(input, options),
    cancelJob: (id, options) => runner.cancel(id, options),
    listJobs: async (input, options) => {
      const page = await queries.listJobs(input, options);
      return { ...page, items: page.items.map(shown) };
    },
  };
}

function runnerSettings(settings: ServiceSettings) {
  return {
    instance: settings.instance,
    retentionClasses: settings.retentionClasses,
    limits: limitsOf(settings),
    leaveParked: settings.leaveParked,
    retry: settings.retry ?? { attempts: 1, firstPauseMs: 0 },
  };
}

function limitsOf(settings: ServiceSettings): QueueLimits {
  return {
    total: settings.concurrency,
    perPool: settings.concurrencyPerPool,
    perSr: settings.concurrencyPerSr,
    waiting: settings.queueLimit,
  };
}

/** What is asked about backups that are there. */
function createAnswers(
  engine: Engine,
  {
    runner,
    guard,
    guards,
    deps: { stateStore },
    settings: { retentionDays = {}, lockDays },
  }: {
    runner: ReturnType<typeof createJobRunner>;
    guard: Guard;
    guards: GuardSchedule;
    deps: ServiceDeps;
    settings: ServiceSettings;
  },
) {
  const onApplied = guards.soon;
  return {
    ...createVerifyService(engine, runner),
    ...createRestoreTestService(engine, runner),
    ...createAdoptService(engine, runner),
    ...createPinService(engine, { runner, guard, retentionDays }),
    ...createForecastService(engine, { retentionDays, lockDays }),
    ...createRotationService(engine, { stateStore, retentionDays, onApplied }),
    ...createRestoreService(engine, runner),
  };
}

/** Who keeps the last good backups, when, and what is told of it. */
function createGuards(
  engine: Engine,
  { retentionDays = {} }: ServiceSettings,
): { guard: Guard; guards: GuardSchedule; endings: Endings } {
  const settings = { marginMs: engine.rotation.lastGoodDays * DAY_MS, retentionDays };
  const guard = createGuard(engine, settings);
  return {
    guard,
    guards: createGuardSchedule(engine, guard),
    endings: createEndings(engine, { settings, failures: guard.failures }),
  };
}

function createSweeps(
  engine: Engine,
  {
    runner,
    deps,
    settings,
  }: { runner: ReturnType<typeof createJobRunner>; deps: ServiceDeps; settings: ServiceSettings },
): SweepSchedule {
  const sweep = createSweep({
    engine,
    stateStore: deps.stateStore,
    takeOver: async (jobIds, { signal }) => {
      await runner.resume({ signal, also: jobIds });
      const jobs = await Promise.all(jobIds.map((id) => engine.jobs.load(id, { signal })));
      return jobs.flatMap((found) =>
        found?.job.instance === settings.instance ? [found.job.id] : [],
      );
    },
  });
  return createSweepSchedule(engine, sweep);
}

function createEngine(deps: ServiceDeps, settings: ServiceSettings): Engine {
  const { store, stateStore, clock, ids, log, meter, hooks } = deps;
  const keys = createKeys(settings.prefix);
  const unreadable = createUnreadable({ log, meter });
  let loading: Promise<Hasher> | undefined;
  const hasher = () => {
    loading ??= (deps.loadHasher ?? loadHasher)();
    return loading;
  };
  const kept = { ttlMs: settings.catalogTtlMs ?? LISTING_KEPT_MS };
  const catalog = createBackupCatalog({ store, keys, clock, unreadable }, kept);
  const verifications = createVerifications({ store, keys, clock, log }, kept);
  // whoever saw a job succeed finds here what it made; what this instance made is known without it
  const onEnd = ({ finished_at: at, instance }: Job) => {
    const isOld = at && clock.now() - parseTime(at) > kept.ttlMs + CLOCK_SKEW_MS;
    if (isOld || instance === settings.instance) return;
    for (const listing of [catalog, verifications]) listing.changed();
  };
  return {
    pools: new Map(deps.pools.map((pool) => [pool.name, pool])),
    store,
    keys,
    catalog,
    adoptions: new Map(),
    verifications,
    jobs: createJobStore({ store: stateStore, keys, clock, unreadable, onEnd }),
    leases: createLeases(
      { store: stateStore, clock, ids },
      { owner: settings.instance, timing: leaseTiming(settings.leaseMs) },
    ),
    unreadable,
    clock,
    ids,
    log,
    meter,
    tracer: deps.tracer ?? NO_TRACER,
    ...(hooks === undefined ? {} : { hooks }),
    delta: {
      retentionDays: settings.retentionDays ?? {},
      seamCheckPercent: settings.seamCheckPercent ?? 100,
      prices: settings.prices ?? DEFAULT_PRICES,
    },
    retentionClasses: settings.retentionClasses,
    rotation: settings.rotation ?? DEFAULT_ROTATION,
    createNormaliser: async (input) => createNormaliser(input, await hasher()),
    hasher,
  };
}

function withNotices(engine: Engine, { notifier, stateStore }: ServiceDeps): Engine {
  if (notifier === undefined) return engine;
  return { ...engine, notices: createNotices({ ...engine, notifier, stateStore }) };
}

/** Without conditional writes two instances could work on one machine: the operator must know before they do. */
async function warnOfStore({ stateStore, log }: ServiceDeps): Promise<void> {
  try {
    const { conditionalWrites, provider, bucket } = await stateStore.facts({ signal: NEVER });
    if (conditionalWrites) return;
    const mend = 'run one instance only, or set XVAULT_STATE_BUCKET to a plain bucket';
    log.warn(`this bucket has no safe conditional writes: ${mend}`, { provider, bucket });
  } catch (error) {
    log.warn('bucket not reached at start', { error: toBackupError(error).message });
  }
}
