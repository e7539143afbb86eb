/**
 * A pool and a bucket in a process of their own, for benches that run the real program against them.
 *
 * `startWorld` starts it and gives the environment xvault needs. The pool is the tests' simulated one, the bucket their
 * embedded S3 server; backups and a running job can be in it from the start.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createArena } from '../src/arena.ts';
import { createKeys } from '../src/catalog/keys.ts';
import { systemClock } from '../src/clock.ts';
import { ARENA_UNIT_BYTES } from '../src/commands/wire.ts';
import type { Log, ObjectStore } from '../src/ports.ts';
import { createS3Store } from '../src/s3/store.ts';
import { NEVER } from '../src/signals.ts';
import { nextId, sampleBackup, sampleJob } from '../test/records.ts';
import { createGeneratedDisk } from '../test/sim/disk.ts';
import type { MachineSpec } from '../test/sim/machines.ts';
import { type SimMachine, startSimPool } from '../test/sim/pool.ts';
import { type SimS3, startSimS3 } from '../test/sim/s3/index.ts';

export interface WorldInput {
  /** Machines without disks. */
  machines: number;
  /** Complete backups in the bucket, spread over the machines. */
  backups: number;
  /** One machine with a disk of this size and share of data, called `large`. */
  large?: { sizeBytes: number; density: number };
}

interface Ready {
  env: NodeJS.ProcessEnv;
  backupId: string;
  jobId: string;
}

export interface World extends Ready, AsyncDisposable {
  /** Requests the bucket has answered, by operation. */
  requests(): Promise<Record<string, number>>;
}

const BUCKET = 'backups';
const POOL = 'dc1';
const PUTS_IN_FLIGHT = 16;
const LOG: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => LOG };

/** Starts pool and bucket; ready when everything is in it. */
export async function startWorld(input: WorldInput): Promise<World> {
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(input)]);
  const [ready] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('the world did not start'))),
  ])) as [Ready];
  return {
    ...ready,
    requests: async () => {
      child.send('requests');
      const [requests] = (await once(child, 'message')) as [Record<string, number>];
      return requests;
    },
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}

async function serveWorld(input: WorldInput, send: (message: unknown) => void): Promise<void> {
  const s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast' });
  const pool = await startSimPool({ hosts: 1, machines: machinesOf(input) });
  const store = openStore(s3);
  const filled = await fill(store, pool.machines, input.backups);
  store.close();
  const env = {
    XVAULT_POOL_NAME: POOL,
    XVAULT_POOL_URL: pool.urls.join(','),
    XVAULT_POOL_USERNAME: pool.username,
    XVAULT_POOL_PASSWORD: pool.password,
    XVAULT_POOL_FINGERPRINT: pool.fingerprints.join(','),
    XVAULT_BUCKET: BUCKET,
    XVAULT_S3_ENDPOINT: s3.endpoint,
    XVAULT_LISTEN: '127.0.0.1:0',
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    PATH: process.env.PATH,
  };
  process.on('message', () => send(s3.stats.requests));
  process.on('disconnect', () => process.exit(0));
  send({ env, ...filled });
}

function machinesOf({ machines, large }: WorldInput): MachineSpec[] {
  const specs = Array.from({ length: machines }, (_, index): MachineSpec => {
    return { name: `vm-${index}`, power: 'Running', disks: [] };
  });
  if (large === undefined) return specs;
  const { sizeBytes, density } = large;
  const open = () => createGeneratedDisk({ sizeBytes, seed: 5, density });
  return [...specs, { name: 'large', disks: [{ name: 'large disk', storage: 'nfs', open }] }];
}

function openStore(s3: SimS3): ObjectStore {
  const arena = createArena({ totalBytes: ARENA_UNIT_BYTES, unitBytes: ARENA_UNIT_BYTES });
  return createS3Store(
    {
      bucket: BUCKET,
      prefix: '',
      endpoint: s3.endpoint,
      region: s3.region,
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    },
    { clock: systemClock, log: LOG, arena, meter: { count() {}, observe() {} } },
  );
}

/** Backups as a long life leaves them, and one job that another instance runs. */
async function fill(store: ObjectStore, machines: SimMachine[], backups: number) {
  const keys = createKeys('');
  let backupId = '';
  const one = async (index: number) => {
    const machine = machines[index % machines.length] as SimMachine;
    const vm = { uuid: machine.uuid, name: machine.name, pool: POOL };
    const id = nextId();
    if (index === backups >> 1) backupId = id;
    const parts = { retention: 'daily', pool: POOL, vmUuid: vm.uuid, backupId: id };
    const key = keys.archive(parts, vm.name);
    const archive = { key, size_bytes: 3, etag: '"e"', content_digest: '0'.repeat(16) };
    const record = sampleBackup({ id, vm, archive, index_key: keys.index(parts) });
    await store.put(key, 'xva', { signal: NEVER });
    await store.put(keys.record(parts), JSON.stringify(record), { signal: NEVER });
  };
  let next = 0;
  const work = async () => {
    while (next < backups) await one(next++);
  };
  await Promise.all(Array.from({ length: PUTS_IN_FLIGHT }, work));
  const job = sampleJob({ status: 'running', phase: 'exporting' });
  await store.put(keys.job(job.id), JSON.stringify(job), { signal: NEVER });
  const expires = new Date(Date.now() + 3_600_000).toISOString();
  const lease = { version: 1, id: 'l', job_id: job.id, owner: 'another', expires_at: expires };
  await store.put(keys.lease(POOL, job.vm.uuid), JSON.stringify(lease), { signal: NEVER });
  return { backupId, jobId: job.id };
}

if (import.meta.main && process.send) {
  await serveWorld(JSON.parse(process.argv[2] ?? '{}') as WorldInput, process.send.bind(process));
}
