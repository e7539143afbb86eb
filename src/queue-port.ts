/**
 * Who gets a turn, and when: the port between the jobs of this process and what orders them.
 *
 * Two implementations and one conformance suite (test/conformance/job-queue.ts): backup/local-queue.ts in this process,
 * queue/redis.ts on Redis for any number of instances. A queue only orders: what a job is, whether it ended and who may
 * work on it lies in the bucket. So one may forget everything at any time (whoever looks adds it again), and may give one
 * job two turns (the machine's lease decides).
 */
import type { Job } from './catalog/record.ts';
import { runBehind } from './catalog/run.ts';
import { parseTime } from './time.ts';

/** What decides when a job may start. */
export interface QueuePlace {
  pool: string;
  srs: readonly { uuid: string; name: string }[];
}

/** A job as a queue knows it. */
export interface Ticket extends QueuePlace {
  id: string;
  /** 1 comes first; see `priorityOf`. */
  priority: number;
  /** No turn before it, in milliseconds since 1970. */
  notBeforeMs?: number | undefined;
}

/** How a turn ended: the job needs none any more, or another at that time. */
export type TurnEnd = 'done' | { againAtMs: number };

export interface JobQueue {
  /** Adding one twice changes nothing. False: the queue is away, and whoever looks later adds it. Never rejects. */
  add(ticket: Ticket): Promise<boolean>;
  /** True when it waited and waits no more; false when it has its turn, or is unknown. Never rejects. */
  remove(ticket: Pick<Ticket, 'id' | 'pool'>): Promise<boolean>;
  /** Calls `turn`, which must not reject, when a job may start here, and holds its place until that resolves. Once. */
  serve(turn: (ticket: Ticket) => Promise<TurnEnd>): void;
  /** What one like this would wait for now; undefined when it could start. */
  reason(place: QueuePlace): string | undefined;
  /** What this one waits for, as far as it is known here. */
  reasonOf(id: string): string | undefined;
  readonly full: boolean;
  /** Of all instances. */
  readonly waiting: number;
  /** Turns in this instance. */
  readonly running: number;
  /** Gives no more turns. */
  stop(): void;
  /** Resolves when no turn is under way here and, unless it was stopped, none waits. */
  idle(): Promise<void>;
}

/** How many jobs of a pool are where. */
export interface PoolCounts {
  pool: string;
  waiting: number;
  active: number;
  delayed: number;
}

/** A queue that other instances use, too. */
export interface SharedQueue extends JobQueue {
  /** The ids of all jobs it knows; undefined when it is away. */
  ids(): Promise<ReadonlySet<string> | undefined>;
  /** Called when it may have forgotten jobs: it was found empty, or it was away. */
  onDoubt(look: () => void): void;
  /** What keeps a job that waits there from its turn, of what is known here: what runs is as of some seconds ago. */
  heldBack(place: QueuePlace): string | undefined;
  /** As of some seconds ago; undefined when it is away. */
  counts(): readonly PoolCounts[] | undefined;
  /** Why it cannot be used now. */
  readonly problem: string | undefined;
  /** Ends the connection. */
  close(): Promise<void>;
}

/** Restores first, then backups, then what only looks or copies; asked for one by one before what a run began. */
export function priorityOf({ kind, triggered_by }: Pick<Job, 'kind' | 'triggered_by'>): number {
  if (kind === 'restore') return 1;
  if (kind === 'backup' || kind === 'adopt') return runBehind(triggered_by) === undefined ? 2 : 3;
  return 4;
}

/** The job as a queue is told of it. */
export function ticketOf(job: Job): Ticket {
  const { id, vm, checkpoint, next_attempt_at: at } = job;
  const notBeforeMs = at === undefined ? undefined : parseTime(at);
  return { id, pool: vm.pool, srs: checkpoint.srs ?? [], priority: priorityOf(job), notBeforeMs };
}
