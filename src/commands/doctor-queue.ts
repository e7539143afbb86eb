/** `doctor` on the queue that instances share: asks what kind of Redis it is, and writes a key that ends by itself. */
import type { Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';
import type { Report } from './doctor-checks.ts';

const CHECK = 'queue';
const LIMIT_MS = 10_000;
const UNTIL_THEN = 'Until then jobs are accepted, and none begins.';

/** Asks the server at `url`; `name` is the installation's. */
export async function checkQueue(
  server: { url: Secret; name: string },
  report: Report,
  { signal }: Cancellable,
): Promise<void> {
  const { isNewEnough, KEEPS_ALL, OLDEST, probeServer } = await import('../queue/server.ts');
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  let facts: Awaited<ReturnType<typeof probeServer>>;
  try {
    facts = await probeServer(server, { signal: limit });
  } catch (error) {
    signal.throwIfAborted();
    const text = `not reached: ${error instanceof Error ? error.message : String(error)}`;
    const mend = `Check address, user and password, and for rediss:// the CA (NODE_EXTRA_CA_CERTS). ${UNTIL_THEN}`;
    return report({ check: CHECK, state: 'fail', text, mend });
  }
  const { version, eviction, isCluster, refusal } = facts;
  if (isCluster || !isNewEnough(facts)) {
    const text = isCluster ? 'this is a Redis cluster' : `Redis ${version} is too old`;
    const mend = `One server of Redis ${OLDEST} or later, or Valkey, is enough.`;
    return report({ check: CHECK, state: 'fail', text, mend });
  }
  const text = `Redis ${version} answers`;
  if (refusal !== undefined) {
    const mend = `Name one that is no replica and not full (maxmemory), and a user that may write and run scripts. ${UNTIL_THEN}`;
    return report({
      check: CHECK,
      state: 'fail',
      text: `${text}, but cannot be written to: ${refusal}`,
      mend,
    });
  }
  if (eviction === '' || eviction === KEEPS_ALL) return report({ check: CHECK, state: 'ok', text });
  report({
    check: CHECK,
    state: 'warn',
    text: `${text}, but takes keys away when it is full (maxmemory-policy ${eviction}): jobs then wait until they are found again`,
    mend: `Set maxmemory-policy ${KEEPS_ALL}.`,
  });
}
