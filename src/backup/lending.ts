/**
 * Memory of the cache that is lent to whoever sends it on, so that a disk is read without a copy of every byte.
 *
 * Half the time of a whole-disk read was copying blocks and collecting the copies. So a reader who takes what he is given at
 * once gets the memory itself, until he says that the kernel has it. What is lent cannot be used for anything else, and a client
 * may stop reading at any moment; so few places are lent at once (others get copies, as does who was slow with the last piece),
 * and somebody who waits for memory waits for a client no longer than PATIENCE_MS: then the client's connection ends.
 */
import type { Cancellable, Clock } from '../ports.ts';

/** Places lent from at once, two shelves of the cache: what clients that stop reading may hold of the budget. */
const MOST_PLACES = 2;

/** A client that takes less than a block in this time, and is in the way of others, has to come back. */
const PATIENCE_MS = 10_000;

/** What the reader of a backup says to its lender, anew whenever it changes. */
export interface Lending {
  /** He takes what he is given at once; who does not gets copies. */
  isQuick: boolean;
  /** Somebody has waited too long for what he has: he must give it back, whatever becomes of him. */
  onWanted?: () => void;
}

/** Bytes to be read, or sent, until `release`; who gave them does not change them before. */
export interface Lent {
  readonly bytes: Uint8Array;
  /** A second call does nothing. */
  release(): void;
}

export interface Lender<Place extends object> {
  /** Undefined when it cannot be lent now. `most`: places the cache can do without. */
  lend(
    bytes: Uint8Array,
    options: { place: Place; lending: Lending; most: number },
  ): Lent | undefined;
  holds(place: Place): boolean;
  /** Sees to it that all that is lent comes back if somebody still waits after a while. */
  askBack(isWanted: () => boolean): void;
}

interface Loan {
  lending: Lending;
}

/** `onReturned`: called when something came back. */
export function createLender<Place extends object>(
  { clock, onReturned }: { clock: Pick<Clock, 'sleep'>; onReturned(): void },
  options: Cancellable,
): Lender<Place> {
  const loans = new Map<Place, Set<Loan>>();
  let isAsking = false;

  const giveBack = (place: Place, loan: Loan): void => {
    const some = loans.get(place);
    if (!some?.delete(loan)) return;
    if (some.size === 0) loans.delete(place);
    onReturned();
  };
  const all = () => [...loans.values()].flatMap((some) => [...some]);
  const ask = async (isWanted: () => boolean): Promise<void> => {
    isAsking = true;
    try {
      while (isWanted() && loans.size > 0) {
        const old = new Set(all());
        await clock.sleep(PATIENCE_MS, options);
        if (!isWanted()) return;
        for (const loan of all()) if (old.has(loan)) loan.lending.onWanted?.();
      }
    } finally {
      // at once: who begins to wait from now on asks anew
      isAsking = false;
    }
  };

  return {
    lend: (bytes, { place, lending, most }) => {
      const some = loans.get(place) ?? new Set<Loan>();
      const places = loans.size + (some.size === 0 ? 1 : 0);
      if (!lending.isQuick || places > Math.min(most, MOST_PLACES)) return undefined;
      const loan: Loan = { lending };
      some.add(loan);
      loans.set(place, some);
      return { bytes, release: () => giveBack(place, loan) };
    },
    holds: (place) => loans.has(place),
    askBack: (isWanted) => {
      if (isAsking || loans.size === 0 || options.signal.aborted) return;
      ask(isWanted).catch(() => undefined); // closed meanwhile
    },
  };
}
