/**
 * `retention: auto`: which class a backup gets by the calendar, grandfather, father, son. Pure.
 *
 * A backup is `yearly` when the year has none of that class yet, else `monthly` when the month has neither, else `weekly`
 * when the ISO week has none of the three, else `daily`. So the first good backup of a year, month, week stands for it, one
 * backup may stand for several, and a period whose first backup was missed or removed gets the next. Classes that the
 * settings do not name are passed over. It is decided from what is listed and from the backup's own id alone: ids are
 * UUIDv7, so everybody comes to the same answer, and a job that is tried again too.
 *
 * Days are those of a time zone: a backup of Sunday night must not count to next week because it is Monday in UTC.
 * Weeks are those of ISO 8601: they begin on Monday, and belong to the year their Thursday lies in.
 */

/** Longest first. */
export const CALENDAR_CLASSES = ['yearly', 'monthly', 'weekly', 'daily'] as const;
export type CalendarClass = (typeof CALENDAR_CLASSES)[number];

/** The word for "by the calendar"; no class can be called so. */
export const AUTO = 'auto';

export interface ListedClass {
  retention: string;
  createdAtMs: number;
}

export interface Choice {
  retention: CalendarClass;
  /** As it reads in a sentence: `the first of 2026-11`. */
  reason: string;
}

/** undefined when the settings have none of the calendar's classes. */
export function chooseClass(input: {
  /** All good backups of this machine, of any class; order does not matter. */
  listed: readonly ListedClass[];
  createdAtMs: number;
  timeZone: string;
  /** Of the settings. */
  classes: readonly string[];
}): Choice | undefined {
  const known = CALENDAR_CLASSES.filter((name) => input.classes.includes(name));
  const shortest = known.at(-1);
  if (shortest === undefined) return undefined;
  const calendar = createCalendar(input.timeZone);
  const own = calendar(input.createdAtMs);
  const others = input.listed.map(({ retention, createdAtMs }) => ({
    rank: (CALENDAR_CLASSES as readonly string[]).indexOf(retention),
    periods: calendar(createdAtMs),
  }));
  for (const name of known) {
    if (name === shortest) break;
    const rank = CALENDAR_CLASSES.indexOf(name);
    const period = own[name];
    const has = others.some(
      (other) => other.rank !== -1 && other.rank <= rank && other.periods[name] === period,
    );
    if (!has) return { retention: name, reason: `the first of ${period}` };
  }
  return { retention: shortest, reason: `${own.daily}, for which no longer class is due` };
}

type Periods = Record<CalendarClass, string>;

/** Says in which year, month, ISO week and day an instant lies there. */
export function createCalendar(timeZone: string): (ms: number) => Periods {
  const format = new Intl.DateTimeFormat('en-u-ca-iso8601-nu-latn', {
    timeZone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
  });
  return (ms) => {
    const parts = new Map(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    const year = parts.get('year') ?? 0;
    const month = parts.get('month') ?? 0;
    const day = parts.get('day') ?? 0;
    const two = (n: number) => String(n).padStart(2, '0');
    return {
      yearly: String(year),
      monthly: `${year}-${two(month)}`,
      weekly: weekOf(dayNumber(year, month, day)),
      daily: `${year}-${two(month)}-${two(day)}`,
    };
  };
}

/** Days since Thursday 1970-01-01 of a date of the Gregorian calendar. */
function dayNumber(year: number, month: number, day: number): number {
  // years that begin in March end with their leap day
  const marchYear = month <= 2 ? year - 1 : year;
  const monthOfIt = (month + 9) % 12;
  const dayOfIt = Math.floor((153 * monthOfIt + 2) / 5) + day - 1;
  const leaps =
    Math.floor(marchYear / 4) - Math.floor(marchYear / 100) + Math.floor(marchYear / 400);
  return marchYear * 365 + leaps + dayOfIt - 719_468;
}

/** `2026-W53`: the week's Thursday says the year, and how many Thursdays that year had up to it. */
function weekOf(dayIndex: number): string {
  // 1970-01-01 was a Thursday: those are the multiples of 7
  const thursday = dayIndex - ((dayIndex + 3) % 7) + 3;
  let year = Math.floor(thursday / 365.2425) + 1970;
  if (dayNumber(year + 1, 1, 1) <= thursday) year += 1;
  if (dayNumber(year, 1, 1) > thursday) year -= 1;
  const week = Math.floor((thursday - dayNumber(year, 1, 1)) / 7) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
