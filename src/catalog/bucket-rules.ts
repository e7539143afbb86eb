/**
 * What the bucket's own rules should do for us, compared with what they do; only told, never changed here.
 *
 * An upload that nobody completes or aborts is stored, and paid for, without being listed among the objects. Our sweep aborts
 * those of jobs it knows; a rule of the bucket is what helps when no instance runs any more.
 */
import type { LifecycleRule } from '../ports.ts';

/** Longer than any job, and short enough that waste is small. */
const ABORT_DAYS = 7;
/** Drops unfinished uploads after a day by itself, and knows no rule for it. */
const ABORTS_BY_ITSELF: readonly string[] = ['minio'];

interface Wanted {
  /** Where archives are uploaded to. */
  backupsPrefix: string;
  provider: string;
  bucket: string;
}

/** The sentence with the mend, when no rule aborts unfinished uploads of backups; undefined when all is well. */
export function adviseAbortRule(
  rules: readonly LifecycleRule[] | undefined,
  { backupsPrefix, provider, bucket }: Wanted,
): string | undefined {
  if (rules === undefined || ABORTS_BY_ITSELF.includes(provider)) return undefined;
  const aborts = rules.some(
    (rule) =>
      rule.enabled &&
      !rule.narrowed &&
      rule.abortDays !== undefined &&
      backupsPrefix.startsWith(rule.prefix),
  );
  if (aborts) return undefined;
  return `no rule of bucket ${bucket} aborts unfinished uploads; ${mend(backupsPrefix)}`;
}

function mend(prefix: string): string {
  const rule = {
    ID: 'unfinished',
    Status: 'Enabled',
    Filter: { Prefix: prefix },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: ABORT_DAYS },
  };
  return `xvault lifecycle apply --yes adds one, or add to its rules: ${JSON.stringify(rule)}`;
}
