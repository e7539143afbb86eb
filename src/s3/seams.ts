/**
 * Where inside the object copied ranges begin and end: the places worth looking at when the store gives no checksum.
 *
 * Ranges that follow each other in their source are one range, however many copies they took.
 */
import { MAX_SEAMS } from '../ports.ts';

export interface Seams {
  /** The object's next bytes; `from`: where they were copied from. */
  note(sizeBytes: number, from?: { key: string; offset: number }): void;
  /** Ascending, with `others` merged in, thinned evenly to at most MAX_SEAMS. */
  list(others?: readonly number[]): number[];
}

/** Starts at the object's first byte. */
export function createSeams(): Seams {
  const seams: number[] = [];
  let at = 0;
  let before: { key: string; offset: number } | undefined;
  return {
    note: (sizeBytes, from) => {
      if (sizeBytes === 0) return;
      const goesOn = before?.key === from?.key && before?.offset === from?.offset;
      if (at > 0 && !goesOn) seams.push(at);
      at += sizeBytes;
      before = from && { key: from.key, offset: from.offset + sizeBytes };
    },
    list: (others = []) => thin([...new Set([...seams, ...others])].sort((a, b) => a - b)),
  };
}

function thin(all: number[]): number[] {
  if (all.length <= MAX_SEAMS) return all;
  const at = (i: number) => all[Math.floor((i * all.length) / MAX_SEAMS)] ?? 0;
  return Array.from({ length: MAX_SEAMS }, (_, i) => at(i));
}
