/**
 * The log: one JSON line an event on stdout for the service, plain lines on stderr for commands.
 *
 * The only importer of pino. Adapters redact before they throw or log; the list below is the second net, by field
 * name at any depth, so that one forgotten `password` does not end in a log store. `error` and `err` fields are
 * written as code, message and the chain of causes.
 */
import { type Logger, pino } from 'pino';
import { BackupError } from './errors.ts';
import { unsteered, unsteeredJson } from './plain-text.ts';
import type { Log, LogFields } from './ports.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Field names whose value is never written, in any spelling (`sessionId`, `session_id`, `Session-Id`). */
const SECRET_FIELDS = new Set([
  'authorization',
  'cookie',
  'password',
  'secret',
  'secretaccesskey',
  'sessionid',
  'sessionref',
  'sessiontoken',
  'setcookie',
  'token',
]);
const CENSORED = '***';
/** Deeper is no log field but an object graph. */
const MAX_DEPTH = 6;
const MAX_CAUSES = 5;

export interface LogSettings {
  level: LogLevel;
  /** Where lines go; a function per line, newline included. */
  write(line: string): void;
}

/** JSON lines: time, level, msg and the fields. */
export function createLog({ level, write }: LogSettings): Log {
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => write(unsteeredJson(line)) },
  );
  return jsonLog(logger);
}

type Pino = Pick<Logger, LogLevel | 'isLevelEnabled'> & { child(fields: object): Pino };

function jsonLog(logger: Pino): Log {
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
    // Fields are cleaned only when they will be written: debug lines of parts are many.
    if (logger.isLevelEnabled(level)) logger[level](cleanFields(fields), message);
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => jsonLog(logger.child(cleanFields(fields))),
  };
}

/** For people: `12:04:31 warn  retry part  part=3 attempt=2`. */
export function createConsoleLog({ level, write }: LogSettings, bound: LogFields = {}): Log {
  const levels: LogLevel[] = ['debug', 'info', 'warn', 'error'];
  const at = (own: LogLevel) => (message: string, fields?: LogFields) => {
    if (levels.indexOf(own) < levels.indexOf(level)) return;
    const all = Object.entries(cleanFields({ ...bound, ...fields }));
    const text = all.map(([name, value]) => `${name}=${inline(value)}`).join(' ');
    const time = new Date().toISOString().slice(11, 19);
    write(
      `${unsteered(`${time} ${own.padEnd(5)} ${message}${text === '' ? '' : `  ${text}`}`, ' ')}\n`,
    );
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => createConsoleLog({ level, write }, { ...bound, ...fields }),
  };
}

/** A log that says nothing. */
export const SILENT_LOG: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => SILENT_LOG,
};

function inline(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text === undefined ? 'undefined' : text.replace(/\s+/g, ' ');
}

/** Fields as they may be written: errors taken apart, secrets censored, nothing deeper than a log field is. */
export function cleanFields(fields: LogFields = {}): Record<string, unknown> {
  return clean(fields, 0, new Set()) as Record<string, unknown>;
}

function clean(value: unknown, depth: number, above: Set<object>): unknown {
  if (value instanceof Error) return errorFields(value, depth, above);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (above.has(value)) return '[circular]';
  if (depth >= MAX_DEPTH) return '[too deep]';
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if ('toJSON' in value && typeof value.toJSON === 'function') return value;
  const path = new Set(above).add(value);
  if (Array.isArray(value)) return value.map((item) => clean(item, depth + 1, path));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      isSecretName(name) && item !== undefined ? CENSORED : clean(item, depth + 1, path),
    ]),
  );
}

function isSecretName(name: string): boolean {
  return SECRET_FIELDS.has(name.toLowerCase().replaceAll(/[-_]/g, ''));
}

function errorFields(error: Error, depth: number, above: Set<object>): Record<string, unknown> {
  const causes: string[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < MAX_CAUSES) {
    const code = 'code' in cause ? ` (${String(cause.code)})` : '';
    causes.push(`${cause.message}${code}`);
    cause = cause.cause;
  }
  const known = error instanceof BackupError;
  const fields: Record<string, unknown> = { message: error.message };
  if ('code' in error) fields.code = error.code;
  if (known && Object.keys(error.details).length > 0) {
    fields.details = clean(error.details, depth + 1, above);
  }
  if (causes.length > 0) fields.causes = causes;
  // A stack of an error we expected says nothing; one of a bug says where it is.
  if (!known || error.code === 'internal') {
    fields.stack = (error.cause instanceof Error ? error.cause : error).stack;
  }
  return fields;
}
