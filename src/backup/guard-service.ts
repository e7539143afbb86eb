/** What the outside may ask of the guard, and what it is told. */
import type { Cancellable } from '../ports.ts';
import type { GuardState } from './guard-plan.ts';

/** One machine and its last good backup. */
export interface GuardEntry {
  /** The name is that of the last good backup; absent without one. */
  vm: { uuid: string; name?: string; pool: string };
  /** `failed`: it could not be looked at, copied or released; the error says why. */
  guard: GuardState | 'failed';
  /** The newest good one. */
  backup_id?: string;
  /** When the bucket deletes it; absent when no rule does. */
  expires_at?: string;
  /** The rule that will. */
  rule?: string;
  /** Copied by the store, now. */
  renewed_bytes?: number;
  /** Backups whose renewed copies were removed now. */
  released?: string[];
  /** Where nothing was to be done, or nothing may be done. */
  would_renew?: boolean;
  would_release?: string[];
  /** Another instance is at it. */
  busy?: boolean;
  error?: { code: string; detail: string };
}

export interface GuardReport {
  dry_run: boolean;
  started_at: string;
  finished_at: string;
  /** What ends sooner is renewed. */
  margin_seconds: number;
  /** `settings`: the bucket's rules cannot be read, so XVAULT_RETENTION_DAYS counts. */
  rules_from: 'bucket' | 'settings';
  counts: Record<GuardEntry['guard'], number>;
  vms: GuardEntry[];
}

export interface GuardService {
  /**
   * Looks at the last good backup of every machine, on a pool or not, and copies out of rotation what the rules are about to
   * delete; with `dryRun` it only tells. What fails for one machine is in its entry. Errors: `draining`, the store's.
   */
  renewLastGood(input: { dryRun: boolean }, options: Cancellable): Promise<GuardReport>;
}
