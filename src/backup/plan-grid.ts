/**
 * The plan for stores whose parts must all have one size, but the last (R2): a fixed grid.
 *
 * A cell of the grid that is one contiguous range of the base, wherever that begins there, is copied; any other is sent.
 * Nothing can be weighed, so nothing is looked back at: a cell is decided when it is full.
 */
import assert from 'node:assert/strict';
import { MAX_RESERVE_BYTES, type PartPlan, type PlanLimits, type PlanStep } from '../ports.ts';

/** The cell being filled. */
interface Cell {
  bytes: number;
  /** Where it lies in the base as a whole; undefined when it does not. */
  offset: number | undefined;
}

/** Starts the plan of one object whose parts all have `cellBytes`. */
export function createGridPlan(limits: PlanLimits, cellBytes: number): PartPlan {
  assert(cellBytes >= limits.minPartBytes && cellBytes <= limits.maxCopyBytes, 'a cell is a part');
  assert(limits.windowBytes >= cellBytes + MAX_RESERVE_BYTES, 'a cell and a piece fit');
  let cell: Cell = { bytes: 0, offset: undefined };

  const close = (): PlanStep[] => {
    const { bytes: sizeBytes, offset } = cell;
    cell = { bytes: 0, offset: undefined };
    if (sizeBytes === 0) return [];
    if (offset === undefined) return [{ kind: 'send', sizeBytes }];
    return [
      { kind: 'drop', sizeBytes },
      { kind: 'copy', offset, sizeBytes },
    ];
  };
  return {
    push({ sizeBytes, sameOffset }) {
      assert(sizeBytes >= 0 && sizeBytes <= MAX_RESERVE_BYTES, 'a piece fits');
      const steps: PlanStep[] = [];
      for (let done = 0; done < sizeBytes; ) {
        const bytes = Math.min(sizeBytes - done, cellBytes - cell.bytes);
        const offset = sameOffset === undefined ? undefined : sameOffset + done;
        const goesOn = offset !== undefined && cell.offset === offset - cell.bytes;
        if (cell.bytes === 0) cell.offset = offset;
        else if (!goesOn) cell.offset = undefined;
        cell.bytes += bytes;
        done += bytes;
        if (cell.bytes === cellBytes) steps.push(...close());
      }
      return steps;
    },
    end: close,
  };
}
