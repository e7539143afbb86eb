/**
 * When the bucket's rules delete an object, a copy, a backup: what is surely kept until then, and what people are told.
 *
 * A day of a rule counts 24 hours from when the object was stored. Most stores act at the first midnight UTC after that
 * (Amazon S3, Ceph, MinIO, R2), some at once (SeaweedFS, Google): so `sureUntil` is the end of the days, which nothing
 * undercuts, and `expiresAt` the midnight after. Rules narrowed by tags may or may not meet an object: they count. A
 * backup needs archive and record, so a copy ends with the first of both; of several copies the last one counts.
 *
 * Object Lock keeps no backup listed: a rule hides a locked object behind a delete marker (Amazon S3 User Guide, "Object
 * Lock considerations"), and only its bytes stay, and are paid for, until the lock ends. `lockedUntil` says so.
 */
import type { LifecycleRule } from '../ports.ts';

export const DAY_MS = 86_400_000;

/** Classes whose objects cannot be read or copied until somebody has them brought back. */
export const OFFLINE_CLASSES: readonly string[] = ['GLACIER', 'DEEP_ARCHIVE'];

/** An object as a rule sees it. */
export interface KeptObject {
  key: string;
  sizeBytes: number;
  lastModified: number;
  /** STANDARD unless said. */
  storageClass?: string | undefined;
  lockedUntil?: number | undefined;
}

export interface End {
  /** It is surely there before; Infinity when no rule ends it. */
  sureUntil: number;
  /** When a store that goes by days deletes it: the midnight UTC at or after. */
  expiresAt: number;
  /** The rule that ends it. */
  ruleId?: string;
  /** It depends on tags, which are not looked at. */
  onlyPossible?: boolean;
}

const NEVER_ENDS: End = { sureUntil: Infinity, expiresAt: Infinity };

/** When the rules in force delete this object; the earliest that may meet it counts. */
export function endOfObject(object: KeptObject, rules: readonly LifecycleRule[]): End {
  let end = NEVER_ENDS;
  for (const rule of rules) {
    if (!mayMeet(rule, object)) continue;
    const { expirationDays: days, expirationDate: date } = rule;
    const sureUntil = dueAt(object.lastModified, days === undefined ? { date } : { days });
    if (sureUntil >= end.sureUntil) continue;
    const expiresAt = midnightAfter(sureUntil);
    end = { sureUntil, expiresAt, ruleId: rule.id };
    if (rule.narrowed && rule.tagged !== false) end.onlyPossible = true;
  }
  return end;
}

/** When the first of these objects is deleted: all of them make a copy of a backup. */
export function endOfCopy(objects: readonly KeptObject[], rules: readonly LifecycleRule[]): End {
  return objects
    .map((object) => endOfObject(object, rules))
    .reduce((first, end) => (end.sureUntil < first.sureUntil ? end : first), NEVER_ENDS);
}

/** Of several copies, the end of the one that lasts longest. None is gone already. */
export function lastEnd(ends: readonly End[]): End {
  const gone: End = { sureUntil: -Infinity, expiresAt: -Infinity };
  return ends.reduce((last, end) => (end.sureUntil > last.sureUntil ? end : last), gone);
}

/** When the rules move the object to a class it cannot be copied from; Infinity when they do not. */
export function offlineAt(object: KeptObject, rules: readonly LifecycleRule[]): number {
  if (OFFLINE_CLASSES.includes(object.storageClass ?? '')) return -Infinity;
  return Math.min(
    Infinity,
    ...movesOf(object, rules)
      .filter(({ storageClass }) => OFFLINE_CLASSES.includes(storageClass))
      .map(({ at }) => at),
  );
}

/** In which classes the object lies, each from an instant on; the first one from ever. */
export function classesOf(
  object: KeptObject,
  rules: readonly LifecycleRule[],
): { fromMs: number; storageClass: string }[] {
  const moves = movesOf(object, rules)
    .sort((a, b) => a.at - b.at)
    .map(({ at, storageClass }) => ({ fromMs: midnightAfter(at), storageClass }));
  return [{ fromMs: -Infinity, storageClass: object.storageClass ?? 'STANDARD' }, ...moves];
}

/**
 * Until when its bytes are paid for: in a versioned bucket what a rule deletes is only hidden, and stays until a rule for old
 * versions takes it; locked ones until their lock ends. Not told whether the bucket is versioned, its rules say so.
 */
export function paidUntil(
  object: KeptObject,
  rules: readonly LifecycleRule[],
  { versioned }: { versioned?: boolean | undefined } = {},
): number {
  const { expiresAt } = endOfObject(object, rules);
  // archives are written once, so a rule that leaves the newest old versions leaves all there are
  const hidden = rules.flatMap((rule) =>
    rule.noncurrentDays !== undefined && !rule.newerNoncurrent && mayMeet(rule, object)
      ? [rule.noncurrentDays]
      : [],
  );
  const isHidden = versioned ?? hidden.length > 0;
  const gone = isHidden ? midnightAfter(expiresAt + Math.min(...hidden) * DAY_MS) : expiresAt;
  return Math.max(gone, object.lockedUntil ?? -Infinity);
}

function movesOf(
  object: KeptObject,
  rules: readonly LifecycleRule[],
): { at: number; storageClass: string }[] {
  return rules
    .filter((rule) => mayMeet(rule, object))
    .flatMap(({ transitions = [] }) =>
      transitions.map((move) => ({
        at: dueAt(object.lastModified, move),
        storageClass: move.storageClass,
      })),
    );
}

/** Tags are not known, so a rule with tags may meet every object; sizes are. */
function mayMeet(rule: LifecycleRule, { key, sizeBytes }: KeptObject): boolean {
  const { enabled, prefix, largerThanBytes = -1, smallerThanBytes = Infinity } = rule;
  return (
    enabled && key.startsWith(prefix) && sizeBytes > largerThanBytes && sizeBytes < smallerThanBytes
  );
}

/** A date meets what is older at that date, and from then on whatever is there. */
function dueAt(
  from: number,
  { days, date }: { days?: number | undefined; date?: number | undefined },
): number {
  if (days !== undefined) return from + days * DAY_MS;
  return date === undefined ? Infinity : Math.max(date, from);
}

function midnightAfter(atMs: number): number {
  return Number.isFinite(atMs) ? Math.ceil(atMs / DAY_MS) * DAY_MS : atMs;
}
