/**
 * RFC 9457 problems, made from our errors: the one table from code to HTTP status.
 *
 * It lies here because a failed job keeps its problem in the bucket; `http/` answers with the same.
 */
import { type BackupError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import type { Problem } from './record.ts';

export const STATUS_OF: Readonly<Record<ErrorCode, number>> = {
  invalid_request: 422,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  vm_ambiguous: 422,
  vm_not_supported: 422,
  job_conflict: 409,
  lease_held: 409,
  lease_lost: 409,
  idempotency_mismatch: 422,
  idempotency_in_flight: 409,
  precondition_failed: 412,
  limit_reached: 429,
  service_unavailable: 503,
  engine_unavailable: 503,
  draining: 503,
  pool_unavailable: 503,
  pool_refused: 502,
  pool_credentials: 502,
  pool_certificate: 502,
  snapshot_refused: 409,
  hook_failed: 502,
  notify_failed: 502,
  quiesce_failed: 409,
  source_truncated: 502,
  source_failed: 502,
  restore_refused: 409,
  target_failed: 502,
  rotation_refused: 409,
  store_unavailable: 503,
  store_refused: 502,
  store_credentials: 502,
  data_corrupt: 502,
  configuration: 500,
  cancelled: 409,
  internal: 500,
};

/** The URI that identifies a kind of problem; `docs/errors.md` has a section for each. */
export function problemType(code: ErrorCode): string {
  return `urn:xvault:problem:${code}`;
}

/** Makes the problem for `error`. Its cause stays in the log. */
export function problemOf(
  error: BackupError,
  ids: { requestId?: string; jobId?: string } = {},
): Problem {
  return {
    type: problemType(error.code),
    title: ERROR_CODES[error.code],
    status: STATUS_OF[error.code],
    detail: error.message,
    code: error.code,
    retry: error.retry,
    ...(ids.requestId === undefined ? {} : { request_id: ids.requestId }),
    ...(ids.jobId === undefined ? {} : { job_id: ids.jobId }),
    ...(Object.keys(error.details).length === 0 ? {} : { details: { ...error.details } }),
  };
}
