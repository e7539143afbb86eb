/** What is taken from the answer of somebody who was called, be it a target or a guest: its first words, and when to come again. */

/** The beginning of a body, as text; the rest goes with the connection. */
export async function firstText(body: AsyncIterable<Buffer>, maxBytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of body) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= maxBytes) break;
  }
  return Buffer.concat(pieces).subarray(0, maxBytes).toString('utf8');
}

/** Of Retry-After, where it is a number; a date is not read. */
export function secondsOf(retryAfter: string | string[] | undefined): number | undefined {
  return /^\d{1,6}$/.test(String(retryAfter)) ? Number(retryAfter) : undefined;
}

/** Why there was no answer, in a few words. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { code } = cause as NodeJS.ErrnoException;
  // happy eyeballs: one error for each address, in an error without words
  const text = cause.message || String((cause as AggregateError).errors?.[0]?.message ?? '');
  return code === undefined || text.includes(code) ? text : `${text} (${code})`;
}
