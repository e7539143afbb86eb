/**
 * From arguments to a command: parsing, help, usage mistakes, errors, exit code.
 *
 * Knows nothing of the process, so that tests call it as it is. `--help`, `--version` and `--json` are taken by every
 * command; an unknown command or option is exit code 2 with the nearest known one. With --json an error is one JSON
 * object on stderr, in the shape of the API's problems.
 */
import { parseArgs } from 'node:util';
import { type BackupError, ERROR_CODES, isBackupError, toBackupError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import type { Command, Invocation, Terminal } from './command.ts';
import { EXIT_CODES, exitCodeOf } from './exit-code.ts';
import { plain } from './format.ts';
import { COMMON_OPTIONS, commandHelp, styler } from './help.ts';
import { COMMANDS } from './index.ts';

/** What the message itself tells to mend: repeating the code's advice would be noise. */
const SELF_EXPLAINED = ['invalid_request', 'configuration', 'cancelled'] as const;

export interface CliInput {
  args: readonly string[];
  terminal: Terminal;
  signal: AbortSignal;
  version: string;
}

/** Runs one command line and returns its exit code; never throws. */
export async function runCli(input: CliInput): Promise<number> {
  const [name, ...rest] = input.args;
  const { terminal } = input;
  if (name === undefined || name === '--help' || name === '-h') {
    terminal.out(mainHelp(input.version, terminal.color));
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-V' || name === 'version') {
    terminal.out(`${input.version}\n`);
    return 0;
  }
  if (name === 'help') return await help(rest[0], input);
  const entry = COMMANDS[name];
  if (entry === undefined || !Object.hasOwn(COMMANDS, name)) {
    return usage(terminal, unknown('command', name, Object.keys(COMMANDS)), 'xvault --help');
  }
  const { command } = await entry.load();
  return await runCommand(command, rest, input);
}

async function help(topic: string | undefined, input: CliInput): Promise<number> {
  const { terminal } = input;
  if (topic === 'exit-codes') {
    const lines = Object.entries(EXIT_CODES).map(([code, text]) => `${code.padStart(5)}  ${text}`);
    terminal.out(`${lines.join('\n')}\n`);
    return 0;
  }
  if (topic === undefined) {
    terminal.out(mainHelp(input.version, terminal.color));
    return 0;
  }
  if (!Object.hasOwn(COMMANDS, topic)) {
    const known = [...Object.keys(COMMANDS), 'exit-codes'];
    return usage(terminal, unknown('command', topic, known), 'xvault --help');
  }
  const loaded = await COMMANDS[topic]?.load();
  if (loaded !== undefined) terminal.out(commandHelp(loaded.command, terminal.color));
  return 0;
}

async function runCommand(command: Command, args: string[], input: CliInput): Promise<number> {
  const { terminal } = input;
  const parsed = parse(command, args);
  const hint = `xvault ${command.name} --help`;
  // asked for before anything is parsed: a script wants its error in JSON even when an option is misspelt
  const json = args.includes('--json');
  if (typeof parsed === 'string') return usage(terminal, parsed, hint, json);
  if (parsed.values.help === true) {
    terminal.out(commandHelp(command, terminal.color));
    return 0;
  }
  const { min, max } = command.words;
  if (parsed.positionals.length < min || parsed.positionals.length > max) {
    const problem = parsed.positionals.length < min ? 'something is missing' : 'too many words';
    return usage(terminal, `${problem}: xvault ${command.usage}`, hint, json);
  }
  const invocation: Invocation = {
    options: parsed.values,
    positionals: parsed.positionals,
    json,
    terminal,
    signal: input.signal,
  };
  try {
    return await command.run(invocation);
  } catch (error) {
    return report(toBackupError(error), terminal, json);
  }
}

type Parsed = { values: Invocation['options']; positionals: string[] };

function parse(command: Command, args: string[]): Parsed | string {
  const options = { ...command.options, ...COMMON_OPTIONS };
  try {
    // `help` and `value` are ours; parseArgs ignores what it does not know.
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const wrong = /Unknown option '(-[^'\s]+)/.exec(text)?.[1];
    if (wrong === undefined) return text.charAt(0).toLowerCase() + text.slice(1);
    return unknown(
      'option',
      wrong,
      Object.keys(options).map((name) => `--${name}`),
    );
  }
}

function unknown(kind: string, word: string, known: readonly string[]): string {
  const guess = nearest(word, known);
  return `unknown ${kind} ${plain(word)}${guess === undefined ? '' : `; did you mean ${guess}?`}`;
}

function usage(terminal: Terminal, problem: string, hint: string, json = false): number {
  if (json) {
    const error = { code: 'invalid_request', detail: problem, retry: 'never', details: {} };
    terminal.err(`${JSON.stringify({ error })}\n`);
    return 2;
  }
  terminal.err(`xvault: ${problem}\ntry: ${hint}\n`);
  return 2;
}

function report(error: BackupError, terminal: Terminal, json: boolean): number {
  if (json) {
    const { code, message, retry, details } = error;
    terminal.err(`${JSON.stringify({ error: { code, detail: message, retry, details } })}\n`);
    return exitCodeOf(code);
  }
  const style = styler(terminal.color);
  // Some messages have a line for each mistake; the code belongs to the first, not to the last example.
  const [first, ...more] = error.message.split('\n').map(plain);
  terminal.err(`${[`${style('red', 'xvault:')} ${first} (${error.code})`, ...more].join('\n')}\n`);
  const cause = causeLine(error);
  if (cause !== undefined) terminal.err(`  because ${plain(cause)}\n`);
  for (const line of detailLines(error)) terminal.err(`  ${line}\n`);
  if (!SELF_EXPLAINED.some((code) => code === error.code)) {
    terminal.err(`  → ${ERROR_CODES[error.code]}\n`);
  }
  if (error.code === 'internal' && error.cause instanceof Error) {
    terminal.err(`${error.cause.stack ?? ''}\n`);
  }
  return exitCodeOf(error.code);
}

/** What a name may mean, or could be said instead; the fields a request had wrong; the job that is in the way. */
function detailLines({ code, details }: BackupError): string[] {
  const { candidates, choices, disks, networks, errors } = details;
  const { job_id: jobId, owner, expires_at: expiresAt } = details;
  const lines = [candidates, choices, disks, networks, errors]
    .flatMap((list) => (Array.isArray(list) ? list : []))
    .map((entry) =>
      (typeof entry === 'string' ? [entry] : Object.values(entry as Record<string, unknown>))
        .map((value) => plain(String(value)))
        .join('  '),
    );
  if (code !== 'job_conflict' || typeof jobId !== 'string') return lines;
  lines.push(`job ${plain(jobId)}${typeof owner === 'string' ? `, instance ${plain(owner)}` : ''}`);
  if (typeof expiresAt === 'string') {
    lines.push(`if that instance was killed, its lease ends at ${plain(expiresAt)}`);
  }
  return lines;
}

function causeLine(error: BackupError): string | undefined {
  const { cause } = error;
  if (!(cause instanceof Error) || cause.message === '' || error.code === 'internal') {
    return undefined;
  }
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  const told = code === '' || isBackupError(cause) || cause.message.includes(code);
  return told ? cause.message : `${cause.message} (${code})`;
}

function mainHelp(version: string, color: boolean): string {
  const style = styler(color);
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const commands = Object.entries(COMMANDS).map(
    ([name, { summary }]) => `  ${style('bold', name.padEnd(width))}  ${summary}`,
  );
  return `xvault ${version}: back up XenServer and XCP-ng machines to object storage

${style('bold', 'Examples')}
  xvault demo                      see it work, nothing to set up
  xvault doctor                    check pool, bucket and settings
  xvault backup web-1              back up one machine, with progress
  xvault serve                     run the service (POST /v1/vms/web-1/backups)

${style('bold', 'Commands')}
${commands.join('\n')}

xvault <command> --help says more; every setting: xvault config --help; exit codes: xvault help exit-codes.
`;
}
