/**
 * Sums over days to come: what lies there for some of them is noted where it begins and where it ends, and all is added up
 * once, so that a year costs no more than a week. Thousands of machines have a hundred objects each, and whoever looks at
 * the status page asks for it.
 */

/** Days, the first in, the last out. */
export interface Span {
  from: number;
  to: number;
}

export interface Tally {
  add(span: Span, amount: number): void;
  /** Of each day; never below zero, whatever was rounded. */
  sums(): number[];
}

/** Over so many days. */
export function createTally(days: number): Tally {
  const changes = new Float64Array(days + 1);
  return {
    add: ({ from, to }, amount) => {
      if (to <= from) return;
      changes[from] = (changes[from] ?? 0) + amount;
      changes[to] = (changes[to] ?? 0) - amount;
    },
    sums: () => {
      let sum = 0;
      return Array.from({ length: days }, (_, i) => {
        sum += changes[i] ?? 0;
        return Math.max(0, sum);
      });
    },
  };
}
