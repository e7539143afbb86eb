/**
 * Pins: a backup out of the bucket's rotation, and back.
 *
 * Pinning is a job (pin-steps.ts), since a store copies some 200 MiB a second. Unpinning removes the copy below `pinned/`, and
 * nothing else ever: the original goes when its rule says so. The copy of a machine's last good backup is not lost by taking a
 * pin away: it becomes the guard's (`renewed`), and only a second request, which then names just that, gives it up.
 */
import { DAY_MS } from '../catalog/forecast.ts';
import { type Holding, isWhole } from '../catalog/holdings.ts';
import type { Pin, PinWish } from '../catalog/pin.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { readRulesInForce } from './expiry.ts';
import type { Guard } from './guard.ts';
import { findGood, readPins } from './guard-facts.ts';
import { planGuard } from './guard-plan.ts';
import { type JobRunner, newJobAbout } from './jobs.ts';
import { keepLease } from './keep-lease.ts';
import { pinCopy, removeCopy } from './pin-copy.ts';

/** As shown with a backup. */
export interface PinView {
  /** `renewed`: by the guard, as the last good backup of its machine. */
  kind: 'pinned' | 'renewed';
  reason: string;
  until?: string;
  by: string;
  at: string;
}

/**
 * in_rotation: the copy is gone, the backup is what its rules make of it. removed: there was only the copy. kept: it is the
 * last good backup of its machine, and its original is gone or about to go: the guard has it now. released: nobody keeps it any more.
 */
export type UnpinOutcome = 'in_rotation' | 'removed' | 'kept' | 'released';

export interface PinInput {
  backupId: string;
  wish: PinWish;
  triggeredBy: string;
  /** As for a backup. */
  jobId?: string | undefined;
}

export interface PinService {
  /**
   * Starts a job that has the store copy a backup out of rotation; of one that lies there it changes reason and end.
   * Errors: `not_found`, `invalid_request` for an end that is over, `job_conflict` (details.job_id), `limit_reached`,
   * `draining`, `store_*`.
   */
  startPin(input: PinInput, options: Cancellable): Promise<Job>;
  /** undefined when there is no such backup. Errors: `job_conflict` while a job is about it, `store_*`. */
  unpin(
    input: { backupId: string; by: string },
    options: Cancellable,
  ): Promise<UnpinOutcome | undefined>;
}

interface Deps {
  runner: Pick<JobRunner, 'begin'>;
  guard: Pick<Guard, 'look'>;
  retentionDays: Readonly<Record<string, number>>;
}

/** Over the runner of this process. */
export function createPinService(engine: Engine, deps: Deps): PinService {
  const { runner, guard } = deps;
  return {
    startPin: (input, options) =>
      runner.begin(input, options, async () => {
        const { until } = input.wish;
        if (until !== undefined && parseTime(until) <= engine.clock.now()) {
          throw new BackupError('invalid_request', `choose until: ${until} is over`, {
            details: { field: 'until' },
          });
        }
        return { ...(await newJobAbout(engine, input, options)), kind: 'pin', pin: input.wish };
      }),
    unpin: async ({ backupId, by }, options) => {
      const found = await holdingsOf(engine, backupId);
      if (found === undefined) return undefined;
      const { pool, vmUuid } = found.holding;
      const outcome = await underLease(engine, { pool, backupId }, options, (signal) =>
        giveUp({ engine, deps }, { backupId, by }, { signal }),
      );
      // the original may be about to go: then the guard copies it again, sooner than its next round
      if (outcome === 'in_rotation') await guard.look({ pool, vmUuid }, options);
      return outcome;
    },
  };
}

/** Listed anew, with all of its machine. */
async function holdingsOf(
  { catalog }: Pick<Engine, 'catalog'>,
  backupId: string,
): Promise<{ holding: Holding; machine: Holding[] } | undefined> {
  catalog.changed();
  for (const machine of (await catalog.holdings()).values()) {
    const holding = machine.find((one) => one.backupId === backupId);
    if (holding !== undefined) return { holding, machine };
  }
  return undefined;
}

async function giveUp(
  { engine, deps }: { engine: Engine; deps: Deps },
  { backupId, by }: { backupId: string; by: string },
  options: Cancellable,
): Promise<UnpinOutcome | undefined> {
  const found = await holdingsOf(engine, backupId);
  if (found === undefined) return undefined;
  const { holding, machine } = found;
  const pin = (await readPins(engine, [holding], options)).get(backupId);
  const now = formatTime(engine.clock.now());
  const own = { version: 1, backup_id: backupId, by, at: now } as const;
  if (pin?.kind === 'released') return 'released';
  const isLast = (await findGood(engine, machine, options))?.backupId === backupId;
  // of another one, damaged say, no mark stays: it would give up the last good one, too
  if (isLast && pin?.kind === 'renewed') {
    const left: Pin = { ...own, kind: 'released', reason: 'released by name' };
    await removeCopy({ holding, left }, engine, options);
    return 'released';
  }
  const isThere = isWhole(holding.original);
  if (isLast && isWhole(holding.pinned) && (await isDue({ engine, deps }, holding, options))) {
    const reason = 'last good backup of its machine, whose pin was removed';
    await pinCopy({ holding, pin: { ...own, kind: 'renewed', reason } }, engine, options);
    return 'kept';
  }
  await removeCopy({ holding }, engine, options);
  return isThere ? 'in_rotation' : 'removed';
}

/** Without its copy the guard would have to make one: a rule may be faster. */
async function isDue(
  { engine, deps: { retentionDays } }: { engine: Engine; deps: Deps },
  holding: Holding,
  options: Cancellable,
): Promise<boolean> {
  if (!isWhole(holding.original)) return true;
  const marginMs = engine.rotation.lastGoodDays * DAY_MS;
  if (marginMs === 0) return false;
  const { rules } = await readRulesInForce(engine, retentionDays, options);
  const good: Holding = { ...holding, pinned: {} };
  const nowMs = engine.clock.now();
  const pins = new Map<string, Pin>();
  return planGuard({ holdings: [good], pins, good, rules, nowMs, marginMs }).state === 'due';
}

async function underLease<T>(
  engine: Engine,
  { pool, backupId }: { pool: string; backupId: string },
  options: Cancellable,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const key = engine.keys.lease(pool, backupId);
  const taking = engine.leases.take({ key, jobId: engine.ids.uuid() }, options);
  const lease = await taking.catch((error) => {
    if (!isBackupError(error, 'lease_held')) throw error;
    const text = `unpin backup ${backupId}: a job is about it`;
    throw new BackupError('job_conflict', text, { details: error.details, cause: error });
  });
  const controller = new AbortController();
  const kept = keepLease(engine, lease, controller);
  try {
    return await work(AbortSignal.any([options.signal, controller.signal]));
  } finally {
    await kept.giveBack();
  }
}

/** How a pin is shown; undefined of one that keeps nothing. */
export function pinView(holding: Holding, pin: Pin | undefined): PinView | undefined {
  if (pin === undefined || pin.kind === 'released' || !isWhole(holding.pinned)) return undefined;
  const { kind, reason, until, by, at } = pin;
  return { kind, reason, ...(until === undefined ? {} : { until }), by, at };
}
