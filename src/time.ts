/** Times as records write them. Pure: what time it is comes from the clock port. */

/** Milliseconds since 1970 → RFC 3339 in UTC. */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** RFC 3339 → milliseconds since 1970; NaN for anything else. */
export function parseTime(text: string): number {
  return Date.parse(text);
}
