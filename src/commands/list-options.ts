/** Options that several listing commands share. */

import type { UnreadableRecord } from '../catalog/unreadable.ts';
import { BackupError } from '../errors.ts';
import { type OptionHelp, type OptionValues, type Terminal, textOption } from './command.ts';
import { parseDuration, plain } from './format.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 50;

/** `--pool`. */
export const POOL_OPTION: OptionHelp = {
  type: 'string',
  value: '<name>',
  help: 'Only of this pool',
};

/** `--pool` and `--limit`. */
export const LIST_OPTIONS: Record<string, OptionHelp> = {
  pool: POOL_OPTION,
  limit: {
    type: 'string',
    short: 'n',
    value: '<n>',
    help: `At most so many (default ${DEFAULT_LIMIT})`,
  },
};

/** Errors: `invalid_request`. */
export function readLimit(options: OptionValues): number {
  const text = textOption(options, 'limit');
  if (text === undefined) return DEFAULT_LIMIT;
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new BackupError('invalid_request', `read --limit: a number from 1 to ${MAX_LIMIT}`);
}

/** A duration option in seconds. Errors: `invalid_request`. */
export function readSeconds(options: OptionValues, name: string): number | undefined {
  const text = textOption(options, name);
  if (text === undefined) return undefined;
  const seconds = parseDuration(text);
  if (seconds !== undefined && seconds > 0) return seconds;
  throw new BackupError('invalid_request', `read --${name}: a time such as 90s, 26h or 3d`);
}

/** The option as an object to spread: absent when not given. */
export function filterOption<K extends string>(
  options: OptionValues,
  name: K,
): Partial<Record<K, string>> {
  const value = textOption(options, name);
  return value === undefined ? {} : ({ [name]: value } as Record<K, string>);
}

/** A list that leaves something out says so; `--json` has it in the answer. */
export function warnUnreadable(
  terminal: Pick<Terminal, 'err'>,
  records: readonly Pick<UnreadableRecord, 'key' | 'detail'>[] = [],
): void {
  for (const { key, detail } of records) {
    terminal.err(`warning: ${plain(key)}: ${plain(detail)}\n`);
  }
}
