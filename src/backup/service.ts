/**
 * What the outside may ask of xvault: the one interface that HTTP and the command line share.
 *
 * Answers come from the bucket (through short caches), so any instance gives the same ones. Errors are
 * BackupErrors; a job that fails is an answer, not an error.
 */
import type { Backup, BackupRequest, Job } from '../catalog/record.ts';
import type { UnreadableRecord } from '../catalog/unreadable.ts';
import type { Verification } from '../catalog/verified.ts';
import type { Cancellable, PoolLeftover } from '../ports.ts';
import type { AdoptService } from './adopt-service.ts';
import type { DiskService } from './disk-view.ts';
import type { BackupEnd } from './endings.ts';
import type { ForecastService } from './forecast-service.ts';
import type { GuardState } from './guard-plan.ts';
import type { GuardService } from './guard-service.ts';
import type { PinService } from './pin-service.ts';
import type { RestoreService } from './restore-service.ts';
import type { RotationService } from './rotation-service.ts';
import type { RunService } from './runs.ts';
import type { RestoreTestService } from './verify-boot-service.ts';
import type { VerifyService } from './verify-service.ts';
import type { WorkOffService } from './work-off.ts';

export interface Page<T> {
  items: T[];
  /** Opaque; undefined at the end. */
  nextPageToken?: string;
  /** Records that belong here and cannot be read. */
  unreadable?: UnreadableRecord[];
}

export interface PageInput {
  /** 1 … 1000; larger values are coerced. */
  pageSize: number;
  pageToken?: string;
}

/** One machine as /v1/vms shows it. */
export interface VmView {
  uuid: string;
  name: string;
  pool: string;
  power_state: string;
  tags: string[];
  last_backup?: { id: string; created_at: string; retention: string; size_bytes: number };
  /** Age of the newest good backup by the service's clock. */
  age_seconds?: number;
  running_job_id?: string;
  /** Why a selection would leave it out; absent when it would not. */
  skipped_because?: string;
}

export type Verdict = 'ok' | 'warning' | 'critical';

export interface StatusReport {
  status: Verdict;
  checked_at: string;
  max_age_seconds: number;
  vms: {
    vm: { uuid: string; name: string; pool: string };
    status: Verdict;
    reason: string;
    /** Its own, by its tag; the report's counts where it has none. */
    max_age_seconds?: number;
    last_backup_id?: string;
    last_backup_at?: string;
    age_seconds?: number;
    /** Of the last backup: the verification that counts. */
    verified?: Verification;
    /** A newer backup than the last good one, which is known not to hold what was backed up. */
    damaged_backup_id?: string;
    last_job?: { id: string; status: string; finished_at?: string; error_code?: string };
    /** When the bucket deletes the newest good backup, and by which rule; absent when no rule does. */
    expires_at?: string;
    expires_by?: string;
    /** What keeps it; absent where nobody can tell. */
    guard?: GuardState;
  }[];
  /** Pools that did not answer: their machines are known from the bucket only. */
  unreachable_pools: string[];
  /** No pool was asked: these are the machines that have backups or jobs, whether they are still there or not. */
  machines_from?: 'bucket';
  /** Records that cannot be read, as far as this instance looked; absent when there are none. */
  unreadable_records?: UnreadableRecord[];
  /** Machines that are on no pool any more, whose last good backup the bucket is about to delete. */
  gone_at_risk?: {
    vm: { uuid: string; name: string; pool: string };
    status: Exclude<Verdict, 'ok'>;
    reason: string;
    last_backup_id: string;
  }[];
}

export interface Readiness {
  status: 'pass' | 'warn' | 'fail';
  checks: Record<string, { status: 'pass' | 'warn' | 'fail'; output?: string }>;
}

/** What a sweep found, and what it did with it. */
export interface SweepFinding {
  kind: PoolLeftover['kind'] | 'upload' | 'staging' | 'copy' | 'lease' | 'probe';
  pool?: string;
  /** uuid on the pool; upload id or key in the bucket. */
  id: string;
  /** What people see: the snapshot's name, the key of an upload. */
  name: string;
  job_id?: string;
  /** Since it was made, of a lease since it expired; absent where nobody says. */
  age_seconds?: number;
  action: 'removed' | 'would_remove' | 'kept';
  reason: string;
}

export interface SweepReport {
  dry_run: boolean;
  started_at: string;
  finished_at: string;
  counts: { removed: number; would_remove: number; kept: number };
  findings: SweepFinding[];
  /** Jobs whose instance died: this one goes on with them, and they clean up themselves. */
  taken_over: string[];
  /** What the bucket's own rules should do and do not, with the mend; absent when there is nothing to tell. */
  advice?: string[];
  /** What could not be looked through, or not be removed. */
  errors: { where: string; code: string; detail: string }[];
}

export interface StartInput {
  /** uuid or unique name. */
  vm: string;
  request: BackupRequest;
  triggeredBy: string;
  /** A UUIDv7 chosen by the caller: a second start with the same id answers with the first one's job. */
  jobId?: string | undefined;
  /** Asked for in a chat: an end after `until` is told by a notification there. */
  chat?: Job['chat'];
}

export interface IndexInput {
  backupId: string;
  triggeredBy: string;
  /** As for a backup. */
  jobId?: string | undefined;
}

/** What is known of a backup beside its record, which never changes. */
export interface BackupExtras extends BackupEnd {
  /** The verification that counts; absent when there was none. */
  verified?: Verification;
}

export type ListedBackup = Backup & BackupExtras;

/** How a service stops; see `drain`. */
export interface DrainInput {
  drainMs: number;
  until?: AbortSignal | undefined;
  leaveMs?: number | undefined;
}

export interface Service
  extends AdoptService,
    VerifyService,
    RestoreTestService,
    DiskService,
    RestoreService,
    ForecastService,
    GuardService,
    RotationService,
    RunService,
    WorkOffService,
    PinService {
  /**
   * Starts a backup: looks the machine up, makes sure none runs for it, writes the job's record, queues it.
   * Errors: `not_found`, `vm_ambiguous` (details.candidates), `vm_not_supported`, `job_conflict` (details.job_id),
   * `limit_reached`, `draining`, `pool_unavailable`, `pool_credentials`, `store_*`.
   */
  startBackup(input: StartInput, options: Cancellable): Promise<Job>;
  /**
   * Starts a job that reads a backup's archive, checks every block and makes its index anew.
   * Errors: `not_found`, `job_conflict` (details.job_id), `limit_reached`, `draining`, `store_*`.
   */
  startIndex(input: IndexInput, options: Cancellable): Promise<Job>;
  /** Read from the bucket at most once a second and job; undefined when there is none. */
  getJob(id: string, options: Cancellable): Promise<Job | undefined>;
  /** Resolves when the job ended or after `timeoutMs`, with the job as it is then. */
  waitJob(id: string, input: { timeoutMs: number }, options: Cancellable): Promise<Job | undefined>;
  /** The job now, then each time its record changed, ending after the one that ended it. */
  watchJob(id: string, options: Cancellable): AsyncIterable<Job>;
  /** Asks the instance that runs the job to stop. An ended job is returned as it is. */
  cancelJob(id: string, options: Cancellable): Promise<Job | undefined>;
  listJobs(
    input: PageInput & { status?: string; vm?: string; pool?: string },
    options: Cancellable,
  ): Promise<Page<Job>>;
  listVms(input: { pool?: string }, options: Cancellable): Promise<VmView[]>;
  listBackups(
    input: PageInput & { vm?: string; pool?: string; retention?: string },
    options: Cancellable,
  ): Promise<Page<ListedBackup>>;
  getBackup(id: string, options: Cancellable): Promise<ListedBackup | undefined>;
  /** A link to the archive, good for `expiresSeconds`. */
  archiveLink(
    id: string,
    input: { expiresSeconds: number },
    options: Cancellable,
  ): Promise<string | undefined>;
  status(
    input: { maxAgeSeconds: number; pool?: string },
    options: Cancellable,
  ): Promise<StatusReport>;
  readiness(options: Cancellable): Promise<Readiness>;
  /**
   * Looks for what dead runs left, on the pools and in the bucket, and removes what is surely ours and no living job's;
   * with `dryRun` it only looks. A pool that does not answer is an entry of the report. Errors: `draining`.
   */
  sweep(input: { dryRun: boolean }, options: Cancellable): Promise<SweepReport>;
  /**
   * Takes no new work, waits `drainMs` for running jobs, then cancels them as `draining` and waits for their clean-up. Copies
   * of last good backups are waited for as long, with `until` from its abort on. With `leaveMs`, for who is killed soon: what
   * has not stopped by then is left where it is, its lease given back, for the next instance to go on with or to clean up.
   */
  drain(input: DrainInput): Promise<void>;
  readonly draining: boolean;
}
