/** What an option or several ask for, read as the API reads it: a field it does not know is a mistake here as there. */
import type { z } from 'zod';
import { BackupError } from '../errors.ts';

/** The request the wishes are short for; `from` names where they come from. Errors: `invalid_request`. */
export function parseWishes<T>(schema: z.ZodType<T>, wishes: unknown, from = 'request'): T {
  const parsed = schema.safeParse(wishes);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join('.')}: ${message}`,
  );
  throw new BackupError('invalid_request', `read ${from}: ${issues.join('; ')}`);
}
