/**
 * The queue that instances share: BullMQ on Redis or Valkey, one BullMQ queue a pool.
 *
 * BullMQ keeps the order (priorities, times), hands each job to one instance, counts what is active in a pool, and gives
 * a job whose instance fell silent to another. What a pool and an SR carry is decided by slots.ts.
 *
 * Nothing here is the truth: every answer may be lost or come twice, and a failed command is never an error of a job. What
 * runs goes on while Redis is away; what cannot be added is found again in the bucket (backup/shared-jobs.ts).
 *
 * Keys begin with `{xvault:<bucket>/<prefix>}`, so that several installations may share one Redis.
 */
import type { Clock, Log, Meter } from '../ports.ts';
import type { PoolCounts, QueuePlace, SharedQueue, Ticket } from '../queue-port.ts';
import type { Secret } from '../secret.ts';
import { inTime } from '../signals.ts';
import { createLanes, type Lanes } from './lanes.ts';
import { type Link, openLink } from './link.ts';
import { KEEPS_ALL, prefixOf, readServer } from './server.ts';
import { createSlots, type Slots } from './slots.ts';
import { createTurns, type TurnLimits, type Turns, whyNot } from './turns.ts';

/** Longer, and its job may be given to another; that harms nothing, it only costs a look at the bucket. */
const LOCK_MS = 30_000;
/** Instances enter their slots again this often, a sixth of the lock: five may fail. */
const KEEPS_PER_LOCK = 6;
/** Beyond the time instances need to enter their slots again, for a slow one. */
const SETTLE_EXTRA_MS = 1_000;
/** What nobody announces, such as a delayed job whose time has come, is found this late. */
const POLL_MS = 1_000;
/** How old the counts may be that "what would it wait for" is answered from. */
const COUNT_EVERY_MS = 2_000;
const CLOSE_MS = 2_000;

export interface RedisQueueSettings {
  url: Secret;
  /** Names the installation: bucket and prefix. */
  name: string;
  instance: string;
  pools: readonly string[];
  /** `waiting`: of all instances. */
  limits: TurnLimits & { waiting: number };
  /** How long an instance may be silent before its jobs are given to another: 30 s unless given. */
  lockMs?: number;
}

interface Added {
  ticket: Ticket;
  atMs: number;
}

interface Seen {
  atMs: number;
  counts: PoolCounts[];
  held: { pool: string; srs: string[] }[];
}

/** Jobs that wait and come first, and on which SRs those are that came since the last count. */
interface Before {
  count: number;
  srs: string[][];
}

const NONE_WAITS: Before = { count: 0, srs: [] };

interface Context {
  clock: Clock;
  log: Log;
  meter: Meter;
  link: Link;
  lanes: Lanes;
  slots: Slots;
  turns: Turns;
  limits: RedisQueueSettings['limits'];
  seen: Seen | undefined;
  /** Here, since the last count. */
  added: Added[];
  doubt(): void;
}

/** Connects in the background; takes turns once it is served. */
export function createRedisQueue(
  deps: { clock: Clock; log: Log; meter: Meter },
  settings: RedisQueueSettings,
): SharedQueue {
  const context = createContext(deps, settings);
  const { link, lanes, turns, limits } = context;
  const doubters: (() => void)[] = [];
  context.doubt = () => {
    for (const look of doubters) look();
  };
  const closed = new AbortController();
  const looping = loop(context, { keepMs: keepMsOf(settings), signal: closed.signal });
  return {
    add: (ticket) => add(context, ticket),
    remove: (ticket) => remove(context, ticket),
    serve: (turn) =>
      turns.serve((ticket) => {
        context.added = context.added.filter((one) => one.ticket.id !== ticket.id);
        return turn(ticket);
      }),
    reason: (place) => reasonOf(context, place, waitingBefore(context, place)),
    reasonOf: turns.refusalOf,
    heldBack: (place) => reasonOf(context, place, NONE_WAITS),
    get full() {
      return waitingOf(context) >= limits.waiting;
    },
    get waiting() {
      return waitingOf(context);
    },
    get running() {
      return turns.running;
    },
    stop: turns.stop,
    idle: turns.idle,
    ids: async () => {
      if (link.problem !== undefined) return undefined;
      try {
        return await lanes.ids();
      } catch (error) {
        link.away(error);
        return undefined;
      }
    },
    onDoubt: (look) => {
      doubters.push(look);
      if (link.problem === undefined) look();
    },
    counts: () => (link.problem === undefined ? context.seen?.counts : undefined),
    get problem() {
      return link.problem;
    },
    close: async () => {
      turns.stop();
      closed.abort();
      link.wake();
      await inTime(deps.clock, CLOSE_MS, Promise.all([looping, lanes.close()]));
      link.close();
    },
  };
}

function createContext(
  { clock, log, meter }: { clock: Clock; log: Log; meter: Meter },
  settings: RedisQueueSettings,
): Context {
  const { limits, instance, pools, url, lockMs = LOCK_MS } = settings;
  const prefix = prefixOf(settings.name);
  const link = openLink({ clock, log }, { url, channel: `${prefix}:changed` });
  const settleMs = keepMsOf(settings) + SETTLE_EXTRA_MS;
  const slots = createSlots(link.redis, { ...limits, prefix, instance, ttlMs: lockMs, settleMs });
  const lanes = createLanes(link, { prefix, pools, perPool: limits.perPool, lockMs });
  const turns = createTurns({ clock, log, link, lanes, slots }, { instance, limits, lockMs });
  const shared = { clock, log, meter, link, lanes, slots, turns, limits };
  return { ...shared, seen: undefined, added: [], doubt: () => {} };
}

function keepMsOf({ lockMs = LOCK_MS }: RedisQueueSettings): number {
  return lockMs / KEEPS_PER_LOCK;
}

async function loop(
  context: Context,
  { keepMs, signal }: { keepMs: number; signal: AbortSignal },
): Promise<void> {
  const { clock, link } = context;
  let keptAt = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    try {
      const isDue = clock.elapsed() - keptAt >= keepMs;
      const isReady = link.redis.status === 'ready'; // else the link says so
      if (isReady && isDue) keptAt = clock.elapsed();
      if (isReady) await round(context, { isDue });
    } catch (error) {
      keptAt = Number.NEGATIVE_INFINITY;
      if (!signal.aborted) link.away(error);
    }
    context.meter.observe('queue_up', link.problem === undefined ? 1 : 0, { queue: 'shared' });
    await link.pause(Math.min(POLL_MS, keepMs));
  }
}

async function round(context: Context, { isDue }: { isDue: boolean }): Promise<void> {
  const { clock, link, lanes, turns } = context;
  if (link.problem !== undefined) await selectDatabase(link);
  if (!lanes.areOpen) {
    await lanes.open();
    await enterLimits(context);
    await warnOfEviction(context);
  }
  let mayBeLost = false;
  if (isDue && (await turns.keep())) {
    await enterLimits(context);
    await lanes.setLimits();
    mayBeLost = true;
  }
  if (link.back() || mayBeLost) context.doubt();
  await turns.fetch();
  if (context.seen === undefined || clock.elapsed() - context.seen.atMs >= COUNT_EVERY_MS) {
    await count(context);
  }
}

/** After each connect: the client goes on with database 0 where the one of the address is refused. */
async function selectDatabase({ redis }: Link): Promise<void> {
  const { db = 0 } = redis.options;
  if (db !== 0) await redis.select(db);
}

async function count(context: Context): Promise<void> {
  const { clock, lanes, slots, meter } = context;
  const atMs = clock.elapsed();
  const counts = await lanes.counts();
  context.seen = { atMs, counts, held: await slots.held() };
  context.added = context.added.filter((one) => one.atMs >= atMs);
  for (const { pool, waiting, active, delayed } of counts) {
    for (const [state, value] of Object.entries({ waiting, active, delayed })) {
      meter.observe('queue_jobs', value, { pool, state });
    }
  }
}

async function enterLimits({ slots, log, limits }: Context): Promise<void> {
  const former = await slots.setLimits();
  if (former === undefined) return;
  log.warn('shared limits changed: give all instances the same XVAULT_CONCURRENCY_PER_…', {
    former_per_pool: former.perPool,
    former_per_sr: former.perSr,
    per_pool: limits.perPool,
    per_sr: limits.perSr,
  });
}

async function warnOfEviction({ link, log }: Context): Promise<void> {
  const asked = readServer(link.redis);
  const { eviction } = await asked.catch(() => ({ eviction: '' })); // not allowed to ask
  if (eviction === '' || eviction === KEEPS_ALL) return;
  log.warn('this Redis evicts keys when it is full: jobs then wait until they are found again', {
    maxmemory_policy: eviction,
    mend: `maxmemory-policy ${KEEPS_ALL}`,
  });
}

async function add(context: Context, ticket: Ticket): Promise<boolean> {
  const { link, lanes, clock } = context;
  if (link.problem !== undefined) return false;
  try {
    const delay = Math.max(0, (ticket.notBeforeMs ?? 0) - clock.now());
    const { id: jobId, priority, pool } = ticket;
    await lanes.of(pool).queue.add('job', ticket, { jobId, priority, delay });
    context.added.push({ ticket, atMs: clock.elapsed() });
    link.announce();
    return true;
  } catch (error) {
    link.away(error);
    return false;
  }
}

async function remove(
  { link, lanes, slots }: Context,
  { id, pool }: Pick<Ticket, 'id' | 'pool'>,
): Promise<boolean> {
  if (link.problem !== undefined) return false;
  try {
    const lane = lanes.of(pool);
    // removing tells nothing of one that is not there
    const isThere = (await lane.queue.getJob(id)) !== undefined;
    const isGone = (await lane.queue.remove(id)) === 1;
    if (isGone) await slots.forget(id);
    return isGone && isThere;
  } catch {
    return false; // it has its turn
  }
}

/** Of one pool: those that could have a turn now. Of all: those that wait for a time, too. */
function waitingOf({ seen, added, lanes }: Context, pool?: string): number {
  const name = pool === undefined ? undefined : lanes.nameOf(pool);
  const fits = (one: string) => name === undefined || lanes.nameOf(one) === name;
  const counted = (seen?.counts ?? []).filter((one) => fits(one.pool));
  const delayed = name === undefined ? counted.reduce((sum, one) => sum + one.delayed, 0) : 0;
  const coming = added.filter(({ ticket }) => fits(ticket.pool)).length;
  return counted.reduce((sum, { waiting }) => sum + waiting, 0) + delayed + coming;
}

/** Those before one that is not there yet. */
function waitingBefore(context: Context, { pool }: QueuePlace): Before {
  const coming = context.added.filter(({ ticket }) => ticket.pool === pool);
  const srs = coming.map(({ ticket }) => ticket.srs.map(({ uuid }) => uuid));
  return { count: waitingOf(context, pool), srs };
}

function reasonOf(context: Context, place: QueuePlace, before: Before): string | undefined {
  const { link, seen, limits } = context;
  if (link.problem !== undefined) return `the shared queue is away (${link.problem})`;
  if (seen === undefined) return 'the shared queue was not asked yet';
  const running = seen.held.filter(({ pool }) => pool === place.pool).map(({ srs }) => srs);
  const busy = [...running, ...before.srs];
  for (const { uuid } of place.srs) {
    const there = busy.filter((srs) => srs.includes(uuid)).length;
    if (there >= limits.perSr) return whyNot(uuid, place, limits);
  }
  const inPool = running.length + before.count;
  return inPool >= limits.perPool ? whyNot('pool', place, limits) : undefined;
}
