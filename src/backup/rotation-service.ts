/**
 * The bucket's rules as found beside those the settings mean, and the writing of the latter.
 *
 * Rules of others stay (catalog/rotation.ts). Nothing is written that would delete what is pinned, or the newest good backup
 * of a machine within XVAULT_LAST_GOOD_DAYS and sooner than the rules of now would. The guard is no way out, it goes by the
 * rules of now: a new backup is, or a pin. With a state bucket there are two buckets, each with rules of its own.
 */
import { ALL_RULES } from '../bucket-rule.ts';
import { DAY_MS, endOfCopy, lastEnd } from '../catalog/forecast.ts';
import { type Holding, isWhole } from '../catalog/holdings.ts';
import { adviseLocks } from '../catalog/lock-advice.ts';
import {
  describeRule,
  planRotation,
  type RotationPlan,
  type RuleChange,
  wantedRules,
} from '../catalog/rotation.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type {
  Cancellable,
  LifecycleLimits,
  LifecycleRule,
  ObjectStore,
  StoreFacts,
} from '../ports.ts';
import { formatTime } from '../time.ts';
import type { Engine } from './context.ts';
import { newestGoodOf } from './verified-backups.ts';

/** Machines named in one refusal. */
const MOST_NAMED = 5;

/** A rule as people read it. */
export interface RuleView {
  id: string;
  enabled: boolean;
  prefix: string;
  /** Tags or sizes narrow it. */
  narrowed?: boolean;
  expires_after_days?: number;
  expires_on?: string;
  aborts_after_days?: number;
  noncurrent_days?: number;
  moves?: { after_days?: number; storage_class: string }[];
  /** Elements this version does not know. */
  unknown?: string[];
  /** What it does, as a sentence without its end. */
  text: string;
}

export interface BucketRotation {
  bucket: string;
  provider: string;
  holds: ('backups' | 'state')[];
  /** Old versions stay there; absent where that cannot be told. */
  versioned?: boolean;
  /** Absent where the store has no rules, or none that can be read. */
  found?: RuleView[];
  wanted: RuleView[];
  changes: RuleChange[];
  /** Nothing is to be added, replaced or removed. */
  in_order: boolean;
  warnings: string[];
  /** Why the changes cannot be written; absent when they can. */
  refusals?: string[];
  /** What to know of rules of this store. */
  note?: string;
}

export interface RotationReport {
  checked_at: string;
  in_order: boolean;
  buckets: BucketRotation[];
}

export interface AppliedRotation extends RotationReport {
  dry_run: boolean;
  /** Rules were written; the report is of before. */
  applied: boolean;
}

export interface RotationService {
  /** Errors: the store's. */
  rotation(options: Cancellable): Promise<RotationReport>;
  /**
   * Writes what is wanted and not there; with `dryRun` it only tells. Errors: `rotation_refused` with the reasons, nothing is
   * written then; `precondition_failed` when somebody changed the rules meanwhile; the store's.
   */
  applyRotation(input: { dryRun: boolean }, options: Cancellable): Promise<AppliedRotation>;
}

interface Looked {
  store: ObjectStore;
  found: readonly LifecycleRule[] | undefined;
  plan: RotationPlan;
  report: BucketRotation;
}

/** Over the engine's buckets. */
export function createRotationService(
  engine: Engine,
  {
    stateStore,
    retentionDays,
    onApplied,
  }: Pick<Deps, 'stateStore' | 'retentionDays'> & {
    /** Rules are others now: what they are about to delete must be looked at. */
    onApplied?: () => void;
  },
): RotationService {
  const deps: Deps = { engine, stateStore, retentionDays };
  const reportOf = (looked: readonly Looked[]): RotationReport => ({
    checked_at: formatTime(engine.clock.now()),
    in_order: looked.every(({ report }) => report.in_order),
    buckets: looked.map(({ report }) => report),
  });
  return {
    rotation: async (options) => reportOf(await lookAtAll(deps, options)),
    applyRotation: async ({ dryRun }, options) => {
      const looked = await lookAtAll(deps, options);
      const report = { ...reportOf(looked), dry_run: dryRun };
      const due = looked.filter((one) => !one.report.in_order);
      if (dryRun || due.length === 0) return { ...report, applied: false };
      const refusals = due.flatMap((one) => one.report.refusals ?? []);
      if (refusals.length > 0) throw refused(refusals);
      for (const { store, found, plan } of due) {
        await store.putLifecycle({ found: found ?? [], rules: plan.rules }, options);
      }
      engine.log.info('rules of the bucket written', {
        changes: due.flatMap(({ report: { changes } }) => changes.filter(isDue).map(inWords)),
      });
      onApplied?.();
      return { ...report, applied: true };
    },
  };
}

interface Deps {
  engine: Engine;
  stateStore: ObjectStore;
  retentionDays: Readonly<Record<string, number>>;
}

async function lookAtAll(deps: Deps, options: Cancellable): Promise<Looked[]> {
  const { store } = deps.engine;
  const { stateStore } = deps;
  if (stateStore === store) {
    return [await lookAt(deps, { store, holds: { archives: true, state: true } }, options)];
  }
  return [
    await lookAt(deps, { store, holds: { archives: true, state: false } }, options),
    await lookAt(deps, { store: stateStore, holds: { archives: false, state: true } }, options),
  ];
}

async function lookAt(
  deps: Deps,
  { store, holds }: { store: ObjectStore; holds: { archives: boolean; state: boolean } },
  options: Cancellable,
): Promise<Looked> {
  const { engine, retentionDays } = deps;
  const [facts, found, versioned, lock, holdings] = await Promise.all([
    store.facts(options),
    store.lifecycle(options),
    readVersioned(store, options),
    holds.archives ? readLock(store, options) : undefined,
    holds.archives ? engine.catalog.holdings() : new Map<string, Holding[]>(),
  ]);
  const limits = limitsOf(facts, found);
  const { keys, rotation } = engine;
  const byDefault = lock?.byDefault;
  const locks = {
    ...(byDefault && Object.fromEntries(Object.keys(retentionDays).map((one) => [one, byDefault]))),
    ...(holds.archives ? rotation.locks : {}),
  };
  const wish = { keys, retentionDays, rotation, holds, versioned: versioned ?? false };
  const classesInUse = [
    ...new Set([...holdings.values()].flat().flatMap(({ retention }) => retention ?? [])),
  ];
  const plan = planRotation({ found: found ?? [], wish, limits, classesInUse });
  const inOrder = !plan.changes.some(isDue);
  const before = found ?? [];
  const risk = { engine, holdings, before, after: plan.rules };
  const dangers = inOrder || !holds.archives ? [] : await dangersOf(risk, options);
  const refusals = [...plan.refusals, ...dangers];
  const unknown =
    versioned === undefined
      ? ['whether the bucket keeps old versions cannot be told: allow s3:GetBucketVersioning']
      : [];
  const report: BucketRotation = {
    bucket: facts.bucket,
    provider: facts.provider,
    holds: [
      ...(holds.archives ? ['backups' as const] : []),
      ...(holds.state ? ['state' as const] : []),
    ],
    ...(versioned === undefined ? {} : { versioned }),
    ...(found === undefined ? {} : { found: found.map(ruleView) }),
    wanted: wantedRules(wish, limits).rules.map(ruleView),
    changes: plan.changes,
    in_order: inOrder,
    warnings: [...plan.warnings, ...unknown, ...adviseLocks(locks, before, keys)],
    ...(refusals.length === 0 ? {} : { refusals }),
    ...(limits.note === undefined ? {} : { note: limits.note }),
  };
  return { store, found, plan, report };
}

/** A store that answers that it knows no rules counts as one that has none, whatever is known of its kind. */
function limitsOf({ lifecycle = ALL_RULES }: StoreFacts, found: unknown): LifecycleLimits {
  if (found !== undefined || !lifecycle.expires) return lifecycle;
  return {
    ...lifecycle,
    expires: false,
    note: 'this store has no lifecycle rules: remove old backups and unfinished uploads by another way',
  };
}

async function readVersioned(
  store: ObjectStore,
  options: Cancellable,
): Promise<boolean | undefined> {
  try {
    const state = await store.versioning(options);
    return state === 'enabled' || state === 'suspended';
  } catch (error) {
    // not among the rights of older policies, and only told
    if (isBackupError(error, 'store_credentials')) return undefined;
    throw error;
  }
}

/** Only told: without the right, or on a store that has none of this, nothing is. */
async function readLock(store: ObjectStore, options: Cancellable) {
  try {
    return await store.bucketLock(options);
  } catch (error) {
    if (isBackupError(error, 'store_credentials', 'store_refused')) return undefined;
    throw error;
  }
}

/** What the rules would delete that must stay, were they written now. */
async function dangersOf(
  input: {
    engine: Engine;
    holdings: ReadonlyMap<string, readonly Holding[]>;
    before: readonly LifecycleRule[];
    after: readonly LifecycleRule[];
  },
  options: Cancellable,
): Promise<string[]> {
  const { engine, holdings, before, after } = input;
  const dangers: string[] = [];
  const pinned = [...holdings.values()].flat().filter((one) => isWhole(one.pinned));
  const ends = pinned.filter(({ pinned: copy }) => endOf(copy, after).sureUntil < Infinity);
  const [first] = ends;
  if (first !== undefined) {
    const { ruleId } = endOf(first.pinned, after);
    dangers.push(
      `${ends.length} pinned backups would be deleted by rule ${ruleId}: give that rule another prefix first`,
    );
  }
  const soon = engine.clock.now() + engine.rotation.lastGoodDays * DAY_MS;
  const goods = await newestGoodOf(await engine.catalog.newestReadable(options), engine, options);
  const lost: string[] = [];
  for (const [machine, all] of holdings) {
    const whole = all.filter((one) => isWhole(one.original) || isWhole(one.pinned));
    const goodId = goods.get(machine)?.good?.backup.id;
    const newest = whole.find(({ backupId }) => backupId === goodId) ?? whole[0];
    if (newest === undefined) continue;
    const then = lastOf(newest, after);
    if (then < soon && then < lastOf(newest, before)) {
      lost.push(`${machine} (backup ${newest.backupId})`);
    }
  }
  if (lost.length > 0) {
    const named = lost.slice(0, MOST_NAMED).join(', ');
    const more = lost.length > MOST_NAMED ? ` and ${lost.length - MOST_NAMED} more` : '';
    dangers.push(
      `the newest backup would be deleted within ${engine.rotation.lastGoodDays} days of ${named}${more}: ` +
        'back them up, or pin those backups (xvault pin), first',
    );
  }
  return dangers;
}

function lastOf({ original, pinned }: Holding, rules: readonly LifecycleRule[]): number {
  return lastEnd([original, pinned].filter(isWhole).map((copy) => endOf(copy, rules))).sureUntil;
}

function endOf({ archive, record }: Holding['original'], rules: readonly LifecycleRule[]) {
  return endOfCopy(
    [archive, record].filter((one) => one !== undefined),
    rules,
  );
}

function ruleView(rule: LifecycleRule): RuleView {
  const { expirationDays, expirationDate, abortDays, noncurrentDays, transitions, unknown } = rule;
  return {
    id: rule.id,
    enabled: rule.enabled,
    prefix: rule.prefix,
    ...(rule.narrowed ? { narrowed: true } : {}),
    ...(expirationDays === undefined ? {} : { expires_after_days: expirationDays }),
    ...(expirationDate === undefined ? {} : { expires_on: formatTime(expirationDate) }),
    ...(abortDays === undefined ? {} : { aborts_after_days: abortDays }),
    ...(noncurrentDays === undefined ? {} : { noncurrent_days: noncurrentDays }),
    ...(transitions === undefined
      ? {}
      : {
          moves: transitions.map(({ days, storageClass }) => ({
            ...(days === undefined ? {} : { after_days: days }),
            storage_class: storageClass,
          })),
        }),
    ...(unknown === undefined ? {} : { unknown }),
    text: describeRule(rule),
  };
}

const isDue = ({ action }: RuleChange) => action !== 'keep';
const inWords = ({ action, id, text }: RuleChange) => `${action} ${id}: ${text}`;

function refused(refusals: string[]): BackupError {
  return new BackupError('rotation_refused', `write the rules: ${refusals.join('; ')}`, {
    details: { reasons: refusals },
  });
}
