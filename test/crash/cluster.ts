/**
 * Real processes on a pool and a bucket that outlive them.
 *
 * The simulated pool and the S3 server run in the test's process; each instance is `xvault serve` as a user starts it.
 * A watcher sees every request before and after it is carried out, which is where tests kill and pause: no instant is
 * missed and nothing is timed. Nor is a lease waited for: `expireLeases` sets the end of the dead ones' back, so that
 * a busy machine does not make living instances late. `check` is the end of every scenario.
 */
import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { createArena } from '../../src/arena.ts';
import { isEnded, type Job } from '../../src/catalog/record.ts';
import { systemClock } from '../../src/clock.ts';
import { isBackupError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { type Program, settingsFor, startProgram } from '../e2e/program.ts';
import { BUCKET, contentDigest, createTestLog, silentMeter } from '../e2e/world.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import { type MachineSpec, type SimPool, startSimPool } from '../sim/pool.ts';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';

const MIB = 1_048_576;
/** A scenario that takes this long hangs; on an idle machine the slowest takes a tenth. */
const HANG_MS = 150_000;
/** A client that was told 409 asks again. */
const ASK_AGAIN_MS = 200;

/** A request on its way to the pool or the bucket. */
export interface Seen {
  /** Such as `PutObject jobs`, `UploadPart archive`, `Async.VM.snapshot`, `/export`. */
  name: string;
  /** Object key, or the uuid of the exported machine. */
  key: string;
  /** False before anything is done, true after. */
  done: boolean;
  /** What now lies under jobs/, after a write there. */
  job?: Job;
}

/** `cut` ends the connection; a promise holds the request until it resolves. */
export type Watcher = (seen: Seen) => unknown;

export interface Instance {
  readonly name: string;
  readonly url: string;
  readonly program: Program;
  alive(): boolean;
  /** Its name in leases. */
  readonly owner: string;
  readonly paused: boolean;
  kill(): void;
  /** SIGSTOP and SIGCONT. */
  pause(): void;
  wake(): void;
  /** The job's id, or undefined when the machine was busy or the instance went away; `wish` is the request's body. */
  backUp(vm: string, wish?: object): Promise<string | undefined>;
  /** As `backUp`, asked again until the machine is free. */
  backUpWhenFree(vm: string): Promise<string>;
}

export interface Cluster extends AsyncDisposable {
  readonly sim: SimPool;
  readonly s3: SimS3;
  readonly instances: readonly Instance[];
  start(name: string, env?: Record<string, string>): Promise<Instance>;
  /** Calls `watcher` for every request until the returned function is called. */
  watch(watcher: Watcher): () => void;
  /** Looks again at each request, before and after it is carried out, and at each end of a process until `ready` gives something. */
  until<T>(what: string, ready: () => T | undefined | false): Promise<T>;
  jobs(): Job[];
  job(id: string): Job | undefined;
  ended(id: string): Promise<Job>;
  /** Makes the leases of everybody who is dead, paused or no instance of ours run out now. */
  expireLeases(): Promise<void>;
  /** How often a job was taken over, by what the instances logged. */
  takeovers(id: string): number;
  /** The end of every scenario: nothing left, exactly the complete backups listed, each one importable. */
  check(asked: Instance): Promise<void>;
}

/** Machines of one disk, two parts each unless they are to be smaller. */
export function machines(count: number, sizeBytes = 12 * MIB): MachineSpec[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `m${index}`,
    power: 'Running' as const,
    disks: [
      {
        name: `m${index} root`,
        storage: 'nfs' as const,
        bootable: true,
        open: () => createGeneratedDisk({ sizeBytes, seed: index + 1, density: 0.8 }),
      },
    ],
  }));
}

/** A pool with these machines and an empty bucket; no instance yet. */
export async function startCluster(specs: MachineSpec[] = machines(1)): Promise<Cluster> {
  const sim = await startSimPool({ machines: specs });
  const s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast' });
  const instances: Instance[] = [];
  const watchers = new Set<Watcher>();
  const waiters = new Set<() => void>();
  const look = async (seen: Seen): Promise<unknown> => {
    // after the watchers: one may hold this request for long, and that is what somebody waits for
    setImmediate(() => {
      for (const waiter of [...waiters]) waiter();
    });
    for (const watcher of [...watchers]) if ((await watcher(seen)) === 'cut') return 'cut';
  };
  const job = (id: string) => readJob(s3, `xv/jobs/${id}.json`);
  const jobs = () =>
    s3.inspect
      .keys(BUCKET)
      .filter((key) => key.startsWith('xv/jobs/'))
      .flatMap((key) => readJob(s3, key) ?? []);
  s3.faults.watch = ({ operation, key, done }) => {
    const written = done && operation === 'PutObject' && key.startsWith('xv/jobs/');
    const now = written ? readJob(s3, key) : undefined;
    return look({ name: `${operation} ${kindOf(key)}`, key, done, ...(now && { job: now }) });
  };
  sim.faults.watch = ({ method, params, done }) =>
    look({ name: method, key: method === '/export' ? String(params[0]) : '', done });
  const watch = (watcher: Watcher) => {
    watchers.add(watcher);
    return () => void watchers.delete(watcher);
  };
  const until: Cluster['until'] = (what, ready) =>
    waitUntil({
      what,
      ready,
      waiters,
      instances,
      tell: () => JSON.stringify(jobs(), undefined, 1),
    });
  const store = openStore(s3);
  return {
    sim,
    s3,
    instances,
    watch,
    until,
    expireLeases: async () => {
      const working = instances.filter((one) => one.alive() && !one.paused);
      await expireLeases(s3, store, new Set(working.map(({ owner }) => owner)));
    },
    job,
    jobs,
    start: async (name, env = {}) => {
      const instance = await startInstance(name, { ...settingsOf(sim, s3, name), ...env });
      instances.push(instance);
      return instance;
    },
    ended: (id) =>
      until(`end of job ${id}`, () => {
        const now = job(id);
        return now && isEnded(now) && now;
      }),
    takeovers: (id) =>
      instances
        .flatMap(({ program }) => program.output.out.split('\n'))
        .filter((line) => line.includes('job taken over') && line.includes(id)).length,
    check: async (asked) => {
      // given back a moment after the last record
      const leases = () => s3.inspect.keys(BUCKET).filter((key) => key.startsWith('xv/leases/'));
      await until('all leases to be given back', () => leases().length === 0);
      await check({ sim, s3, jobs: jobs() }, asked);
    },
    [Symbol.asyncDispose]: async () => {
      watchers.clear();
      for (const instance of instances) instance.kill();
      await Promise.all(instances.map(({ program }) => program.ended));
      store.close();
      await sim.close();
      await s3.close();
    },
  };
}

/** The test's own way into the bucket. */
function openStore(s3: SimS3): ObjectStore {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3;
  const credentials = { accessKeyId, secretAccessKey };
  const arena = createArena({ totalBytes: 8 * MIB, unitBytes: 8 * MIB });
  return createS3Store(
    { endpoint, region, credentials, bucket: BUCKET, prefix: 'xv', pathStyle: true },
    { arena, clock: systemClock, log: createTestLog(), meter: silentMeter },
  );
}

async function expireLeases(s3: SimS3, store: ObjectStore, working: Set<string>): Promise<void> {
  for (const key of s3.inspect.keys(BUCKET).filter((one) => one.startsWith('xv/leases/'))) {
    const found = await store.get(key, { signal: NEVER });
    if (found === undefined) continue;
    const lease = JSON.parse(Buffer.from(found.bytes).toString('utf8'));
    if (working.has(lease.owner)) continue;
    const body = { ...lease, expires_at: new Date(systemClock.now() - 60_000).toISOString() };
    const put = { signal: NEVER, ifMatch: found.etag };
    await store.put(key, JSON.stringify(body), put).catch((error) => {
      if (!isBackupError(error, 'precondition_failed')) throw error; // taken over already
    });
  }
}

function settingsOf(sim: SimPool, s3: SimS3, name: string): Record<string, string> {
  return {
    ...settingsFor(sim, s3),
    XVAULT_INSTANCE: name,
    XVAULT_LEASE_SECONDS: '15',
    XVAULT_DRAIN_SECONDS: '0',
    XVAULT_CONCURRENCY: '8',
    XVAULT_CONCURRENCY_PER_POOL: '8',
    XVAULT_CONCURRENCY_PER_SR: '8',
    XVAULT_MEMORY_MIB: '64',
  };
}

async function startInstance(name: string, env: Record<string, string>): Promise<Instance> {
  const program = startProgram(['serve'], env);
  const { child } = program;
  const started = JSON.parse(await program.saw('"listening"')) as { url: string; instance: string };
  const { url, instance: owner } = started;
  let paused = false;
  const signal = (kind: NodeJS.Signals) => {
    paused = kind === 'SIGSTOP';
    process.kill(child.pid as number, kind);
  };
  const backUp: Instance['backUp'] = (vm, wish) => askForBackup(url, vm, wish);
  return {
    name,
    url,
    program,
    alive: () => child.exitCode === null && child.signalCode === null && !child.killed,
    kill: () => void child.kill('SIGKILL'),
    owner,
    get paused() {
      return paused;
    },
    pause: () => signal('SIGSTOP'),
    wake: () => signal('SIGCONT'),
    backUp,
    backUpWhenFree: async (vm) => {
      for (;;) {
        const id = await backUp(vm);
        if (id !== undefined) return id;
        await setTimeout(ASK_AGAIN_MS);
      }
    },
  };
}

async function askForBackup(
  url: string,
  vm: string,
  wish: object = {},
): Promise<string | undefined> {
  try {
    const headers = { 'content-type': 'application/json' };
    const post = { method: 'POST', headers, body: JSON.stringify(wish) };
    const answer = await fetch(`${url}/v1/vms/${vm}/backups`, post);
    const body = (await answer.json()) as { id: string };
    if (answer.status === 202) return body.id;
    assert.ok([409, 429, 503].includes(answer.status), JSON.stringify(body));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the instance went away
  }
  return undefined;
}

const KINDS = ['jobs', 'leases', 'idempotency', 'staging', 'probe'];

function kindOf(key: string): string {
  const folder = key.split('/')[1] ?? '';
  if (KINDS.includes(folder)) return folder;
  if (key.endsWith('.xva')) return 'archive';
  if (key.endsWith('blocks.idx')) return 'index';
  return key.endsWith('backup.json') ? 'backup' : folder;
}

function readJob(s3: SimS3, key: string): Job | undefined {
  const bytes = s3.inspect.read(BUCKET, key);
  return bytes && (JSON.parse(bytes.toString('utf8')) as Job);
}

interface Wait<T> {
  what: string;
  ready: () => T | undefined | false;
  waiters: Set<() => void>;
  instances: readonly Instance[];
  tell(): string;
}

async function waitUntil<T>({ what, ready, waiters, instances, tell }: Wait<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const lookAgain = () => {
    const found = ready();
    if (found !== undefined && found !== false) resolve(found);
  };
  waiters.add(lookAgain);
  for (const { program } of instances) void program.ended.then(lookAgain);
  const hang = AbortSignal.timeout(HANG_MS);
  hang.addEventListener('abort', () => {
    const logs = instances.map(({ name, program }) => `--- ${name}\n${program.output.out}`);
    reject(new Error(`waited in vain for ${what}\n${tell()}\n${logs.join('\n')}`));
  });
  lookAgain();
  return await promise.finally(() => waiters.delete(lookAgain));
}

/**
 * What a killed process may leave: on the pool its session (the pool ends it after a day) and tasks that have ended
 * (gone after 65 minutes), in the bucket what it tried the store's abilities with (the sweep finds it). Everything
 * else is a leak.
 */
const OF_THE_DEAD = /^session of|open connections|^task .* (success|failure|cancelled)/;
const OF_THE_DEAD_STARTING = 'xv/probe/';
/** Made and not yet used when its process was killed: what a sweep is for. */
const FOR_THE_SWEEP = /^task xvault backup of .* pending/;

async function check(
  { sim, s3, jobs }: { sim: SimPool; s3: SimS3; jobs: Job[] },
  asked: Instance,
): Promise<void> {
  const keys = s3.inspect.keys(BUCKET);
  const left = [
    ...(await sim.auditWhenQuiet({ ignore: either(OF_THE_DEAD, FOR_THE_SWEEP) })),
    ...s3.inspect.uploads(BUCKET).flatMap(({ key }) => {
      return key.startsWith(OF_THE_DEAD_STARTING) ? [] : `unfinished upload ${key}`;
    }),
    ...keys.filter((key) => /^xv\/staging\//.test(key)),
  ];
  assert.deepEqual(left, [], 'nothing is left');
  assert.deepEqual(s3.stats.internalErrors, [], 'the S3 server has no bug');
  await sweep(asked);
  assert.deepEqual(await sim.auditWhenQuiet({ ignore: OF_THE_DEAD }), [], 'nor after a sweep');
  const records = keys.filter((key) => key.endsWith('/backup.json'));
  const wanted = jobs.filter(({ status }) => status === 'succeeded').map((job) => job.result?.id);
  for (const id of wanted) await untilKnown(asked, String(id));
  const listed = await listBackups(asked);
  assert.deepEqual(listed.sort(), wanted.sort(), 'listed is what succeeded, each once');
  assert.equal(records.length, wanted.length);
  for (const record of records) await checkArchive(sim, s3, record);
}

function either(...all: RegExp[]): RegExp {
  return new RegExp(all.map(({ source }) => source).join('|'));
}

async function sweep({ url }: Instance): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const post = { method: 'POST', headers, body: '{"dry_run":false}' };
  const answer = await fetch(`${url}/v1/sweep`, post);
  assert.equal(answer.status, 200, await answer.text());
}

/** An instance's listing may be half a minute old; asked for a backup that is not in it, it lists anew. */
async function untilKnown({ url }: Instance, id: string): Promise<void> {
  const limit = AbortSignal.timeout(HANG_MS);
  for (;;) {
    const answer = await fetch(`${url}/v1/backups/${id}`, { signal: limit });
    await answer.body?.cancel();
    if (answer.status === 200) return;
    assert.equal(answer.status, 404);
    await setTimeout(ASK_AGAIN_MS, undefined, { signal: limit });
  }
}

async function listBackups({ url }: Instance): Promise<string[]> {
  const answer = await fetch(`${url}/v1/backups?page_size=1000`);
  const { backups } = (await answer.json()) as { backups: { id: string }[] };
  return backups.map(({ id }) => id);
}

async function checkArchive(sim: SimPool, s3: SimS3, recordKey: string): Promise<void> {
  const record = JSON.parse(s3.inspect.read(BUCKET, recordKey)?.toString('utf8') ?? '');
  const bytes = s3.inspect.read(BUCKET, record.archive.key);
  assert.ok(bytes, `${record.archive.key} is there`);
  const pieces = (async function* () {
    yield bytes;
  })();
  const imported = await importXva(pieces);
  const got = imported.disks.map(({ image }) => contentDigest(image));
  const want = sim.machine(record.vm.name).disks.map(({ disk }) => contentDigest(disk));
  assert.deepEqual(got, want, `disks of ${record.vm.name}`);
}
