/** The log of a Worker: one object a line to the platform's console, which indexes its fields (Workers Logs). */
import { cleanFields, type LogLevel } from '../log.ts';
import type { Log, LogFields } from '../ports.ts';

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Lines below `level` are dropped; `write` gets what is left, secrets censored. */
export function createWorkerLog(
  { level, write }: { level: LogLevel; write(line: string): void },
  bound: LogFields = {},
): Log {
  const at = (own: LogLevel) => (message: string, fields?: LogFields) => {
    if (LEVELS.indexOf(own) < LEVELS.indexOf(level)) return;
    const time = new Date().toISOString();
    const line = { level: own, time, msg: message, ...cleanFields({ ...bound, ...fields }) };
    write(JSON.stringify(line));
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => createWorkerLog({ level, write }, { ...bound, ...fields }),
  };
}
