/** A log and a meter that keep what they are told, for tests that look at it. */
import type { Log, LogFields, Meter } from '../../src/ports.ts';

export interface KeptLog extends Log {
  /** Everything logged, as JSON, causes included. */
  text(): string;
}

/** Keeps every line. */
export function createKeptLog(lines: string[] = []): KeptLog {
  const keep = (message: string, fields?: LogFields) => {
    lines.push(JSON.stringify({ message, ...fields }));
  };
  return {
    debug: keep,
    info: keep,
    warn: keep,
    error: keep,
    child: () => createKeptLog(lines),
    text: () => lines.join('\n'),
  };
}

export const silentMeter: Meter = { count: () => {}, observe: () => {} };

/** Everything an error carries, as a log would print it. */
export function everythingIn(error: unknown): string {
  if (!(error instanceof Error)) return JSON.stringify(error) ?? '';
  const own = JSON.stringify({ ...error, message: error.message, stack: error.stack });
  return `${own}\n${error.cause === undefined ? '' : everythingIn(error.cause)}`;
}
