/**
 * Jobs of a queue that several instances share.
 *
 * While a job waits nobody alive holds it: whoever accepted it writes its record, then parks the machine's lease (leaves it
 * expired), which keeps other jobs away from the machine as long as this one has not ended. Whoever gets the turn takes
 * the lease over as it would a dead instance's: exactly one can, whatever the queue believes. A turn for a job that ended, or
 * that another instance is at, changes nothing. So the queue may be wiped, may be away and may give one job two turns:
 * what has no place in it and is held by nobody is found in the bucket and added again.
 */
import type { Versioned } from '../catalog/job-store.ts';
import { leaseKey } from '../catalog/keys.ts';
import type { Lease } from '../catalog/lease.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { type SharedQueue, type TurnEnd, ticketOf } from '../queue-port.ts';
import { parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { cancelled } from './drive.ts';
import { createHolding, type HeldJobs } from './held-jobs.ts';
import { park } from './keep-lease.ts';
import { type JobSettings, runJob } from './run-job.ts';
import { leftJob } from './take-over.ts';

/** A job whose turn came while another instance is at it, or while the bucket is away, gets another so much later. */
const AGAIN_MS = 5_000;
/** Of a job that nothing keeps from its turn: no instance has room, or one fetches it this moment. */
const NOT_TAKEN = 'no instance took it yet';
/** Two reads and two writes, each tried for some seconds. */
const TAKE_MS = 30_000;
/** Kinds that need nothing but the bucket: an instance that does not know the pool can do them, too. */
const WITHOUT_POOL: readonly Job['kind'][] = ['index', 'verify', 'pin'];

export interface SharedJobs extends HeldJobs {
  /** Adds those of these jobs that nobody is at and that have no place in the queue. */
  findLost(ids: Iterable<string>, options: Cancellable): Promise<void>;
  /** From now on turns are taken. */
  begin(): void;
}

/** Holds none at first; takes turns of `queue` from `begin` on. */
export function createSharedJobs(
  engine: Engine,
  settings: JobSettings,
  queue: SharedQueue,
): SharedJobs {
  const { clock, log } = engine;
  const { instance } = settings;
  const { live, hold, letGo, tell, track, drain, isDraining } = createHolding<object>(
    engine,
    settings,
    queue,
  );

  const later = (ms = AGAIN_MS): TurnEnd => ({ againAtMs: clock.now() + ms });
  const work = async ({ state, lease }: Taken): Promise<TurnEnd> => {
    const { id, status, phase } = state.job;
    if (status === 'running') log.info('job taken over', { job_id: id, phase });
    const held = hold(id, lease, {});
    const outcome = await runJob({ engine, state, ...settings, ...held });
    const { again, ended } = outcome;
    // one that has not ended stays the machine's only one
    await letGo(id, ended === undefined && held.lease.held() ? 'park' : 'giveBack');
    tell(outcome);
    if (ended !== undefined) return 'done';
    return again ? { againAtMs: parseTime(again.job.next_attempt_at ?? '') } : later();
  };

  const turn = async ({ id }: { id: string }): Promise<TurnEnd> => {
    // SIGTERM came between the two: another instance takes it
    if (isDraining()) return later(0);
    if (live.has(id)) return later();
    try {
      const taken = await takeTurn(engine, { id, instance });
      return typeof taken === 'object' && 'state' in taken ? await work(taken) : taken;
    } catch (error) {
      const { code, message } = toBackupError(error);
      log.warn('turn not taken', { job_id: id, code, error: message });
      // the record tells everybody that it cannot be read; another turn would not mend it
      return isBackupError(error, 'data_corrupt') ? 'done' : later();
    }
  };

  /** Cancelled while it waits, or after its instance died: it ends here, now. */
  const endNow = async (id: string): Promise<void> => {
    const left = await takeCancelled(engine, { id, instance });
    if (left === undefined) return;
    const ticket = ticketOf(left.state.job);
    await queue.remove(ticket);
    const end = await work(left);
    if (end !== 'done') await queue.add({ ...ticket, notBeforeMs: end.againAtMs });
  };

  return {
    begin: () => queue.serve(turn),
    has: (id) => live.has(id),
    gone: async (id) => await live.get(id)?.gone.promise,
    waitingBecause: (job) => {
      const ticket = ticketOf(job);
      // its record says why the attempt before failed
      if ((ticket.notBeforeMs ?? 0) > clock.now()) return undefined;
      return queue.heldBack(ticket) ?? NOT_TAKEN;
    },
    add: async ({ job }, lease) => {
      await park(engine, lease);
      // not added: found by the next look for lost ones
      if (!(await queue.add(ticketOf(job)))) log.warn('job not queued yet', { job_id: job.id });
    },
    cancel: (id) => {
      live.get(id)?.controller.abort(cancelled());
      // a cancelled one ends out of turn
      if (!live.has(id) && !isDraining()) track(endNow(id));
    },
    findLost: async (ids, options) => {
      const known = await queue.ids();
      const isHere = (id: string) => known?.has(id) || live.has(id);
      if (known !== undefined) await queueLost(engine, { queue, ids, isHere }, options);
    },
    drain,
    get draining() {
      return isDraining();
    },
  };
}

interface Taken {
  lease: Lease;
  state: Versioned;
}

/** The job, in our hands; or, where it has ended, is not due or another instance is at it, how the turn ends. */
async function takeTurn(
  engine: Engine,
  { id, instance }: { id: string; instance: string },
): Promise<Taken | TurnEnd> {
  const { clock } = engine;
  return await withDeadline(clock, TAKE_MS, async (signal) => {
    const found = await engine.jobs.load(id, { signal });
    if (found === undefined || isEnded(found.job)) return 'done';
    const { next_attempt_at: at, cancel_requested } = found.job;
    const againAtMs = at === undefined ? 0 : parseTime(at);
    if (againAtMs > clock.now() && !cancel_requested) return { againAtMs };
    const left = await leftJob(engine, { id, instance }, { signal });
    if (left === undefined) {
      engine.log.info('turn of a job that another instance is at', { job_id: id });
    }
    return left ?? { againAtMs: clock.now() + AGAIN_MS };
  });
}

async function takeCancelled(
  engine: Engine,
  { id, instance }: { id: string; instance: string },
): Promise<Taken | undefined> {
  try {
    return await withDeadline(engine.clock, TAKE_MS, (signal) =>
      leftJob(engine, { id, instance }, { signal }),
    );
  } catch (error) {
    // the wish is in the record: its turn ends it
    const { message } = toBackupError(error);
    engine.log.warn('job not cancelled at once', { job_id: id, error: message });
    return undefined;
  }
}

async function queueLost(
  engine: Engine,
  {
    queue,
    ids,
    isHere,
  }: { queue: SharedQueue; ids: Iterable<string>; isHere(id: string): unknown },
  options: Cancellable,
): Promise<void> {
  for (const id of ids) {
    const job = isHere(id) ? undefined : await lostJob(engine, id, options);
    if (job === undefined) continue;
    const ticket = ticketOf(job);
    // what the queue half knows of it would keep it from being added
    await queue.remove(ticket);
    if (await queue.add(ticket)) engine.log.info('job queued again', { job_id: id });
  }
}

/** The job if it has not ended, nobody is at it, and this instance could be. */
export async function lostJob(
  engine: Engine,
  id: string,
  options: Cancellable,
): Promise<Job | undefined> {
  let job: Job | undefined;
  try {
    job = await engine.jobs.read(id);
  } catch (error) {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    engine.log.warn('job not looked at', { job_id: id, error: error.message });
  }
  if (job === undefined) return undefined;
  if (isEnded(job)) {
    // its instance may have died before it told anybody
    await engine.notices?.takeOver(job, options);
    return undefined;
  }
  // an instance that knows the pool finds it, too
  if (!WITHOUT_POOL.includes(job.kind) && !engine.pools.has(job.vm.pool)) return undefined;
  const holder = await engine.leases.look(leaseKey(engine.keys, job), options);
  return holder === undefined || holder.expired ? job : undefined;
}
