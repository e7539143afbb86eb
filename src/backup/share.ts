/**
 * One question to the pool or the bucket for all who ask it within a moment.
 *
 * A status board, three monitors and a script that waits ask the same things a hundred times a second; listing the
 * machines of a pool costs its master much, a listing of the bucket costs money. What is shared is never tied to one
 * caller's signal; an error is told to all who waited for it and not kept. Questions are few: some for each pool.
 */
import type { Clock } from '../ports.ts';

/**
 * The answer to `question`, asked anew when the last one is older than the time it stays fresh, or was asked when the
 * world was at another `version`.
 */
export type Share = <T>(question: string, ask: () => Promise<T>, version?: number) => Promise<T>;

interface Asked {
  answer: Promise<unknown>;
  askedAt: number;
  version: number;
}

/** `freshMs` 0 shares nothing. */
export function createShare(
  clock: Pick<Clock, 'elapsed'>,
  { freshMs }: { freshMs: number },
): Share {
  const all = new Map<string, Asked>();
  return <T>(question: string, ask: () => Promise<T>, version = 0): Promise<T> => {
    const last = all.get(question);
    const isFresh = last?.version === version && clock.elapsed() - last.askedAt < freshMs;
    if (isFresh) return last.answer as Promise<T>;
    const answer = ask();
    const asked: Asked = { answer, askedAt: clock.elapsed(), version };
    all.set(question, asked);
    answer.catch(() => {
      if (all.get(question) === asked) all.delete(question);
    });
    return answer;
  };
}
