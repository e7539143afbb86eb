/**
 * What xvault needs from the world, and what each part of the world must guarantee.
 *
 * The engine (`backup/`) and the catalogue (`catalog/`) see nothing else. Adapters (`xapi/`, `s3/`, `clock.ts`,
 * `log.ts`) implement these types, translate foreign errors into BackupError once, and retry there and only
 * there. Sizes and offsets are bytes, times are milliseconds since 1970 unless a name says otherwise; ranges are
 * half-open. Every call that can wait takes a signal and rejects with the signal's reason when it is aborted.
 */
import type { BucketProtection } from './bucket-protection.ts';
import type { LifecycleLimits, LifecycleRule } from './bucket-rule.ts';
import type {
  PoolFacts,
  PoolLeftover,
  SnapshotFacts,
  VdiRef,
  VmFacts,
  VmRef,
  VmState,
} from './facts.ts';
import type { PoolImports } from './imports.ts';
import type { PartPlan, PlanLimits } from './part-plan.ts';

export interface Cancellable {
  signal: AbortSignal;
}

// ------------------------------------------------------------------------------------------------ clock, ids, log

export interface Clock {
  /** Milliseconds since 1970 UTC. May jump; only for records and leases. */
  now(): number;
  /** Milliseconds of a clock that never goes back. For durations and rates. */
  elapsed(): number;
  /** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
  sleep(ms: number, options: Cancellable): Promise<void>;
}

export interface Ids {
  /** A new UUIDv7: sorts by the millisecond of its creation. */
  uuid(): string;
}

export type LogFields = Readonly<Record<string, unknown>>;

/** One JSON line an event. Secrets never reach it: adapters redact before they throw or log. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Log;
}

// ------------------------------------------------------------------------------------------------ memory

export type * from './memory.ts';

// ------------------------------------------------------------------------------------------------ the pool

export type * from './bucket-protection.ts';
export type * from './bucket-rule.ts';
export type * from './facts.ts';
export type * from './hooks.ts';
export type * from './imports.ts';
export type * from './notices.ts';

/**
 * One running `/export` with its own XenAPI task.
 *
 * Reading is exact and pulls: between two calls nothing is read, so the socket's own window is the back-pressure.
 * Disposing before the end cancels the task and closes the socket, in its own bounded time; nothing stays on the pool.
 */
export interface ExportStream extends AsyncDisposable {
  readonly host: { address: string; xapiVersion: string; productVersion: string };
  /**
   * Fills `target` completely and returns its length; fewer bytes only at the end of the stream.
   *
   * Errors: `source_truncated` (reset, or neither bytes nor task progress for the stall time), `source_failed`,
   * `pool_unavailable`.
   */
  fill(target: Uint8Array, options: Cancellable): Promise<number>;
  /**
   * After the end of the stream: waits for the task and destroys it. Resolves only if the task says `success`.
   * A vanished, failed, cancelled or stuck task throws `source_failed` with XenAPI's error.
   */
  settle(options: Cancellable): Promise<void>;
  /** The task's own progress 0..1, as last seen. */
  readonly taskProgress: number;
}

/** One pool, whatever member answers. Sessions are reused, re-made when lost, logged out by `close`. */
export interface Pool extends PoolImports {
  readonly name: string;
  facts(options: Cancellable): Promise<PoolFacts>;
  /** Ordinary machines only, sorted by name then uuid. */
  listVms(options: Cancellable): Promise<VmFacts[]>;
  /** Everything called `nameOrUuid` (uuid or exact name_label), of every kind; [] when nothing is. */
  findVms(nameOrUuid: string, options: Cancellable): Promise<VmFacts[]>;
  inspectVm(vm: VmRef, options: Cancellable): Promise<VmState>;
  /**
   * Makes one snapshot named `name`. Not idempotent: look with `findSnapshots` first. With `quiesce` the guest is brought
   * to rest first, by its agent.
   * Errors: `snapshot_refused` with XenAPI's code and params; `quiesce_failed`, after which a snapshot of this name may
   * be there; `vm_not_supported` when `ignoreVdis` is not empty and the host cannot leave disks out.
   */
  snapshotVm(
    input: { vm: VmRef; name: string; ignoreVdis: VdiRef[]; quiesce?: boolean },
    options: Cancellable,
  ): Promise<SnapshotFacts>;
  /** Adds our marker to the other_config of the snapshot and of the disks it made. Idempotent. */
  markSnapshot(
    snapshot: VmRef,
    marker: Record<string, string>,
    options: Cancellable,
  ): Promise<void>;
  /** Snapshots of `vm` (or of every machine) whose name starts with `namePrefix`. */
  findSnapshots(
    input: { vm?: VmRef; namePrefix: string },
    options: Cancellable,
  ): Promise<SnapshotFacts[]>;
  /**
   * Removes the snapshot and the disks it made, and nothing else; retries VDI_IN_USE; gone already is success.
   * Never a CD, never a disk that is no snapshot.
   */
  removeSnapshot(snapshot: SnapshotFacts, options: Cancellable): Promise<void>;
  /**
   * Snapshots whose name begins with `prefix`, disks of snapshots that hang on nothing and were marked with keys of this
   * prefix, tasks whose description begins with it. A copy of a marked disk carries the marker, too, and is none.
   */
  findLeftovers(input: { prefix: string }, options: Cancellable): Promise<PoolLeftover[]>;
  /**
   * Removes what `findLeftovers` gave; gone already is success. Errors: `precondition_failed` when it is not any more
   * what it was then (renamed, in use again).
   */
  removeLeftover(leftover: PoolLeftover, options: Cancellable): Promise<void>;
  /**
   * Starts `/export` of a snapshot, from a host that sees its SRs, uncompressed, with a task of its own, which carries
   * label and description from its first moment on.
   */
  openExport(
    input: { snapshot: VmRef; label: string; description?: string },
    options: Cancellable,
  ): Promise<ExportStream>;
  close(): Promise<void>;
}

// ------------------------------------------------------------------------------------------------ the object store

export interface ObjectFacts {
  key: string;
  sizeBytes: number;
  etag: string;
  lastModified: number;
  /** Of `head`, where the store says it: STANDARD (or absent), GLACIER … */
  storageClass?: string;
  /** Of `head`, where the store says it: nobody may remove it before. */
  lockedUntil?: number;
}

export interface ObjectPage {
  objects: ObjectFacts[];
  /** With a delimiter: the prefixes below. */
  prefixes: string[];
  /** Give it back as `startAfter` for the next page; undefined at the end. */
  next?: string;
}

export interface PutCondition {
  /** Only if nothing is there (If-None-Match: *). */
  ifAbsent?: boolean;
  /** Only if the object still has this ETag (If-Match). */
  ifMatch?: string;
}

export interface StoreFacts {
  endpoint: string;
  bucket: string;
  provider: string;
  /** Conditional create and replace are honoured, atomically as far as a probe can tell. */
  conditionalWrites: boolean;
  conditionalComplete: boolean;
  copyParts: boolean;
  /** Every part but the last must have the same size (R2). */
  equalParts: boolean;
  /** False where unfinished uploads cannot be listed by prefix. */
  listsUploads?: boolean;
  /** What rules of the bucket can do; all of it unless said. */
  lifecycle?: LifecycleLimits;
}

/**
 * S3-compatible storage, one bucket.
 *
 * Guarantees: read after write; an object appears whole or not at all; a conditional write that lost says
 * `precondition_failed` (a 409 counts as lost); an unclear answer to a conditional write is resolved by reading back
 * what is there, so a caller that reads its own bytes knows it won. Keys are plain: [A-Za-z0-9._/-].
 * Errors everywhere: `store_unavailable`, `store_refused`, `store_credentials`, with the store's own code in details.
 */
export interface ObjectStore extends BucketProtection {
  facts(options: Cancellable): Promise<StoreFacts>;
  put(
    key: string,
    body: Uint8Array | string,
    options: Cancellable &
      PutCondition & {
        contentType?: string;
        /** Work of hours hangs on it: tried as long as a part of an archive (minutes), not as a small call (seconds). */
        patient?: boolean;
      },
  ): Promise<{ etag: string }>;
  /** undefined when there is no such object. */
  get(
    key: string,
    options: Cancellable & { range?: { offset: number; length: number } },
  ): Promise<{ bytes: Uint8Array; etag: string; lastModified: number } | undefined>;
  /**
   * All bytes of a large object, or of one range of it, front to back, read ahead in memory of the budget. A piece is valid
   * until the next is asked for. Errors: `precondition_failed` when the object is gone, or not the one with this ETag.
   */
  read(
    input: {
      key: string;
      sizeBytes: number;
      etag: string;
      range?: { offset: number; length: number };
    },
    options: Cancellable,
  ): AsyncGenerator<Uint8Array, void, undefined>;
  /**
   * Fills `target` with the bytes of a large object from `offset` on, tried as long as a part of an archive. Errors:
   * `precondition_failed` when the object is gone, or not the one with this ETag.
   */
  fill(
    input: { key: string; etag: string; offset: number },
    target: Uint8Array,
    options: Cancellable,
  ): Promise<void>;
  head(key: string, options: Cancellable): Promise<ObjectFacts | undefined>;
  list(
    input: { prefix: string; startAfter?: string; delimiter?: string; limit?: number },
    options: Cancellable,
  ): Promise<ObjectPage>;
  /** Gone already is success. */
  delete(key: string, options: Cancellable & { ifMatch?: string }): Promise<void>;
  beginUpload(input: UploadInput, options: Cancellable): Promise<ObjectUpload>;
  /**
   * A copy of the object under another key, of any size, made by the store; no byte comes here. It appears whole or not at
   * all. A copy that is there already is the answer, unless it is to be made `anew` (onto itself, too): keys of copies are
   * written by nobody else, one at a time (callers hold a lease). Errors: `precondition_failed` (details.base `gone`,
   * `changed` or `archived`) when the source is not any more, or cannot be read; `data_corrupt` when the copy is not it.
   */
  copy(
    input: {
      from: { key: string; sizeBytes: number; etag: string };
      to: string;
      contentType: string;
      anew?: boolean;
    },
    options: Cancellable & { onProgress?: (copiedBytes: number) => void },
  ): Promise<StoredObject>;
  /** Unfinished uploads under a prefix; [] where the store cannot list them. */
  listUploads(
    prefix: string,
    options: Cancellable,
  ): Promise<{ key: string; uploadId: string; initiated: number }[]>;
  abortUpload(input: { key: string; uploadId: string }, options: Cancellable): Promise<void>;
  /** The rules of the bucket, [] when it has none; undefined where the store has no such thing. */
  lifecycle(options: Cancellable): Promise<LifecycleRule[] | undefined>;
  /**
   * Replaces the rules that `lifecycle` gave as `found`. Those of `rules` that are among them go back exactly as they came;
   * any other has only a prefix and actions. Errors: `precondition_failed` when others were written meanwhile, as far as
   * the store lets one see that; `store_refused` when the store does not keep what was written: then the old ones stay.
   */
  putLifecycle(
    input: { found: readonly LifecycleRule[]; rules: readonly LifecycleRule[] },
    options: Cancellable,
  ): Promise<void>;
  /** Whether old versions stay; undefined where the store has none. */
  versioning(options: Cancellable): Promise<'enabled' | 'suspended' | 'never' | undefined>;
  /** A link that reads the object for `expiresSeconds` without credentials. */
  presignGet(input: { key: string; expiresSeconds: number; fileName: string }): Promise<string>;
  close(): void;
}

export type * from './part-plan.ts';

export interface UploadInput {
  key: string;
  contentType: string;
  /** Where parts go first when the archive outgrows one upload's 10,000 parts; deletable, unlike `key`. */
  stagingPrefix: string;
  /**
   * The object is surely no longer than this, where that is known. Changes nothing but one choice on stores with
   * equal parts: an object that surely fits one upload is sent directly instead of being staged and joined.
   */
  maxBytes?: number;
  /** An object of the bucket, never overwritten, whose ranges may be copied instead of the same bytes sent. */
  base?: { key: string; sizeBytes: number; etag: string };
  /** How pieces become parts; given with `base`. */
  createPlan?: (limits: PlanLimits) => PartPlan;
}

export interface StoredObject {
  sizeBytes: number;
  etag: string;
  /** The store's own checksum of the whole object, compared with ours; absent where the store gives none. */
  checksum?: { algorithm: 'crc32'; value: string };
  /** Nobody may remove it before; absent without a lock. */
  lockedUntil?: number;
  /** Where inside the object a copied range begins or ends, ascending; thinned evenly to at most MAX_SEAMS. */
  seams?: number[];
}

/** Seams of one object that are remembered for looking at. */
export const MAX_SEAMS = 1000;

export interface UploadCounters {
  /** Bytes committed by the writer. */
  acceptedBytes: number;
  /** Bytes acknowledged by the store, each once. */
  sentBytes: number;
  /** Copied from the base, each byte of the object once. */
  copiedBytes: number;
  /** Copied from staging objects into the final one. */
  joinedBytes: number;
  /** Read back and sent again, where ranges do not fill whole parts; also counted as copied or joined. */
  rereadBytes: number;
  parts: number;
  /** Tries of all kinds. */
  requests: number;
  /** Tries to send a part. */
  uploadRequests: number;
  /** Tries to copy a part. */
  copyRequests: number;
  retries: number;
}

/**
 * One object on its way, written front to back.
 *
 * `reserve` hands out memory of the process-wide budget (waiting for it: the permit comes before the read), the
 * writer fills it and says with `commit` how much of it belongs to the object. Parts are sent in parallel, each kept
 * until acknowledged so that it can be sent again. The first part that fails for good makes every later call throw
 * that error. Disposing without `complete` aborts the upload in its own bounded time and gives all memory back.
 */
export interface ObjectUpload extends AsyncDisposable {
  readonly key: string;
  readonly uploadId: string;
  readonly counters: Readonly<UploadCounters>;
  /**
   * Says in which order the object's sections come: `places[i]` is the place of the i-th. Once, after the head (what was
   * written before, such as ova.xml) and before any other byte. Without it bytes come as they lie. What comes too early is
   * staged and joined by copies; needs a store that copies parts. Errors: `store_refused`.
   */
  arrange(places: readonly number[]): void;
  /** The section that came is whole; what follows belongs to the next, after the last one to the object's tail. */
  endSection(options: Cancellable): Promise<void>;
  /** Contiguous memory of exactly `sizeBytes` (at most `maxReserveBytes`); valid until the next call. */
  reserve(sizeBytes: number, options: Cancellable): Promise<Buffer>;
  /**
   * The first `sizeBytes` of the reserved memory are the object's next bytes; 0 drops it. `sameOffset`: the very same bytes
   * lie there in the base, and may be copied.
   */
  commit(sizeBytes: number, sameOffset?: number): void;
  /** Copies bytes of any size. */
  write(bytes: Uint8Array, options: Cancellable): Promise<void>;
  /**
   * Sends the rest, compares sizes and checksums with what was committed, completes (only if the key is absent,
   * where the store can), and reads back size and checksum of the stored object.
   * Errors: `data_corrupt` when anything differs. Before completing, the upload is then aborted and nothing is there;
   * a store that damages the object while completing leaves it, and without its record it is no backup.
   */
  complete(options: Cancellable): Promise<StoredObject>;
}

/** The largest piece `ObjectUpload.reserve` hands out: one 1 MiB block with its checksum (see docs/xva.md). */
export const MAX_RESERVE_BYTES = 1_050_112;

// ------------------------------------------------------------------------------------------------ what is watched

/**
 * Counters, gauges and timings the engine and the adapters report; `metrics.ts` turns them into Prometheus names. A gauge
 * is changed by `count` and set by `observe`.
 */
export interface Meter {
  count(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
  observe(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
}
