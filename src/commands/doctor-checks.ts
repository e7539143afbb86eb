/** What `doctor` is made of: findings, and a runner that turns whatever a check throws into one. */
import { BackupError, ERROR_CODES, toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';

/** `unknown`: could not be looked at from here; says where to look instead. */
export type FindingState = 'ok' | 'warn' | 'fail' | 'info' | 'unknown';

export interface Finding {
  /** Such as `pool office` or `bucket vm-backups`. */
  about: string;
  check: string;
  state: FindingState;
  text: string;
  /** What to do about it. */
  mend?: string;
  code?: string;
}

export type Report = (finding: Omit<Finding, 'about'>) => void;

/** Adapters try again for a while; longer than this nobody waits at a prompt. */
const CHECK_LIMIT_MS = 30_000;

/**
 * Runs one check under a limit of its own and returns what it found.
 *
 * An error becomes a `fail` with the advice of its code; undefined says that the check did not succeed.
 */
export async function runCheck<T>(
  { check, report, signal }: { check: string; report: Report } & Cancellable,
  work: (options: Cancellable) => Promise<T>,
): Promise<T | undefined> {
  const limit = AbortSignal.timeout(CHECK_LIMIT_MS);
  try {
    return await work({ signal: AbortSignal.any([signal, limit]) });
  } catch (thrown) {
    signal.throwIfAborted();
    const error = limit.aborted
      ? new BackupError('internal', `no answer within ${CHECK_LIMIT_MS / 1000} s`)
      : toBackupError(thrown);
    const mend = limit.aborted
      ? 'Check network and firewall between here and there.'
      : mendOf(error);
    report({
      check,
      state: 'fail',
      text: `${error.message}${causeText(error)}`,
      code: error.code,
      ...(mend === undefined ? {} : { mend }),
    });
    return undefined;
  }
}

/** The cause's code (ECONNREFUSED …), where the message does not have it. */
function causeText({ message, cause }: BackupError): string {
  if (!(cause instanceof Error) || !('code' in cause) || typeof cause.code !== 'string') return '';
  return message.includes(cause.code) ? '' : ` reason=${cause.code}`;
}

/** The advice of the code, or the very setting where it is known; none where the message says it already. */
function mendOf({ code, details }: BackupError): string | undefined {
  const found = details.found_sha256;
  if (code === 'pool_certificate' && typeof found === 'string') {
    const look = 'openssl x509 -noout -fingerprint -sha256 -in /etc/xensource/xapi-ssl.pem';
    return `Compare with \`${look}\` on the host; if it is the same, set XVAULT_POOL_FINGERPRINT=${found}`;
  }
  return code === 'configuration' || code === 'store_credentials' ? undefined : ERROR_CODES[code];
}
