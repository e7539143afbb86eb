/**
 * Never the last good one: before the bucket's rules delete the newest good backup of a machine, it is copied out of
 * rotation; when a newer good one lasts, the copy goes.
 *
 * Rules go by age alone: once backups fail, or the machine is gone, they would delete everything. So after each job of a
 * machine, whatever its ending, and for all machines by the clock and on request, the newest good backup is judged by the
 * rules in force (guard-plan.ts). Who acts holds the backup's lease and looks again under it, so two instances never undo
 * each other's work. Copies are made and removed by pin-copy.ts: what is cut off is no backup, is known by its mark, and is
 * gone on with by the next look. No byte of an archive comes through the service.
 */
import {
  type Holding,
  isWhole,
  type MachineKey,
  machineName,
  readHoldings,
} from '../catalog/holdings.ts';
import type { Pin } from '../catalog/pin.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Engine } from './context.ts';
import { type RulesInForce, readRulesInForce } from './expiry.ts';
import { renewedNotice } from './finding-notice.ts';
import { findNamedGood, readPins } from './guard-facts.ts';
import { type GuardPlan, planGuard } from './guard-plan.ts';
import type { GuardEntry, GuardReport } from './guard-service.ts';
import { keepLease } from './keep-lease.ts';
import { pinCopy, removeCopy } from './pin-copy.ts';

/** Looked at in one go; each is a handful of small requests. */
const MACHINES_PARALLEL = 4;
/** What was judged may be deleted before it is copied; the next look takes what is left. */
const LOOKS = 3;
const FOREVER = '9999-12-31T00:00:00Z';

export interface GuardSettings {
  /** A last good backup that ends sooner is renewed; 0 renews nothing. */
  marginMs: number;
  retentionDays: Readonly<Record<string, number>>;
}

export interface Guard {
  /** One machine. Never throws but for the signal's reason: what went wrong is in the entry, the log and `failures`. */
  look(machine: MachineKey, options: Cancellable): Promise<GuardEntry>;
  /** Every machine there is a backup of, on a pool or not. Errors: the store's, when it cannot be listed. */
  all(input: { dryRun: boolean }, options: Cancellable): Promise<GuardReport>;
  /** The last failure of each machine since its last success here, by `pool/vm uuid`. */
  readonly failures: ReadonlyMap<string, BackupError>;
}

interface Context {
  engine: Engine;
  settings: GuardSettings;
  failures: Map<string, BackupError>;
}

/** The guard over one bucket. */
export function createGuard(engine: Engine, settings: GuardSettings): Guard {
  const context: Context = { engine, settings, failures: new Map() };
  return {
    failures: context.failures,
    look: (machine, options) => lookAt(context, { machine, dryRun: false }, options),
    all: async ({ dryRun }, options) => {
      const { clock } = engine;
      const startedAt = formatTime(clock.now());
      const force = await readRulesInForce(engine, settings.retentionDays, options);
      const all = await readHoldings(engine, undefined, options);
      const pending = [...all.values()];
      const vms: GuardEntry[] = [];
      const worker = async (): Promise<void> => {
        for (let held = pending.shift(); held !== undefined; held = pending.shift()) {
          const [{ pool, vmUuid }] = held as [Holding];
          const known = { holdings: held, force };
          vms.push(await lookAt(context, { machine: { pool, vmUuid }, dryRun, known }, options));
        }
      };
      await Promise.all(Array.from({ length: MACHINES_PARALLEL }, worker));
      vms.sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
      const counts = { safe: 0, renewed: 0, pinned: 0, due: 0, released: 0, none: 0, failed: 0 };
      for (const { guard } of vms) counts[guard] += 1;
      return {
        dry_run: dryRun,
        started_at: startedAt,
        finished_at: formatTime(clock.now()),
        margin_seconds: settings.marginMs / 1000,
        rules_from: force.from,
        counts,
        vms,
      };
    },
  };
}

/** With the machine's name, as its last good backup has it. */
type NamedPlan = GuardPlan & { vmName?: string };

interface Look {
  machine: MachineKey;
  dryRun: boolean;
  /** Already listed: good for the first judgement, never for deeds. */
  known?: { holdings: readonly Holding[]; force: RulesInForce };
}

async function lookAt(context: Context, input: Look, options: Cancellable): Promise<GuardEntry> {
  const { engine, failures } = context;
  const { machine } = input;
  const name = machineName(machine);
  try {
    const entry = await judgeAndAct(context, input, options);
    failures.delete(name);
    return entry;
  } catch (thrown) {
    options.signal.throwIfAborted();
    const error = toBackupError(thrown);
    failures.set(name, error);
    const { code, message } = error;
    engine.log.warn('last good backup not guarded', { ...machine, code, error: message });
    engine.meter.count('last_good_renewals_total', 1, { outcome: 'failed' });
    const vm = { uuid: machine.vmUuid, pool: machine.pool };
    return { vm, guard: 'failed', error: { code, detail: message } };
  }
}

async function judgeAndAct(
  context: Context,
  { machine, dryRun, known }: Look,
  options: Cancellable,
): Promise<GuardEntry> {
  const first = await plan(context, { machine, known }, options);
  const isQuiet = first.renewFrom === undefined && first.drop.length === 0;
  if (dryRun || context.settings.marginMs === 0 || isQuiet) return entryOf(machine, first, {});
  const done: Done = { released: [] };
  try {
    await renewGood(context, { machine, first, done }, options);
    for (const { backupId } of first.drop) {
      await underLease(context, { ...machine, backupId }, options, async (signal) => {
        const { drop, renewFrom } = await plan(context, { machine }, { signal });
        if (renewFrom !== undefined) return; // what is newer is not safe itself
        const holding = drop.find((one) => one.backupId === backupId);
        if (holding === undefined) return; // somebody else was faster, or it is needed again
        await dropCopy(context.engine, holding, { signal });
        if (holding.pinned.archive !== undefined) done.released.push(backupId);
      });
    }
  } catch (error) {
    if (!isBackupError(error, 'lease_held')) throw error;
    return { ...entryOf(machine, first, done), busy: true };
  }
  return entryOf(machine, await plan(context, { machine }, options), done);
}

/** What was judged may be gone before it is copied: then the newest that is left. */
async function renewGood(
  context: Context,
  { machine, first, done }: { machine: MachineKey; first: NamedPlan; done: Done },
  options: Cancellable,
): Promise<void> {
  let judged = first;
  for (let looks = 1; judged.renewFrom !== undefined && judged.good !== undefined; looks++) {
    const { backupId } = judged.good;
    try {
      await underLease(context, { ...machine, backupId }, options, async (signal) => {
        const under = await plan(context, { machine }, { signal });
        if (under.good?.backupId !== backupId) return;
        const bytes = await renew(context, under, { signal });
        if (bytes !== undefined) done.renewedBytes = bytes;
      });
      // a copy that rules leave no time is as young as it can be: the entry tells that it is due
      if (done.renewedBytes !== undefined) return;
    } catch (error) {
      if (!isGone(error) || looks === LOOKS) throw readable(error, backupId);
      context.engine.log.info('last good backup went while it was copied', { ...machine });
    }
    judged = await plan(context, { machine }, options);
    if (looks === LOOKS) return;
  }
}

function isGone(error: unknown): error is BackupError {
  return (
    isBackupError(error, 'not_found') ||
    (isBackupError(error, 'precondition_failed') && error.details.base !== 'archived')
  );
}

/** What the store calls a failed condition is something to mend where the archive lies in a cold class. */
function readable(error: unknown, backupId: string): unknown {
  const isCold = isBackupError(error, 'precondition_failed') && error.details.base === 'archived';
  if (!isCold) return error;
  return new BackupError(
    'store_refused',
    `renew backup ${backupId}: its archive lies in a class that cannot be read; have the store restore it, or let its rule delete later`,
    { cause: error, details: error.details, retry: 'after-fix' },
  );
}

async function plan(
  { engine, settings }: Context,
  { machine, known }: { machine: MachineKey; known?: Look['known'] },
  options: Cancellable,
): Promise<NamedPlan> {
  const force = known?.force ?? (await readRulesInForce(engine, settings.retentionDays, options));
  const holdings =
    known?.holdings ??
    (await readHoldings(engine, machine, options)).get(machineName(machine)) ??
    [];
  const [pins, found] = await Promise.all([
    readPins(engine, holdings, options),
    findNamedGood(engine, holdings, options),
  ]);
  const { marginMs } = settings;
  const judged = planGuard({
    holdings,
    pins,
    good: found?.holding,
    rules: force.rules,
    nowMs: engine.clock.now(),
    marginMs,
  });
  return { ...judged, ...(found && { vmName: found.vmName }) };
}

/** What lies below `pinned/` of one backup is written and removed by who holds this. */
async function underLease(
  { engine }: Context,
  { pool, backupId }: { pool: string; backupId: string },
  options: Cancellable,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const key = engine.keys.lease(pool, backupId);
  const lease = await engine.leases.take({ key, jobId: engine.ids.uuid() }, options);
  const controller = new AbortController();
  const kept = keepLease(engine, lease, controller);
  try {
    await work(AbortSignal.any([options.signal, controller.signal]));
  } finally {
    await kept.giveBack();
  }
}

/** Returns the bytes the store copied; undefined when nothing need be copied any more. */
async function renew(
  { engine, settings }: Context,
  { good, renewFrom: from, onlyMark, end, pin: there, vmName }: NamedPlan,
  options: Cancellable,
): Promise<number | undefined> {
  if (good === undefined || from === undefined || !isWhole(from)) return undefined;
  const { clock, log, meter } = engine;
  const nowMs = clock.now();
  const because = end?.ruleId === undefined ? '' : `; rule ${end.ruleId} was about to delete it`;
  const renewed: Pin = {
    version: 1,
    kind: 'renewed',
    backup_id: good.backupId,
    reason: `last good backup of its machine${because}`,
    by: 'guard',
    at: formatTime(nowMs),
  };
  // a wish that was not carried out yet, or whose copy a rule deletes, stays a wish
  const wished = there?.kind === 'pinned' ? parseTime(there.until ?? FOREVER) : nowMs;
  const pin = there && wished - nowMs >= settings.marginMs ? there : renewed;
  // whole and yet about to go: made young again
  const anew = isWhole(good.pinned) && !onlyMark ? from : undefined;
  await pinCopy({ holding: good, pin, anew }, engine, options);
  const { archive, index } = from;
  const bytes = onlyMark ? 0 : archive.sizeBytes + (index?.sizeBytes ?? 0);
  const { pool, vmUuid, backupId } = good;
  log.info('last good backup renewed', { pool, vm_uuid: vmUuid, backup_id: backupId, bytes });
  meter.count('last_good_renewals_total', 1, { outcome: 'renewed' });
  const told = { holding: good, vmName: vmName ?? vmUuid, bytes, at: renewed.at };
  engine.notices?.tell(renewedNotice(told));
  return bytes;
}

/** Of a renewed copy, of its rest, or the mark of one that was released. */
async function dropCopy(engine: Engine, holding: Holding, options: Cancellable): Promise<void> {
  await removeCopy({ holding }, engine, options);
  if (holding.pinned.archive === undefined) return;
  const { pool, vmUuid, backupId } = holding;
  engine.log.info('renewed copy released', { pool, vm_uuid: vmUuid, backup_id: backupId });
  engine.meter.count('last_good_renewals_total', 1, { outcome: 'released' });
}

interface Done {
  renewedBytes?: number;
  released: string[];
}

function entryOf(
  { pool, vmUuid }: MachineKey,
  { state, good, end, renewFrom, drop, vmName }: NamedPlan,
  { renewedBytes, released = [] }: Partial<Done>,
): GuardEntry {
  const ends = end !== undefined && Number.isFinite(end.expiresAt);
  return {
    vm: { uuid: vmUuid, ...(vmName === undefined ? {} : { name: vmName }), pool },
    guard: state,
    ...(good === undefined ? {} : { backup_id: good.backupId }),
    ...(ends ? { expires_at: formatTime(end.expiresAt) } : {}),
    ...(ends && end.ruleId !== undefined ? { rule: end.ruleId } : {}),
    ...(renewedBytes === undefined ? {} : { renewed_bytes: renewedBytes }),
    ...(released.length === 0 ? {} : { released }),
    ...(renewFrom === undefined ? {} : { would_renew: true }),
    ...(drop.length === 0 ? {} : { would_release: drop.map(({ backupId }) => backupId) }),
  };
}

function nameOf({ vm }: GuardEntry): string {
  return `${vm.pool}/${vm.uuid}`;
}
