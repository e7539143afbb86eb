/** What every step of a job is given: ports, the catalogue, and where to report. */
import type { BackupCatalog } from '../catalog/backups.ts';
import type { JobStore } from '../catalog/job-store.ts';
import type { Keys } from '../catalog/keys.ts';
import type { Leases } from '../catalog/lease.ts';
import type { Checkpoint, Progress } from '../catalog/record.ts';
import type { Unreadable } from '../catalog/unreadable.ts';
import type { Verifications } from '../catalog/verifications.ts';
import { BackupError } from '../errors.ts';
import type { Clock, Hooks, Ids, Log, Meter, ObjectStore, Pool } from '../ports.ts';
import type { Prices } from '../prices.ts';
import type { RotationSettings } from '../settings-rotation.ts';
import type { Tracer } from '../tracer.ts';
import type { Hasher, Normaliser, NormaliserInput } from '../xva/types.ts';
import type { Adoption } from './adopt-steps.ts';
import type { Notices } from './notices.ts';

/** Writing the last record, giving a lease back: what must not hold a drain for long. */
export const CLEANUP_MS = 120_000;

/**
 * Removing the snapshot: sixteen disks, one after another, at a quarter of a minute each on busy block storage, or a
 * toolstack that restarts. Should the process be killed meanwhile, another goes on.
 */
export const CLEANING_MS = 300_000;

/** An archive that took hours is worth a wait for the bucket; should the process be killed, another publishes it. */
export const PUBLISH_MS = 600_000;

/** Every snapshot of ours begins so; the job's id follows. */
export const SNAPSHOT_PREFIX = 'xvault:';

export interface Engine {
  pools: ReadonlyMap<string, Pool>;
  /** Archives and their records. */
  store: ObjectStore;
  keys: Keys;
  catalog: BackupCatalog;
  /** What was found when backups were looked at again. */
  verifications: Verifications;
  /** Archives this process was given, by the job that adopts them. */
  adoptions: Map<string, Adoption>;
  jobs: JobStore;
  leases: Leases;
  /** What of both cannot be read. */
  unreadable: Unreadable;
  clock: Clock;
  ids: Ids;
  log: Log;
  meter: Meter;
  tracer: Tracer;
  /** Absent where the settings allow none. */
  hooks?: Hooks;
  /** Absent where nobody wants to be told. */
  notices?: Notices;
  /** Aborted when this process is about to be killed: every lease is given back, whatever still hangs. */
  leaving?: AbortSignal;
  delta: DeltaSettings;
  /** The classes of XVAULT_RETENTION_DAYS. */
  retentionClasses: readonly string[];
  rotation: RotationSettings;
  createNormaliser(input: NormaliserInput): Promise<Normaliser>;
  /** Loaded once. */
  hasher(): Promise<Hasher>;
}

export interface DeltaSettings {
  /** Class → days until the bucket's rule removes a backup of it; a class that is not in it stays. */
  retentionDays: Readonly<Record<string, number>>;
  /** How many of the seams are read back where the store proves nothing of the whole object. */
  seamCheckPercent: number;
  prices: Prices;
}

/** What a running step is given; the driver writes what it reports into the record. */
export interface StepContext {
  engine: Engine;
  signal: AbortSignal;
  /** Kept in memory, written with the next heartbeat. */
  report(progress: Progress): void;
  /** Written to the bucket before it resolves: what a take-over after a crash must know. */
  remember(patch: Partial<Checkpoint>): Promise<void>;
}

/** The pool a job belongs to. */
export function poolOf(engine: Engine, name: string): Pool {
  const pool = engine.pools.get(name);
  if (pool) return pool;
  throw new BackupError('not_found', `find pool=${name}: it is not in the settings`, {
    details: { pool: name, pools: [...engine.pools.keys()] },
  });
}
