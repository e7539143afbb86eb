/**
 * The port to the guests: calls before and after a snapshot, so that their data are at rest while it is made.
 *
 * Implemented by notify/guest-hooks.ts; when and why it is called: backup/guest.ts and docs/guest-hooks.md.
 */
import type { Cancellable } from './ports.ts';

export interface HookCall {
  name: 'before_snapshot' | 'after_snapshot';
  url: string;
  /** The same for every try of one call: receivers tell a repeat by it. */
  id: string;
  data: Readonly<Record<string, unknown>>;
  /** Tries in all; a refusal that a repeat cannot change ends them. */
  attempts: number;
}

/** Calls out to guests: signed, to allowed addresses only, without redirects. */
export interface Hooks {
  /** Errors: `invalid_request`, naming `field`, when the settings do not allow this URL. */
  check(input: { field: string; url: string }, options: Cancellable): Promise<void>;
  /** Resolves when the guest said yes. Errors: `hook_failed`, with the answer's status in details if there was one. */
  call(input: HookCall, options: Cancellable): Promise<void>;
}
