/**
 * The content of an object: a list of chunks, never copied together.
 *
 * Chunks are the buffers the socket gave. A slice, a part copy or a completed upload refers to them again, so a
 * copy inside the server costs a few pointers and not the bytes.
 */

/** Immutable content. */
export interface Bytes {
  readonly sizeBytes: number;
  readonly chunks: readonly Uint8Array[];
}

export const NO_BYTES: Bytes = { sizeBytes: 0, chunks: [] };

/** Content made of these chunks, which now belong to it. */
export function bytesOf(...chunks: Uint8Array[]): Bytes {
  return { sizeBytes: chunks.reduce((sum, chunk) => sum + chunk.length, 0), chunks };
}

/** One after the other, by reference. */
export function join(pieces: readonly Bytes[]): Bytes {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for (const piece of pieces) {
    for (const chunk of piece.chunks) chunks.push(chunk);
    sizeBytes += piece.sizeBytes;
  }
  return { sizeBytes, chunks };
}

/** `length` bytes from `offset`, by reference. */
export function slice(bytes: Bytes, offset: number, length: number): Bytes {
  const chunks: Uint8Array[] = [];
  let position = 0;
  let left = length;
  for (const chunk of bytes.chunks) {
    if (left === 0) break;
    const start = Math.max(0, offset - position);
    if (start < chunk.length) {
      const taken = chunk.subarray(start, Math.min(chunk.length, start + left));
      chunks.push(taken);
      left -= taken.length;
    }
    position += chunk.length;
  }
  return { sizeBytes: length - left, chunks };
}

/** A copy in one piece: for small bodies and for tests that look inside. */
export function toBuffer(bytes: Bytes): Buffer {
  return Buffer.concat(bytes.chunks);
}
