/**
 * The settings of rotation beside XVAULT_RETENTION_DAYS: whose calendar `retention: auto` goes by, and what the rules do that
 * `xvault lifecycle apply` writes.
 */
import { z } from 'zod';
import { retentionSchema } from './catalog/record.ts';
import type { SettingMeta } from './settings-table.ts';

/** What the bucket's rules are to do; days count from when an object was stored. */
export interface RotationSettings {
  /** IANA name: days, weeks, months and years of `retention: auto` begin there. */
  timeZone: string;
  /** Class → after how many days its objects go to which storage class. */
  transitions: Readonly<Record<string, { days: number; storage_class: string }>>;
  /** In a versioned bucket: how long what was removed or overwritten can be brought back. */
  noncurrentDays: number;
  /** The newest good backup of a machine is copied out of rotation so long before the rules delete it; 0: never. */
  lastGoodDays: number;
  /** XVAULT_LOCK: how long what is of a class is locked, to be compared with its rule. */
  locks?: Readonly<Record<string, { mode: string; days: number }>>;
}

export const DEFAULT_ROTATION: RotationSettings = {
  timeZone: 'UTC',
  transitions: {},
  noncurrentDays: 7,
  lastGoodDays: 3,
};

const timeZone = z
  .string()
  .trim()
  .refine((name) => isTimeZone(name), 'expected a time zone such as Europe/Berlin or UTC');

const transitions = z
  .string()
  .transform((value, context): unknown => {
    try {
      return JSON.parse(value);
    } catch {
      context.addIssue({
        code: 'custom',
        message: 'expected JSON, class → days and storage_class',
      });
      return z.NEVER;
    }
  })
  .pipe(
    z.record(
      retentionSchema,
      z.strictObject({
        days: z.int().min(0).max(36_500),
        storage_class: z.string().regex(/^[A-Z][A-Z0-9_]{1,63}$/, 'a name such as STANDARD_IA'),
      }),
    ),
  );

const lastGoodError = 'expected a whole number, 0 to 365';
const daysError = 'expected a whole number, 1 to 36500';

/** As parts of the settings object. */
export const rotationSettings = {
  XVAULT_TIME_ZONE: timeZone.default(DEFAULT_ROTATION.timeZone).meta({
    group: 'Bucket',
    description:
      'Where days, weeks, months and years begin for `retention: auto` (docs/rotation.md). The same for all instances on a bucket.',
    example: 'Europe/Berlin',
  } satisfies SettingMeta),
  XVAULT_TRANSITIONS: transitions.default({}).meta({
    group: 'Bucket',
    description:
      'JSON, retention class → `{"days", "storage_class"}`: the rule that `xvault lifecycle apply` writes moves its backups there. One in an archive class (GLACIER, DEEP_ARCHIVE) must be restored by the store before xvault can read it.',
    example: '{"monthly":{"days":30,"storage_class":"STANDARD_IA"}}',
    defaultText: 'none',
  } satisfies SettingMeta),
  XVAULT_NONCURRENT_DAYS: z.coerce
    .number(daysError)
    .pipe(z.int(daysError).min(1, daysError).max(36_500, daysError))
    .default(DEFAULT_ROTATION.noncurrentDays)
    .meta({
      group: 'Bucket',
      description:
        'In a versioned bucket: after how many days the rules that `xvault lifecycle apply` writes remove for good what was deleted or overwritten.',
      example: '30',
    } satisfies SettingMeta),
  XVAULT_LAST_GOOD_DAYS: z.coerce
    .number(lastGoodError)
    .pipe(z.int(lastGoodError).min(0, lastGoodError).max(365, lastGoodError))
    .default(DEFAULT_ROTATION.lastGoodDays)
    .meta({
      group: 'Bucket',
      description:
        'How long before the bucket’s rules delete the newest good backup of a machine it is copied out of rotation (docs/rotation.md). Something of xvault must run at least so often: a job of that machine, a service, or `xvault lifecycle renew`. 0 copies none: once backups fail, the rules delete all there are.',
      example: '7',
    } satisfies SettingMeta),
};

function isTimeZone(name: string): boolean {
  try {
    return name !== '' && new Intl.DateTimeFormat('en', { timeZone: name }).format(0) !== '';
  } catch {
    return false;
  }
}
