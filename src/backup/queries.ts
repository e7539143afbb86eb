/** The questions that change nothing: machines, backups, jobs, status, readiness. All answered from the bucket. */
import type { BackupEntry, BackupFilter } from '../catalog/backups.ts';
import { type Backup, isEnded, type Job } from '../catalog/record.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore, Pool, StoreFacts, VmFacts } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { parseTime } from '../time.ts';
import { type Engine, poolOf } from './context.ts';
import { createEndings, type Endings } from './endings.ts';
import { goneAtRisk } from './guard-verdict.ts';
import { uuidTimeMs } from './ids.ts';
import { maxAgeOf } from './max-age.ts';
import { pageOf } from './page.ts';
import { SKIP_TAG } from './runs-select.ts';
import type { Page, PageInput, Readiness, Service, VmView } from './service.ts';

import { createShare, type Share } from './share.ts';
import { statusOf } from './status.ts';
import { type NewestGood, newestGoodOf, withVerified } from './verified-backups.ts';

/** Newest job records looked at for "the last try" of each machine. */
const LAST_JOBS = 500;
/** Probes come every few seconds from everywhere: the bucket is asked this often at most. */
const READY_CACHE_MS = 30_000;
/** Where nobody guards, ends are told all the same. */
const NO_GUARD = { marginMs: 0, retentionDays: {} };
/** The record does not hold them: who has one counts by the setting until the pool answers. */
const NO_TAGS: string[] = [];
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export type Queries = Pick<
  Service,
  'listJobs' | 'listVms' | 'listBackups' | 'getBackup' | 'archiveLink' | 'status' | 'readiness'
>;

/** What is asked of pool and bucket for one caller, and shared with all who ask in the same moment. */
interface Asking {
  engine: Engine;
  share: Share;
  endings: Endings;
  poolsElsewhere: boolean;
}

/**
 * The reading half of the service; `freshMs`: how old a listing of machines or jobs may be. `poolsElsewhere`: no pool is asked,
 * the machines are those the bucket knows.
 */
export function createQueries(
  engine: Engine,
  {
    freshMs,
    stateStore = engine.store,
    endings = createEndings(engine, { settings: NO_GUARD, failures: new Map() }),
    poolsElsewhere = false,
  }: {
    freshMs: number;
    stateStore?: ObjectStore;
    endings?: Endings;
    poolsElsewhere?: boolean | undefined;
  } = { freshMs: 0 },
): Queries {
  const { catalog, jobs, clock } = engine;
  const asking: Asking = {
    engine,
    share: createShare(clock, { freshMs }),
    endings,
    poolsElsewhere,
  };
  let ready: { at: number; answer: Promise<Readiness> } | undefined;

  return {
    listJobs: async (input) => {
      const all = await jobIds(asking);
      // whoever asks for these every few seconds must not make us read the records of a month each time
      const isOpen = input.status === 'queued' || input.status === 'running';
      const ids = isOpen ? all.filter((id) => !jobs.hasEnded(id)) : all;
      const matches = (job: Job) =>
        (input.status === undefined || job.status === input.status) &&
        (input.pool === undefined || job.vm.pool === input.pool) &&
        (input.vm === undefined || job.vm.uuid === input.vm || job.vm.name === input.vm);
      const filter = ['jobs', input.status, input.vm, input.pool];
      const seen: string[] = [];
      const load = async (some: readonly string[]) => {
        seen.push(...some);
        const found = await Promise.all(some.map((id) => jobs.readable(id)));
        return found.map((job) => (job && matches(job) ? job : undefined));
      };
      return withUnreadable(engine, await pageOf(ids, input, filter, (id) => id, load), seen);
    },
    listVms: async ({ pool }, options) => {
      const pools = pool === undefined ? [...engine.pools.values()] : [poolOf(engine, pool)];
      const views = await Promise.all(pools.map((one) => viewsOf(asking, one, options)));
      return views.flat();
    },
    listBackups: async (input, options) => {
      const entries = await catalog.entries(await filterOf(engine, input, options));
      const filter = ['backups', input.vm, input.pool, input.retention];
      const seen: string[] = [];
      const load = (some: readonly BackupEntry[]) => {
        seen.push(...some.map((entry) => entry.backupId));
        return recordsInPlace(engine, some, options);
      };
      const page = await pageOf(entries, input, filter, (entry) => entry.backupId, load);
      const { items, ...rest } = withUnreadable(engine, page, seen);
      const verified = await withVerified(items, engine, options);
      return { ...rest, items: await endings.withEnds(verified, options) };
    },
    getBackup: async (id, options) => {
      const entry = await catalog.find(id);
      const backup = entry && (await catalog.record(entry, options));
      const shown = backup && (await withVerified([backup], engine, options));
      return shown && (await endings.withEnds(shown, options))[0];
    },
    archiveLink: async (id, { expiresSeconds }) => {
      const entry = await catalog.find(id);
      if (entry === undefined) return undefined;
      const fileName = entry.archiveKey.slice(entry.archiveKey.lastIndexOf('/') + 1);
      return engine.store.presignGet({ key: entry.archiveKey, expiresSeconds, fileName });
    },
    status: (input, options) => status(asking, input, options),
    readiness: () => {
      if (ready === undefined || clock.elapsed() - ready.at > READY_CACHE_MS) {
        ready = { at: clock.elapsed(), answer: checkReady(engine, stateStore) };
      }
      return ready.answer;
    },
  };
}

/** The page, with those of the ids looked at for it that cannot be read. */
function withUnreadable<T extends { id: string }>(
  { unreadable }: Engine,
  page: Page<T>,
  seen: readonly string[],
): Page<T> {
  const ids = new Set(seen);
  // looked at ahead: the next page tells of those
  const last = page.nextPageToken === undefined ? undefined : page.items.at(-1)?.id;
  const here = unreadable
    .list()
    .filter(({ id }) => ids.has(id) && (last === undefined || id > last));
  return here.length === 0 ? page : { ...page, unreadable: here };
}

async function recordsInPlace(
  engine: Engine,
  entries: readonly BackupEntry[],
  options: Cancellable,
) {
  const records = await engine.catalog.records(entries, options);
  const byId = new Map(records.map((record) => [record.id, record]));
  return entries.map((entry) => byId.get(entry.backupId));
}

/** A name is looked up among the machines that have backups: they may be gone from the pool. */
async function filterOf(
  engine: Engine,
  input: PageInput & { vm?: string; pool?: string; retention?: string },
  options: Cancellable,
): Promise<BackupFilter> {
  const base = {
    ...(input.pool === undefined ? {} : { pool: input.pool }),
    ...(input.retention === undefined ? {} : { retention: input.retention }),
  };
  if (input.vm === undefined) return base;
  if (UUID.test(input.vm)) return { ...base, vmUuid: input.vm };
  const newest = [...(await engine.catalog.newestReadable(options)).values()];
  const named = newest.filter((b) => b.vm.name === input.vm);
  const uuids = [...new Set(named.map((backup) => backup.vm.uuid))];
  if (uuids.length <= 1) return { ...base, vmUuid: uuids[0] ?? input.vm };
  throw new BackupError(
    'vm_ambiguous',
    `find backups of ${input.vm}: several machines had this name`,
    {
      details: { candidates: named.map(({ vm }) => vm) },
    },
  );
}

/** A job begun here is listed at once, whatever was listed a moment ago. */
function jobIds({ engine, share }: Asking): Promise<string[]> {
  const { jobs } = engine;
  return share('jobs', () => jobs.ids({ signal: NEVER }), jobs.created);
}

function vmsOf({ share }: Asking, pool: Pool): Promise<VmFacts[]> {
  return share(`machines of ${pool.name}`, () => pool.listVms({ signal: NEVER }));
}

async function viewsOf(asking: Asking, pool: Pool, options: Cancellable): Promise<VmView[]> {
  const { engine, share } = asking;
  const { keys, leases, catalog } = engine;
  const [vms, newest, holders] = await Promise.all([
    vmsOf(asking, pool),
    catalog.newestReadable(options),
    share(`leases of ${pool.name}`, () =>
      leases.list(keys.lease(pool.name, ''), { signal: NEVER }),
    ),
  ]);
  const nowMs = engine.clock.now();
  return vms.map((vm) => {
    const holder = holders.get(keys.lease(pool.name, vm.uuid));
    const view = viewOf(vm, {
      pool: pool.name,
      record: newest.get(`${pool.name}/${vm.uuid}`),
      nowMs,
    });
    return holder && !holder.expired ? { ...view, running_job_id: holder.jobId } : view;
  });
}

function viewOf(
  vm: VmFacts,
  { pool, record, nowMs }: { pool: string; record: Backup | undefined; nowMs: number },
): VmView {
  const view: VmView = {
    uuid: vm.uuid,
    name: vm.nameLabel,
    pool,
    power_state: vm.powerState,
    tags: vm.tags,
  };
  if (vm.tags.includes(SKIP_TAG)) view.skipped_because = `it carries the tag ${SKIP_TAG}`;
  if (record === undefined) return view;
  const { id, created_at, retention, archive } = record;
  view.last_backup = { id, created_at, retention, size_bytes: archive.size_bytes };
  view.age_seconds = Math.max(0, Math.round((nowMs - parseTime(created_at)) / 1000));
  return view;
}

async function status(
  asking: Asking,
  input: { maxAgeSeconds: number; pool?: string },
  options: Cancellable,
) {
  const { engine } = asking;
  const [newest, lastJobs] = await Promise.all([
    engine.catalog.newestReadable(options),
    lastJobOfEach(asking),
  ]);
  const goods = await newestGoodOf(newest, engine, options);
  const guards = await asking.endings.guards(idsOf(goods), options);
  const { machines, unreachablePools } = asking.poolsElsewhere
    ? { machines: knownToBucket(newest, lastJobs, input.pool), unreachablePools: [] }
    : await machinesOfPools(asking, newest, input.pool);
  const vms = machines.map(({ uuid, nameLabel, pool, tags }) => {
    const maxAge = maxAgeOf(tags);
    const found = goods.get(`${pool}/${uuid}`);
    const job = lastJobs.get(`${pool}/${uuid}`);
    const guard = guards.get(`${pool}/${uuid}`);
    return {
      uuid,
      name: nameLabel,
      pool,
      skipped: tags.includes(SKIP_TAG),
      ...(maxAge && { maxAge }),
      ...(guard && { guard }),
      ...(found?.good ? { lastBackup: lastOf(found.good) } : {}),
      ...(found?.damaged ? { damaged: damagedOf(found.damaged) } : {}),
      ...(job ? { lastJob: jobSummary(job) } : {}),
    };
  });
  return statusOf({
    nowMs: engine.clock.now(),
    maxAgeSeconds: input.maxAgeSeconds,
    unreachablePools,
    unreadable: engine.unreadable.list(),
    vms,
    atRisk: goneAtRisk(guards, { seen: vms, newest, pool: input.pool }, engine.clock.now()),
    fromBucket: asking.poolsElsewhere,
  });
}

type Machine = Pick<VmFacts, 'uuid' | 'nameLabel' | 'tags'> & { pool: string };
type Newest = ReadonlyMap<string, Backup>;

async function machinesOfPools(
  asking: Asking,
  newest: Newest,
  name: string | undefined,
): Promise<{ machines: Machine[]; unreachablePools: string[] }> {
  const { engine } = asking;
  const pools = name === undefined ? [...engine.pools.values()] : [poolOf(engine, name)];
  const unreachablePools: string[] = [];
  const lists = await Promise.all(
    pools.map(async (pool) => {
      try {
        const vms = await vmsOf(asking, pool);
        return vms.map((vm) => ({ ...vm, pool: pool.name }));
      } catch (error) {
        engine.log.warn('pool not listed', {
          pool: pool.name,
          error: toBackupError(error).message,
        });
        unreachablePools.push(pool.name);
        return knownFromBucket(pool.name, newest);
      }
    }),
  );
  return { machines: lists.flat(), unreachablePools };
}

/** Whoever has a backup, or had a job that tried to make one: a machine never named to xvault is on its pool alone. */
function knownToBucket(
  newest: Newest,
  lastJobs: ReadonlyMap<string, Job>,
  pool: string | undefined,
): Machine[] {
  const known = new Map<string, Machine>();
  for (const { vm } of [...lastJobs.values(), ...newest.values()]) {
    if (pool !== undefined && vm.pool !== pool) continue;
    const { uuid, name } = vm;
    known.set(`${vm.pool}/${uuid}`, { uuid, nameLabel: name, pool: vm.pool, tags: NO_TAGS });
  }
  return [...known.values()];
}

/** The ids, by machine. */
function idsOf(goods: ReadonlyMap<string, NewestGood>): Map<string, string> {
  const ids = [...goods].flatMap(([machine, { good }]): [string, string][] =>
    good === undefined ? [] : [[machine, good.backup.id]],
  );
  return new Map(ids);
}

function lastOf({ backup: { id }, verified }: NonNullable<NewestGood['good']>) {
  return { id, createdAtMs: uuidTimeMs(id), ...(verified && { verified }) };
}

function damagedOf({ backup: { id }, verified }: NonNullable<NewestGood['damaged']>) {
  return { id, verified };
}

function knownFromBucket(pool: string, newest: Newest): Machine[] {
  const records = [...newest.values()].filter(({ vm }) => vm.pool === pool);
  return records.map(({ vm }) => ({ uuid: vm.uuid, nameLabel: vm.name, pool, tags: NO_TAGS }));
}

async function lastJobOfEach(asking: Asking): Promise<Map<string, Job>> {
  const { jobs } = asking.engine;
  const ids = (await jobIds(asking)).slice(0, LAST_JOBS);
  const last = new Map<string, Job>();
  for (const job of await Promise.all(ids.map((id) => jobs.readable(id)))) {
    if (job?.kind !== 'backup' || job.request.dry_run || !isEnded(job)) continue;
    const key = `${job.vm.pool}/${job.vm.uuid}`;
    if (!last.has(key)) last.set(key, job);
  }
  return last;
}

function jobSummary(job: Job) {
  return {
    id: job.id,
    status: job.status,
    ...(job.finished_at ? { finishedAt: job.finished_at } : {}),
    ...(job.error ? { errorCode: job.error.code } : {}),
  };
}

/** Leases lie there. */
function ofState({ conditionalWrites }: StoreFacts): string | undefined {
  return conditionalWrites ? undefined : 'no conditional writes here: run one instance only';
}

/** A bucket or pool that is away is a warning: taking every instance out would not bring it back. */
async function checkReady(engine: Engine, stateStore: ObjectStore): Promise<Readiness> {
  const checks: Readiness['checks'] = {};
  const look = async (name: string, work: () => Promise<string | undefined>) => {
    try {
      const output = await work();
      checks[name] = output === undefined ? { status: 'pass' } : { status: 'warn', output };
    } catch (error) {
      checks[name] = { status: 'warn', output: toBackupError(error).message };
    }
  };
  await Promise.all([
    look('bucket', async () => {
      const facts = await engine.store.facts({ signal: NEVER });
      return stateStore === engine.store ? ofState(facts) : undefined;
    }),
    ...(stateStore === engine.store
      ? []
      : [look('state bucket', async () => ofState(await stateStore.facts({ signal: NEVER })))]),
    ...[...engine.pools.values()].map((pool) =>
      look(`pool:${pool.name}`, async () => {
        const { trust } = await pool.facts({ signal: NEVER });
        return trust === 'insecure' ? 'the certificate of the pool is not checked' : undefined;
      }),
    ),
  ]);
  const warned = Object.values(checks).some((check) => check.status !== 'pass');
  return { status: warned ? 'warn' : 'pass', checks };
}
