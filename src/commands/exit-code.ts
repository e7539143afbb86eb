/**
 * The one table of exit codes.
 *
 * 0 and 1 mean what they mean everywhere, 2 is wrong usage or wrong settings, 10 and up tell a script what to do
 * next, 130 and 143 are what a shell gives for Ctrl-C and SIGTERM. `check` alone answers with the four codes of Nagios instead.
 */
import type { ErrorCode } from '../errors.ts';

/** Every exit code with its meaning; shown by `xvault help exit-codes`. */
export const EXIT_CODES = {
  0: 'done',
  1: 'failed',
  2: 'wrong usage or wrong settings',
  3: 'partly done: some succeeded, some did not',
  10: 'not found',
  11: 'conflict: something else is at work on it',
  12: 'not authorised',
  13: 'unavailable: try later',
  130: 'interrupted: cancelled',
  143: 'stopped by SIGTERM: what was under way is left to the next run',
} as const;

export type ExitCode = keyof typeof EXIT_CODES;

const BY_ERROR: Record<ErrorCode, ExitCode> = {
  invalid_request: 2,
  unauthenticated: 12,
  forbidden: 12,
  not_found: 10,
  vm_ambiguous: 2,
  vm_not_supported: 1,
  job_conflict: 11,
  lease_held: 11,
  lease_lost: 11,
  idempotency_mismatch: 11,
  idempotency_in_flight: 11,
  precondition_failed: 11,
  limit_reached: 13,
  service_unavailable: 13,
  engine_unavailable: 13,
  draining: 13,
  pool_unavailable: 13,
  pool_refused: 1,
  pool_credentials: 12,
  pool_certificate: 12,
  snapshot_refused: 1,
  hook_failed: 1,
  notify_failed: 1,
  quiesce_failed: 1,
  source_truncated: 1,
  source_failed: 1,
  restore_refused: 1,
  target_failed: 1,
  rotation_refused: 1,
  store_unavailable: 13,
  store_refused: 1,
  store_credentials: 12,
  data_corrupt: 1,
  configuration: 2,
  cancelled: 130,
  internal: 1,
};

/** The exit code for an error's code; codes this version does not know are failures. */
export function exitCodeOf(code: string | undefined): ExitCode {
  return BY_ERROR[code as ErrorCode] ?? 1;
}
