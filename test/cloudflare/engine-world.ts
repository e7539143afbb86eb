/**
 * The supervisor in workerd, its container played by this process, its bucket in both shapes: binding and S3.
 *
 * Nothing is waited for by the clock: `until` looks again whenever the supervisor asks or tells something, which it does
 * at every alarm. `crash` ends workerd as kill -9 does and starts it over the same storage.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { convertV4MiniflareOptions, Miniflare, Response as WorkerdResponse } from 'miniflare';
import type { Job } from '../../src/catalog/record.ts';
import type { Run } from '../../src/catalog/run.ts';
import { systemClock } from '../../src/clock.ts';
import { bundle, readConfig } from './bundle.ts';

export const BUCKET = 'backups';
export const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
/** A scenario that takes this long hangs; ten at once on two processors take 90 s. */
const HANG_MS = 180_000;
const LOOK_AGAIN_MS = 50;
const SUPERVISOR = {
  XVAULT_BUCKET: BUCKET,
  XVAULT_PREFIX: 'xv',
  XVAULT_LEASE_SECONDS: '3',
  XVAULT_LOG_LEVEL: 'error',
  ENGINE_ALARM_SECONDS: '0.2',
  ENGINE_IDLE_SECONDS: '0.5',
  ENGINE_START_SECONDS: '25',
  ENGINE_STARTS: '3',
};

/** What plays the container. */
export interface Process {
  /** The answer of the engine; rejects when nobody listens. */
  fetch(request: Request): Promise<Response>;
  signal(number: number): void;
  /** Resolves when it has ended, with the reason if it failed. */
  ended: Promise<string | undefined>;
}

export type StartProcess = (env: Record<string, string>) => Process;

export interface EngineWorld extends AsyncDisposable {
  /** What was asked of the container, in order: `start`, `signal 15`, `/livez`, `POST /v1/runs` … */
  readonly asked: string[];
  /** What each start was given. */
  readonly envs: Record<string, string>[];
  /** How each process ended; undefined in good order. */
  readonly ends: (string | undefined)[];
  readonly running: boolean;
  /** Of R2's S3 API. */
  readonly endpoint: string;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  until(what: string, ready: () => unknown): Promise<void>;
  count(asked: string): number;
  crash(): Promise<void>;
  putJob(job: Job): Promise<void>;
  job(id: string): Promise<Job | undefined>;
  keys(): Promise<string[]>;
  read(key: string): Promise<Buffer>;
  /** Makes the leases of an engine that is dead run out now: nothing is waited for, and leases may be long. */
  expireLeases(): Promise<void>;
  /** The job's record, as soon as it is as wanted: the bucket tells nobody of a write. */
  see(id: string, wanted: (job: Job) => boolean): Promise<Job>;
  /** The same of a run. */
  seeRun(id: string, wanted: (run: Run) => boolean): Promise<Run>;
}

/** Starts it; `bindings` are put over the settings of the supervisor. */
export async function startEngineWorld(
  startProcess: StartProcess,
  bindings: Record<string, string> = {},
): Promise<EngineWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-engine-'));
  const script = await bundle({ entry: 'test/cloudflare/standin.ts' });
  const host = createHost(startProcess);
  const options = optionsFor({ modules: script.modules, host, bindings, folder });
  let miniflare = new Miniflare(options);
  let url = await miniflare.ready;
  const bucket = async () => await miniflare.getR2Bucket('BUCKET');
  const read = async (key: string): Promise<Buffer | undefined> => {
    const found = await (await bucket()).get(key);
    return found === null ? undefined : Buffer.from(await found.arrayBuffer());
  };
  const jobKey = (id: string) => `xv/jobs/${id}.json`;
  const runKey = (id: string) => `xv/runs/${id}.json`;
  const record = async <T>(key: string): Promise<T | undefined> => {
    const bytes = await read(key);
    return bytes && JSON.parse(bytes.toString('utf8'));
  };
  const job = (id: string) => record<Job>(jobKey(id));
  return {
    ...host.seen,
    get running() {
      return host.running();
    },
    get endpoint() {
      return new URL('/cdn-cgi/local/r2/s3', url).href;
    },
    fetch: async (path, init) => await fetch(new URL(path, url), init),
    until: host.until,
    count: (asked) => host.seen.asked.filter((one) => one === asked).length,
    crash: async () => {
      await miniflare.dispose();
      miniflare = new Miniflare(options);
      url = await miniflare.ready;
    },
    putJob: async (job) => void (await (await bucket()).put(jobKey(job.id), JSON.stringify(job))),
    job,
    keys: async () => (await (await bucket()).list()).objects.map(({ key }) => key),
    read: async (key) => {
      const bytes = await read(key);
      assert.ok(bytes, `${key} is there`);
      return bytes;
    },
    expireLeases: async () => {
      const { objects } = await (await bucket()).list({ prefix: 'xv/leases/' });
      for (const { key } of objects) {
        const lease = JSON.parse((await read(key))?.toString('utf8') ?? '{}');
        const expires_at = new Date(systemClock.now() - 60_000).toISOString();
        await (await bucket()).put(key, JSON.stringify({ ...lease, expires_at }));
      }
    },
    see: async (id, wanted) => await seen(`job ${id}`, () => job(id), wanted),
    seeRun: async (id, wanted) => await seen(`run ${id}`, () => record<Run>(runKey(id)), wanted),
    [Symbol.asyncDispose]: async () => {
      await miniflare.dispose();
      host.end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Looks again until it is as wanted. */
async function seen<T>(
  what: string,
  look: () => Promise<T | undefined>,
  wanted: (found: T) => boolean,
): Promise<T> {
  const hang = AbortSignal.timeout(HANG_MS);
  for (;;) {
    const now = await look();
    if (now !== undefined && wanted(now)) return now;
    assert.ok(!hang.aborted, `waited in vain for ${what}: ${JSON.stringify(now)}`);
    await setTimeout(LOOK_AGAIN_MS);
  }
}

function optionsFor(input: {
  modules: unknown;
  host: Host;
  bindings: Record<string, string>;
  folder: string;
}): ConstructorParameters<typeof Miniflare>[0] {
  const config = readConfig();
  const options = convertV4MiniflareOptions({
    host: '127.0.0.1',
    port: 0,
    modules: input.modules,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    bindings: { ...SUPERVISOR, ...input.bindings },
    r2Buckets: { BUCKET: { id: BUCKET, s3Credentials: CREDENTIALS } },
    durableObjects: { ENGINE: { className: 'Engine', useSQLite: true } },
    serviceBindings: { CONTAINER: input.host.fetch },
  } as unknown as Parameters<typeof convertV4MiniflareOptions>[0]);
  return { ...options, resourcePersistencePath: input.folder };
}

type Host = ReturnType<typeof createHost>;

/** Answers what the stand-in in workerd asks. */
function createHost(startProcess: StartProcess) {
  const asked: string[] = [];
  const envs: Record<string, string>[] = [];
  const ends: (string | undefined)[] = [];
  const waiters = new Set<() => void>();
  let process: Process | undefined;
  let last: Process | undefined;
  const note = (what: string): void => {
    asked.push(what);
    for (const waiter of [...waiters]) waiter();
  };
  const control: Record<string, (body: Record<string, unknown>) => unknown> = {
    look: () => ({ running: process !== undefined }),
    start: (env) => {
      envs.push(env as Record<string, string>);
      const started = startProcess(env as Record<string, string>);
      process = started;
      last = started;
      void started.ended.then((reason) => {
        if (process === started) process = undefined;
        ends.push(reason);
        note('ended');
      });
      return {};
    },
    ended: async () => ({ reason: await last?.ended }),
    signal: ({ number }) => process?.signal(number as number),
    destroy: () => process?.signal(9),
    keep: () => ({}),
  };
  return {
    seen: { asked, envs, ends },
    running: () => process !== undefined,
    end: () => process?.signal(9),
    until: async (what: string, ready: () => unknown): Promise<void> => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const look = () => void (ready() && resolve());
      waiters.add(look);
      const hang = AbortSignal.timeout(HANG_MS);
      hang.addEventListener('abort', () => {
        const last = asked.slice(-40).join(', ');
        reject(new Error(`waited in vain for ${what}; asked: ${last}`));
      });
      look();
      await promise.finally(() => waiters.delete(look));
    },
    fetch: async (request: Request): Promise<unknown> => {
      const { hostname, pathname } = new URL(request.url);
      if (hostname === 'control') {
        const name = pathname.slice(1);
        const body = (await request.json()) as Record<string, unknown>;
        if (name !== 'ended' && name !== 'keep') note(`${name} ${body.number ?? ''}`.trim());
        return WorkerdResponse.json((await control[name]?.(body)) ?? {});
      }
      note(pathname === '/livez' ? pathname : `${request.method} ${pathname}`);
      try {
        if (process === undefined) throw new Error('nobody listens');
        const answer = await process.fetch(request);
        const body = await answer.arrayBuffer();
        const headers = Object.fromEntries(answer.headers);
        return new WorkerdResponse(body, { status: answer.status, headers });
      } catch {
        return new WorkerdResponse('', { status: 502, headers: { 'x-gone': '1' } });
      }
    },
  };
}
