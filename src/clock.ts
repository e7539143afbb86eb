/** The real clock and the real ids: the only module that asks the system for them. */
import * as nodeCrypto from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock, Ids } from './ports.ts';

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  sleep: async (ms, { signal }) => {
    try {
      await delay(ms, undefined, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  },
};

// workerd's node:crypto has none (November 2026)
const { randomUUIDv7 } = nodeCrypto as Partial<typeof nodeCrypto>;

export const systemIds: Ids = { uuid: () => randomUUIDv7?.() ?? portableUuid() };

/** RFC 9562, 5.7: 48 bits of milliseconds, version, 12 random bits, variant, 62 random bits. */
export function portableUuid(): string {
  const time = Date.now().toString(16).padStart(12, '0');
  // version 4 has the same layout of version, variant and random bits
  const random = crypto.randomUUID();
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(15)}`;
}
