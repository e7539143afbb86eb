/**
 * What tests of the planner share: a store that plays the steps and checks every limit and byte, the offline optimum,
 * and disks with changes on them.
 */
import assert from 'node:assert/strict';
import { createPartPlan } from '../../src/backup/plan.ts';
import { MAX_RESERVE_BYTES, type PlanLimits, type PlanStep } from '../../src/ports.ts';

/** A block with its checksum. */
export const MEMBER = MAX_RESERVE_BYTES;

/** What a plan is told of, in the order of the archive. */
export interface Piece {
  sizeBytes: number;
  sameOffset?: number;
}

interface Outcome {
  sentBytes: number;
  copiedBytes: number;
  sends: number;
  copies: number;
}

/** Plays the steps as a store would: every limit, every byte in its place. */
export function play(pieces: readonly Piece[], limits: PlanLimits): Outcome {
  const plan = createPartPlan(limits);
  const parts: { sizeBytes: number; offset?: number }[] = [];
  let heldBytes = 0;
  let droppedBytes = 0;
  const apply = (step: PlanStep) => {
    if (step.kind === 'copy') {
      parts.push({ sizeBytes: step.sizeBytes, offset: step.offset });
      droppedBytes -= step.sizeBytes;
      assert(droppedBytes >= 0, 'only what was dropped is copied');
      return;
    }
    heldBytes -= step.sizeBytes;
    assert(step.sizeBytes > 0 && heldBytes >= 0, 'a step speaks of what is there');
    if (step.kind === 'drop') droppedBytes += step.sizeBytes;
    else {
      assert.equal(droppedBytes, 0, 'a copy is said before what follows it is sent');
      parts.push({ sizeBytes: step.sizeBytes });
    }
  };
  for (const piece of pieces) {
    heldBytes += piece.sizeBytes;
    assert(heldBytes <= limits.windowBytes, 'the piece fits');
    plan.push(piece).forEach(apply);
    assert(heldBytes <= limits.windowBytes - MAX_RESERVE_BYTES, 'the next piece will fit');
  }
  plan.end().forEach(apply);
  assert.deepEqual([heldBytes, droppedBytes], [0, 0], 'everything is decided');
  checkParts(parts, limits);
  checkBytes(pieces, parts);
  const sum = (isCopy: boolean) =>
    parts.filter((p) => (p.offset !== undefined) === isCopy).reduce((n, p) => n + p.sizeBytes, 0);
  const copies = parts.filter((p) => p.offset !== undefined).length;
  return {
    sentBytes: sum(false),
    copiedBytes: sum(true),
    sends: parts.length - copies,
    copies,
  };
}

function checkParts(parts: { sizeBytes: number; offset?: number }[], limits: PlanLimits): void {
  for (const [i, { sizeBytes, offset }] of parts.entries()) {
    const isLast = i === parts.length - 1;
    assert(isLast || sizeBytes >= limits.minPartBytes, `part ${i} of ${sizeBytes} is too short`);
    if (limits.cellBytes !== undefined) {
      assert(isLast ? sizeBytes <= limits.cellBytes : sizeBytes === limits.cellBytes, 'a cell');
    }
    const most = offset === undefined ? limits.windowBytes : limits.maxCopyBytes;
    assert(sizeBytes <= most, `part ${i} of ${sizeBytes} is too long`);
  }
}

/** Every copied byte must be the one the piece there said is the same. */
function checkBytes(pieces: readonly Piece[], parts: { sizeBytes: number; offset?: number }[]) {
  const ends = parts.map(() => 0);
  let total = 0;
  for (const [i, part] of parts.entries()) {
    total += part.sizeBytes;
    ends[i] = total;
  }
  let at = 0;
  let i = 0;
  for (const { sizeBytes, sameOffset } of pieces) {
    const end = at + sizeBytes;
    for (let from = at; from < end; ) {
      while ((ends[i] as number) <= from) i += 1;
      const { offset, sizeBytes: partBytes } = parts[i] as { sizeBytes: number; offset?: number };
      if (offset !== undefined) {
        assert.notEqual(sameOffset, undefined, 'only what is the same is copied');
        const partStart = (ends[i] as number) - partBytes;
        assert.equal(offset + from - partStart, (sameOffset as number) + from - at);
      }
      from = Math.min(end, ends[i] as number);
    }
    at = end;
  }
  assert.equal(total, at, 'the parts are the whole object');
}

/** The least that can be sent with memory without end: over all places where runs can begin and end. */
export function leastSentBytes(pieces: readonly Piece[], limits: PlanLimits): number {
  const n = pieces.length;
  const at = [0];
  for (const { sizeBytes } of pieces) at.push((at.at(-1) as number) + sizeBytes);
  const afterSend = new Array<number>(n + 1).fill(Number.POSITIVE_INFINITY);
  const afterCopy = new Array<number>(n + 1).fill(Number.POSITIVE_INFINITY);
  afterSend[0] = 0;
  for (let to = 1; to <= n; to += 1) {
    let isRange = true;
    for (let from = to - 1; from >= 0; from -= 1) {
      const bytes = (at[to] as number) - (at[from] as number);
      const { sameOffset, sizeBytes } = pieces[from] as Piece;
      const next = pieces[from + 1]?.sameOffset;
      isRange &&= sameOffset !== undefined;
      if (from < to - 1) isRange &&= next === (sameOffset as number) + sizeBytes;
      if (bytes < limits.minPartBytes && to < n) continue;
      const before = Math.min(afterSend[from] as number, afterCopy[from] as number);
      afterSend[to] = Math.min(afterSend[to] as number, before + bytes);
      if (isRange) afterCopy[to] = Math.min(afterCopy[to] as number, before);
      // longer runs to be sent are made of shorter ones, cut between pieces
      if (!isRange && bytes >= 2 * limits.minPartBytes + MEMBER) break;
    }
  }
  return Math.min(afterSend[n] as number, afterCopy[n] as number);
}

/** A disk of `blocks` blocks, where `isFresh` says which changed; the rest lies in the base as it was. */
export function disk(
  blocks: number,
  isFresh: (number: number) => boolean,
  offset = 51_200,
): Piece[] {
  return Array.from({ length: blocks }, (_, number) =>
    isFresh(number)
      ? { sizeBytes: MEMBER }
      : { sizeBytes: MEMBER, sameOffset: offset + number * MEMBER },
  );
}

/** Numbers from 0 to 1, the same for a seed. */
export const random = (seed: number) => {
  let state = seed | 1;
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    state ^= state >>> 13;
    return (state >>> 0) / 2 ** 32;
  };
};

/** Places of `count` clusters of 1 … 2·`mean` blocks on a disk. */
export function clusters(blocks: number, count: number, mean: number, seed: number): Set<number> {
  const next = random(seed);
  const fresh = new Set<number>();
  for (let i = 0; i < count; i += 1) {
    const length = 1 + Math.floor(next() * 2 * mean);
    const start = Math.floor(next() * (blocks - length));
    for (let k = 0; k < length; k += 1) fresh.add(start + k);
  }
  return fresh;
}
