/** A cache of blocks in a small budget, on a clock that only moves when told, and a disk whose block n is full of n. */
import { createArena } from '../../src/arena.ts';
import { createBlockCache, SHELF_SLOTS, SLOT_BYTES } from '../../src/backup/block-cache.ts';
import type { Cancellable } from '../../src/ports.ts';
import { createSimClock } from '../sim/clock.ts';

export const SHELF_BYTES = SHELF_SLOTS * SLOT_BYTES;

/** The budget is of so many shelves, of which the cache uses a quarter. `onLoad` is waited for before blocks are there. */
export function createCachedDisk({
  shelves,
  contentAt = 0,
  onLoad,
}: {
  shelves: number;
  contentAt?: number;
  onLoad?: (load: { from: number; count: number }, options: Cancellable) => Promise<void>;
}) {
  const arena = createArena({ totalBytes: shelves * SHELF_BYTES, unitBytes: SHELF_BYTES });
  const clock = createSimClock();
  const cache = createBlockCache({ loadArena: async () => arena, clock });
  const disk = cache.of({
    contentAt,
    load: async (from, memory, options) => {
      const count = memory.length / SLOT_BYTES;
      await onLoad?.({ from, count }, options);
      for (let i = 0; i < count; i++) memory.fill(from + i, i * SLOT_BYTES, (i + 1) * SLOT_BYTES);
    },
  });
  return { arena, clock, cache, disk };
}
