/**
 * Plays one scenario: a backup of one machine meets its faults, may be cancelled, drained or killed at some request,
 * with or without another instance beside it. Every scenario ends with the audit.
 */
import assert from 'node:assert/strict';
import { backupRequestSchema, isEnded, type Job } from '../../src/catalog/record.ts';
import { BackupError, type ErrorCode } from '../../src/errors.ts';
import { NEVER } from '../../src/signals.ts';
import { createRandom } from '../crash/random.ts';
import { audit, jobsOf } from './audit.ts';
import { BUCKET, type Ground, type Instance, MACHINES, type Seen, startGround } from './ground.ts';
import type { Ending, NamedFault } from './named-fault.ts';
import { POOL_FAULTS } from './pool-faults.ts';
import { STORE_FAULTS } from './store-faults.ts';

export const FAULTS: Readonly<Record<string, NamedFault>> = { ...POOL_FAULTS, ...STORE_FAULTS };

/** What somebody does to the process that runs the job. */
export type Deed = 'cancel' | 'cancel-elsewhere' | 'drain' | 'kill' | 'kill-and-cut';

export interface Plan {
  machine: string;
  faults: { name: string; seed: number }[];
  /** Done when this many requests were seen, or at the first that fits. */
  deed?: { what: Deed; atRequest: number | ((seen: Seen, job: Job | undefined) => boolean) };
  /** A job that fails for a reason that may pass is tried again; once unless given. */
  attempts?: number;
  /** It looks for what others left all the time, as a service does, and not only when it is asked, as a command. */
  serves?: boolean;
  /** Each instance tries first what the bucket can do, as after a real start; told unless given. */
  probes?: boolean;
  /** Somebody wants to hear of what it does. */
  tells?: boolean;
  /** A second instance runs from the beginning; when this many requests were seen it is asked for the same backup. */
  rival?: { atRequest: number };
}

export interface Outcome {
  /** Of the job that met the faults; or why it was not even begun. */
  ending: Ending;
  job?: Job;
  error?: Pick<BackupError, 'retry' | 'message'>;
  struck: boolean;
  /** All requests, in their order. */
  journal: readonly Seen[];
}

const MIB = 1_048_576;
/** A job that takes longer hangs. */
const LIMIT_MS = 24 * 3600_000;
const LOOK_EVERY_MS = 1000;
/** A dead instance's lease and one round of the others. */
const LEASE_OVER_MS = 200_000;

export interface Stage extends AsyncDisposable {
  play(plan: Plan): Promise<Outcome>;
}

/** A ground for one scenario after another; each begins with new processes and an empty bucket. */
export async function startStage(): Promise<Stage> {
  let ground = await startGround();
  return {
    play: async (plan) => {
      ground.calm();
      ground.empty();
      const cast = createCast(ground, plan);
      try {
        const work = perform(ground, cast, plan);
        return await ground.clock.drive(work, { limitMs: 4 * LIMIT_MS });
      } catch (error) {
        // what a failed scenario left must not fail the next one
        for (const { process } of cast.all) process.kill();
        await ground[Symbol.asyncDispose]();
        ground = await startGround();
        throw error;
      }
    },
    [Symbol.asyncDispose]: () => ground[Symbol.asyncDispose](),
  };
}

interface Cast {
  all: Instance[];
  died: boolean;
  first: Instance;
  start(name: string): Instance;
}

function createCast(ground: Ground, { attempts = 1, probes = false, tells = false }: Plan): Cast {
  const start = (name: string) => ground.start(name, { attempts, told: !probes, tells });
  const first = start('a');
  const cast: Cast = {
    all: [first],
    died: false,
    first,
    start: (name) => {
      const instance = start(name);
      cast.all.push(instance);
      return instance;
    },
  };
  return cast;
}

async function perform(ground: Ground, cast: Cast, plan: Plan): Promise<Outcome> {
  const { first } = cast;
  if (plan.serves) await live(first);
  if (plan.rival) await live(cast.start('b'));
  const struckBefore = ground.struck();
  const journal: Seen[] = [];
  ground.watch((seen) => void journal.push(seen));
  for (const { name, seed } of plan.faults) {
    (FAULTS[name] as NamedFault).arm(ground, createRandom(seed), targetOf(plan.machine));
  }
  const deed = watchFor(ground, cast, plan);
  const started = await Promise.race([begin(first, plan.machine), deed.dead]);
  const id = typeof started === 'string' ? started : undefined;
  await deed.done(id);
  await allEnded(ground, cast, plan);
  const struck = ground.struck() > struckBefore;
  const leaves = plan.faults.some(({ name }) => FAULTS[name]?.leaves === true);
  await audit(ground, {
    asked: working(cast) as Instance,
    all: cast.all,
    died: cast.died,
    left: leaves && struck,
    tells: plan.tells === true,
  });
  return { ...outcomeOf(ground, id, started), struck, journal };
}

function outcomeOf(
  ground: Ground,
  id: string | undefined,
  started: string | BackupError | undefined,
): Omit<Outcome, 'struck' | 'journal'> {
  const job = jobsOf(ground).find((one) => id === undefined || one.id === id);
  if (started instanceof BackupError) return { ending: started.code, error: started };
  if (job === undefined) return { ending: 'succeeded' }; // killed before there was one
  if (job.error === undefined) return { ending: 'succeeded', job };
  const { code, detail, retry } = job.error;
  return { ending: code as ErrorCode, job, error: { message: detail, retry: retry ?? 'never' } };
}

function live({ process, service }: Instance): Promise<void> {
  return process.run(() => service.start());
}

/** Anybody who can be asked. */
function working({ all }: Cast): Instance | undefined {
  return all.find(({ process, service }) => process.alive && !service.draining);
}

function targetOf(machine: string): { blocks: number } {
  const [disk] = MACHINES.find(({ name }) => name === machine)?.disks ?? [];
  return { blocks: disk === undefined ? 1 : Math.ceil(disk.open().sizeBytes / MIB) };
}

/** The id of the job, or why there is none. */
async function begin({ process, service }: Instance, vm: string): Promise<string | BackupError> {
  try {
    const request = backupRequestSchema.parse({});
    const input = { vm, request, triggeredBy: 'scenario' };
    return (await process.run(() => service.startBackup(input, { signal: NEVER }))).id;
  } catch (error) {
    assert.ok(error instanceof BackupError, `refused with an error of the list: ${error}`);
    return error;
  }
}

interface Watched {
  /** Resolves when the first instance is killed. */
  dead: Promise<undefined>;
  /** Says which job it is; waits for what was begun. */
  done(id: string | undefined): Promise<void>;
}

/** Counts requests and does what is planned. */
function watchFor(ground: Ground, cast: Cast, plan: Plan): Watched {
  const { promise: dead, resolve: die } = Promise.withResolvers<undefined>();
  const { promise: known, resolve: know } = Promise.withResolvers<string | undefined>();
  const { first } = cast;
  let seen = 0;
  let done = false;
  const cancelBy = (instance: Instance) =>
    ground.later(known.then((id) => (id === undefined ? undefined : cancel(instance, id))));
  const kill = () => {
    cast.died = true;
    first.process.kill();
    die(undefined);
  };
  const deeds: Record<Deed, () => unknown> = {
    cancel: () => cancelBy(first),
    'cancel-elsewhere': () => cancelBy(cast.start('c')),
    drain: () => ground.later(first.process.run(() => first.service.drain({ drainMs: 0 }))),
    kill,
    'kill-and-cut': () => {
      kill();
      return 'cut';
    },
  };
  ground.watch((request) => {
    seen += 1;
    const rival = cast.all.find(({ process }) => process.name === 'b');
    if (rival && seen === plan.rival?.atRequest) ground.later(begin(rival, plan.machine));
    if (plan.deed === undefined || done) return undefined;
    const { what, atRequest } = plan.deed;
    const isNow =
      typeof atRequest === 'number' ? seen === atRequest : atRequest(request, jobsOf(ground)[0]);
    if (!isNow) return undefined;
    done = true;
    return deeds[what]();
  });
  return {
    dead,
    done: async (id) => {
      know(id);
      await Promise.resolve();
    },
  };
}

/** A wish that comes too late, or that the bucket does not take, changes nothing. */
async function cancel({ process, service }: Instance, id: string): Promise<void> {
  try {
    await process.run(() => service.cancelJob(id, { signal: NEVER }));
  } catch (error) {
    assert.ok(error instanceof BackupError, String(error));
  }
}

/** Whoever lives brings everything to its end; if nobody does, one is started. */
async function allEnded(
  ground: Ground,
  cast: Cast,
  { machine, serves, rival }: Plan,
): Promise<void> {
  const { clock, s3 } = ground;
  const wait = (ms: number) => clock.sleep(ms, { signal: NEVER });
  const open = () => jobsOf(ground).some((job) => !isEnded(job));
  const since = clock.elapsed();
  const patient = () => clock.elapsed() - since < LIMIT_MS;
  let served = serves === true || rival !== undefined;
  const idle = () => cast.first.service.running + cast.first.service.waiting === 0;
  while (open() && patient()) {
    await wait(LOOK_EVERY_MS);
    if (working(cast) !== undefined && (served || !idle())) continue;
    if (cast.all.some(({ process }) => process.name === 'heir')) continue;
    served = true;
    await live(cast.start('heir'));
  }
  // what comes back by itself has come back; whatever has not struck by now does not any more
  ground.calm();
  await ground.settled();
  ground.calm();
  while (open() && patient()) await wait(LOOK_EVERY_MS);
  if (working(cast) === undefined) await live(cast.start('heir'));
  const leases = () => s3.inspect.keys(BUCKET).some((key) => key.includes('/leases/'));
  // given back before the job is seen ended; if not, nobody could: it runs out, and the machine is free
  if (leases()) {
    await wait(LEASE_OVER_MS);
    const next = await begin(working(cast) as Instance, machine);
    assert.equal(typeof next, 'string', `the machine is free again: ${next}`);
    while (open() && patient()) await wait(LOOK_EVERY_MS);
  }
  await wait(LOOK_EVERY_MS);
}
