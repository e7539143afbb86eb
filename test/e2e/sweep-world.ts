/** What dead runs leave behind, made on purpose: on the simulated pool and in the embedded bucket. */
import { createKeys } from '../../src/catalog/keys.ts';
import type { Job } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import type { Clock, SnapshotFacts, VmRef } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { sampleJob } from '../records.ts';
import { type HttpWorld, startHttpWorld } from './app.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import { BUCKET, type WorldOptions } from './world.ts';

const options = { signal: NEVER };
export const HOUR_MS = 3600_000;
export const keys = createKeys('xv');

export interface SweepWorld extends HttpWorld {
  /** A job's record, as an instance wrote it last. */
  record(over?: Partial<Job>): Promise<Job>;
  /** A snapshot of the machine `app`, marked for a job unless told otherwise. */
  snapshot(name: string, marker?: Record<string, string>): Promise<SnapshotFacts>;
  /** Our snapshot of a job. */
  snapshotOf(job: Job): Promise<SnapshotFacts>;
  /** As VM.destroy: the disks stay. */
  destroyRecord(snapshot: SnapshotFacts): void;
  task(description: string): string;
  upload(key: string): Promise<string>;
  lease(job: Job, expiresAt: number): Promise<void>;
  /** All snapshots, disks, tasks, objects and uploads there are. */
  everything(): string[];
}

/** A clock ahead of the others. */
export function ahead(ms: number): Clock {
  return { ...systemClock, now: () => systemClock.now() + ms };
}

/** A pool, a bucket, and the means to litter both. */
export async function startSweepWorld(over: WorldOptions = {}): Promise<SweepWorld> {
  const world = await startHttpWorld({ pool: { machines: SMALL_MACHINES }, ...over });
  const { sim, pool, store } = world;
  const app = sim.machine('app');
  const [found] = await pool.findVms(app.uuid, options);
  const vm = found?.ref as VmRef;
  const snapshot: SweepWorld['snapshot'] = async (name, marker) => {
    const made = await pool.snapshotVm({ vm, name, ignoreVdis: [] }, options);
    if (marker !== undefined) await pool.markSnapshot(made.ref, marker, options);
    return made;
  };
  return Object.assign(world, {
    snapshot,
    record: async (given: Partial<Job> = {}) => {
      const job = sampleJob({
        id: systemIds.uuid(),
        status: 'failed',
        phase: 'cleaning',
        vm: { uuid: app.uuid, name: 'app', pool: 'dc1' },
        ...given,
      });
      await store.put(keys.job(job.id), JSON.stringify(job), options);
      return job;
    },
    snapshotOf: (job: Job) => snapshot(`xvault:${job.id}`, { 'xvault:job': job.id }),
    destroyRecord: ({ ref }: SnapshotFacts) => {
      const { VBDs, VIFs } = sim.world.get('VM', ref);
      for (const vbd of VBDs as string[]) sim.world.destroy('VBD', vbd);
      for (const vif of VIFs as string[]) sim.world.destroy('VIF', vif);
      sim.world.destroy('VM', ref);
    },
    task: (description: string) =>
      sim.world.create('task', {
        name_label: 'xvault backup of app',
        name_description: description,
        status: 'pending',
      }),
    upload: async (key: string) => {
      const begun = await store.beginUpload(
        { key, contentType: 'application/x-xva', stagingPrefix: 'xv/none/' },
        options,
      );
      return begun.uploadId; // never disposed: its process is dead
    },
    lease: async (job: Job, expiresAt: number) => {
      const body = {
        version: 1,
        id: systemIds.uuid(),
        job_id: job.id,
        owner: 'dead',
        expires_at: new Date(expiresAt).toISOString(),
      };
      await store.put(keys.lease('dc1', job.vm.uuid), JSON.stringify(body), options);
    },
    everything: () => [
      ...sim.world.all('VM').map(([ref, record]) => `VM ${ref} ${record.name_label}`),
      // hidden bases come and go as the storage coalesces
      ...sim.world
        .all('VDI')
        .filter(([, record]) => record.managed === true)
        .map(([ref]) => `VDI ${ref}`),
      ...sim.world
        .all('task')
        .filter(([, record]) => Object.keys(record.current_operations as object).length === 0)
        .map(([ref]) => `task ${ref}`),
      ...(world.s3?.inspect.keys(BUCKET) ?? []),
      ...(world.s3?.inspect.uploads(BUCKET) ?? []).map(({ key, uploadId }) => `${key} ${uploadId}`),
    ],
  });
}

/** The key of the archive a job was writing. */
export function archiveKey(job: Job): string {
  const parts = {
    retention: 'daily',
    pool: 'dc1',
    vmUuid: job.vm.uuid,
    backupId: job.checkpoint.backup_id,
  };
  return keys.archive(parts, job.vm.name);
}
