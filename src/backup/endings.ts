/**
 * When the bucket deletes each backup, and what keeps the last good one of each machine: for whoever asks, at once.
 *
 * Judged on the catalogue's listing and on rules read a minute ago at most; the guard itself looks anew before it acts. Where
 * the store does not tell its rules now, nothing is told of ends: a list without them is better than none.
 */
import type { End } from '../catalog/forecast.ts';
import { type Holding, machineName } from '../catalog/holdings.ts';
import type { Pin } from '../catalog/pin.ts';
import type { Backup } from '../catalog/record.ts';
import { type BackupError, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { formatTime } from '../time.ts';
import type { Engine } from './context.ts';
import { type RulesInForce, readRulesInForce } from './expiry.ts';
import type { GuardSettings } from './guard.ts';
import { readPins } from './guard-facts.ts';
import { type GuardPlan, planGuard } from './guard-plan.ts';
import { type PinView, pinView } from './pin-service.ts';
import { createShare } from './share.ts';

/** Rules change by hand, some times a year. */
const RULES_FRESH_MS = 60_000;
/** Few backups have a copy out of rotation. */
const PINS_LIMIT = 5000;

/** What is told of a backup. */
export interface BackupEnd {
  /** When the bucket deletes it; absent when no rule does, or nobody can tell. */
  expires_at?: string;
  /** The rule that will. */
  expires_by?: string;
  /** It lies out of rotation, too, or only there. */
  pinned?: PinView;
}

/** How the last good backup of a machine is kept. */
export interface MachineGuard extends GuardPlan {
  /** Why the last try of this instance to keep it failed. */
  failure?: BackupError;
}

export interface Endings {
  /** The backups, each with its end. */
  withEnds<T extends Backup>(
    backups: readonly T[],
    options: Cancellable,
  ): Promise<(T & BackupEnd)[]>;
  /** Of every machine in the bucket, by `pool/vm uuid`; `good` is the id of its newest good backup. */
  guards(
    good: ReadonlyMap<string, string>,
    options: Cancellable,
  ): Promise<Map<string, MachineGuard>>;
}

type Parts = Pick<Engine, 'store' | 'keys' | 'catalog' | 'clock' | 'log'>;

/** `failures`: the guard's. */
export function createEndings(
  engine: Parts,
  { settings, failures }: { settings: GuardSettings; failures: ReadonlyMap<string, BackupError> },
): Endings {
  const { catalog, clock } = engine;
  const share = createShare(clock, { freshMs: RULES_FRESH_MS });
  const pinOf = createPinCache(engine);
  const force = async (): Promise<RulesInForce | undefined> => {
    try {
      return await share('rules', () =>
        readRulesInForce(engine, settings.retentionDays, { signal: NEVER }),
      );
    } catch (error) {
      engine.log.warn('rules of the bucket not read', { error: toBackupError(error).message });
      return undefined;
    }
  };
  return {
    withEnds: async (backups, options) => {
      const rules = (await force())?.rules;
      if (rules === undefined) return [...backups];
      const all = await catalog.holdings();
      return await Promise.all(
        backups.map(async (backup) => {
          const { id, vm } = backup;
          const machine = machineName({ pool: vm.pool, vmUuid: vm.uuid });
          const holding = all.get(machine)?.find(({ backupId }) => backupId === id);
          if (holding === undefined) return backup;
          const pins = await pinOf([holding], options);
          const { end } = planGuard({
            holdings: [holding],
            pins,
            good: holding,
            rules,
            nowMs: clock.now(),
            marginMs: 0,
          });
          const pinned = pinView(holding, pins.get(id));
          return { ...backup, ...endFields(end), ...(pinned && { pinned }) };
        }),
      );
    },
    guards: async (good, options) => {
      const rules = (await force())?.rules;
      const guards = new Map<string, MachineGuard>();
      if (rules === undefined) return guards;
      for (const [machine, holdings] of await catalog.holdings()) {
        const goodId = good.get(machine);
        const plan = planGuard({
          holdings,
          pins: await pinOf(holdings, options),
          good: holdings.find(({ backupId }) => backupId === goodId),
          rules,
          nowMs: clock.now(),
          marginMs: settings.marginMs,
        });
        const failure = failures.get(machine);
        guards.set(machine, { ...plan, ...(failure && { failure }) });
      }
      return guards;
    },
  };
}

/** An end as answers tell it. */
export function endFields(end: End | undefined): BackupEnd {
  if (end === undefined || !Number.isFinite(end.expiresAt)) return {};
  const { expiresAt, ruleId } = end;
  return {
    expires_at: formatTime(expiresAt),
    ...(ruleId === undefined ? {} : { expires_by: ruleId }),
  };
}

type PinsOf = (holdings: readonly Holding[], options: Cancellable) => Promise<Map<string, Pin>>;

/** Reads each mark once for as long as it does not change. */
function createPinCache({ store }: Pick<Engine, 'store'>): PinsOf {
  const known = new Map<string, Pin | undefined>();
  return async (holdings, options) => {
    const pins = new Map<string, Pin>();
    for (const holding of holdings) {
      const { pin: object } = holding.pinned;
      if (object === undefined) continue;
      const version = `${object.key} ${object.etag}`;
      if (!known.has(version)) {
        const read = await readPins({ store }, [holding], options);
        if (known.size >= PINS_LIMIT) known.clear();
        known.set(version, read.get(holding.backupId));
      }
      const pin = known.get(version);
      if (pin !== undefined) pins.set(holding.backupId, pin);
    }
    return pins;
  };
}
