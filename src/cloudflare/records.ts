/**
 * The records of what the supervisor watches, read from the bucket and, when nobody else will, ended there.
 *
 * Reading never needs the container. Writing happens once in the life of a job at most: when the container could not be
 * kept up. It is conditional on nobody having written since, and it waits until no lease says that somebody works on it.
 * Snapshot and unfinished upload stay: the next engine that starts, for whatever reason, sweeps what belongs to ended jobs.
 * A run is ended, too, rather than left to its deadline: nothing enforces a deadline while no engine runs.
 */
import { createJobStore } from '../catalog/job-store.ts';
import { type Keys, leaseKey } from '../catalog/keys.ts';
import { createLeases, isParked, type LeaseHolder, type LeaseTiming } from '../catalog/lease.ts';
import { problemOf } from '../catalog/problem.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { endOf, isMachineEnded, isRunEnded, type Run, type RunMachine } from '../catalog/run.ts';
import { createRunStore } from '../catalog/run-store.ts';
import { type BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Seen, WatchedName } from './watched.ts';

export interface Records {
  /** undefined when there is no such record. Errors: `store_*`, `data_corrupt`. */
  look(name: WatchedName, options: Cancellable): Promise<Seen | undefined>;
  /** Everything not ended whose lease was last an instance's of this container. */
  held(options: Cancellable): Promise<WatchedName[]>;
  /** Ends it as failed, and with a run its jobs. False when somebody else wrote or works on it: look again later. */
  giveUp(name: WatchedName, error: BackupError, options: Cancellable): Promise<boolean>;
}

/** `instance`: how the owners of this container's leases are called, but for what each start adds. */
export function createRecords(
  { store, keys, clock }: { store: ObjectStore; keys: Keys; clock: Clock },
  { instance, timing }: { instance: string; timing: LeaseTiming },
): Records {
  const jobs = createJobStore({ store, keys, clock });
  const runs = createRunStore({ store, keys, clock });
  const noIds = { uuid: () => crypto.randomUUID() }; // leases are only looked at
  const leases = createLeases({ store, clock, ids: noIds }, { owner: instance, timing });

  const ours = ({ owner }: LeaseHolder): boolean => owner.startsWith(`${instance}-`);
  const holderOf = async (
    key: string,
    id: string,
    options: Cancellable,
  ): Promise<Seen['holder']> => {
    const holder = await leases.look(key, options);
    if (holder === undefined || holder.jobId !== id) return 'nobody';
    if (isParked(holder)) return 'queue';
    if (holder.expired) return 'nobody';
    return ours(holder) ? 'ours' : 'other';
  };

  const look: Records['look'] = async ({ kind, id }, options) => {
    if (kind === 'job') {
      const job = (await jobs.load(id, options))?.job;
      if (job === undefined) return undefined;
      const ended = isEnded(job);
      const holder = ended ? 'nobody' : await holderOf(leaseKey(keys, job), id, options);
      return { ended, updatedAt: job.updated_at, milestone: drainedAt(job), holder };
    }
    const run = (await runs.load(id, options))?.run;
    if (run === undefined) return undefined;
    const ended = isRunEnded(run);
    const holder = ended ? 'nobody' : await holderOf(keys.runLease(id), id, options);
    const milestone = run.machines.filter(isMachineEnded).length;
    return { ended, updatedAt: run.updated_at, milestone, holder };
  };

  async function endJob(id: string, error: BackupError, options: Cancellable): Promise<boolean> {
    const state = await jobs.load(id, options);
    if (state === undefined || isEnded(state.job)) return true;
    const lease = await holderOf(leaseKey(keys, state.job), id, options);
    if (isAlive(lease)) return false;
    return await written(jobs.save(state, failedJob(state.job, error, clock.now()), options));
  }

  async function endRun(id: string, error: BackupError, options: Cancellable): Promise<boolean> {
    const state = await runs.load(id, options);
    if (state === undefined || isRunEnded(state.run)) return true;
    if (isAlive(await holderOf(keys.runLease(id), id, options))) return false;
    for (const machine of state.run.machines) {
      if (isMachineEnded(machine) || machine.job_id === undefined) continue;
      if (!(await endJob(machine.job_id, error, options))) return false;
    }
    return await written(runs.save(state, failedRun(state.run, error, clock.now()), options));
  }

  return {
    look,
    held: async (options) => {
      const found: WatchedName[] = [];
      for await (const key of leaseKeys({ store, keys }, options)) {
        const holder = await readable(leases.look(key, options));
        if (holder === undefined || !ours(holder)) continue;
        const kind = key === keys.runLease(holder.jobId) ? 'run' : 'job';
        const name: WatchedName = { kind, id: holder.jobId };
        const seen = await readable(look(name, options));
        if (seen !== undefined && !seen.ended) found.push(name);
      }
      return found;
    },
    giveUp: async ({ kind, id }, error, options) =>
      kind === 'job' ? await endJob(id, error, options) : await endRun(id, error, options),
  };
}

/** Somebody may work on it. */
function isAlive(holder: Seen['holder']): boolean {
  return holder === 'ours' || holder === 'other';
}

/** One by one: a lease that cannot be read hides none of the others, and keeps no container. */
async function* leaseKeys(
  { store, keys }: { store: ObjectStore; keys: Keys },
  options: Cancellable,
): AsyncGenerator<string> {
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await store.list({ prefix: keys.leasesPrefix, ...from }, options);
    for (const { key } of page.objects) yield key;
    startAfter = page.next;
  } while (startAfter !== undefined);
}

/** Of a job that a shutdown interrupted in good order, when; 0 of any other. */
function drainedAt({ status, last_error, updated_at }: Job): number {
  return status === 'queued' && last_error?.code === 'draining' ? parseTime(updated_at) : 0;
}

function failedJob(job: Job, error: BackupError, nowMs: number): Job {
  const { waiting_because: _, next_attempt_at: _2, ...rest } = job;
  const at = formatTime(nowMs);
  const problem = problemOf(error, { jobId: job.id });
  return { ...rest, status: 'failed', error: problem, finished_at: at, updated_at: at };
}

function failedRun(run: Run, error: BackupError, nowMs: number): Run {
  const at = formatTime(nowMs);
  const problem = problemOf(error);
  const machines = run.machines.map((machine): RunMachine => {
    if (isMachineEnded(machine)) return machine;
    const { waiting_because: _, ...rest } = machine;
    const status = machine.status === 'running' ? 'failed' : 'not_started';
    return { ...rest, status, error: problem, finished_at: at };
  });
  const ended = { ...run, machines, problems: [...run.problems, problem] };
  return { ...ended, status: endOf(ended), finished_at: at, updated_at: at };
}

async function written(write: Promise<unknown>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (isBackupError(error, 'precondition_failed')) return false; // somebody is at it after all
    throw error;
  }
}

/** One that cannot be read is nobody's to watch: no look would ever say that it ended. */
async function readable<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return undefined;
    throw error;
  }
}
