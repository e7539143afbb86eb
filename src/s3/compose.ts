/**
 * How an object is put together out of stretches of others: pure arithmetic.
 *
 * A stretch that is long enough becomes copies; what is too short for a part is read and sent together with what
 * follows, as little of it as the store asks for. With equal parts (R2) the object is a grid of cells: a cell that lies
 * within one stretch is copied, one that holds a border is read and sent.
 */
import type { PlanLimits } from '../ports.ts';

/** Bytes that lie together in one place. */
export interface Stretch<From> {
  from: From;
  offset: number;
  length: number;
  /** They lie in the store. */
  canCopy: boolean;
}

/** One part: a copied stretch, or some that are read and sent together. */
export type Recipe<From> =
  | { kind: 'copy'; stretch: Stretch<From>; sizeBytes: number }
  | { kind: 'send'; stretches: Stretch<From>[]; sizeBytes: number };

type Limits = Pick<PlanLimits, 'minPartBytes' | 'maxCopyBytes' | 'cellBytes'>;

/**
 * The parts that stretches make, in order, from a part's border on, and the rest that is too short for one. At the
 * object's end the rest is its last part.
 */
export function compose<From>(
  stretches: readonly Stretch<From>[],
  limits: Limits,
  { isEnd }: { isEnd: boolean },
): { recipes: Recipe<From>[]; rest: Stretch<From>[] } {
  const partBytes = limits.cellBytes ?? limits.minPartBytes;
  const recipes: Recipe<From>[] = [];
  let open: Stretch<From>[] = [];
  let openBytes = 0;
  const close = () => {
    recipes.push({ kind: 'send', stretches: open, sizeBytes: openBytes });
    open = [];
    openBytes = 0;
  };
  for (const stretch of stretches) {
    let left = stretch;
    while (left.length > 0) {
      if (openBytes === 0 && left.canCopy && left.length >= partBytes) {
        const copies = cutCopies(left, limits);
        recipes.push(...copies);
        left = behind(
          left,
          copies.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
        );
        continue;
      }
      const length = Math.min(partBytes - openBytes, left.length);
      open.push({ ...left, length });
      openBytes += length;
      left = behind(left, length);
      if (openBytes === partBytes) close();
    }
  }
  if (isEnd && openBytes > 0) close();
  return { recipes, rest: open };
}

/** Cells as many as fit; else copies as equal as whole bytes allow, so that none is below the smallest part. */
function cutCopies<From>(
  stretch: Stretch<From>,
  { maxCopyBytes, cellBytes }: Limits,
): Extract<Recipe<From>, { kind: 'copy' }>[] {
  const { offset, length } = stretch;
  const count =
    cellBytes === undefined ? Math.ceil(length / maxCopyBytes) : Math.floor(length / cellBytes);
  const sizeBytes = cellBytes ?? Math.ceil(length / count);
  const end = cellBytes === undefined ? length : count * cellBytes;
  return Array.from({ length: count }, (_, i) => {
    const at = i * sizeBytes;
    const piece = { ...stretch, offset: offset + at, length: Math.min(sizeBytes, end - at) };
    return { kind: 'copy', stretch: piece, sizeBytes: piece.length };
  });
}

const behind = <From>(stretch: Stretch<From>, bytes: number): Stretch<From> => ({
  ...stretch,
  offset: stretch.offset + bytes,
  length: stretch.length - bytes,
});
