/**
 * The turns of this instance: fetched when it has room, held while their jobs run, given back.
 *
 * Jobs are fetched by hand, not by BullMQ's own loop: an instance that has no room over all pools must not hold a place
 * in one of them. One that finds its pool or SR full goes back for a while, and is called when a slot is given back.
 */
import type { Job } from 'bullmq';
import type { Clock, Log } from '../ports.ts';
import type { QueuePlace, Ticket, TurnEnd } from '../queue-port.ts';
import type { Lanes } from './lanes.ts';
import type { Link } from './link.ts';
import type { Refused, Slots } from './slots.ts';

/** A job that found its SR full asks again after this at the latest; usually it is called before. */
const REFUSED_MS = 15_000;

/** Long since asked again, by another instance if not here: what it waits for may be something else by now. */
const REFUSAL_KEPT_MS = 8 * REFUSED_MS;

/** Two clocks that are rounded: asked a moment too early, the first job would lose its place. */
const CLOCKS_MS = 50;
/** As long as a refused one: its first turn is under way here. */
const OWN = { got: 'settling', ms: REFUSED_MS } as const;

export interface TurnLimits {
  total: number;
  perPool: number;
  perSr: number;
}

export interface Turns {
  serve(turn: (ticket: Ticket) => Promise<TurnEnd>): void;
  /** Takes as many turns as there is room for. Errors: the client's. */
  fetch(): Promise<void>;
  /** Keeps locks and slots of what runs here; true when Redis was found empty. Errors: the client's. */
  keep(): Promise<boolean>;
  readonly running: number;
  /** Why it was refused last here, if that was not long ago. */
  refusalOf(id: string): string | undefined;
  /** No turn begins any more; one that is just being fetched goes back. */
  stop(): void;
  idle(): Promise<void>;
}

interface Held {
  job: Job<Ticket>;
  token: string;
}

interface Context {
  clock: Clock;
  log: Log;
  link: Link;
  lanes: Lanes;
  slots: Slots;
}

/** None at first. */
export function createTurns(
  context: Context,
  settings: { instance: string; limits: TurnLimits; lockMs: number },
): Turns {
  const { clock, lanes, slots, link } = context;
  const { limits, instance, lockMs } = settings;
  const held = new Map<string, Held>();
  const refusals = createRefusals(clock);
  let serve: ((ticket: Ticket) => Promise<TurnEnd>) | undefined;
  let stopped = false;
  let tokens = 0;
  /** Until then jobs stay where they are: one that is put back loses its place in the order. */
  let settlesAt = 0;
  /** Turns that are not given back yet; a place is free a moment earlier. */
  const open = new Set<Promise<void>>();

  const run = async (one: Held, turn: (ticket: Ticket) => Promise<TurnEnd>): Promise<void> => {
    const end = await turn(one.job.data);
    held.delete(one.job.data.id);
    await giveBack(context, one, end);
    link.announce();
  };

  const begin = async (one: Held): Promise<void> => {
    const ticket = one.job.data;
    if (!isTicket(ticket)) return throwOut(context, one);
    // taken for silent, and given its own job again
    const slot = held.has(ticket.id) ? OWN : await slots.take(ticket);
    if (slot.got === 'taken' && stopped) return giveBack(context, one, { againAtMs: clock.now() });
    if (slot.got === 'taken' && serve !== undefined) {
      refusals.forget(ticket.id);
      held.set(ticket.id, one);
      const turning = run(one, serve).finally(() => open.delete(turning));
      open.add(turning);
      return;
    }
    if (slot.got === 'refused') refusals.note(ticket.id, whyNot(slot.why, ticket, limits));
    const ms = slot.got === 'settling' ? slot.ms : REFUSED_MS;
    if (slot.got === 'settling' && slot !== OWN) settlesAt = clock.elapsed() + ms;
    await one.job.moveToDelayed(Date.now() + ms, one.token);
  };

  return {
    serve: (turn) => {
      serve = turn;
      link.announce();
    },
    fetch: async () => {
      for (let found = serve !== undefined; found; ) {
        found = false;
        for (const lane of lanes.all()) {
          if (stopped || held.size >= limits.total || clock.elapsed() < settlesAt) return;
          tokens += 1;
          const token = `${instance}:${tokens}`;
          const job = await lane.worker.getNextJob(token, { block: false });
          if (job) await begin({ job, token });
          found ||= job !== undefined;
        }
      }
    },
    keep: async () => {
      refusals.forgetOld();
      const all = [...held.values()];
      const kept = all.map(({ job }) => job.data);
      const { wasEmpty, settlingMs, free } = await slots.renew(kept);
      settlesAt = settlingMs === 0 ? 0 : clock.elapsed() + settlingMs + CLOCKS_MS;
      for (const { job, token } of all) {
        // another may have it by now: the machine's lease decides who works
        await job.extendLock(token, lockMs).catch(() => undefined);
      }
      // a slot that ran out was given back by nobody
      await call(context, free);
      return wasEmpty;
    },
    get running() {
      return held.size;
    },
    refusalOf: refusals.of,
    stop: () => {
      stopped = true;
    },
    idle: async () => {
      while (open.size > 0) await Promise.all(open);
    },
  };
}

/** Why jobs were refused last here, by their ids. */
function createRefusals(clock: Clock) {
  const refusals = new Map<string, { why: string; atMs: number }>();
  return {
    note: (id: string, why: string): void => {
      refusals.set(id, { why, atMs: clock.elapsed() });
    },
    of: (id: string): string | undefined => refusals.get(id)?.why,
    forget: (id: string): void => {
      refusals.delete(id);
    },
    /** Those that nobody comes back for: taken by another instance, or cancelled. */
    forgetOld: (): void => {
      const before = clock.elapsed() - REFUSAL_KEPT_MS;
      for (const [id, { atMs }] of refusals) if (atMs < before) refusals.delete(id);
    },
  };
}

/** What Redis evicted of a job leaves its id in the order, and nothing of it. */
function isTicket({ id, pool, srs }: Partial<Ticket>): boolean {
  return typeof id === 'string' && typeof pool === 'string' && Array.isArray(srs);
}

/** So that whoever looks into the bucket finds it without a place, and adds it again. */
async function throwOut({ log }: Context, { job, token }: Held): Promise<void> {
  log.warn('job of which Redis forgot half thrown out of the queue', { job_id: job.id });
  await job.moveToCompleted('', token, false);
}

/** A lock that ran out, or a wiped Redis, is no error of the job: its record says what became of it. */
async function giveBack(context: Context, { job, token }: Held, end: TurnEnd): Promise<void> {
  const { clock, log, slots } = context;
  const { id } = job.data;
  const told = (error: unknown) => log.debug('turn not given back', { job_id: id, error });
  const called = await slots.giveBack(id).catch(told);
  const ending =
    end === 'done'
      ? job.moveToCompleted('', token, false)
      : job.moveToDelayed(end.againAtMs - clock.now() + Date.now(), token);
  await ending.catch(told);
  await call(context, called ?? []).catch(told);
}

/** They ask again now, not when their pause is over. Errors: the client's. */
async function call({ lanes, slots }: Context, refused: readonly Refused[]): Promise<void> {
  for (const { id, pool } of refused) {
    const waiting = await lanes.of(pool).queue.getJob(id);
    if (waiting === undefined) await slots.forget(id);
    await waiting?.promote().catch(() => undefined); // has its turn already
  }
}

/** What a job that found no slot waits for, in words. */
export function whyNot(
  why: string,
  { pool, srs }: QueuePlace,
  { perPool, perSr }: TurnLimits,
): string {
  if (why === 'pool') return `${perPool} jobs run on pool ${pool} (XVAULT_CONCURRENCY_PER_POOL)`;
  if (why === 'kept') return 'its SR is kept free for a job that needs several';
  const name = srs.find(({ uuid }) => uuid === why)?.name ?? why;
  return `${perSr} jobs run on SR ${name} (XVAULT_CONCURRENCY_PER_SR)`;
}
