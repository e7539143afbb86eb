/**
 * Reads fields out of XenAPI records.
 *
 * A field that is absent is no error: older hosts do not have it, and each reader says what it is then. A field of
 * another kind than the API promises is: guessing on would mean backing up the wrong thing.
 */
import { BackupError } from '../errors.ts';
import { isStruct, type XapiValue } from './codec.ts';

export type XapiRecord = { readonly [name: string]: XapiValue };

export const NULL_REF = 'OpaqueRef:NULL';

/** Text; '' when absent. Integers and references travel as text, too. */
export function text(record: XapiRecord, name: string): string {
  const value = record[name];
  if (value === undefined || value === null) return '';
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  throw unexpected(name, 'text');
}

/** A reference, undefined when absent or NULL. A dangling one is possible. */
export function ref(record: XapiRecord, name: string): string | undefined {
  const value = text(record, name);
  return value === '' || value === NULL_REF ? undefined : value;
}

/** A 64-bit integer, which travels as decimal text; `absent` when the field is not there. */
export function integer(record: XapiRecord, name: string, absent = -1): number {
  const value = record[name];
  if (value === undefined || value === '') return absent;
  const number = typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number))
    throw unexpected(name, 'integer');
  return number;
}

/** A float; 0 when absent. */
export function float(record: XapiRecord, name: string): number {
  const value = record[name];
  if (value === undefined || value === '') return 0;
  const number = Number(value);
  if (Number.isNaN(number)) throw unexpected(name, 'float');
  return number;
}

/** A boolean; false when absent. */
export function flag(record: XapiRecord, name: string): boolean {
  const value = record[name];
  if (value === undefined) return false;
  if (typeof value === 'boolean') return value;
  throw unexpected(name, 'boolean');
}

/** A date in milliseconds since 1970; undefined when absent or never set (the pool writes 1970 then). */
export function date(record: XapiRecord, name: string): number | undefined {
  const value = record[name];
  if (value === undefined || value === '') return undefined;
  if (!(value instanceof Date)) throw unexpected(name, 'date');
  const ms = value.getTime();
  return ms > 0 ? ms : undefined;
}

/** A set of texts or references; [] when absent. */
export function texts(record: XapiRecord, name: string): string[] {
  const value = record[name];
  if (value === undefined || value === '') return [];
  if (Array.isArray(value)) return value.map(String);
  throw unexpected(name, 'set');
}

/** A map of texts; {} when absent. */
export function textMap(record: XapiRecord, name: string): Record<string, string> {
  const value = record[name];
  if (value === undefined || value === '') return {};
  if (!isStruct(value)) throw unexpected(name, 'map');
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]));
}

/** The answer of `get_record`. */
export function toRecord(value: XapiValue): XapiRecord {
  if (isStruct(value)) return value;
  throw unexpected('record', 'struct');
}

/** The answer of `get_all_records` and `get_all_records_where`. */
export function toRecords(value: XapiValue): Map<string, XapiRecord> {
  if (value === '') return new Map();
  return new Map(Object.entries(toRecord(value)).map(([key, item]) => [key, toRecord(item)]));
}

function unexpected(name: string, kind: string): BackupError {
  return new BackupError('pool_refused', `read answer: ${name} is no ${kind}`, {
    details: { field: name, expected: kind },
  });
}
