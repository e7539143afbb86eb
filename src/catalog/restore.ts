/**
 * What a restore is asked, what it will do, and what it made: the part of a job's record only restores have.
 *
 * The plan is made again whenever the job begins: what the pool looked like when it was asked for may be different by
 * then. What must survive a crash (who the machine will be, what was made so far) lies in the checkpoint.
 */
import { z } from 'zod';

const bytes = z.int().nonnegative();

export const RESTORE_MACS = ['new', 'keep'] as const;
export const RESTORE_WAYS = ['auto', 'stream', 'url'] as const;

const wordSchema = z.string().min(1).max(255);
/** XenAPI drops every other character from a name. */
const XML_TEXT = /^[\t\n\r -\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]*$/u;

/** The body of POST /v1/backups/{id}/restore. */
export const restoreRequestSchema = z
  .strictObject({
    pool: wordSchema.optional(),
    sr: wordSchema.optional(),
    disk_srs: z.record(wordSchema, wordSchema).default({}),
    name: wordSchema.regex(XML_TEXT, 'characters XML can carry').optional(),
    mac: z.enum(RESTORE_MACS).default('new'),
    uuid: z.enum(RESTORE_MACS).default('new'),
    networks: z.record(wordSchema, wordSchema).default({}),
    disks: z.array(wordSchema).min(1).max(255).optional(),
    disk: wordSchema.optional(),
    start: z.boolean().default(false),
    via: z.enum(RESTORE_WAYS).default('auto'),
    dry_run: z.boolean().default(false),
  })
  .refine(({ disk, disks }) => disk === undefined || disks === undefined, {
    message: 'disk or disks, not both: disk alone becomes a disk without a machine',
    path: ['disk'],
  })
  .refine(({ disk, start }) => disk === undefined || !start, {
    message: 'a disk alone cannot be started',
    path: ['start'],
  })
  .refine(({ uuid, mac }) => uuid === 'new' || mac === 'keep', {
    message: 'uuid keep brings the machine itself back, so its addresses too: mac keep',
    path: ['mac'],
  });
export type RestoreRequest = z.infer<typeof restoreRequestSchema>;

const placeSchema = z.object({ uuid: z.string(), name: z.string() });

export const restorePlanSchema = z.object({
  pool: z.string(),
  /** Of the machine; of a disk alone, the disk's. */
  name: z.string(),
  /** Only where it is known before: the machine's own, or one made for it. */
  uuid: z.string().optional(),
  mac: z.enum(RESTORE_MACS),
  start: z.boolean(),
  /** How the bytes get there, and why so. */
  via: z.enum(['stream', 'url']),
  via_reason: z.string(),
  disks: z.array(
    z.object({
      userdevice: z.string(),
      name: z.string(),
      virtual_size_bytes: bytes,
      sr: placeSchema,
    }),
  ),
  left_out_disks: z.array(z.object({ userdevice: z.string(), name: z.string() })),
  networks: z.array(
    z.object({
      device: z.string(),
      /** In the backup. */
      mac: z.string(),
      from: z.string(),
      /** Absent: the interface is left out. */
      to: placeSchema.optional(),
      because: z.string(),
    }),
  ),
  warnings: z.array(z.string()),
});
export type RestorePlan = z.infer<typeof restorePlanSchema>;

/** What is there now, as the pool tells it. */
export const restoredSchema = z.object({
  pool: z.string(),
  /** Absent where a disk alone was restored. */
  vm: placeSchema.optional(),
  disks: z.array(
    z.object({
      userdevice: z.string(),
      vdi_uuid: z.string(),
      virtual_size_bytes: bytes,
      sr: z.string(),
    }),
  ),
  networks: z.array(z.object({ device: z.string(), mac: z.string(), network: z.string() })),
  started: z.boolean(),
  via: z.enum(['stream', 'url']),
  duration_seconds: z.number().nonnegative(),
  warnings: z.array(z.string()),
});
export type Restored = z.infer<typeof restoredSchema>;

/** Of a checkpoint: who it will be, and what was made for it so far. */
export const restoreCheckpointSchema = z.object({
  vm_uuid: z.string().optional(),
  mac_seed: z.string().optional(),
  generation_id: z.string().optional(),
  /** XenAPI tasks of all tries: what they made is found by them where it has no mark yet. */
  tasks: z.array(z.string()).default([]),
  /** The host was asked to read a link, and nobody has seen the answer: it may be making a machine no mark leads to. */
  unclear: z.boolean().optional(),
  /** Of the task's result. */
  vm_ref: z.string().optional(),
  /** Disks made apart from the machine's own import, by archive id. */
  disks: z.record(z.string(), z.object({ ref: z.string(), uuid: z.string() })).default({}),
});
export type RestoreCheckpoint = z.infer<typeof restoreCheckpointSchema>;
