/**
 * The port to the guests and to those who judge them: calls before and after a snapshot, so that data are at rest while it is
 * made, and calls that ask what is thought of a restored machine.
 *
 * Implemented by notify/guest-hooks.ts; when and why they are called: backup/guest.ts with docs/guest-hooks.md, and
 * backup/verify-boot-verdict.ts with docs/verify.md.
 */
import type { Cancellable } from './ports.ts';

export interface HookCall {
  name: 'before_snapshot' | 'after_snapshot' | 'verdict';
  url: string;
  /** The same for every try of one call: receivers tell a repeat by it. */
  id: string;
  data: Readonly<Record<string, unknown>>;
  /** Tries in all; a refusal that a repeat cannot change ends them. */
  attempts: number;
}

/** What was answered to a question. */
export interface HookAnswer {
  /** 2xx or 4xx. */
  status: number;
  /** The receiver's own words, shortened; '' without any. */
  text: string;
  retryAfterSeconds?: number | undefined;
}

/** Calls out to guests: signed, to allowed addresses only, without redirects. */
export interface Hooks {
  /** Errors: `invalid_request`, naming `field`, when the settings do not allow this URL. */
  check(input: { field: string; url: string }, options: Cancellable): Promise<void>;
  /** Resolves when the guest said yes. Errors: `hook_failed`, with the answer's status in details if there was one. */
  call(input: HookCall, options: Cancellable): Promise<void>;
  /**
   * Resolves with what was answered, yes or no. Errors: `hook_failed` when there was no answer that is one: no connection, a
   * redirect, 5xx, 408, 425, 429.
   */
  ask(input: HookCall, options: Cancellable): Promise<HookAnswer>;
}
