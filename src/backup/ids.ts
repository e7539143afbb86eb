/** What an id tells by itself. */

/** The instant a UUIDv7 was made: its first 48 bits are milliseconds since 1970 (RFC 9562, 5.7). */
export function uuidTimeMs(id: string): number {
  return Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16);
}
