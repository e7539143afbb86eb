/**
 * The sweep: what runs that died left on the pools and in the bucket is found, shown, and removed.
 *
 * Only what is surely ours and no living job's goes: everything is listed first, then the record of its job is read
 * (owner.ts says why in this order), then each adapter looks once more before it removes. What a job that has not ended
 * left is not the sweep's: the job is taken over, goes on, and cleans up at its end. So two sweeps at once do no harm,
 * nor one beside running backups. Sources: docs/xenapi.md (Leftovers), docs/design.md (Sweep).
 */
import { adviseAbortRule } from '../catalog/bucket-rules.ts';
import { toBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { formatTime } from '../time.ts';
import type { Engine } from './context.ts';
import { withDeadline } from './deadline.ts';
import { leftoverNotice } from './finding-notice.ts';
import type { Leftover } from './leftover.ts';
import { createOwners, type Owners } from './owner.ts';
import type { SweepFinding, SweepReport } from './service.ts';
import { findInBucket } from './sweep-bucket.ts';
import { findOnPool } from './sweep-pool.ts';

/** A disk that is in use is tried for a minute; ten of them one after another. */
const SWEEP_MS = 600_000;
/** Removed in one sweep, and shown in its report; the next one goes on. */
const MAX_FINDINGS = 1000;

export type Sweep = (input: { dryRun: boolean }, options: Cancellable) => Promise<SweepReport>;

export interface SweepDeps {
  engine: Engine;
  /** Where jobs and leases lie. */
  stateStore: ObjectStore;
  /** Takes over those of these jobs whose instance died; returns their ids. */
  takeOver(jobIds: readonly string[], options: Cancellable): Promise<string[]>;
}

/** The sweep of one process: one at a time; all who ask while one runs share the next, which sees what they saw. */
export function createSweep(deps: SweepDeps): Sweep {
  const aborted = new Set<string>();
  const waiting = new Map<boolean, Promise<SweepReport>>();
  let last: Promise<unknown> = Promise.resolve();
  return ({ dryRun }, { signal }) => {
    const next = waiting.get(dryRun);
    if (next !== undefined) return next;
    const work = last.then(() => {
      waiting.delete(dryRun);
      return sweepOnce({ ...deps, aborted }, { dryRun, stop: signal });
    });
    waiting.set(dryRun, work);
    last = work.catch(() => undefined); // told to who asked
    return work;
  };
}

type Context = SweepDeps & { aborted: Set<string> };
type Errors = SweepReport['errors'];

async function sweepOnce(
  context: Context,
  { dryRun, stop }: { dryRun: boolean; stop: AbortSignal },
): Promise<SweepReport> {
  const { engine } = context;
  const { clock, log } = engine;
  const startedAt = formatTime(clock.now());
  const errors: Errors = [];
  return await withDeadline(clock, SWEEP_MS, async (late) => {
    const options = { signal: AbortSignal.any([stop, late]) };
    const found = await findAll(context, errors, options);
    const advice = await adviseRules(engine, options);
    const takenOver = dryRun ? [] : await takeOverLeft(context, { found, errors }, options);
    const findings: SweepFinding[] = [];
    for (const leftover of found.slice(0, MAX_FINDINGS)) {
      findings.push(await settle(engine, leftover, { dryRun, takenOver, errors }, options));
    }
    stop.throwIfAborted();
    const counts = { removed: 0, would_remove: 0, kept: 0 };
    for (const { action } of findings) counts[action] += 1;
    measure(engine, found, findings);
    if (!dryRun) await tellOf(engine, { found, findings }, options);
    if (findings.length > 0 || errors.length > 0) {
      log.info('sweep done', { dry_run: dryRun, ...counts, errors: errors.length });
    }
    const finishedAt = formatTime(clock.now());
    const times = { started_at: startedAt, finished_at: finishedAt };
    const told = advice === undefined ? {} : { advice: [advice] };
    return { dry_run: dryRun, ...times, counts, findings, taken_over: takenOver, ...told, errors };
  });
}

/** Rules that cannot be read are no error of a sweep: `doctor` says which right is missing. */
async function adviseRules(
  { store, keys, log }: Engine,
  options: Cancellable,
): Promise<string | undefined> {
  try {
    const rules = await store.lifecycle(options);
    const { provider, bucket } = await store.facts(options);
    const advice = adviseAbortRule(rules, { backupsPrefix: keys.backupsPrefix, provider, bucket });
    if (advice !== undefined) log.info('rule of the bucket is missing', { advice });
    return advice;
  } catch (error) {
    options.signal.throwIfAborted();
    log.debug('rules of the bucket not readable', { error: toBackupError(error).message });
    return undefined;
  }
}

/** A pool that does not answer keeps nobody from looking at the others. */
async function findAll(
  context: Context,
  errors: Errors,
  options: Cancellable,
): Promise<Leftover[]> {
  const { engine } = context;
  const owners: Owners = createOwners(engine);
  const look = async (where: string, work: () => Promise<Leftover[]>): Promise<Leftover[]> => {
    try {
      return await work();
    } catch (error) {
      options.signal.throwIfAborted();
      const { code, message } = toBackupError(error);
      engine.log.warn('sweep could not look', { where, error: message });
      errors.push({ where, code, detail: message });
      return [];
    }
  };
  const pools = [...engine.pools.values()].map((pool) =>
    look(`pool ${pool.name}`, () => findOnPool(engine, { pool, owners }, options)),
  );
  const bucket = look('bucket', () => findInBucket(context, owners, options));
  return (await Promise.all([...pools, bucket])).flat();
}

async function takeOverLeft(
  { engine, takeOver }: Context,
  { found, errors }: { found: readonly Leftover[]; errors: Errors },
  options: Cancellable,
): Promise<string[]> {
  const left = found.flatMap(({ owner }) => (owner.state === 'left' ? [owner.jobId] : []));
  if (left.length === 0) return [];
  try {
    return await takeOver([...new Set(left)], options);
  } catch (error) {
    options.signal.throwIfAborted();
    const { code, message } = toBackupError(error);
    engine.log.warn('left jobs not taken over', { error: message });
    errors.push({ where: 'jobs', code, detail: message });
    return [];
  }
}

async function settle(
  engine: Engine,
  leftover: Leftover,
  { dryRun, takenOver, errors }: { dryRun: boolean; takenOver: readonly string[]; errors: Errors },
  options: Cancellable,
): Promise<SweepFinding> {
  const { kind, pool, id, name, owner, verdict, createdAt } = leftover;
  const ageMs = createdAt === undefined ? undefined : engine.clock.now() - createdAt;
  const { jobId } = owner;
  const say = (action: SweepFinding['action'], reason: string): SweepFinding => ({
    kind,
    ...(pool === undefined ? {} : { pool }),
    id,
    name,
    ...(jobId === undefined ? {} : { job_id: jobId }),
    ...(ageMs === undefined ? {} : { age_seconds: Math.max(0, Math.round(ageMs / 1000)) }),
    action,
    reason,
  });
  if (jobId !== undefined && takenOver.includes(jobId)) {
    return say('kept', 'its job was left unfinished, is taken over now, and cleans up at its end');
  }
  if (!verdict.remove) return say('kept', verdict.reason);
  if (dryRun) return say('would_remove', verdict.reason);
  const fields = { kind, pool, id, name, job_id: jobId };
  try {
    options.signal.throwIfAborted();
    await leftover.remove(options);
    engine.log.info('leftover removed', { ...fields, reason: verdict.reason });
    engine.meter.count('leftovers_removed_total', 1, { kind });
    return say('removed', verdict.reason);
  } catch (error) {
    const { code, message } = toBackupError(error);
    engine.log.warn('leftover not removed', { ...fields, error: message });
    errors.push({ where: `${kind} ${id}`, code, detail: message });
    return say('kept', `it could not be removed: ${message}`);
  }
}

/** What a living job uses is no news, nor is a lease or a probe; what stays is told once a day. */
async function tellOf(
  { notices, clock, log }: Engine,
  { found, findings }: { found: readonly Leftover[]; findings: readonly SweepFinding[] },
  options: Cancellable,
): Promise<void> {
  if (notices === undefined) return;
  const theirs = findings.filter(({ kind }, at) => {
    const state = found[at]?.owner.state;
    return state !== 'living' && state !== 'left' && kind !== 'lease' && kind !== 'probe';
  });
  try {
    const news: SweepFinding[] = [];
    for (const finding of theirs) {
      const { kind, id, action } = finding;
      const name = `sweep.leftover_found ${kind} ${id}`;
      if (action === 'removed' || (await notices.claim(name, options))) news.push(finding);
    }
    if (news.length > 0) notices.tell(leftoverNotice(news, formatTime(clock.now())));
  } catch (error) {
    // the report says it as well
    log.warn('leftovers not told', { error: toBackupError(error).message });
  }
}

/** What is left now. A running job's own snapshot and upload are none. */
function measure(
  { meter, pools }: Engine,
  found: readonly Leftover[],
  findings: readonly SweepFinding[],
): void {
  const left = found.filter(
    ({ owner }, at) => owner.state !== 'living' && findings[at]?.action !== 'removed',
  );
  const count = (kinds: readonly string[], pool?: string) =>
    left.filter((one) => kinds.includes(one.kind) && (pool === undefined || one.pool === pool))
      .length;
  for (const pool of pools.keys()) {
    meter.observe('leftover_snapshots', count(['snapshot', 'snapshot_disk'], pool), { pool });
  }
  meter.observe('unfinished_uploads', count(['upload']));
}
