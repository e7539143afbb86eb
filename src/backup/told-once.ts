/**
 * News that many instances find, each at each look, told by one of them and once a day.
 *
 * A small object under `idempotency/`, made on condition that there is none, which the bucket's rule removes two days later.
 * On a store without conditional writes each process only remembers what it told itself.
 */
import { createHash } from 'node:crypto';
import type { Keys } from '../catalog/keys.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable, Clock, ObjectStore } from '../ports.ts';
import { formatTime } from '../time.ts';

/** More than that is told again rather than remembered. */
const KNOWN_LIMIT = 10_000;

/** Resolves to true for the first who asks for this name of this day, today unless given. Errors: the store's. */
export type ClaimNews = (name: string, options: Cancellable & { day?: string }) => Promise<boolean>;

/** Claims in the bucket where jobs and leases lie. */
export function createNewsClaims(deps: {
  stateStore: ObjectStore;
  keys: Keys;
  clock: Clock;
}): ClaimNews {
  const { stateStore: store, keys, clock } = deps;
  const known = new Set<string>();
  return async (name, { signal, day = formatTime(clock.now()).slice(0, 10) }) => {
    const news = `news ${day} ${name}`;
    const { conditionalWrites } = await store.facts({ signal });
    if (known.has(news)) return false;
    if (known.size >= KNOWN_LIMIT) known.clear();
    known.add(news);
    if (!conditionalWrites) return true;
    const key = keys.idempotency(createHash('sha256').update(news).digest('hex'));
    const body = JSON.stringify({ version: 1, news: name, day });
    try {
      await store.put(key, body, { signal, ifAbsent: true, contentType: 'application/json' });
      return true;
    } catch (error) {
      if (isBackupError(error, 'precondition_failed')) return false;
      known.delete(news);
      throw error;
    }
  };
}
