/**
 * The service interface in memory, for tests and measurements of the HTTP front: jobs change when the test says so.
 *
 * `failures` makes the next call of a method throw; machines are web-1 (ordinary) and whatever `failures` says.
 */
import type { ByteView } from '../../src/backup/disk-view.ts';
import type { RunService } from '../../src/backup/runs.ts';
import type { Page, Service } from '../../src/backup/service.ts';
import { type Backup, type BackupRequest, isEnded, type Job } from '../../src/catalog/record.ts';
import { isRunEnded, type Run } from '../../src/catalog/run.ts';
import { BackupError } from '../../src/errors.ts';
import { STATUS_EXAMPLE, SWEEP_EXAMPLE, VM_EXAMPLE } from '../../src/http/examples.ts';
import { FORECAST_EXAMPLE } from '../../src/http/forecast-answers.ts';
import { GUARD_EXAMPLE } from '../../src/http/guard-answers.ts';
import { APPLIED_EXAMPLE, ROTATION_EXAMPLE } from '../../src/http/rotation-answers.ts';
import { exampleRun } from '../../src/http/run-answers.ts';
import { exampleBackup, exampleJob } from './records.ts';

export interface FakeService extends Service {
  jobs: Map<string, Job>;
  runs: Map<string, Run>;
  backups: Map<string, Backup>;
  /** Method → what it throws from now on. */
  failures: Map<keyof Service, unknown>;
  /** Method → the inputs it was called with. */
  calls: Map<string, unknown[]>;
  draining: boolean;
  /** Changes a job and wakes who waits for it. */
  change(id: string, fields: Partial<Job>): void;
  readonly watchers: number;
}

/** An empty service. */
export function createFakeService(): FakeService {
  const jobs = new Map<string, Job>();
  const backups = new Map<string, Backup>();
  const runs = new Map<string, Run>();
  const failures = new Map<keyof Service, unknown>();
  const calls = new Map<string, unknown[]>();
  const wakers = new Set<() => void>();
  let started = 0;

  const enter = (method: keyof Service, input?: unknown): void => {
    const before = calls.get(method);
    if (before) before.push(input);
    else calls.set(method, [input]);
    if (failures.has(method)) throw failures.get(method);
  };
  const changed = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const wake = () => {
        wakers.delete(wake);
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const abort = () => {
        wakers.delete(wake);
        reject(signal.reason);
      };
      signal.throwIfAborted();
      signal.addEventListener('abort', abort, { once: true });
      wakers.add(wake);
    });

  const about = (
    method: keyof Service,
    kind: Job['kind'],
    input: { backupId: string; triggeredBy: string },
    more: Partial<Job> = {},
  ): Job => {
    enter(method, input);
    const { id: backupId, vm } = backups.get(input.backupId) ?? exampleBackup();
    const { triggeredBy } = input;
    const wish = { triggeredBy, vm: vm.name, request: exampleJob().request };
    const job: Job = { ...newJob(++started, wish), kind, backup_id: backupId, ...more };
    jobs.set(job.id, job);
    return job;
  };

  return {
    jobs,
    runs,
    backups,
    failures,
    calls,
    draining: false,
    get watchers() {
      return wakers.size;
    },
    change: (id, fields) => {
      jobs.set(id, { ...exampleJob(), ...jobs.get(id), ...fields, id });
      for (const wake of [...wakers]) wake();
    },
    startBackup: async (input) => {
      enter('startBackup', input);
      const { chat } = input;
      const job = { ...newJob(++started, input), ...(chat === undefined ? {} : { chat }) };
      jobs.set(job.id, job);
      return job;
    },
    startIndex: async (input) => about('startIndex', 'index', input),
    startVerify: async (input) => about('startVerify', 'verify', input, { verify: input.wish }),
    startRestore: async (input) =>
      about('startRestore', 'restore', input, { restore: input.request }),
    startRestoreTest: async (input) =>
      about('startRestoreTest', 'restore_test', input, { restore_test: input.wish }),
    startAdopt: () => Promise.reject(new BackupError('internal', 'not asked here')),
    getJob: async (id) => {
      enter('getJob', id);
      return jobs.get(id);
    },
    waitJob: async (id, input, { signal }) => {
      enter('waitJob', { id, ...input });
      while (!isEnded(jobs.get(id) ?? { status: 'failed' }) && input.timeoutMs > 1000) {
        await changed(signal);
      }
      return jobs.get(id);
    },
    watchJob: async function* (id, { signal }) {
      for (;;) {
        const job = jobs.get(id);
        if (job === undefined) return;
        yield job;
        if (isEnded(job)) return;
        await changed(signal);
      }
    },
    cancelJob: async (id) => {
      enter('cancelJob', id);
      const job = jobs.get(id);
      if (job && !isEnded(job)) jobs.set(id, { ...job, cancel_requested: true });
      return jobs.get(id);
    },
    listJobs: async (input) => {
      enter('listJobs', input);
      return pageOf([...jobs.values()], input.pageSize);
    },
    listVms: async (input) => {
      enter('listVms', input);
      return [VM_EXAMPLE];
    },
    listBackups: async (input) => {
      enter('listBackups', input);
      return pageOf([...backups.values()], input.pageSize);
    },
    getBackup: async (id) => {
      enter('getBackup', id);
      return backups.get(id);
    },
    openDisk: async ({ backupId, disk }) => {
      enter('openDisk', { backupId, disk });
      return backups.has(backupId) && disk === 0 ? viewOf(DISK, `"${backupId}-disk0"`) : undefined;
    },
    openArchive: async (id) => {
      enter('openArchive', id);
      return backups.has(id) ? viewOf(ARCHIVE, '"of-the-bucket"') : undefined;
    },
    archiveLink: async (id, input) => {
      enter('archiveLink', { id, ...input });
      return backups.has(id)
        ? `https://store.example/web-1.xva?X-Amz-Expires=${input.expiresSeconds}`
        : undefined;
    },
    status: async (input) => {
      enter('status', input);
      return { ...STATUS_EXAMPLE, max_age_seconds: input.maxAgeSeconds };
    },
    readiness: async () => {
      enter('readiness');
      return { status: 'pass', checks: { bucket: { status: 'pass', output: 'answers' } } };
    },
    ...fakeRuns(runs, enter),
    sweep: async (input) => {
      enter('sweep', input);
      return { ...SWEEP_EXAMPLE, dry_run: input.dryRun };
    },
    startPin: async (input) => {
      enter('startPin', input);
      const { id: backupId, vm } = backups.get(input.backupId) ?? exampleBackup();
      const job: Job = {
        ...newJob(++started, { ...input, vm: vm.name, request: exampleJob().request }),
        kind: 'pin',
        backup_id: backupId,
        pin: input.wish,
      };
      jobs.set(job.id, job);
      return job;
    },
    unpin: async (input) => {
      enter('unpin', input);
      return backups.has(input.backupId) ? 'in_rotation' : undefined;
    },
    rotation: async () => {
      enter('rotation', undefined);
      return ROTATION_EXAMPLE;
    },
    applyRotation: async (input) => {
      enter('applyRotation', input);
      return { ...APPLIED_EXAMPLE, dry_run: input.dryRun, applied: !input.dryRun };
    },
    forecast: async (input) => {
      enter('forecast', input);
      return FORECAST_EXAMPLE;
    },
    renewLastGood: async (input) => {
      enter('renewLastGood', input);
      return { ...GUARD_EXAMPLE, dry_run: input.dryRun };
    },
    drain: () => Promise.reject(new BackupError('internal', 'not asked here')),
    workOff: () => Promise.reject(new BackupError('internal', 'not asked here')),
  };
}

/** Runs in memory: nothing is selected, and none ends. */
function fakeRuns(
  runs: Map<string, Run>,
  enter: (method: keyof Service, input?: unknown) => void,
): RunService {
  return {
    startRun: async (input) => {
      enter('startRun', input);
      const id = input.runId ?? exampleRun().id;
      const run = { ...exampleRun(), id, request: input.request, triggered_by: input.triggeredBy };
      if (!input.request.dry_run) runs.set(id, run);
      return run;
    },
    getRun: async (id) => {
      enter('getRun', id);
      return runs.get(id);
    },
    waitRun: async (id, input) => {
      enter('waitRun', { id, ...input });
      return runs.get(id);
    },
    listRuns: async (input) => {
      enter('listRuns', input);
      return pageOf([...runs.values()], input.pageSize);
    },
    leftRuns: () => [],
    cancelRun: async (id) => {
      enter('cancelRun', id);
      const run = runs.get(id);
      if (run && !isRunEnded(run)) runs.set(id, { ...run, cancel_requested: true });
      return runs.get(id);
    },
  };
}

/** What can be read of every backup. */
export const DISK = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251));
const ARCHIVE = Buffer.from('archive of all disks');

function viewOf(bytes: Buffer, etag: string): ByteView {
  const read: ByteView['read'] = async function* ({ offset, length }, { signal }) {
    const end = offset + length;
    for (let at = offset; at < end; at += 300) {
      signal.throwIfAborted();
      yield bytes.subarray(at, Math.min(end, at + 300));
    }
  };
  return {
    sizeBytes: bytes.length,
    etag,
    fileName: 'web-1.bin',
    read,
    lend: async function* (range, _, options) {
      for await (const piece of read(range, options)) yield { bytes: piece, release() {} };
    },
  };
}

function newJob(
  number: number,
  input: { vm: string; request: BackupRequest; triggeredBy: string },
): Job {
  return {
    ...exampleJob(),
    id: `019aaf4a-0000-7000-8000-${String(number).padStart(12, '0')}`,
    status: 'queued',
    phase: 'preparing',
    vm: { uuid: exampleBackup().vm.uuid, name: input.vm, pool: 'default' },
    request: input.request,
    triggered_by: input.triggeredBy,
  };
}

function pageOf<T>(items: T[], pageSize: number): Page<T> {
  const page = items.slice(0, pageSize);
  return page.length < items.length ? { items: page, nextPageToken: 'more' } : { items: page };
}
