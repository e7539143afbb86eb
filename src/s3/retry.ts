/**
 * Retries of store calls: which failures, how often, how long between them. The only place that retries.
 *
 * All calls of this adapter may be repeated: reads, part uploads (same number, same bytes), copies, aborts and
 * deletes by nature; conditional writes and completes because their callers resolve an unclear answer by reading
 * back. Waiting doubles from `baseMs` to `capMs`, the upper half of it random, so that many parts do not come back
 * at once; a Retry-After of the store is honoured up to RETRY_AFTER_MAX_MS.
 */
import type { Cancellable, Clock } from '../ports.ts';

export interface RetryBudget {
  /** Tries in all. */
  attempts: number;
  baseMs: number;
  capMs: number;
}

/** Small calls: 4 retries in 3 to 4 seconds, then the caller (a request, a lease) must know. */
export const CALL_BUDGET: RetryBudget = { attempts: 5, baseMs: 250, capMs: 4_000 };
/** Parts and completes of an archive that took hours: up to 2 minutes, so that a restart of the store is survived. */
export const TRANSFER_BUDGET: RetryBudget = { attempts: 12, baseMs: 250, capMs: 20_000 };

const RETRY_AFTER_MAX_MS = 60_000;

/** `unclear`: the store may have done it. `refused`: it surely did nothing, but another try may do better. */
export type Failure = 'unclear' | 'refused' | 'final';

/** Node's names for a connection that was refused, lost or never came about. */
const NETWORK_CODES: ReadonlyMap<string, Failure> = new Map([
  // Nothing was sent.
  ['ECONNREFUSED', 'refused'],
  ['ENOTFOUND', 'refused'],
  ['EAI_AGAIN', 'refused'],
  ['EHOSTUNREACH', 'refused'],
  ['ENETUNREACH', 'refused'],
  // It may have arrived.
  ['ECONNRESET', 'unclear'],
  ['ECONNABORTED', 'unclear'],
  ['EPIPE', 'unclear'],
  ['ETIMEDOUT', 'unclear'],
  ['ERR_STREAM_PREMATURE_CLOSE', 'unclear'],
  ['HPE_INVALID_CONSTANT', 'unclear'],
]);

/** S3's codes, whatever status they come with. */
const S3_CODES: ReadonlyMap<string, Failure> = new Map([
  ['InternalError', 'unclear'],
  ['ServiceUnavailable', 'unclear'],
  ['SlowDown', 'refused'],
  ['Throttling', 'refused'],
  ['ThrottlingException', 'refused'],
  ['TooManyRequests', 'refused'],
  ['RequestTimeout', 'refused'], // The server waited for our body: it has not got it.
  ['IncompleteBody', 'refused'],
  ['BadDigest', 'refused'], // Changed on the way: the slab still holds the right bytes.
  ['XAmzContentChecksumMismatch', 'refused'],
  ['XAmzContentSHA256Mismatch', 'refused'],
]);

/** Once only: the SDK sets its clock by the answer and signs anew; a second refusal is a real skew. */
const ONCE: ReadonlySet<string> = new Set(['RequestTimeTooSkewed']);

/** The parts of an SDK or socket error that decide. */
export interface ErrorFacts {
  /** S3's code, or Node's for a network error. */
  code: string;
  /** 0: no answer. */
  status: number;
  retryAfterMs?: number;
}

/** Reads what matters from anything the SDK throws. */
export function errorFacts(error: unknown): ErrorFacts {
  const e = error as {
    name?: string;
    code?: string;
    Code?: string;
    cause?: unknown;
    errors?: unknown[];
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number; headers?: Record<string, string> };
  };
  const status = e?.$metadata?.httpStatusCode ?? e?.$response?.statusCode ?? 0;
  const inner = (e?.errors?.[0] ?? e?.cause) as { code?: string } | undefined;
  const answered = e?.Code ?? e?.name ?? '';
  // What lies under a failed credential provider (a refused connection to some metadata service) is not the store's.
  const ours = e?.name === 'CredentialsProviderError' ? e.name : (e?.code ?? inner?.code);
  const code = status > 0 ? answered : (ours ?? e?.name ?? 'unknown');
  const wait = Number.parseFloat(e?.$response?.headers?.['retry-after'] ?? '');
  return Number.isFinite(wait)
    ? { code, status, retryAfterMs: Math.min(RETRY_AFTER_MAX_MS, Math.max(0, wait * 1000)) }
    : { code, status };
}

/** Says what a failure means for another try. */
export function classify({ code, status }: ErrorFacts): Failure {
  if (status === 0) {
    if (code === 'TimeoutError') return 'unclear';
    return NETWORK_CODES.get(code) ?? (code.startsWith('HPE_') ? 'unclear' : 'final');
  }
  const known = S3_CODES.get(code);
  if (known !== undefined) return known;
  if (status === 429 || status === 408) return 'refused';
  if (status === 500 || status === 502 || status === 503 || status === 504) return 'unclear';
  // An answer that began well and was cut or garbled, e.g. by a proxy.
  return status < 300 ? 'unclear' : 'final';
}

export interface RetryOptions extends Cancellable {
  budget: RetryBudget;
  /** Told of every failed try that is followed by another. */
  onRetry?: ((failure: Failure, facts: ErrorFacts) => void) | undefined;
}

/**
 * Runs `attempt` until it succeeds, fails for good or the budget is spent; throws the last error untranslated.
 *
 * Cancel: rejects with the signal's reason; the running attempt is told by its own use of the signal.
 */
export async function retry<T>(
  attempt: () => Promise<T>,
  deps: { clock: Clock; random: () => number },
  { budget, signal, onRetry }: RetryOptions,
): Promise<T> {
  let usedOnce: boolean = false;
  for (let tries = 1; ; tries += 1) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      const facts = errorFacts(error);
      const once: boolean = ONCE.has(facts.code) && !usedOnce;
      const failure = once ? 'refused' : classify(facts);
      if (failure === 'final' || tries >= budget.attempts) throw error;
      usedOnce ||= once;
      onRetry?.(failure, facts);
      const fullMs = Math.min(budget.capMs, budget.baseMs * 2 ** (tries - 1));
      const waitMs = Math.max(facts.retryAfterMs ?? 0, fullMs * (0.5 + deps.random() / 2));
      await deps.clock.sleep(waitMs, { signal });
    }
  }
}
