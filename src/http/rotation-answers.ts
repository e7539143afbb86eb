/** The shape of what is told of the bucket's rules, and an example. */
import { z } from 'zod';
import type { AppliedRotation, RotationReport, RuleView } from '../backup/rotation-service.ts';

const days = z.int().nonnegative();
const time = z.iso.datetime();

const ruleSchema = z
  .object({
    id: z.string(),
    enabled: z.boolean(),
    prefix: z.string(),
    narrowed: z.boolean().optional().meta({ description: 'Tags or sizes narrow it.' }),
    expires_after_days: days.optional(),
    expires_on: time.optional(),
    aborts_after_days: days.optional().meta({ description: 'Unfinished uploads.' }),
    noncurrent_days: days.optional().meta({ description: 'Old versions.' }),
    moves: z.array(z.object({ after_days: days.optional(), storage_class: z.string() })).optional(),
    unknown: z.array(z.string()).optional().meta({
      description: 'Elements this version does not know: the rule is never written back.',
    }),
    text: z.string().meta({ description: 'What it does.' }),
  })
  .meta({ id: 'LifecycleRule' });

const changeSchema = z.object({
  action: z.enum(['keep', 'add', 'replace', 'remove']),
  id: z.string(),
  text: z.string(),
  found: z.string().optional().meta({ description: 'Replaced: what it does now.' }),
  by: z
    .string()
    .optional()
    .meta({ description: 'Kept: the rule of somebody else that does it already.' }),
});

const bucketSchema = z.object({
  bucket: z.string(),
  provider: z.string(),
  holds: z.array(z.enum(['backups', 'state'])),
  versioned: z
    .boolean()
    .optional()
    .meta({ description: 'Old versions stay there; absent where that cannot be told.' }),
  found: z
    .array(ruleSchema)
    .optional()
    .meta({ description: 'Absent where the store has no rules.' }),
  wanted: z.array(ruleSchema),
  changes: z.array(changeSchema),
  in_order: z.boolean().meta({ description: 'Nothing is to be added, replaced or removed.' }),
  warnings: z.array(z.string()),
  refusals: z
    .array(z.string())
    .optional()
    .meta({ description: 'Why the changes cannot be written.' }),
  note: z.string().optional().meta({ description: 'What to know of rules of this store.' }),
});

export const rotationReportSchema = z
  .object({ checked_at: time, in_order: z.boolean(), buckets: z.array(bucketSchema) })
  .meta({ id: 'Rotation' });

export const appliedRotationSchema = rotationReportSchema
  .extend({
    dry_run: z.boolean(),
    applied: z.boolean().meta({ description: 'Rules were written; the report is of before.' }),
  })
  .meta({ id: 'AppliedRotation' });

const OTHERS: RuleView = {
  id: 'logs',
  enabled: true,
  prefix: 'logs/',
  expires_after_days: 3,
  text: 'keys below logs/ are deleted after 3 days',
};
const DAILY: RuleView = {
  id: 'xvault:class-daily',
  enabled: true,
  prefix: 'backups/daily/',
  expires_after_days: 14,
  text: 'keys below backups/daily/ are deleted after 14 days',
};
const { id, text } = DAILY;

export const ROTATION_EXAMPLE: RotationReport = {
  checked_at: '2026-11-23T05:00:03.120Z',
  in_order: false,
  buckets: [
    {
      bucket: 'vm-backups',
      provider: 'aws',
      holds: ['backups', 'state'],
      versioned: false,
      found: [OTHERS],
      wanted: [DAILY],
      changes: [{ action: 'add', id, text }],
      in_order: false,
      warnings: [],
      note: 'rules act some hours after midnight UTC',
    },
  ],
};

export const APPLIED_EXAMPLE: AppliedRotation = {
  ...ROTATION_EXAMPLE,
  dry_run: false,
  applied: true,
};
