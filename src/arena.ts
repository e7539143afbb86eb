/**
 * The byte budget of the process: one block of memory, handed out in contiguous runs of equal units.
 *
 * It is allocated once and never zeroed, so the system gives a page only when it is first written; runs are taken
 * from the lowest address, so a small load touches little of it and memory in use follows the load, not the limit.
 * Waiters are served strictly in the order they came: a large wish at the head is not overtaken by small ones
 * behind it, therefore it cannot starve. What keeps this free of deadlock is the rule in ports.ts: nobody waits
 * here while holding a slab that is not on its way out.
 */
import assert from 'node:assert/strict';
import { BackupError } from './errors.ts';
import type { Arena, Slab } from './ports.ts';

interface Waiter {
  minUnits: number;
  wantUnits: number;
  grant(slab: Slab): void;
}

/**
 * Makes the budget: `totalBytes` rounded down to whole units.
 *
 * Shape: slabs are whole units, so `bytes` may be longer than asked for. They lie in `memory`, of at least that many
 * bytes, where it is given.
 * Errors: `configuration` when not even one unit fits; `take` throws it for a minimum above the whole budget.
 */
export function createArena(settings: {
  totalBytes: number;
  unitBytes: number;
  memory?: Buffer | undefined;
}): Arena {
  const { unitBytes } = settings;
  assert(Number.isSafeInteger(unitBytes) && unitBytes > 0, `unitBytes=${unitBytes}`);
  const unitCount = Math.floor(settings.totalBytes / unitBytes);
  if (!(unitCount >= 1)) throw tooSmall(unitBytes, settings.totalBytes);
  const totalBytes = unitCount * unitBytes;
  const { memory = Buffer.allocUnsafeSlow(totalBytes) } = settings;
  assert(memory.length >= totalBytes, `memory=${memory.length} total_bytes=${totalBytes}`);
  const taken = new Uint8Array(unitCount);
  const waiters: Waiter[] = [];
  const givers: (() => void)[] = [];
  let usedUnits = 0;

  function hold({ start, length }: Run): Slab {
    taken.fill(1, start, start + length);
    usedUnits += length;
    let held = true;
    return {
      bytes: memory.subarray(start * unitBytes, (start + length) * unitBytes),
      release: () => {
        if (!held) return;
        held = false;
        taken.fill(0, start, start + length);
        usedUnits -= length;
        serve();
      },
    };
  }

  function serve(): void {
    for (let head = waiters[0]; head !== undefined; head = waiters[0]) {
      const run = findRun(taken, head.minUnits, head.wantUnits);
      if (run === undefined) return;
      waiters.shift();
      head.grant(hold(run));
    }
  }

  return {
    totalBytes,
    unitBytes,
    get usedBytes() {
      return usedUnits * unitBytes;
    },
    take: async (minBytes, wantBytes, { signal }) => {
      signal.throwIfAborted();
      const minUnits = Math.max(1, Math.ceil(minBytes / unitBytes));
      if (minUnits > unitCount) throw tooSmall(minBytes, totalBytes);
      const wantUnits = Math.min(unitCount, Math.max(minUnits, Math.ceil(wantBytes / unitBytes)));
      if (waiters.length === 0) {
        const run = findRun(taken, minUnits, wantUnits);
        if (run !== undefined) return hold(run);
      }
      return await new Promise<Slab>((resolve, reject) => {
        const waiter: Waiter = {
          minUnits,
          wantUnits,
          grant: (slab) => {
            signal.removeEventListener('abort', onAbort);
            resolve(slab);
          },
        };
        function onAbort() {
          waiters.splice(waiters.indexOf(waiter), 1);
          reject(signal.reason);
          // The one that left may have been the head that blocked the others.
          serve();
        }
        signal.addEventListener('abort', onAbort, { once: true });
        waiters.push(waiter);
        for (const give of givers) give();
      });
    },
    get isShort() {
      return waiters.length > 0;
    },
    onShort: (give) => {
      givers.push(give);
    },
  };
}

interface Run {
  start: number;
  length: number;
}

/** The lowest run of `want` free units, else the longest (the lowest of equals) if it has at least `min`. */
function findRun(taken: Uint8Array, min: number, want: number): Run | undefined {
  let best: Run | undefined;
  for (let at = 0; at < taken.length; ) {
    const start = taken.indexOf(0, at);
    if (start === -1) break;
    const end = taken.indexOf(1, start);
    const length = (end === -1 ? taken.length : end) - start;
    if (length >= want) return { start, length: want };
    if (length >= min && length > (best?.length ?? 0)) best = { start, length };
    at = start + length;
  }
  return best;
}

function tooSmall(neededBytes: number, totalBytes: number): BackupError {
  return new BackupError(
    'configuration',
    `raise XVAULT_MEMORY_MIB, needed_bytes=${neededBytes} budget_bytes=${totalBytes}`,
    { details: { needed_bytes: neededBytes, budget_bytes: totalBytes } },
  );
}
