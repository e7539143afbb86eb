/**
 * The closed list of things that can go wrong, as one error class with a code.
 *
 * Adapters translate foreign errors once, at their border, and keep the original as `cause`
 * (XenAPI's own code and params go into `details` unchanged). HTTP status and exit code are looked up
 * from `code` in one table each: `http/problem.ts` and `commands/exit-code.ts`.
 */

/** What the caller must do: nothing helps, try again later, or mend something first. */
export type Retry = 'never' | 'later' | 'after-fix';

/** Every code, with what the reader must do; `docs/errors.md` is generated from this table. */
export const ERROR_CODES = {
  invalid_request: 'Correct the request: the detail names the field.',
  unauthenticated: 'Send a valid bearer token.',
  forbidden: 'Use a token that has the scope named in the detail.',
  not_found: 'Check the name or id: nothing of that name exists here.',
  vm_ambiguous: 'Several machines carry this name: use one of the listed uuids.',
  vm_not_supported:
    'This is no ordinary machine (template, snapshot, control domain) or it cannot be backed up as it is.',
  job_conflict: 'A job for this machine is already running: wait for it or cancel it.',
  lease_held: 'Another instance works on this machine: wait until its lease ends.',
  lease_lost: 'Another instance took this job over: look at the job again.',
  idempotency_mismatch: 'The idempotency key was used with another payload: use a new key.',
  idempotency_in_flight:
    'The first request with this idempotency key is still being answered: repeat it after Retry-After.',
  precondition_failed: 'The object changed meanwhile: read it again.',
  limit_reached: 'Too much is running or queued: try again after Retry-After.',
  service_unavailable:
    'The xvault service (XVAULT_URL) or the shared queue (XVAULT_QUEUE_URL) does not answer: check address, network, and whether it runs.',
  engine_unavailable:
    'The engine’s container does not come up, or did not stay up: look at its log, its memory and its settings, then try again.',
  draining: 'This instance is shutting down: try again on another or later.',
  pool_unavailable: 'The pool does not answer: check address, network and power, then try again.',
  pool_refused: 'The pool refused the call: the detail has its code and params.',
  pool_credentials: 'The pool refused user or password: correct the settings.',
  pool_certificate:
    'The certificate of the pool does not match the one expected: check it, then correct the pin.',
  snapshot_refused:
    'The pool cannot make the snapshot: the detail says which disk or space is in the way.',
  source_truncated: 'The export ended before its end: try again; if it repeats, look at the host.',
  hook_failed:
    'The guest hook named in the detail said no, or did not answer: no snapshot was made for this backup; or nobody gave a verdict in a restore test, which says nothing of the backup.',
  notify_failed:
    'A target did not take a notification: the detail has its answer; `xvault notify test` tries again.',
  quiesce_failed:
    'The guest could not be brought to rest for the snapshot: mend what the detail names, or ask for quiesce prefer or never.',
  source_failed: 'The host reported an error while exporting: the detail has its text.',
  restore_refused:
    'The pool does not take the machine in as asked: the detail says what is in the way and what mends it.',
  target_failed:
    'The host failed while importing: the detail has its text, and what it had made of the machine is removed.',
  rotation_refused:
    'The rules of the bucket were not written: the detail says what they would delete or lose, and the mend.',
  store_unavailable:
    'The object store does not answer: check endpoint and network, then try again.',
  store_refused: 'The object store refused the call: the detail has its code.',
  store_credentials:
    'The object store refused the credentials, or they lack a right: the detail names it.',
  data_corrupt:
    'The data do not match their checksum or structure: the detail says where. What was being made of them was not stored.',
  configuration: 'Correct the settings named in the detail.',
  cancelled: 'The job was cancelled on request.',
  internal: 'A bug in xvault: please report it with the request id.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

const RETRY: Partial<Record<ErrorCode, Retry>> = {
  job_conflict: 'later',
  lease_held: 'later',
  lease_lost: 'later',
  idempotency_in_flight: 'later',
  limit_reached: 'later',
  service_unavailable: 'later',
  engine_unavailable: 'later',
  draining: 'later',
  pool_unavailable: 'later',
  source_truncated: 'later',
  source_failed: 'later',
  target_failed: 'later',
  store_unavailable: 'later',
  precondition_failed: 'later',
  invalid_request: 'never',
  internal: 'never',
  cancelled: 'never',
};

export type ErrorDetails = Readonly<Record<string, unknown>>;

export interface BackupErrorOptions {
  /** Overrides the code's usual advice. */
  retry?: Retry;
  /** Typed values for machines; no secrets. */
  details?: ErrorDetails;
  cause?: unknown;
}

/**
 * The one error class of xvault.
 *
 * Message: lower case, "verb object", values at the end as key=value, no secrets, cause not repeated.
 */
export class BackupError extends Error {
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: BackupErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BackupError';
    this.code = code;
    this.retry = options.retry ?? RETRY[code] ?? 'after-fix';
    this.details = options.details ?? {};
  }
}

/** Says whether `error` is a BackupError, optionally of one of the given codes. */
export function isBackupError(error: unknown, ...codes: ErrorCode[]): error is BackupError {
  return error instanceof BackupError && (codes.length === 0 || codes.includes(error.code));
}

/**
 * Turns anything thrown into a BackupError.
 *
 * An abort becomes the BackupError given as the signal's reason, or `cancelled`; what nobody translated is a
 * bug of ours and becomes `internal`, with the original as cause.
 */
export function toBackupError(error: unknown): BackupError {
  if (error instanceof BackupError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    if (error.cause instanceof BackupError) return error.cause;
    return new BackupError('cancelled', 'cancel work', { cause: error });
  }
  const text = error instanceof Error ? error.message : String(error);
  return new BackupError('internal', `hit a bug: ${text}`, { cause: error });
}

/** The same refusal, laid on the base: what was copied from it is not what was read from the source. Others stay as they are. */
export function blameBase(error: unknown): unknown {
  if (!isBackupError(error, 'data_corrupt')) return error;
  const { code, message, details, retry } = error;
  return new BackupError(code, message, {
    details: { ...details, base: 'damaged' },
    retry,
    cause: error,
  });
}
