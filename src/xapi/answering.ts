/**
 * Which of several addresses answers first?
 *
 * A dead host answers nothing at all, so waiting for each in turn would take its full connect time-out. Connections
 * are opened one after another a moment apart, and given back in the order in which they were accepted and trusted; nothing
 * is sent on them. With a single address there is nothing to choose, and nothing is opened.
 */
import { BackupError } from '../errors.ts';
import type { Clock } from '../ports.ts';
import { dial } from './dial.ts';
import type { Origin } from './origin.ts';
import type { TrustBook } from './trust.ts';

/** Long enough for a member that works to win alone. */
const STAGGER_MS = 250;
const PROBE_TIMEOUT_MS = 5_000;

/** The addresses that accept a connection, as they do; why the others do not is added to `failures`. */
export async function* answering(
  origins: readonly Origin[],
  deps: { trust: TrustBook; clock: Clock },
  { signal, failures }: { signal: AbortSignal; failures: BackupError[] },
): AsyncGenerator<Origin> {
  if (origins.length <= 1) {
    yield* origins;
    return;
  }
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const probes = new Map(
    origins.map((origin, at) => [at, probe(origin, { ...deps, at, signal: both })] as const),
  );
  try {
    while (probes.size > 0) {
      const { at, origin, error } = await Promise.race(probes.values());
      probes.delete(at);
      signal.throwIfAborted();
      if (error === undefined) yield origin;
      else failures.push(error);
    }
  } finally {
    stop.abort();
  }
}

interface Probed {
  at: number;
  origin: Origin;
  error?: BackupError;
}

/** Never rejects: what went wrong is part of the result. */
async function probe(
  origin: Origin,
  { trust, clock, at, signal }: { trust: TrustBook; clock: Clock; at: number; signal: AbortSignal },
): Promise<Probed> {
  try {
    if (at > 0) await clock.sleep(at * STAGGER_MS, { signal });
    const socket = await dial({ origin, trust, timeoutMs: PROBE_TIMEOUT_MS }, { signal });
    socket.on('error', () => {}); // it has served its purpose
    socket.destroy();
    return { at, origin };
  } catch (error) {
    if (error instanceof BackupError) return { at, origin, error };
    const stopped = new BackupError('cancelled', 'connect to the pool', { cause: error });
    return { at, origin, error: stopped };
  }
}
