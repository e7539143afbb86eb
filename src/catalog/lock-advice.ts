/**
 * Locks compared with the rules of the bucket, in sentences: what is locked for less than it lives, or for longer.
 *
 * A lock keeps bytes, not listings: a rule hides a locked object behind a delete marker when its days are over, and the
 * bytes stay, and are paid for, until the lock ends. Source: Amazon S3 user guide, "Object Lock considerations".
 */
import type { LifecycleRule } from '../ports.ts';
import type { Keys } from './keys.ts';

type Locks = Readonly<Record<string, { mode: string; days: number }>>;

/** One sentence for each class whose lock does not fit its rule; [] when all do. */
export function adviseLocks(
  locks: Locks,
  rules: readonly LifecycleRule[],
  keys: Pick<Keys, 'classPrefix'>,
): string[] {
  return Object.entries(locks).flatMap(([name, { days }]) => {
    const lives = daysOf(rules, keys.classPrefix(name));
    if (lives === undefined) {
      return [`${name}: locked for ${days} days, and no rule removes it afterwards`];
    }
    if (days < lives) return [`${name}: locked for ${days} of the ${lives} days it lives`];
    if (days === lives) return [];
    const more = days - lives;
    return [
      `${name}: locked for ${days} days, hidden by its rule after ${lives}: paid for ${more} more`,
    ];
  });
}

/** The earliest a rule surely meets everything of the prefix. */
function daysOf(rules: readonly LifecycleRule[], prefix: string): number | undefined {
  const days = rules.flatMap((rule) =>
    rule.enabled && !rule.narrowed && prefix.startsWith(rule.prefix) && rule.expirationDays
      ? [rule.expirationDays]
      : [],
  );
  return days.length === 0 ? undefined : Math.min(...days);
}
