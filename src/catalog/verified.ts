/**
 * What is known of a backup since it was made: whether it was looked at again, how, and what was found.
 *
 * One small object for each backup that was verified, `verified/<backup id>.json`, apart from what lies under `backups/`,
 * which is never written twice. It holds the last verification of each kind, for they prove different things: reading all
 * of it finds any damage, a sample finds some, a restore shows that the machine starts. Nothing hangs on it: when it is
 * deleted, the backup counts as not verified.
 */
import { z } from 'zod';

const bytes = z.int().nonnegative();

/**
 * whole: every byte was read and checked. sampled: some runs of blocks, the beginning and the end. restored: the machine was
 * restored to a scratch name and started.
 */
export const VERIFICATION_KINDS = ['whole', 'sampled', 'restored'] as const;

/**
 * archive: it does not hold what was stored, so what it gives back is not what was backed up. index: the archive does, and is
 * restored as ever, but the file that says where its blocks lie is lost or wrong. restore: the machine did not come up.
 */
export const DAMAGED_PARTS = ['archive', 'index', 'restore'] as const;

/** The worst first. */
const RANKED_PARTS: readonly (typeof DAMAGED_PARTS)[number][] = ['archive', 'restore', 'index'];

export const verificationSchema = z.object({
  at: z.iso.datetime(),
  kind: z.enum(VERIFICATION_KINDS),
  /** Of the stored blocks. */
  percent: z.number().positive().max(100),
  ok: z.boolean(),
  read_bytes: bytes,
  checked_blocks: z.int().nonnegative(),
  job_id: z.uuid(),
  problem: z
    .object({
      part: z.enum(DAMAGED_PARTS),
      code: z.string(),
      detail: z.string(),
      /** The object that is damaged. */
      key: z.string().optional(),
      /** Later backups that copied from this one, directly or not: they may hold the same damage. */
      copied_by: z.array(z.uuid()).optional(),
      /** Disk, block and place, as far as they are known. */
      details: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
});
export type Verification = z.infer<typeof verificationSchema>;

export const verifiedRecordSchema = z.object({
  version: z.literal(1),
  backup_id: z.uuid(),
  whole: verificationSchema.optional(),
  sampled: verificationSchema.optional(),
  restored: verificationSchema.optional(),
});
export type VerifiedRecord = z.infer<typeof verifiedRecordSchema>;

/** What a verify job was asked for. */
export const verifyWishSchema = z.object({ percent: z.number().positive().max(100).default(100) });
export type VerifyWish = z.infer<typeof verifyWishSchema>;

/** Of a job that reads all of an archive: how many of its blocks, from the first on, were right, of which object. */
export const verifyCheckpointSchema = z.object({
  etag: z.string(),
  blocks: z.int().nonnegative(),
});

/** The body of POST /v1/backups/{id}/restore-test. */
export const restoreTestWishSchema = z.strictObject({
  pool: z.string().min(1).max(255).optional(),
  sr: z.string().min(1).max(255).optional(),
  /** How long the guest's tools may take to report. */
  boot_timeout_seconds: z.int().min(10).max(3600).default(600),
  /** Who is asked what to think of the machine that runs; the settings must allow this URL. */
  verdict: z.string().min(1).max(2048).optional(),
  /** false: the guest's tools are not waited for. */
  guest: z.boolean().optional(),
});
export type RestoreTestWish = z.infer<typeof restoreTestWishSchema>;

/**
 * The record with this verification in it. One that found damage stays until something disproves it: a sample without a
 * fault does not take back that there is one.
 */
export function withVerification(
  record: VerifiedRecord | undefined,
  backupId: string,
  verification: Verification,
): VerifiedRecord {
  const before: VerifiedRecord = { version: 1, backup_id: backupId, ...inForce(record) };
  const { kind } = verification;
  const known = before[kind];
  const isLess = known?.problem && (verification.ok || rank(verification) > rank(known));
  if (known && isLess && !disproves(verification, known)) return before;
  return { ...before, [kind]: verification };
}

/** The verification that counts: the worst problem that nothing later disproves, else the newest. */
export function standing(record: VerifiedRecord): Verification | undefined {
  const all = VERIFICATION_KINDS.flatMap((kind) => inForce(record)[kind] ?? []);
  const newestFirst = all.toSorted((a, b) => (a.at < b.at ? 1 : -1));
  const problems = newestFirst.filter(({ ok }) => !ok);
  const worstFirst = problems.toSorted((a, b) => rank(a) - rank(b));
  return worstFirst[0] ?? newestFirst[0];
}

/** Without the problems that something later disproves. */
function inForce(
  record: VerifiedRecord | undefined,
): Partial<Record<Verification['kind'], Verification>> {
  const all = VERIFICATION_KINDS.flatMap((kind) => record?.[kind] ?? []);
  const left = all.filter(
    (one) => one.ok || !all.some((other) => other.at > one.at && disproves(other, one)),
  );
  return Object.fromEntries(left.map((one) => [one.kind, one]));
}

/** The archive is known not to hold what was backed up: it is no good backup, and nothing may be copied from it. */
export function isDamaged(verification: Verification | undefined): boolean {
  return verification?.problem?.part === 'archive';
}

/** Only who read all of an archive knows that it is right. Indexes are looked at by both, starting is tried by one. */
function disproves(later: Verification, { problem }: Verification): boolean {
  switch (problem?.part) {
    case 'archive':
      return later.kind === 'whole' && !isDamaged(later);
    case 'index':
      return later.ok && later.kind !== 'restored';
    default:
      return later.ok && later.kind === 'restored';
  }
}

function rank({ problem }: Verification): number {
  return RANKED_PARTS.indexOf(problem?.part ?? 'index');
}
