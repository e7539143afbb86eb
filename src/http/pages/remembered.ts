/** What a page asks for less often than it looks: by itself, or once for all who have it open. */
import type { Clock } from '../../ports.ts';

/** An answer that is asked for again when it is too old. */
export interface Remembered<T> {
  get(): Promise<T>;
  forget(): void;
}

/** The same answer for a while; a failed one is asked for again. */
export function remembered<T>(clock: Clock, everyMs: number, ask: () => Promise<T>): Remembered<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  const forget = () => {
    last = undefined;
  };
  return {
    get: async () => {
      if (last !== undefined && clock.elapsed() - last.at < everyMs) return await last.answer;
      const answer = ask();
      last = { at: clock.elapsed(), answer };
      // one that was asked for since is none of its business
      answer.catch(() => last?.answer === answer && forget());
      return await answer;
    },
    forget,
  };
}

/** One for each key, however many ask: the first who does makes it. */
export function onePer<K extends object, T>() {
  const all = new WeakMap<K, Remembered<T>>();
  return (key: K, make: () => Remembered<T>): Remembered<T> => {
    const known = all.get(key) ?? make();
    all.set(key, known);
    return known;
  };
}
