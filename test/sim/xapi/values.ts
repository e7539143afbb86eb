/**
 * The values XenAPI speaks, and its errors, as the simulated pool holds them.
 *
 * On the wire strings and ints look alike (untyped text), floats and the few real `<i4>` do not, so those two are
 * tagged here. Records are plain maps of values; the readers below say which kind a caller expects and fail loudly
 * when the simulator itself is wrong.
 */

export const NULL_REF = 'OpaqueRef:NULL';

const TAG: unique symbol = Symbol('tag');

interface Tagged {
  readonly [TAG]: 'float' | 'i4';
  readonly value: number;
}

export type Value = string | number | boolean | Date | Tagged | Value[] | { [key: string]: Value };

/** One object of the pool's database, as `get_record` gives it. */
export type Rec = Record<string, Value>;

/** A value that is a double on the wire. */
export function float(value: number): Value {
  return { [TAG]: 'float', value };
}

/** A value that is an `<i4>` on the wire: only `valid_ref_counts` of event.from is. */
export function i4(value: number): Value {
  return { [TAG]: 'i4', value };
}

/** The tagged number inside, or undefined for every other value. */
export function tagged(value: Value): { tag: 'float' | 'i4'; value: number } | undefined {
  if (typeof value !== 'object' || !(TAG in value)) return undefined;
  const number = value as Tagged;
  return { tag: number[TAG], value: number.value };
}

/** An error XenAPI answers with: a code and text parameters. */
export class XenError extends Error {
  readonly code: string;
  readonly params: string[];

  constructor(code: string, params: string[] = []) {
    super(`${code}: [ ${params.join('; ')} ]`);
    this.name = 'XenError';
    this.code = code;
    this.params = params;
  }
}

/** Thrown instead of an answer: the connection just ends. */
export class NoAnswer extends Error {}

/** What xapi makes of anything thrown: its own errors as they are, everything else as INTERNAL_ERROR. */
export function toXenError(error: unknown): XenError {
  if (error instanceof XenError) return error;
  return new XenError('INTERNAL_ERROR', [error instanceof Error ? error.message : String(error)]);
}

function wrong(record: Rec, field: string, wanted: string): never {
  throw new Error(`simulator bug: field=${field} is no ${wanted}: ${String(record[field])}`);
}

/** Reads a text field (also refs and enums). */
export function text(record: Rec, field: string): string {
  const value = record[field];
  return typeof value === 'string' ? value : wrong(record, field, 'text');
}

/** Reads an int field. */
export function int(record: Rec, field: string): number {
  const value = record[field];
  return typeof value === 'number' ? value : wrong(record, field, 'int');
}

/** Reads a bool field. */
export function flag(record: Rec, field: string): boolean {
  const value = record[field];
  return typeof value === 'boolean' ? value : wrong(record, field, 'bool');
}

/** Reads a set of texts or refs. */
export function list(record: Rec, field: string): string[] {
  const value = record[field];
  return Array.isArray(value) ? (value as string[]) : wrong(record, field, 'set');
}

/** Reads a map of texts. */
export function map(record: Rec, field: string): Record<string, string> {
  const value = record[field];
  if (typeof value !== 'object' || Array.isArray(value) || value instanceof Date) {
    return wrong(record, field, 'map');
  }
  return value as Record<string, string>;
}

/** XenAPI's date format: 20260821T02:00:23Z. */
export function formatDate(date: Date): string {
  return `${date
    .toISOString()
    .replace(/-/g, '')
    .replace(/\.\d{3}/, '')}`;
}
