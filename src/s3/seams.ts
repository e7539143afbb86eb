/**
 * Where inside the object copied ranges begin and end: the places worth looking at when the store gives no checksum.
 *
 * Ranges that follow each other in their source are one range, however many copies they took.
 */
import { MAX_SEAMS } from '../ports.ts';

/** Where bytes lay in the store before. */
export interface Origin {
  key: string;
  offset: number;
}

export interface Seams {
  /** The object's next bytes; `from`: where they were copied from. */
  note(sizeBytes: number, from?: Origin): void;
  /** Of the bytes that are sent next, the first not announced yet were read back from there. */
  announce(sizeBytes: number, from?: Origin): void;
  /** The object's next bytes went through our hands. */
  noteSent(sizeBytes: number): void;
  /** Ascending, with `others` merged in, thinned evenly to at most MAX_SEAMS. */
  list(others?: readonly number[]): number[];
}

/** Starts at the object's first byte. */
export function createSeams(): Seams {
  const seams: number[] = [];
  let at = 0;
  let before: Origin | undefined;
  const announced: { sizeBytes: number; from: Origin | undefined }[] = [];
  const note = (sizeBytes: number, from?: Origin) => {
    if (sizeBytes === 0) return;
    const goesOn = before?.key === from?.key && before?.offset === from?.offset;
    if (at > 0 && !goesOn) seams.push(at);
    at += sizeBytes;
    before = behind(from, sizeBytes);
  };
  return {
    note,
    announce: (sizeBytes, from) => {
      announced.push({ sizeBytes, from });
    },
    noteSent: (sizeBytes) => {
      let left = sizeBytes;
      for (let next = announced.shift(); next !== undefined; next = announced.shift()) {
        const length = Math.min(left, next.sizeBytes);
        note(length, next.from);
        left -= length;
        if (length === next.sizeBytes) continue;
        const from = behind(next.from, length);
        announced.unshift({ sizeBytes: next.sizeBytes - length, from });
        return;
      }
      note(left);
    },
    list: (others = []) => thin([...new Set([...seams, ...others])].sort((a, b) => a - b)),
  };
}

const behind = (from: Origin | undefined, bytes: number): Origin | undefined =>
  from && { key: from.key, offset: from.offset + bytes };

function thin(all: number[]): number[] {
  if (all.length <= MAX_SEAMS) return all;
  const at = (i: number) => all[Math.floor((i * all.length) / MAX_SEAMS)] ?? 0;
  return Array.from({ length: MAX_SEAMS }, (_, i) => at(i));
}
