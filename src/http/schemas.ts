/** The shapes of answers, for the description only: records are checked when read, not again when shown. */
import { z } from 'zod';
import {
  backupRequestSchema,
  backupSchema,
  jobSchema,
  problemSchema,
  vmNameSchema,
} from '../catalog/record.ts';
import { verificationSchema } from '../catalog/verified.ts';

const bytes = z.int().nonnegative();
const time = z.iso.datetime();
const seconds = z.number().nonnegative();
const links = (names: readonly string[], optional: readonly string[] = []) =>
  z.object({
    ...Object.fromEntries(names.map((name) => [name, z.string()])),
    ...Object.fromEntries(optional.map((name) => [name, z.string().optional()])),
  });
const GUARD_STATES = ['none', 'safe', 'renewed', 'pinned', 'due', 'released'] as const;
const verdict = z.enum(['ok', 'warning', 'critical']);
const check = z.enum(['pass', 'warn', 'fail']);

/** Of a backup, or of the newest good one. */
const expirySchemas = {
  expires_at: time.optional().meta({
    description:
      'When the bucket deletes it; absent when no rule does, or the rules cannot be read.',
  }),
  expires_by: z.string().optional().meta({ description: 'The rule that will.' }),
};

const pinnedSchema = z
  .object({
    kind: z.enum(['pinned', 'renewed']),
    reason: z.string(),
    until: time.optional(),
    by: z.string(),
    at: time,
  })
  .optional()
  .meta({
    description:
      'It lies out of rotation, too, or only there. renewed: as the last good backup of its machine.',
  });

export const backupAnswerSchema = backupSchema
  .extend({
    verified: verificationSchema.optional(),
    pinned: pinnedSchema,
    ...expirySchemas,
    links: links(['self', 'xva', 'job', 'vm']),
  })
  .meta({ id: 'Backup' });

export const httpProblemSchema = problemSchema
  .extend({
    errors: z
      .array(
        z.object({
          detail: z.string(),
          pointer: z.string().optional(),
          parameter: z.string().optional(),
        }),
      )
      .optional(),
    links: z.record(z.string(), z.string()).optional(),
  })
  .meta({ id: 'Problem' });

export const jobAnswerSchema = jobSchema
  .omit({ checkpoint: true })
  .extend({
    /** Only of backups: nothing else is asked for in this shape. */
    request: backupRequestSchema.optional(),
    error: problemSchema.optional(),
    result: backupAnswerSchema.optional(),
    links: links(['self', 'events', 'vm'], ['cancel', 'backup']),
  })
  .meta({ id: 'Job' });

/** Empty at the end. */
const nextPageToken = z.string();
/** Records that cannot be read, so that the list goes on without them; absent when there are none. */
const unreadable = z
  .array(
    z.object({
      kind: z.enum(['backup', 'job', 'run']),
      id: z.string(),
      key: z.string(),
      detail: z.string(),
    }),
  )
  .optional();

export const jobListSchema = z
  .object({ jobs: z.array(jobAnswerSchema), next_page_token: nextPageToken, unreadable })
  .meta({ id: 'JobList' });

export const backupListSchema = z
  .object({ backups: z.array(backupAnswerSchema), next_page_token: nextPageToken, unreadable })
  .meta({ id: 'BackupList' });

export const vmListSchema = z
  .object({
    vms: z.array(
      z.object({
        uuid: z.string(),
        name: z.string(),
        pool: z.string(),
        power_state: z.string(),
        tags: z.array(z.string()),
        last_backup: z
          .object({ id: z.string(), created_at: time, retention: z.string(), size_bytes: bytes })
          .optional(),
        age_seconds: seconds.optional(),
        running_job_id: z.string().optional(),
        skipped_because: z.string().optional(),
      }),
    ),
  })
  .meta({ id: 'VmList' });

export const statusSchema = z
  .object({
    status: verdict,
    checked_at: time,
    max_age_seconds: seconds,
    vms: z.array(
      z.object({
        vm: vmNameSchema,
        status: verdict,
        reason: z.string(),
        max_age_seconds: seconds.optional().meta({
          description:
            'Its own, by its tag `xvault:max_age=26h`; that of the report counts where it has none.',
        }),
        last_backup_id: z.string().optional(),
        last_backup_at: time.optional(),
        age_seconds: seconds.optional(),
        verified: verificationSchema.optional(),
        damaged_backup_id: z.string().optional(),
        ...expirySchemas,
        guard: z
          .enum(GUARD_STATES)
          .optional()
          .meta({
            description:
              'How its last good backup is kept. safe: it lasts. renewed, pinned: a copy out of rotation keeps it. due: the bucket ' +
              'deletes it soon and nothing keeps it yet. released: somebody gave it up.',
          }),
        last_job: z
          .object({
            id: z.string(),
            status: z.string(),
            finished_at: time.optional(),
            error_code: z.string().optional(),
          })
          .optional(),
      }),
    ),
    unreachable_pools: z.array(z.string()),
    machines_from: z
      .literal('bucket')
      .optional()
      .meta({
        description:
          'No pool was asked (docs/cloudflare.md): these are the machines that have backups or jobs, by their last known names, ' +
          'whether they are still there or not; their tags are not known.',
      }),
    unreadable_records: unreadable,
    gone_at_risk: z
      .array(
        z.object({
          vm: vmNameSchema,
          status: z.enum(['warning', 'critical']),
          reason: z.string(),
          last_backup_id: z.string(),
        }),
      )
      .optional()
      .meta({
        description:
          'Machines that are on no pool any more, whose last good backup the bucket is about to delete.',
      }),
  })
  .meta({ id: 'Status' });

export const livenessSchema = z
  .object({ status: z.literal('pass'), version: z.string() })
  .meta({ id: 'Liveness' });

export const readinessSchema = z
  .object({
    status: check,
    checks: z
      .record(z.string(), z.object({ status: check, output: z.string().optional() }))
      .optional(),
  })
  .meta({ id: 'Readiness' });

export const sweepReportSchema = z
  .object({
    dry_run: z.boolean(),
    started_at: time,
    finished_at: time,
    counts: z.object({ removed: z.int(), would_remove: z.int(), kept: z.int() }),
    findings: z.array(
      z.object({
        kind: z.enum([
          'snapshot',
          'snapshot_disk',
          'task',
          'restored_machine',
          'restored_disk',
          'upload',
          'staging',
          'copy',
          'lease',
          'probe',
        ]),
        pool: z.string().optional(),
        id: z.string(),
        name: z.string(),
        job_id: z.string().optional(),
        age_seconds: seconds.optional(),
        action: z.enum(['removed', 'would_remove', 'kept']),
        reason: z.string(),
      }),
    ),
    taken_over: z.array(z.string()),
    advice: z.array(z.string()).optional().meta({
      description: "What the bucket's own rules should do and do not, with the mend.",
    }),
    errors: z.array(z.object({ where: z.string(), code: z.string(), detail: z.string() })),
  })
  .meta({ id: 'SweepReport' });
