/**
 * The rules a bucket should have, compared with those it has, and the two brought together. Pure.
 *
 * A rule is ours when its id says so (`xvault:<prefix>…`); all others are somebody else's and stay as they are, also
 * when they do what one of ours would: then that one is not needed. What is ours is written as the settings wish, with one
 * exception: the rule of a class that is in the settings no more stays while backups of the class are there, or they would
 * never go. What may not be done is refused with the mend, never done by halves.
 *
 * Classes rotate by prefix alone, which every store has. Old versions, unfinished uploads and storage classes only where the
 * store's row in s3/quirks.ts says that its rules know them.
 */
import type { LifecycleLimits, LifecycleRule } from '../ports.ts';
import type { RotationSettings } from '../settings-rotation.ts';
import type { Keys } from './keys.ts';

/** Longer than any job, and short enough that waste is small. */
export const UNFINISHED_DAYS = 7;
/** As long as people look back at jobs and runs. */
const JOBS_DAYS = 30;
/** A day more than a key counts. */
const IDEMPOTENCY_DAYS = 3;
const PROBE_DAYS = 1;

export interface RotationWish {
  keys: Keys;
  /** Class → days. */
  retentionDays: Readonly<Record<string, number>>;
  rotation: Pick<RotationSettings, 'transitions' | 'noncurrentDays'>;
  /** What lies in this bucket. */
  holds: { archives: boolean; state: boolean };
  /** Old versions stay there. */
  versioned: boolean;
}

export type RuleAction = 'keep' | 'add' | 'replace' | 'remove';

export interface RuleChange {
  action: RuleAction;
  id: string;
  /** What the rule does, of one that is removed did. */
  text: string;
  /** Replaced: what it does now. */
  found?: string;
  /** Kept: somebody else's rule that does it. Absent: our own. */
  by?: string;
}

export interface RotationPlan {
  changes: RuleChange[];
  /** All rules as they should be, others' among them. */
  rules: LifecycleRule[];
  /** True of things that rules of others do, and of what this store cannot. */
  warnings: string[];
  /** Why it must not be written. */
  refusals: string[];
}

/** The rules these settings mean on a store of these limits, and what the limits take away. */
export function wantedRules(
  wish: RotationWish,
  limits: LifecycleLimits,
): { rules: LifecycleRule[]; warnings: string[] } {
  const { keys, retentionDays, holds, rotation } = wish;
  const warnings: string[] = [];
  const longest = Math.max(...Object.values(retentionDays), 1);
  const abort = limits.aborts === 'rule' ? { abortDays: UNFINISHED_DAYS } : {};
  const rule = (name: string, prefix: string, actions: Partial<LifecycleRule>): LifecycleRule => ({
    id: ruleId(keys, name),
    enabled: true,
    prefix,
    narrowed: false,
    ...actions,
  });
  const rules: LifecycleRule[] = [];
  if (holds.archives) {
    for (const [name, expirationDays] of Object.entries(retentionDays)) {
      const move = transitionOf({ name, expirationDays, rotation, limits, warnings });
      rules.push(rule(classRule(name), keys.classPrefix(name), { expirationDays, ...move }));
    }
    if (limits.aborts === 'rule') {
      rules.push(rule('unfinished', keys.backupsPrefix, abort));
      rules.push(rule('unfinished-copies', keys.pinnedPrefix, abort));
    }
    rules.push(
      rule('staging', keys.stagingPrefix, { expirationDays: UNFINISHED_DAYS, ...abort }),
      rule('indexes', keys.rebuiltPrefix, { expirationDays: longest }),
      rule('verified', keys.verifiedPrefix, { expirationDays: longest }),
    );
  }
  if (holds.state) {
    rules.push(
      rule('jobs', keys.jobsPrefix, { expirationDays: JOBS_DAYS }),
      rule('runs', keys.runsPrefix, { expirationDays: JOBS_DAYS }),
      rule('idempotency', keys.idempotencyPrefix, { expirationDays: IDEMPOTENCY_DAYS }),
    );
  }
  const probing = limits.aborts === 'rule' ? { abortDays: PROBE_DAYS } : {};
  rules.push(rule('probe', keys.probePrefix, { expirationDays: PROBE_DAYS, ...probing }));
  rules.push(...versionRules(wish, { limits, warnings, rule }));
  return { rules, warnings };
}

/** Where old versions stay, an expired object is only hidden. */
function versionRules(
  { keys, holds, versioned, rotation }: RotationWish,
  {
    limits,
    warnings,
    rule,
  }: {
    limits: LifecycleLimits;
    warnings: string[];
    rule: (name: string, prefix: string, actions: Partial<LifecycleRule>) => LifecycleRule;
  },
): LifecycleRule[] {
  if (!versioned) return [];
  if (!limits.noncurrent) {
    warnings.push(
      'this bucket keeps old versions and the store has no rule that removes them: nothing ever frees space',
    );
    return [];
  }
  const archives = [keys.backupsPrefix, keys.pinnedPrefix, keys.stagingPrefix];
  const beside = [keys.rebuiltPrefix, keys.verifiedPrefix];
  const state = [keys.jobsPrefix, keys.runsPrefix, keys.idempotencyPrefix, keys.leasesPrefix];
  const prefixes = [
    ...(holds.archives ? [...archives, ...beside] : []),
    ...(holds.state ? state : []),
    keys.probePrefix,
  ];
  const { noncurrentDays } = rotation;
  return prefixes.map((prefix) =>
    rule(`versions-${lastFolder(prefix)}`, prefix, { noncurrentDays, expiredMarkers: true }),
  );
}

function transitionOf(input: {
  name: string;
  expirationDays: number;
  rotation: RotationWish['rotation'];
  limits: LifecycleLimits;
  warnings: string[];
}): Pick<LifecycleRule, 'transitions'> {
  const { name, expirationDays, rotation, limits, warnings } = input;
  const wish = rotation.transitions[name];
  if (wish === undefined) return {};
  const { days, storage_class: storageClass } = wish;
  if (!limits.transitions) {
    warnings.push(`class ${name} stays where it is: rules of this store move no objects`);
    return {};
  }
  if (days >= expirationDays) {
    const text = `class ${name} is removed after ${expirationDays} days, before it would go to ${storageClass} after ${days}`;
    warnings.push(`${text}: XVAULT_TRANSITIONS is left out`);
    return {};
  }
  return { transitions: [{ days, storageClass }] };
}

/** Compares and merges. `classesInUse`: of which there are backups. */
export function planRotation(input: {
  found: readonly LifecycleRule[];
  wish: RotationWish;
  limits: LifecycleLimits;
  classesInUse: readonly string[];
}): RotationPlan {
  const { found, wish, limits } = input;
  const wanted = wantedRules(wish, limits);
  const changes: RuleChange[] = [];
  const isOurs = ({ id }: LifecycleRule) => isOwnId(wish.keys, id);
  const others = found.filter((rule) => !isOurs(rule));
  const needed = new Map<string, LifecycleRule>();
  for (const rule of wanted.rules) {
    const own = found.find(({ id }) => id === rule.id);
    const by = others.find((other) => does(other, rule));
    const text = describeRule(rule);
    const { id } = rule;
    if (own === undefined && by !== undefined) {
      changes.push({ action: 'keep', id, text, by: by.id });
      continue;
    }
    needed.set(id, own && isSameRule(own, rule) ? own : rule);
    if (own === undefined) changes.push({ action: 'add', id, text });
    else if (isSameRule(own, rule)) changes.push({ action: 'keep', id, text });
    else changes.push({ action: 'replace', id, text, found: describeRule(own) });
  }
  const stay = new Set(input.classesInUse.map((name) => ruleId(wish.keys, classRule(name))));
  const rules: LifecycleRule[] = [];
  for (const rule of found) {
    const next = needed.get(rule.id);
    if (!isOurs(rule) || stay.has(rule.id)) rules.push(next ?? rule);
    else if (next !== undefined) rules.push(next);
    else changes.push({ action: 'remove', id: rule.id, text: describeRule(rule) });
    needed.delete(rule.id);
  }
  rules.push(...needed.values());
  const warnings = [...wanted.warnings, ...warnOfOthers(others, wish), ...warnOfOld(found, input)];
  return { changes, rules, warnings, refusals: refusalsOf({ found, rules, changes, limits }) };
}

function refusalsOf(input: {
  found: readonly LifecycleRule[];
  rules: readonly LifecycleRule[];
  changes: readonly RuleChange[];
  limits: LifecycleLimits;
}): string[] {
  const { rules, changes, limits } = input;
  if (changes.every(({ action }) => action === 'keep')) return [];
  if (!limits.expires) return [limits.note ?? 'rules of this store cannot be written by S3 calls'];
  const lost = rules.filter(({ unknown }) => unknown !== undefined);
  const refusals = lost.map(
    ({ id, unknown = [] }) =>
      `rule ${id} has elements this version does not know (${unknown.join(', ')}) and would lose them: change the rules by the store's own means`,
  );
  if (rules.length > limits.maxRules) {
    refusals.push(
      `${rules.length} rules would be needed and this store takes ${limits.maxRules}: remove some, or use fewer classes`,
    );
  }
  return refusals;
}

/** Earlier than the settings say, or where no rule should delete. */
function warnOfOthers(others: readonly LifecycleRule[], wish: RotationWish): string[] {
  if (!wish.holds.archives) return [];
  const warnings: string[] = [];
  for (const rule of others) {
    if (!rule.enabled || !expires(rule)) continue;
    const told = `rule ${rule.id}, which is not xvault's: ${describeRule(rule)}`;
    if (meets(rule, wish.keys.pinnedPrefix)) {
      warnings.push(`${told}; that deletes pinned backups, too: give it another prefix`);
    }
    for (const [name, days] of Object.entries(wish.retentionDays)) {
      if (!meets(rule, wish.keys.classPrefix(name))) continue;
      if ((rule.expirationDays ?? 0) >= days) continue;
      warnings.push(`${told}; class ${name} is to stay ${days} days: change or remove that rule`);
    }
  }
  return warnings;
}

function warnOfOld(
  found: readonly LifecycleRule[],
  { wish, classesInUse }: { wish: RotationWish; classesInUse: readonly string[] },
): string[] {
  if (!wish.holds.archives) return [];
  return classesInUse
    .filter((name) => !Object.hasOwn(wish.retentionDays, name))
    .map((name) => {
      const rule = found.find(
        (one) => one.enabled && expires(one) && wish.keys.classPrefix(name).startsWith(one.prefix),
      );
      const what = rule === undefined ? 'no rule ever removes them' : `rule ${rule.id} stays`;
      return `there are backups of class ${name}, which is not in XVAULT_RETENTION_DAYS: ${what}`;
    });
}

/** Somebody else's rule that does all that ours would. */
function does(other: LifecycleRule, ours: LifecycleRule): boolean {
  if (!other.enabled || other.narrowed || other.unknown !== undefined) return false;
  const { expirationDays, abortDays, noncurrentDays, transitions } = ours;
  const isHousekeeping = expirationDays === undefined && noncurrentDays === undefined;
  if (isHousekeeping) {
    const inTime = (other.abortDays ?? Infinity) <= (abortDays ?? 0);
    return inTime && ours.prefix.startsWith(other.prefix);
  }
  if (other.prefix !== ours.prefix || other.expirationDays !== expirationDays) return false;
  if ((other.abortDays ?? Infinity) > (abortDays ?? Infinity)) return false;
  if (other.noncurrentDays !== noncurrentDays || other.expiredMarkers !== ours.expiredMarkers) {
    return false;
  }
  return JSON.stringify(other.transitions ?? []) === JSON.stringify(transitions ?? []);
}

/** As a sentence without its end: `keys below jobs/ are deleted after 30 days`. */
export function describeRule(rule: LifecycleRule): string {
  const { expirationDays, expirationDate, abortDays, noncurrentDays, transitions = [] } = rule;
  const does: string[] = [];
  if (expirationDays !== undefined) does.push(`are deleted after ${daysText(expirationDays)}`);
  if (expirationDate !== undefined) does.push('are deleted at a fixed date');
  for (const { days, storageClass } of transitions) {
    const when = days === undefined ? 'at a fixed date' : `after ${daysText(days)}`;
    does.push(`go to ${storageClass} ${when}`);
  }
  if (noncurrentDays !== undefined) {
    does.push(`lose old versions after ${daysText(noncurrentDays)}`);
  }
  if (abortDays !== undefined) does.push(`lose unfinished uploads after ${daysText(abortDays)}`);
  if (does.length === 0) does.push(rule.expiredMarkers ? 'lose old delete markers' : 'stay');
  const where = rule.prefix === '' ? 'all keys' : `keys below ${rule.prefix}`;
  const some = rule.narrowed ? ' of some tags or sizes' : '';
  return `${where}${some} ${does.join(', ')}${rule.enabled ? '' : ' (switched off)'}`;
}

const daysText = (days: number) => (days === 1 ? '1 day' : `${days} days`);

/** By what they do; a store may give more fields back than it was given. */
function isSameRule(a: LifecycleRule, b: LifecycleRule): boolean {
  const facts = (rule: LifecycleRule) =>
    JSON.stringify([
      rule.enabled,
      rule.prefix,
      rule.narrowed,
      rule.expirationDays ?? 0,
      rule.expirationDate ?? 0,
      rule.abortDays ?? 0,
      rule.noncurrentDays ?? 0,
      rule.newerNoncurrent ?? 0,
      rule.expiredMarkers ?? false,
      (rule.transitions ?? []).map(({ days, storageClass }) => [days, storageClass]),
      rule.unknown ?? [],
    ]);
  return facts(a) === facts(b);
}

const expires = ({ expirationDays, expirationDate }: LifecycleRule) =>
  expirationDays !== undefined || expirationDate !== undefined;

/** It may meet keys below that prefix. */
const meets = (rule: LifecycleRule, prefix: string) =>
  prefix.startsWith(rule.prefix) || rule.prefix.startsWith(prefix);

const classRule = (name: string) => `class-${name}`;

/** Other installations in the same bucket have other prefixes. */
function ruleId(keys: Keys, name: string): string {
  return `${ownIds(keys)}${name}`;
}

function isOwnId(keys: Keys, id: string): boolean {
  const own = ownIds(keys);
  return id.startsWith(own) && !id.slice(own.length).includes('/');
}

function ownIds({ backupsPrefix }: Keys): string {
  return `xvault:${backupsPrefix.slice(0, -'backups/'.length)}`;
}

const lastFolder = (prefix: string) => prefix.split('/').at(-2) ?? '';
