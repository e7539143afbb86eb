/**
 * The JSON that lies in the bucket, which is also the JSON the API answers with.
 *
 * One shape for both, so that any instance can answer any GET from the bucket alone. Names are snake_case, byte
 * counts are integers `*_bytes`, times RFC 3339 UTC, durations `*_seconds`. `version` changes only when an older
 * reader would misread the record; unknown fields are kept out of the way, never an error when read.
 */
import { z } from 'zod';
import { parseTime } from '../time.ts';
import { adoptedSchema } from './adopt.ts';
import { notificationSchema } from './notification.ts';
import { phaseTimeSchema } from './phases.ts';
import { pinWishSchema } from './pin.ts';
import {
  restoreCheckpointSchema,
  restoredSchema,
  restorePlanSchema,
  restoreRequestSchema,
} from './restore.ts';
import {
  restoreTestWishSchema,
  verificationSchema,
  verifyCheckpointSchema,
  verifyWishSchema,
} from './verified.ts';

const bytes = z.int().nonnegative();
const time = z.iso.datetime();
const seconds = z.number().nonnegative();

export const JOB_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
/** What a job does. Each kind has steps of its own: STEPS in src/backup/advance.ts. */
export const JOB_KINDS = [
  'backup',
  'index',
  'restore',
  'verify',
  'adopt',
  'restore_test',
  'pin',
] as const;
export const JOB_PHASES = [
  'preparing',
  'snapshotting',
  'exporting',
  'finishing',
  'cleaning',
  'importing',
  'verifying',
] as const;
export const BACKUP_MODES = ['auto', 'full', 'delta'] as const;
export const COMPRESSIONS = ['none', 'zstd'] as const;
export const QUIESCE_WISHES = ['never', 'prefer', 'require'] as const;

export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  retry: z.enum(['never', 'later', 'after-fix']).optional(),
  request_id: z.string().optional(),
  job_id: z.string().optional(),
  /** Typed values of the error: XenAPI's code and params, the store's code, candidates … */
  details: z.record(z.string(), z.unknown()).optional(),
  errors: z.array(z.object({ detail: z.string(), pointer: z.string() })).optional(),
});
export type Problem = z.infer<typeof problemSchema>;

export const vmNameSchema = z.object({ uuid: z.string(), name: z.string(), pool: z.string() });

/** A retention class is a path segment of every key it rotates. */
export const retentionSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'a-z, 0-9 and -, at most 32');

const hookUrlSchema = z.string().min(1).max(2000);

/** Who is called around the snapshot, so that the guest's data are at rest while it is made (docs/guest-hooks.md). */
export const hooksSchema = z
  .strictObject({
    before_snapshot: hookUrlSchema.optional(),
    after_snapshot: hookUrlSchema.optional(),
  })
  .refine((hooks) => Object.values(hooks).some(Boolean), 'before_snapshot or after_snapshot');

/** How the guest's data were when the snapshot was made. */
export const consistencySchema = z.enum(['crash_consistent', 'guest_hooks', 'quiesced']);
export type Consistency = z.infer<typeof consistencySchema>;

/** The body of POST /v1/vms/{vm}/backups. */
export const backupRequestSchema = z.strictObject({
  pool: z.string().min(1).optional(),
  mode: z.enum(BACKUP_MODES).default('auto'),
  retention: retentionSchema.default('daily'),
  exclude_disks: z.array(z.string().min(1)).max(255).default([]),
  compression: z.enum(COMPRESSIONS).default('none'),
  note: z.string().max(1000).optional(),
  dry_run: z.boolean().default(false),
  hooks: hooksSchema.optional(),
  quiesce: z.enum(QUIESCE_WISHES).default('never'),
});
export type BackupRequest = z.infer<typeof backupRequestSchema>;

export const excludedDiskSchema = z.object({
  vdi_uuid: z.string(),
  name: z.string(),
  userdevice: z.string(),
  virtual_size_bytes: bytes,
  reason: z.string(),
});

export const backupDiskSchema = z.object({
  /** Position in the archive, from 0. */
  index: z.int().nonnegative(),
  /** Its directory in the archive, such as Ref:000. */
  archive_id: z.string(),
  /** The live disk, not the snapshot's. */
  vdi_uuid: z.string(),
  name: z.string(),
  userdevice: z.string(),
  virtual_size_bytes: bytes,
  stored_bytes: bytes,
  stored_blocks: z.int().nonnegative(),
});

/** Tries of all kinds; beside those named: beginning, completing and looking. */
const requestsSchema = z.object({
  total: z.int().nonnegative(),
  uploads: z.int().nonnegative(),
  copies: z.int().nonnegative(),
  reads: z.int().nonnegative(),
  retries: z.int().nonnegative(),
});

/** Of the requests and bytes of one backup, not of its storage. */
const costSchema = z.object({
  amount: z.number().nonnegative(),
  currency: z.string(),
  /** Whose prices, and of when. */
  prices: z.string(),
});

export const backupSchema = z.object({
  version: z.literal(1),
  id: z.uuid(),
  job_id: z.uuid(),
  vm: vmNameSchema,
  retention: retentionSchema,
  /** Of `retention: auto`: why this class. */
  retention_reason: z.string().optional(),
  mode: z.enum(['full', 'delta']),
  /** Why this mode and not a cheaper one. */
  mode_reason: z.string(),
  compression: z.enum(COMPRESSIONS),
  /** The instant of the snapshot by the service's clock. */
  created_at: time,
  finished_at: time,
  archive: z.object({
    key: z.string(),
    size_bytes: bytes,
    /** Only of a compressed archive: its size without compression. */
    uncompressed_bytes: bytes.optional(),
    etag: z.string(),
    /** XXH64 over the XXH64 of every stored block, in order: equal archives have equal digests. */
    content_digest: z.string(),
    /** SHA-256 of the member that holds ova.xml, header and padding included; absent in backups of older versions. */
    ova_sha256: z.string().optional(),
    checksum: z.object({ algorithm: z.literal('crc32'), value: z.string() }).optional(),
    /** Until then the store lets nobody remove it. */
    locked_until: time.optional(),
  }),
  index_key: z.string(),
  disks: z.array(backupDiskSchema),
  excluded_disks: z.array(excludedDiskSchema),
  power_state: z.string(),
  /** `guest_hooks`: hooks.before_snapshot said yes, and after_snapshot too; absent in backups of older versions. */
  consistency: consistencySchema.optional(),
  read_bytes: bytes,
  sent_bytes: bytes,
  copied_bytes: bytes,
  /** Of a delta: the backup whose unchanged blocks were copied, and why this one. */
  base: z.object({ backup_id: z.uuid(), reason: z.string() }).optional(),
  /** Bytes sent for each byte of the archive: 1 of a full. Absent in backups of older versions, as the next two. */
  sent_ratio: z.number().nonnegative().optional(),
  /** To the store, by kind. */
  requests: requestsSchema.optional(),
  estimated_cost: costSchema.optional(),
  duration_seconds: seconds,
  export_seconds: seconds,
  host: z.object({ address: z.string(), product_version: z.string(), xapi_version: z.string() }),
  note: z.string().optional(),
  triggered_by: z.string(),
  warnings: z.array(z.string()),
  /** Of an archive that was made by hand and taken in. */
  adopted: adoptedSchema.optional(),
});
export type Backup = z.infer<typeof backupSchema>;

export const progressSchema = z.object({
  /** Read from the pool; of a job about a backup: of its archive, from the bucket. */
  read_bytes: bytes,
  /** Sent by us to the store. */
  sent_bytes: bytes,
  /** Copied inside the store. */
  copied_bytes: bytes,
  /** Sum of the disks' virtual sizes: an upper bound, since zeros are not exported. */
  total_bytes: bytes.optional(),
  percent: z.number().min(0).max(100).optional(),
});
export type Progress = z.infer<typeof progressSchema>;

export const dryRunSchema = z.object({
  disks: z.array(
    z.object({
      vdi_uuid: z.string(),
      name: z.string(),
      userdevice: z.string(),
      virtual_size_bytes: bytes,
    }),
  ),
  excluded_disks: z.array(excludedDiskSchema),
  mode: z.enum(['full', 'delta']),
  mode_reason: z.string(),
  base: z.object({ backup_id: z.uuid(), reason: z.string() }).optional(),
  max_archive_bytes: bytes,
  /** Before compression. */
  estimated_bytes: bytes,
  /** What would be sent: of a delta, as much as the last delta of this machine, or unknown; so of a compressed full. */
  estimated_sent_bytes: bytes.optional(),
  warnings: z.array(z.string()),
});

/** What an index job found where deltas look first, and what it did. */
export const indexResultSchema = z.object({
  found: z.enum(['right', 'missing', 'damaged', 'old']),
  /** False: what was found is right, byte for byte. */
  written: z.boolean(),
  /** Where the right one lies now. */
  key: z.string(),
  size_bytes: bytes,
  stored_blocks: z.int().nonnegative(),
});
export type IndexResult = z.infer<typeof indexResultSchema>;

/** What a job must remember to go on after a crash: kept in the record, not shown by the API. */
export const checkpointSchema = z.object({
  vm_ref: z.string().optional(),
  snapshot_uuid: z.string().optional(),
  /** The attempt that made it, or found it: one it did not see itself may have been removed by an instance that died. */
  snapshot_attempt: z.int().positive().optional(),
  backup_id: z.uuid(),
  /** The instant of the snapshot. */
  snapshot_at: time.optional(),
  /** Of `retention: auto`: why the class that the request names by now. */
  retention_reason: z.string().optional(),
  archive_key: z.string().optional(),
  upload_id: z.string().optional(),
  /** The backup, complete but for the time it finished: written by the exporting step, published by the next. */
  result: backupSchema.optional(),
  excluded_disks: z.array(excludedDiskSchema).default([]),
  warnings: z.array(z.string()).default([]),
  /** Where the machine's disks lie: how many jobs may run there at once. */
  srs: z.array(z.object({ uuid: z.string(), name: z.string() })).optional(),
  /** Who began it and did not end it: died, or lost its lease. Newest last. */
  former_instances: z.array(z.string()).optional(),
  /** Attempts that failed and were made again. */
  failures: z.int().nonnegative().optional(),
  /**
   * Guest hooks: written before the first call of a round. `owed`: after_snapshot must still be called, whoever does it.
   * `problem`: why its last call failed.
   */
  hooks: z
    .object({ round: z.int().positive(), owed: z.boolean(), problem: z.string().optional() })
    .optional(),
  consistency: consistencySchema.optional(),
  restore: restoreCheckpointSchema.optional(),
  verify: verifyCheckpointSchema.optional(),
});
export type Checkpoint = z.infer<typeof checkpointSchema>;

/** Chats whose commands begin backups. */
export const CHATS = ['slack', 'mattermost'] as const;
export type Chat = (typeof CHATS)[number];

export const jobSchema = z.object({
  version: z.literal(1),
  id: z.uuid(),
  kind: z.enum(JOB_KINDS),
  status: z.enum(JOB_STATUSES),
  phase: z.enum(JOB_PHASES),
  vm: vmNameSchema,
  /** Of a job that is no backup: class and compression of the backup it is about, and nothing that was asked for. */
  request: backupRequestSchema,
  /** Of a job about a backup that is there: that one. */
  backup_id: z.uuid().optional(),
  progress: progressSchema,
  attempt: z.int().positive(),
  /** When it began each phase, oldest first; absent in jobs of older versions. */
  phases: z.array(phaseTimeSchema).optional(),
  created_at: time,
  started_at: time.optional(),
  finished_at: time.optional(),
  /** When an instance last wrote this record. */
  updated_at: time,
  cancel_requested: z.boolean(),
  triggered_by: z.string(),
  /** W3C Trace Context of who asked for it, where traces are sent. */
  traceparent: z.string().optional(),
  /** Asked for in a chat, where its end is told by who was asked until then, and by a notification afterwards. */
  chat: z.object({ kind: z.enum(CHATS), until: time }).optional(),
  /** The instance that runs it, for people. */
  instance: z.string().optional(),
  /** Of a job that waits: for what. */
  waiting_because: z.string().optional(),
  /** Of a job that failed and is tried again: when, and why it failed. */
  next_attempt_at: time.optional(),
  last_error: problemSchema.optional(),
  error: problemSchema.optional(),
  result: backupSchema.optional(),
  dry_run: dryRunSchema.optional(),
  index: indexResultSchema.optional(),
  /** Of a verify job: what was asked for, and what came of it. */
  verify: verifyWishSchema.optional(),
  verified: verificationSchema.optional(),
  /** Of a restore test: what was asked for. */
  restore_test: restoreTestWishSchema.optional(),
  /** Of a restore: what was asked for, what that means on this pool, and what is there since. */
  restore: restoreRequestSchema.optional(),
  restore_plan: restorePlanSchema.optional(),
  restored: restoredSchema.optional(),
  /** Of a pin job: what was asked for. */
  pin: pinWishSchema.optional(),
  /** Who was told of it: written on after its end. */
  notifications: z.array(notificationSchema).optional(),
  checkpoint: checkpointSchema,
});
export type Job = z.infer<typeof jobSchema>;

/** True when nothing will change any more. */
export function isEnded(job: Pick<Job, 'status'>): boolean {
  return job.status === 'succeeded' || job.status === 'failed' || job.status === 'cancelled';
}

/** The chat that has to be told of its end by a notification: who was asked there answers no more by then. */
export function lateChatOf({ chat, finished_at }: Job): Chat | undefined {
  if (chat === undefined || finished_at === undefined) return undefined;
  return parseTime(finished_at) > parseTime(chat.until) ? chat.kind : undefined;
}
