/** Many small calls at once, but not all: a host serves few of them in parallel anyway. */

/** Calls in flight of one listing; a host takes 800 connections in all, from everybody. */
const CALLS_AT_ONCE = 8;

/** Maps in parallel, in order; the first failure is thrown after the calls under way have ended. */
export async function mapParallel<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length);
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length && failures.length === 0) {
      const at = next;
      next += 1;
      try {
        results[at] = await work(items[at] as T);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
  return results;
}
