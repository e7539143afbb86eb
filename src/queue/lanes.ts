/**
 * One BullMQ queue a pool, and one for jobs about backups of pools that are not in the settings any more.
 *
 * Jobs are removed when they end, so that an id may come again; BullMQ never gives one up by itself, whatever happens to
 * the instances it was with: its record in the bucket decides that.
 */
import { createRedisBackend, type JobType, Queue, Worker } from 'bullmq';
import type { PoolCounts, Ticket } from '../queue-port.ts';
import type { Link } from './link.ts';

const MAX_STALLED = 1_000_000;
/** Nobody reads BullMQ's events. */
const EVENTS_KEPT = 100;
const ELSEWHERE = '*';
const EVERYWHERE: JobType[] = ['waiting', 'prioritized', 'delayed', 'active'];

export interface Lane {
  pool: string;
  queue: Queue<Ticket>;
  worker: Worker<Ticket>;
}

export interface Lanes {
  all(): Lane[];
  /** The one of this pool. Errors: none is open yet. */
  of(pool: string): Lane;
  nameOf(pool: string): string;
  readonly areOpen: boolean;
  /** Errors: the client's; then none is open. */
  open(): Promise<void>;
  /** How many jobs of a pool may be active over all instances, as far as BullMQ sees them. */
  setLimits(): Promise<void>;
  counts(): Promise<PoolCounts[]>;
  ids(): Promise<Set<string>>;
  close(): Promise<void>;
}

interface LaneSettings {
  prefix: string;
  pools: readonly string[];
  perPool: number;
  lockMs: number;
}

/** None is open at first. */
export function createLanes(link: Link, settings: LaneSettings): Lanes {
  let lanes = new Map<string, Lane>();
  const all = (): Lane[] => [...lanes.values()];
  const nameOf = (pool: string): string => (settings.pools.includes(pool) ? pool : ELSEWHERE);
  const setLimits = async (those = all()): Promise<void> => {
    for (const { queue } of those) await queue.setGlobalConcurrency(settings.perPool);
  };
  return {
    all,
    nameOf,
    of: (pool) => {
      const lane = lanes.get(nameOf(pool));
      if (lane === undefined) throw new Error('the queue is not open yet');
      return lane;
    },
    get areOpen() {
      return lanes.size > 0;
    },
    open: async () => {
      const made = [...settings.pools, ELSEWHERE].map((pool) => openLane(link, pool, settings));
      try {
        for (const { queue, worker } of made) {
          await queue.waitUntilReady();
          await worker.waitUntilReady();
          await worker.startStalledCheckTimer();
        }
        await setLimits(made);
      } catch (error) {
        // one that began to open while the connection was lost never does: made anew the next time
        await closeAll(made);
        throw error;
      }
      lanes = new Map(made.map((lane) => [lane.pool, lane]));
    },
    setLimits: () => setLimits(),
    counts: () => Promise.all(all().map(countsOf)),
    ids: async () => {
      const found = all().map(({ queue }) => queue.getRanges(EVERYWHERE, 0, -1));
      return new Set((await Promise.all(found)).flat());
    },
    close: () => closeAll(all()),
  };
}

/** Each listens to the connection until then. */
async function closeAll(lanes: readonly Lane[]): Promise<void> {
  const ends = lanes.flatMap(({ queue, worker }) => [worker.close(true), queue.close()]);
  await Promise.allSettled(ends);
}

function openLane(link: Link, pool: string, { prefix, lockMs }: LaneSettings): Lane {
  const name = encodeURIComponent(pool);
  const shared = { connection: link.redis, prefix, skipVersionCheck: true };
  const queue = new Queue<Ticket>(name, {
    ...shared,
    streams: { events: { maxLen: EVENTS_KEPT } },
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  const stalled = {
    lockDuration: lockMs,
    stalledInterval: lockMs / 2,
    maxStalledCount: MAX_STALLED,
  };
  const worker = new Worker<Ticket>(
    name,
    null,
    { ...shared, ...stalled, autorun: false, removeOnComplete: { count: 0 } },
    (lane, options) =>
      // without a connection that waits: jobs are asked for, not waited for
      createRedisBackend(lane, options, {}),
  );
  queue.on('error', link.away);
  worker.on('error', link.away);
  return { pool, queue, worker };
}

async function countsOf({ pool, queue }: Lane): Promise<PoolCounts> {
  const found = await queue.getJobCounts(...EVERYWHERE);
  const { waiting = 0, prioritized = 0, active = 0, delayed = 0 } = found;
  return { pool, waiting: waiting + prioritized, active, delayed };
}
