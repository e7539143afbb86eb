/** What an id tells by itself. */

/** The instant a UUIDv7 was made: its first 48 bits are milliseconds since 1970 (RFC 9562, 5.7). */
export function uuidTimeMs(id: string): number {
  return Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16);
}

/** A UUIDv7 of this instant, unique by `fresh`. */
export function idAt(ms: number, fresh: string): string {
  const time = Math.trunc(ms).toString(16).padStart(12, '0');
  return siblingId(`${time.slice(0, 8)}-${time.slice(8)}`, fresh);
}

/** Another id of the same instant: sorts beside `id`, tells the same time, and is unique by `fresh`. */
export function siblingId(id: string, fresh: string): string {
  const TIME = 'xxxxxxxx-xxxx'.length;
  return id.slice(0, TIME) + fresh.slice(TIME);
}
