/**
 * Two simulated pools and a bucket between them: backed up on one, restored on the other, compared bit for bit.
 */
import assert from 'node:assert/strict';
import type { RunningService } from '../../src/backup/create-service.ts';
import type { Backup, BackupRequest, Job } from '../../src/catalog/record.ts';
import { type RestoreRequest, restoreRequestSchema } from '../../src/catalog/restore.ts';
import type { Clock, Log, ObjectStore, Pool, VmRef } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { createXapiPool } from '../../src/xapi/pool.ts';
import { clipDisk, createGeneratedDisk, createSparseDisk, digestDisk } from '../sim/disk.ts';
import type { MachineSpec, SimPoolOptions } from '../sim/pool.ts';
import { type SimMachine, type SimPool, startSimPool } from '../sim/pool.ts';
import { createFastClock } from '../xapi/fast-clock.ts';
import { resultOf } from './delta-world.ts';
import {
  createTestLog,
  silentMeter,
  startWorld,
  type TestWorld,
  type WorldOptions,
} from './world.ts';

const MIB = 1_048_576;
const STAYS_OPEN = /session|open connections/;

/** Where every interface of a default pool goes on another one. */
export const ALL_NETWORKS = { '*': 'VM network' };

/** Two disks (one of an odd size, with gaps), two cards, an inserted CD, everything that must be put off. */
export const TWO_DISKS: MachineSpec = {
  name: 'app <"&"> é',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 9 * MIB, seed: 3, density: 0.5 }),
    },
    {
      name: 'data',
      storage: 'lvm',
      open: () => {
        const disk = createSparseDisk(5 * MIB + 1536);
        disk.write(3 * MIB + 4096, Buffer.alloc(600, 'in the middle, '));
        return disk;
      },
    },
  ],
  cd: 'debian-13.iso',
  networks: 2,
  otherConfig: { auto_poweron: 'true', owner: 'ops' },
  haRestartPriority: 'restart',
};

export interface RestoreWorld extends AsyncDisposable {
  world: TestWorld;
  /** The other pool, 'dr' in the settings. */
  target: SimPool;
  /** Knows both pools. */
  service: RunningService;
  targetPool: Pool;
  /** A backup of the source's machine. */
  backUp(vm: string, request?: Partial<BackupRequest>): Promise<Backup>;
  /** Restores into the other pool unless told, and waits for the end. */
  restore(backup: Backup, request?: Partial<RestoreRequest>, by?: RunningService): Promise<Job>;
  /** Another process, with another view of the other pool. */
  secondService(over: { target?: Pool; store?: ObjectStore; clock?: Clock }): RunningService;
  /** The other pool through a client whose clock runs so many times faster. */
  openTarget(input: { factor: number }): Pool;
  /** From the other pool. */
  removeAgain(vmRef: string): Promise<void>;
  /** What a failed restore must not leave: nothing. */
  audit(): Promise<string[]>;
}

/** Starts both pools. */
export async function startRestoreWorld(
  options: WorldOptions & { target?: SimPoolOptions } = {},
): Promise<RestoreWorld> {
  const { target: targetOptions, ...rest } = options;
  const world = await startWorld({ pool: { seed: 9, machines: [TWO_DISKS] }, ...rest });
  const target = await startSimPool({ seed: 77, machines: [], name: 'disaster', ...targetOptions });
  const openTarget = ({ factor }: { factor: number }) =>
    openPool(target, { name: 'dr', factor, log: world.log });
  const targetPool = openTarget({ factor: 1 });
  const secondService: RestoreWorld['secondService'] = ({ target: other, ...over }) =>
    world.secondService({ ...over, otherPools: [other ?? targetPool] });
  const service = secondService({});
  return {
    world,
    target,
    service,
    targetPool,
    openTarget,
    removeAgain: targetPool.removeAgain,
    secondService,
    backUp: async (vm, request = {}) => resultOf(await world.backup(vm, request)),
    restore: async ({ id: backupId }, request = {}, by = service) => {
      const { id } = await by.startRestore(
        {
          backupId,
          request: restoreRequestSchema.parse({ pool: 'dr', ...request }),
          triggeredBy: 'test',
        },
        { signal: NEVER },
      );
      return (await by.waitJob(id, { timeoutMs: 60_000 }, { signal: NEVER })) as Job;
    },
    audit: async () => [
      ...(await world.audit()),
      ...(await target.auditWhenQuiet({ ignore: STAYS_OPEN })),
    ],
    [Symbol.asyncDispose]: async () => {
      await service.drain({ drainMs: 0 });
      await targetPool.close();
      await target.close();
      await world[Symbol.asyncDispose]();
    },
  };
}

export interface TestPool extends Pool, AsyncDisposable {
  /** Removes a restored machine, as who has seen enough of it. */
  removeAgain(vmRef: string): Promise<void>;
}

/** A client of a simulated pool, by a clock that runs so many times faster. */
export function openPool(
  sim: SimPool,
  { name, factor = 1, log = createTestLog() }: { name: string; factor?: number; log?: Log },
): TestPool {
  const pool = createXapiPool(
    {
      name,
      urls: sim.urls,
      username: sim.username,
      password: sim.password,
      trust: { kind: 'fingerprint', sha256: sim.fingerprints },
      taskPollMs: 50 * factor,
    },
    { clock: createFastClock(factor), log, meter: silentMeter },
  );
  return {
    ...pool,
    removeAgain: async (vmRef) => {
      await pool.markMachine({ vm: vmRef as VmRef, mark: 'test' }, { signal: NEVER });
      for (const found of await pool.findImported({ mark: 'test' }, { signal: NEVER })) {
        await pool.removeImported(found, { signal: NEVER });
      }
    },
    [Symbol.asyncDispose]: () => pool.close(),
  };
}

/** The restored machine as the pool has it. */
export function machineOf(pool: SimPool, job: Job) {
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  const { restored } = job;
  assert.ok(restored?.vm, 'a machine was restored');
  const found = pool.world.findByUuid('VM', restored.vm.uuid);
  assert.ok(found, 'it is there');
  return { ref: found.ref, record: pool.world.get('VM', found.ref), restored };
}

/** Its disks hold what the original's held when it was backed up. */
export function assertSameDisks(
  pool: SimPool,
  vmRef: string,
  original: Pick<SimMachine, 'disks'>,
  what = '',
): void {
  const disks = pool.disksOf(vmRef);
  assert.equal(disks.length, original.disks.length, what);
  for (const [i, { disk }] of original.disks.entries()) {
    const found = disks[i];
    assert.ok(found);
    const clipped = clipDisk(found.disk, disk.sizeBytes);
    assert.equal(digestDisk(clipped), digestDisk(disk), `disk ${i} ${what}`);
  }
}
