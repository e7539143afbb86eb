/**
 * What a command is: its help and its work, apart from parsing and from the process.
 *
 * Results go to `out`, everything else to `err`, so that `xvault list --json | jq` works; a command returns its exit
 * code and throws BackupErrors. Modules are imported when their command is called: help stays instant.
 */
import type { ParseArgsOptionDescriptor } from 'node:util';
import { BackupError } from '../errors.ts';

export interface OptionHelp extends ParseArgsOptionDescriptor {
  /** One line for the help page. */
  help: string;
  /** What stands for the value, such as `<class>`. */
  value?: string;
}

export interface Terminal {
  /** Writes result text (stdout). */
  out(text: string): void;
  /** Writes messages (stderr). */
  err(text: string): void;
  readonly outIsTty: boolean;
  readonly errIsTty: boolean;
  readonly color: boolean;
  /** Of stderr; 80 when unknown. */
  columns(): number;
}

export type OptionValues = Readonly<
  Record<string, string | boolean | (string | boolean)[] | undefined>
>;

export interface Invocation {
  options: OptionValues;
  positionals: string[];
  json: boolean;
  terminal: Terminal;
  /** Aborted by the first Ctrl-C or SIGTERM; the reason is a BackupError `cancelled`. */
  signal: AbortSignal;
}

export interface Command {
  name: string;
  /** Such as `backup <vm>`. */
  usage: string;
  summary: string;
  examples: string[];
  options: Record<string, OptionHelp>;
  /** How many words it takes. */
  words: { min: number; max: number };
  /** Paragraphs below the options. */
  notes?: string;
  run(invocation: Invocation): Promise<number>;
}

/** The option's text, if it was given. */
export function textOption(options: OptionValues, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

/** The option's text, one of the known ones, if it was given. Errors: `invalid_request`. */
export function choiceOption<T extends string>(
  options: OptionValues,
  name: string,
  known: readonly T[],
): T | undefined {
  const text = textOption(options, name);
  if (text === undefined) return undefined;
  const found = known.find((one) => one === text);
  if (found !== undefined) return found;
  throw new BackupError('invalid_request', `read --${name}: one of ${known.join(', ')}`);
}

/** The option's texts, each possibly a comma-separated list. */
export function listOption(options: OptionValues, name: string): string[] {
  const value = options[name];
  const all = Array.isArray(value) ? value : [value];
  return all
    .filter((item) => typeof item === 'string')
    .flatMap((item) => item.split(','))
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
