/**
 * A pool whose machine is exported and one into which it is put again: what the tests of /import share.
 */
import assert from 'node:assert/strict';
import { clipDisk, createSparseDisk, digestDisk, type SimDisk } from './disk.ts';
import { type MachineSpec, type SimPool, type SimPoolOptions, startSimPool } from './pool.ts';
import { type Caller, get, logIn, put, type RawAnswer } from './raw-client.ts';

const MIB = 1_048_576;

/** A disk with bytes in some of its blocks, the last one included. */
export function writtenDisk(sizeBytes: number, seed: number): SimDisk {
  const disk = createSparseDisk(sizeBytes);
  for (const at of [512, 2 * MIB + 4096, sizeBytes - 700]) {
    disk.write(at, Buffer.alloc(600, `content ${seed} at ${at}, `));
  }
  return disk;
}

/** Two disks (one of an odd size), a CD, two cards; halted, so that it can be exported itself. */
export const MACHINE: MachineSpec = {
  name: 'two disks',
  disks: [
    { name: 'root', storage: 'nfs', open: () => writtenDisk(4 * MIB, 1), bootable: true },
    { name: 'data', storage: 'lvm', open: () => writtenDisk(5 * MIB + 1536, 2) },
  ],
  cd: 'debian-13.iso',
  networks: 2,
  tags: ['production'],
  otherConfig: { auto_poweron: 'true', owner: 'ops' },
  haRestartPriority: 'restart',
  uefi: true,
  vtpm: true,
};

export interface Source {
  pool: SimPool;
  caller: Caller;
  /** The archive of the machine, compressed as asked. */
  archive(compression?: 'gzip' | 'zstd'): Promise<Buffer>;
}

/** The pool with the machine. */
export async function startSource(options: SimPoolOptions = {}): Promise<Source> {
  const pool = await startSimPool({ machines: [MACHINE], hosts: 1, seed: 2, ...options });
  const caller = await logIn(pool);
  const cookie = [`Cookie: session_id=${caller.session}`];
  return {
    pool,
    caller,
    async archive(compression) {
      const query = compression === undefined ? '' : `&use_compression=${compression}`;
      const path = `/export?ref=${pool.machines[0]?.ref}${query}`;
      return (await get(pool.url, path, cookie)).body;
    },
  };
}

export interface Target {
  pool: SimPool;
  caller: Caller;
  /** PUT /import with a task of its own; what the task says at the end. */
  send(archive: Uint8Array, options?: SendOptions): Promise<Sent>;
  /** What is left beyond the machines named, without the caller's session. */
  left(kept?: string[]): Promise<string[]>;
}

export interface SendOptions {
  /** More of the query, `&` included. */
  query?: string;
  headers?: string[];
  url?: string;
}

export interface Sent {
  answer: RawAnswer;
  task: { status: string; error_info: string[]; result: string; progress: number };
  /** Refs of the machines made. */
  vms: string[];
}

/** An empty pool. */
export async function startTarget(options: SimPoolOptions = {}): Promise<Target> {
  const pool = await startSimPool({ machines: [], seed: 3, ...options });
  const caller = await logIn(pool);
  return {
    pool,
    caller,
    async send(archive, { query = '', headers = [], url = pool.url } = {}) {
      const task = await caller.call('task.create', 'import', '');
      const cookie = `Cookie: session_id=${caller.session}`;
      const path = `/import?task_id=${task}${query}`;
      const answer = await put(url, path, archive, [cookie, ...headers]);
      const record = await caller.call<Sent['task']>('task.get_record', task);
      await caller.call('task.destroy', task);
      const vms = [...record.result.matchAll(/<value>(OpaqueRef:[^<]+)<\/value>/g)];
      return { answer, task: record, vms: vms.map(([, ref]) => ref ?? '') };
    },
    left: (kept = []) => pool.auditWhenQuiet({ kept, limitMs: 500, ignore: /^session of raw/ }),
  };
}

/** The imported machine's disks hold what the original's do, and nothing behind them. */
export function assertSameDisks(source: SimPool, target: SimPool, vm: string): void {
  const [machine] = source.machines;
  const originals = machine?.disks ?? [];
  const copies = target.disksOf(vm);
  const digests = copies.map(({ disk }, index) =>
    digestDisk(clipDisk(disk, originals[index]?.disk.sizeBytes ?? 0)),
  );
  assert.deepEqual(
    digests,
    originals.map(({ disk }) => digestDisk(disk)),
  );
  assert.deepEqual(
    copies.map(({ name, userdevice }) => [name, userdevice]),
    originals.map(({ name, userdevice }) => [name, userdevice]),
  );
}
