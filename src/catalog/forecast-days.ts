/**
 * What will be stored, and cost, day by day under the rules in force. Pure.
 *
 * Two figures a day: what of today's backups is still there then, by retention class, and what is expected when backups go
 * on as in the last two weeks (as many, as large, deleted by the same rules), where of each machine the last one stays in any
 * case (backup/guard.ts). Bytes of hidden versions and of locked objects count until they are gone for good. Versions hidden
 * already are in no listing, so they are in no figure.
 */
import type { LifecycleRule } from '../ports.ts';
import type { Prices } from '../prices.ts';
import { formatTime } from '../time.ts';
import {
  classesOf,
  DAY_MS,
  type End,
  endOfCopy,
  type KeptObject,
  lastEnd,
  paidUntil,
} from './forecast.ts';
import { type HeldCopy, type Holding, isWhole, objectsOf } from './holdings.ts';
import { createTally, type Span, type Tally } from './tally.ts';

/** How backups of late were made is how they go on. */
const PACE_DAYS = 14;
const GIB = 1024 ** 3;
const DAYS_PER_MONTH = 30;
/** The class of copies out of rotation, whatever class their original has. */
export const PINNED_CLASS = 'pinned';

export interface ForecastInput {
  /** Of all machines. */
  machines: Iterable<readonly Holding[]>;
  rules: readonly LifecycleRule[];
  nowMs: number;
  days: number;
  prices: Prices;
  /** Retention class → days for which its objects are locked. */
  lockDays?: Readonly<Record<string, number>>;
  /** For how long the bucket itself locks what comes without a lock. */
  bucketLockDays?: number | undefined;
  /** Old versions stay there; undefined where that cannot be told. */
  versioned?: boolean | undefined;
  /** Last good backups are copied out of rotation. */
  keepsLast?: boolean;
}

export interface ForecastFigures {
  stored_bytes: number;
  backups: number;
  /** For this day; absent where the price of storage is not known. */
  cost?: number;
}

export interface ForecastDay extends ForecastFigures {
  date: string;
  /** When backups go on as in the last two weeks. */
  expected_bytes: number;
  expected_cost?: number;
  classes: Record<string, ForecastFigures>;
}

export interface ForecastMachine {
  /** The name is filled in by whoever knows it. */
  vm: { uuid: string; name?: string; pool: string };
  stored_bytes: number;
  backups: number;
  /** From today on. */
  stored_bytes_by_day: number[];
  /** Of those there are now, the next first. */
  deletions: { backup_id: string; retention?: string; expires_at: string; rule?: string }[];
}

export interface Forecast {
  days: ForecastDay[];
  vms: ForecastMachine[];
}

interface Kept {
  group: string;
  object: KeptObject;
  until: number;
}

/** What is added up for a class, or for all of them. */
interface Tallies {
  bytes: Tally;
  cost: Tally;
  backups: Tally;
}

interface Table {
  input: ForecastInput;
  /** Today and the days to come. */
  count: number;
  /** The first of them at which it is that late. */
  dayAt(ms: number): number;
  all: Tallies;
  classes: Map<string, Tallies>;
  expected: number[];
}

/** Today's figures and those of the days after. */
export function forecastDays(input: ForecastInput): Forecast {
  const { nowMs, prices } = input;
  const count = input.days + 1;
  const today = Math.floor(nowMs / DAY_MS) * DAY_MS;
  const table: Table = {
    input,
    count,
    dayAt: (ms) =>
      ms <= nowMs ? 0 : Math.min(count, Math.max(1, Math.ceil((ms - today) / DAY_MS))),
    all: createTallies(count),
    classes: new Map(),
    expected: new Array<number>(count).fill(0),
  };
  const untilMs = today + input.days * DAY_MS;
  const vms: ForecastMachine[] = [];
  for (const holdings of input.machines) {
    if (holdings.length > 0) vms.push(addMachine(table, holdings, untilMs));
  }
  const all = sumsOf(table.all);
  const classes = [...table.classes].map(([name, tallies]) => ({ name, sums: sumsOf(tallies) }));
  const days = table.expected.map((expected, i) => {
    const date = formatTime(today + i * DAY_MS).slice(0, 10);
    const shown = classes
      .map(({ name, sums }) => [name, figuresAt(sums, i)] as const)
      .filter(([, { stored_bytes: bytes, backups }]) => bytes > 0 || backups > 0);
    const day = { date, ...figuresAt(all, i), expected_bytes: expected };
    return finished({ ...day, classes: Object.fromEntries(shown) }, prices);
  });
  return { days, vms };
}

/** Adds all there is of one machine. */
function addMachine(table: Table, holdings: readonly Holding[], untilMs: number): ForecastMachine {
  const { input, count, expected } = table;
  const own = createTally(count);
  for (const holding of holdings) {
    for (const one of keptOf(holding, input)) {
      const there = { from: 0, to: table.dayAt(one.until) };
      own.add(there, one.object.sizeBytes);
      addObject(table, one, there);
    }
  }
  const byDay = own.sums();
  const pace = paceOf(holdings, input);
  const lastBytes = input.keepsLast ? bytesOfLast(holdings) : 0;
  for (const [i, bytes] of byDay.entries()) {
    expected[i] = (expected[i] ?? 0) + Math.max(bytes + expectedBytes(pace, i), lastBytes);
  }
  const ends = endsOf(holdings, input.rules);
  for (const { holding, end } of ends) {
    const group = isWhole(holding.pinned) ? PINNED_CLASS : (holding.retention ?? '');
    const there = { from: 0, to: table.dayAt(end.expiresAt) };
    table.all.backups.add(there, 1);
    talliesOf(table, group).backups.add(there, 1);
  }
  const [{ vmUuid: uuid, pool }] = holdings as [Holding];
  return {
    vm: { uuid, pool },
    stored_bytes: byDay[0] ?? 0,
    backups: ends.length,
    stored_bytes_by_day: byDay,
    deletions: deletionsOf(ends, untilMs),
  };
}

function createTallies(count: number): Tallies {
  return { bytes: createTally(count), cost: createTally(count), backups: createTally(count) };
}

function talliesOf({ classes, count }: Table, group: string): Tallies {
  const found = classes.get(group) ?? createTallies(count);
  classes.set(group, found);
  return found;
}

function sumsOf({ bytes, cost, backups }: Tallies) {
  return { bytes: bytes.sums(), cost: cost.sums(), backups: backups.sums() };
}

function figuresAt(sums: ReturnType<typeof sumsOf>, i: number): Required<ForecastFigures> {
  const { bytes, cost, backups } = sums;
  return { stored_bytes: bytes[i] ?? 0, backups: backups[i] ?? 0, cost: cost[i] ?? 0 };
}

function keptOf({ retention, original, pinned }: Holding, input: ForecastInput): Kept[] {
  const keep = (copy: HeldCopy, group: string): Kept[] =>
    objectsOf(copy).map((object) => ({ group, object, until: keptUntil(object, group, input) }));
  return [...keep(original, retention ?? ''), ...keep(pinned, PINNED_CLASS)];
}

function keptUntil(object: KeptObject, group: string, input: ForecastInput): number {
  const { rules, lockDays = {}, bucketLockDays, versioned } = input;
  const locked = (group === PINNED_CLASS ? undefined : lockDays[group]) ?? bucketLockDays;
  const lockedUntil = locked === undefined ? undefined : object.lastModified + locked * DAY_MS;
  return paidUntil({ ...object, lockedUntil }, rules, { versioned });
}

/** Unless it was released: then a mark and nothing else lies out of rotation. */
function bytesOfLast(holdings: readonly Holding[]): number {
  const last = holdings.find(({ original, pinned }) => isWhole(original) || isWhole(pinned));
  if (last === undefined) return 0;
  const { original, pinned } = last;
  if (isWhole(pinned)) return objectsOf(pinned).reduce(addSize, 0);
  return pinned.pin === undefined ? objectsOf(original).reduce(addSize, 0) : 0;
}

/** Its bytes as long as they are there, its cost class by class. */
function addObject(table: Table, { group, object }: Kept, there: Span): void {
  const { rules, prices } = table.input;
  const spans = classesOf(object, rules).map(({ fromMs, storageClass }) => ({
    from: Math.min(there.to, table.dayAt(fromMs)),
    storageClass,
  }));
  for (const tallies of [table.all, talliesOf(table, group)]) {
    tallies.bytes.add(there, object.sizeBytes);
    for (const [k, { from, storageClass }] of spans.entries()) {
      const to = spans[k + 1]?.from ?? there.to;
      tallies.cost.add({ from, to }, dayCost(prices, object.sizeBytes, storageClass));
    }
  }
}

interface Ending {
  holding: Holding;
  end: End;
}

/** Each whole backup once, in the class that keeps it longest. */
function endsOf(holdings: readonly Holding[], rules: readonly LifecycleRule[]): Ending[] {
  return holdings.flatMap((holding) => {
    const ends = [holding.original, holding.pinned]
      .filter(isWhole)
      .map(({ archive, record }) => endOfCopy([archive, record], rules));
    return ends.length === 0 ? [] : [{ holding, end: lastEnd(ends) }];
  });
}

function deletionsOf(ends: readonly Ending[], untilMs: number): ForecastMachine['deletions'] {
  return ends
    .filter(({ end }) => end.expiresAt <= untilMs)
    .sort((a, b) => a.end.expiresAt - b.end.expiresAt)
    .map(({ holding: { backupId, retention }, end: { expiresAt, ruleId } }) => ({
      backup_id: backupId,
      ...(retention === undefined ? {} : { retention }),
      expires_at: formatTime(expiresAt),
      ...(ruleId === undefined ? {} : { rule: ruleId }),
    }));
}

interface Pace {
  bytesPerDay: number;
  /** For how long each stays. */
  lifeDays: number;
}

/** Class by class, how much was stored a day of late. */
function paceOf(holdings: readonly Holding[], input: ForecastInput): Pace[] {
  const { nowMs } = input;
  const made = holdings.flatMap(({ original, retention }) =>
    original.archive === undefined ? [] : [{ original, retention, archive: original.archive }],
  );
  const oldest = Math.min(...made.map(({ archive }) => archive.lastModified));
  const windowMs = Math.min(PACE_DAYS * DAY_MS, Math.max(DAY_MS, nowMs - oldest));
  const recent = made.filter(({ archive }) => archive.lastModified > nowMs - windowMs);
  return [...Map.groupBy(recent, ({ retention }) => retention).values()].map((some) => {
    const bytes = some.flatMap(({ original }) => objectsOf(original)).reduce(addSize, 0);
    const [{ archive, retention = '' }] = some as [(typeof some)[number]];
    const until = keptUntil({ ...archive, lastModified: nowMs }, retention, input);
    return {
      bytesPerDay: bytes / (windowMs / DAY_MS),
      lifeDays: (until - nowMs) / DAY_MS,
    };
  });
}

function expectedBytes(pace: readonly Pace[], days: number): number {
  return pace.reduce(
    (sum, { bytesPerDay, lifeDays }) => sum + bytesPerDay * Math.min(days, lifeDays),
    0,
  );
}

/** Rounded; without costs where storage has no price. */
function finished({ cost = 0, expected_bytes: expected, ...day }: ForecastDay, prices: Prices) {
  const rounded = { ...day, expected_bytes: Math.round(expected) };
  if (prices.stored_per_gb_month === undefined) {
    for (const figures of Object.values(rounded.classes)) delete figures.cost;
    return rounded;
  }
  for (const figures of Object.values(rounded.classes)) figures.cost = cents(figures.cost ?? 0);
  const more = dayCost(prices, Math.max(0, expected - day.stored_bytes), 'STANDARD');
  return { ...rounded, cost: cents(cost), expected_cost: cents(cost + more) };
}

function dayCost({ stored_per_gb_month: table = {} }: Prices, bytes: number, kind: string): number {
  const perMonth = table[kind] ?? table.STANDARD ?? 0;
  return ((bytes / GIB) * perMonth) / DAYS_PER_MONTH;
}

/** Four digits behind the point: a small machine's day costs some thousandths. */
function cents(amount: number): number {
  return Math.round(amount * 1e4) / 1e4;
}

function addSize(sum: number, { sizeBytes }: { sizeBytes: number }): number {
  return sum + sizeBytes;
}
