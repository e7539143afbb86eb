/**
 * What must be done so that a machine keeps its last good backup. Pure: what lies in the bucket in, deeds out.
 *
 * The newest good backup must last longer than the margin from now on. Where it does not, it is copied out of rotation
 * (renewed) before the rules delete it, or before they move it where nobody can copy it any more. A renewed copy is given up
 * when a newer good backup exists that lasts. Nothing else is ever removed: not what somebody pinned, and no backup in
 * rotation. A last good backup whose copy somebody released stays released until there is a newer one.
 */
import { type End, endOfCopy, lastEnd, offlineAt } from '../catalog/forecast.ts';
import { type HeldCopy, type Holding, isWhole } from '../catalog/holdings.ts';
import type { Pin } from '../catalog/pin.ts';
import type { LifecycleRule } from '../ports.ts';
import { parseTime } from '../time.ts';

/**
 * none: no good backup. safe: it lasts. renewed: a copy of ours keeps it. pinned: a copy somebody wished does. due: it
 * will be deleted within the margin and nothing keeps it yet. released: somebody gave it up.
 */
export type GuardState = 'none' | 'safe' | 'renewed' | 'pinned' | 'due' | 'released';

export interface GuardInput {
  /** Of one machine, newest first. */
  holdings: readonly Holding[];
  /** By backup id. */
  pins: ReadonlyMap<string, Pin>;
  /** The newest of them that is a good backup. */
  good: Holding | undefined;
  rules: readonly LifecycleRule[];
  nowMs: number;
  marginMs: number;
}

export interface GuardPlan {
  state: GuardState;
  /** The newest good backup, and when it ends. */
  good?: Holding;
  end?: End;
  /** Why a copy of it lies out of rotation. */
  pin?: Pin;
  /** It is copied from there. Absent: nothing need be copied. */
  renewFrom?: HeldCopy;
  /** The copy is there and lasts by the rules: it was a wish that ends, and only needs another mark. */
  onlyMark?: boolean;
  /** Afterwards these lose all that lies below `pinned/`. */
  drop: Holding[];
}

/** Decides for one machine. */
export function planGuard(input: GuardInput): GuardPlan {
  const { holdings, pins, good, rules } = input;
  if (good === undefined) return { state: 'none', drop: [] };
  const released = holdings.find(({ backupId }) => pins.get(backupId)?.kind === 'released');
  const pin = pins.get(good.backupId);
  const original = lasting(good.original, input);
  const copy = lasting(good.pinned, input, { isCopy: true, pin });
  const end = lastEnd([original, copy].map(({ end: one }) => one));
  const base = { good, end, ...(pin && { pin }) };
  if (released !== undefined && released.backupId >= good.backupId) {
    return { ...base, state: 'released', drop: olderCopies(input, released.backupId) };
  }
  const drop = olderCopies(input, good.backupId);
  if (original.lasts) return { ...base, state: 'safe', drop };
  if (copy.lasts) return { ...base, state: pin?.kind === 'pinned' ? 'pinned' : 'renewed', drop };
  if (lasting(good.pinned, input, { isCopy: true }).lasts) {
    return { ...base, state: 'due', renewFrom: good.pinned, onlyMark: true, drop };
  }
  const canCopy = isWhole(good.original) && offlineAt(good.original.archive, rules) > -Infinity;
  const from = canCopy && original.until >= copy.until ? good.original : good.pinned;
  return { ...base, state: 'due', renewFrom: isWhole(from) ? from : good.original, drop };
}

/** When a copy can be relied on no more, and when it is deleted. */
interface Lasting {
  until: number;
  end: End;
  /** Longer than the margin; of a copy that rules delete, too, longer than half of its time. */
  lasts: boolean;
}

function lasting(
  copy: HeldCopy,
  { rules, nowMs, marginMs }: GuardInput,
  { isCopy = false, pin }: { isCopy?: boolean; pin?: Pin | undefined } = {},
): Lasting {
  if (!isWhole(copy)) return { until: -Infinity, end: lastEnd([]), lasts: false };
  const byRules = endOfCopy([copy.archive, copy.record], rules);
  const wished =
    pin?.kind === 'pinned' && pin.until !== undefined ? parseTime(pin.until) : Infinity;
  const end: End = wished < byRules.sureUntil ? { sureUntil: wished, expiresAt: wished } : byRules;
  // from there it cannot be copied any more; one that lies there already is not helped by haste
  const offline = offlineAt(copy.archive, rules);
  const kept =
    offline === -Infinity || byRules.sureUntil === Infinity
      ? byRules.sureUntil
      : Math.min(byRules.sureUntil, offline);
  // made young again before, it would be copied at every look where rules leave it less than the margin
  const needed = isCopy ? Math.min(marginMs, (kept - copy.archive.lastModified) / 2) : marginMs;
  const lasts = kept - nowMs >= needed && wished - nowMs >= marginMs;
  return { until: Math.min(kept, wished), end, lasts };
}

/** Renewed copies, rests of them, marks of released ones, and wishes that are over, that a newer one has made needless. */
function olderCopies({ holdings, pins, nowMs }: GuardInput, newer: string): Holding[] {
  return holdings.filter(({ backupId }) => {
    const { kind, until } = pins.get(backupId) ?? {};
    const isOver = kind === 'pinned' && until !== undefined && parseTime(until) <= nowMs;
    return backupId < newer && (kind === 'renewed' || kind === 'released' || isOver);
  });
}
