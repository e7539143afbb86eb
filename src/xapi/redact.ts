/**
 * Keeps secrets out of what others will see.
 *
 * A session reference is as good as the password while it lives, and XenAPI puts it into error params, redirect
 * targets and task errors. Every text that came from the pool passes here before it becomes part of an error.
 */
import { XapiError } from './errors.ts';

/** Sessions of the past stay unseen, too; a pool that is lost every minute must not fill the memory. */
const MAX_SECRETS = 64;
const MASK = '***';

export interface Redactor {
  add(secret: string): void;
  text(text: string): string;
  error(error: unknown): unknown;
}

/** Remembers secrets and masks them, wherever they appear. */
export function createRedactor(): Redactor {
  const secrets: string[] = [];
  const text = (given: string) => {
    let masked = given.replace(/(session_id=)[^&;\s"'<]+/g, `$1${MASK}`);
    for (const secret of secrets) masked = masked.replaceAll(secret, MASK);
    return masked;
  };
  return {
    add: (secret) => {
      // Shorter ones would mask ordinary words; a password this short protects nothing.
      if (secret.length < 4 || secrets.includes(secret)) return;
      secrets.push(secret);
      // The first is the password; the oldest session goes.
      if (secrets.length > MAX_SECRETS) secrets.splice(1, 1);
    },
    text,
    error: (error) =>
      error instanceof XapiError ? new XapiError(error.code, error.params.map(text)) : error,
  };
}
