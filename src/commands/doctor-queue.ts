/** `doctor` on the queue that instances share: only asks what kind of Redis it is, writes nothing. */
import type { Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';
import type { Report } from './doctor-checks.ts';

const CHECK = 'queue';
const LIMIT_MS = 10_000;

/** Asks the server at `url`. */
export async function checkQueue(
  url: Secret,
  report: Report,
  { signal }: Cancellable,
): Promise<void> {
  const { isNewEnough, KEEPS_ALL, OLDEST, probeServer } = await import('../queue/server.ts');
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  let facts: Awaited<ReturnType<typeof probeServer>>;
  try {
    facts = await probeServer(url, { signal: limit });
  } catch (error) {
    signal.throwIfAborted();
    const text = `not reached: ${error instanceof Error ? error.message : String(error)}`;
    const mend =
      'Check address, user and password, and for rediss:// the CA (NODE_EXTRA_CA_CERTS). Until then jobs are accepted, and none begins.';
    return report({ check: CHECK, state: 'fail', text, mend });
  }
  const { version, eviction, isCluster } = facts;
  if (isCluster || !isNewEnough(facts)) {
    const text = isCluster ? 'this is a Redis cluster' : `Redis ${version} is too old`;
    const mend = `One server of Redis ${OLDEST} or later, or Valkey, is enough.`;
    return report({ check: CHECK, state: 'fail', text, mend });
  }
  const text = `Redis ${version} answers`;
  if (eviction === '' || eviction === KEEPS_ALL) return report({ check: CHECK, state: 'ok', text });
  report({
    check: CHECK,
    state: 'warn',
    text: `${text}, but takes keys away when it is full (maxmemory-policy ${eviction}): jobs then wait until they are found again`,
    mend: `Set maxmemory-policy ${KEEPS_ALL}.`,
  });
}
