/** The supervisor over a scripted container, the catalogue's own records in a bucket in memory, and a clock that is told. */
import assert from 'node:assert/strict';
import { createJobStore } from '../../src/catalog/job-store.ts';
import { createKeys, leaseKey } from '../../src/catalog/keys.ts';
import { createLeases, leaseTiming } from '../../src/catalog/lease.ts';
import type { Job } from '../../src/catalog/record.ts';
import { createRunStore } from '../../src/catalog/run-store.ts';
import { systemIds } from '../../src/clock.ts';
import { createRecords } from '../../src/cloudflare/records.ts';
import { createSupervisor } from '../../src/cloudflare/supervisor.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { NEVER } from '../../src/signals.ts';
import { formatTime } from '../../src/time.ts';
import { sampleJob } from '../records.ts';
import { createSimClock } from '../sim/clock.ts';
import { createMemoryStore } from '../sim/memory-store.ts';
import { createMemoryStorage, createScriptedContainer } from './scripted-container.ts';

/** As the supervisor of a world is set. */
export const ALARM_MS = 30_000;
export const IDLE_MS = 120_000;
const READY_MS = 25_000;
export const MAX_STARTS = 6;
/** A request that begins something. */
export const POST = { method: 'POST', body: '{}' };
/** Of calls that nobody cancels. */
export const options = { signal: NEVER };

/** Nothing runs and nothing is watched yet. */
export function createWorld() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const keys = createKeys('xv/');
  const timing = leaseTiming();
  const container = createScriptedContainer();
  const storage = createMemoryStorage();
  const deps = { store, keys, clock };
  const own = createRecords(deps, { instance: 'engine', timing });
  let afterHeld: (() => Promise<unknown>) | undefined;
  const held: typeof own.held = async (given) => {
    const found = await own.held(given);
    await afterHeld?.();
    return found;
  };
  const records = { ...own, held };
  const settings = {
    env: { XVAULT_BUCKET: 'backups' },
    alarmMs: ALARM_MS,
    idleMs: IDLE_MS,
    readyMs: READY_MS,
    graceMs: 20_000,
    maxStarts: MAX_STARTS,
  };
  const create = () =>
    createSupervisor({ container, storage, records, clock, log: SILENT_LOG }, settings);
  let supervisor = create();
  const jobs = createJobStore(deps);
  /** Lets `work` go on, in steps of simulated time, until it is done. */
  const settle = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    const end = () => {
      done = true;
    };
    work.then(end, end);
    for (let waited = 0; !done && waited < 1000; waited++) await clock.advance(250);
    return await work;
  };
  return {
    clock,
    store,
    keys,
    container,
    storage,
    jobs,
    runs: createRunStore(deps),
    settle,
    fetch: (path: string, init?: RequestInit) =>
      settle(supervisor.fetch(new Request(`https://xvault.example${path}`, init))),
    begin: (path: string) => supervisor.fetch(new Request(`https://xvault.example${path}`, POST)),
    /** Called once, when leases have been listed and nobody knows yet. */
    onceListed: (work: () => Promise<unknown>) => {
      afterHeld = async () => {
        afterHeld = undefined;
        await work();
      };
    },
    /** Its Durable Object is gone from memory; its storage and its container are not. */
    evict: () => {
      container.forget();
      supervisor = create();
    },
    /** The next alarm that is due. */
    alarm: async () => {
      const at = storage.alarmAt;
      assert.ok(at !== null, 'an alarm is set');
      if (at > clock.now()) await clock.advance(at - clock.now());
      await settle(supervisor.alarm());
    },
    hold: async (job: Job, owner: string) =>
      await createLeases({ ...deps, ids: systemIds }, { owner, timing }).take(
        { key: leaseKey(keys, job), jobId: job.id },
        options,
      ),
    /** The engine begins a job when it is asked to, under a lease of its own, and says 202. */
    begins: (job: Job = sampleJob()) => {
      container.answer = async () => {
        await jobs.create(job, options);
        return accepted(`/v1/jobs/${job.id}`);
      };
      return job.id;
    },
    change: async (id: string, change: Partial<Job>) => {
      const at = formatTime(clock.now());
      await jobs.update(id, (job) => ({ ...job, updated_at: at, ...change }), options);
    },
    job: async (id: string) => (await jobs.load(id, options))?.job,
  };
}

type World = ReturnType<typeof createWorld>;

/** The engine's 202, which names what it began. */
export function accepted(location: string): Response {
  return new Response('{}', { status: 202, headers: { location, 'content-length': '2' } });
}

/** Alarms until it comes to rest. */
export async function rest(world: World): Promise<number> {
  let alarms = 0;
  for (; world.storage.alarmAt !== null; alarms++) {
    assert.ok(alarms < 200, 'it comes to rest');
    await world.alarm();
  }
  return alarms;
}
