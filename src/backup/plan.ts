/**
 * Which bytes of a new archive are sent and which are copied from an older one: pure, piece by piece.
 *
 * A piece (a block's member, as a rule) is fresh, or the same as a range of the base. Runs of pieces become parts: a
 * run that is sent, or a run that is copied and is one contiguous range of the base. Stores take no part below
 * `minPartBytes` but the last, so around a lone changed block some unchanged ones are sent, too. Which ones is a
 * shortest path (Viterbi): a path's state is what its open run is and how long it is, counted up to the smallest part;
 * its cost is the bytes sent, then the number of runs. Of paths in one state only the cheapest goes on, so a handful
 * remains. What all of them say alike is decided. When the window of memory is full, the best path decides as much
 * as must leave it, and those that say otherwise end.
 *
 * The plan for stores with equal parts is in plan-grid.ts. Bounds and measurements: docs/delta.md.
 */
import assert from 'node:assert/strict';
import { MAX_RESERVE_BYTES, type PartPlan, type PlanLimits, type PlanStep } from '../ports.ts';
import { createGridPlan } from './plan-grid.ts';

/** Neighbouring bytes of the window with one fate. */
interface Run {
  kind: 'send' | 'copy';
  bytes: number;
  /** Of a copy: where in the base it begins. */
  offset: number;
}

/** One way to make parts of everything so far. */
interface Path {
  sentBytes: number;
  runCount: number;
  /** The undecided bytes, oldest first; the last run is open. A copy may have no undecided bytes left. */
  runs: readonly Run[];
  /** The run that goes on; `none`: the last part was just closed, and the next piece begins a new one. */
  open: 'none' | 'send' | 'copy';
  /** Its length so far, decided bytes included, of a sent one since its last cut. */
  openBytes: number;
}

interface State {
  readonly limits: PlanLimits;
  paths: Path[];
  /** Bytes in the window, all of them undecided or of a part that is not cut yet. */
  heldBytes: number;
  /** Where a copy would have to go on after the last piece. */
  nextOffset: number | undefined;
  /** Bytes since the last place where runs could begin. */
  sinceBorderBytes: number;
  /** Decided copy that is not said yet, for it may go on. */
  copy: { offset: number; bytes: number };
  /** Bytes of the run being sent that were cut off because the window was full. */
  cutBytes: number;
  steps: PlanStep[];
}

/**
 * A run of so many smallest parts is believed to go on: from then on parts take the whole window. If it ends just
 * after a cut, nearly one smallest part of unchanged bytes is sent in vain: 3 % of the run.
 */
const LONG_RUN_PARTS = 32;

/**
 * In a range of the base runs begin at so many places for each smallest part, at most: each is a path of its own, and
 * compressed blocks of some 100 bytes would make tens of thousands. What is sent too much is a 64th part for each run.
 */
const BORDERS_PER_PART = 64;

/** Starts the plan of one object. Limits that contradict each other are a bug of the caller (AssertionError). */
export function createPartPlan(limits: PlanLimits): PartPlan {
  if (limits.cellBytes !== undefined) return createGridPlan(limits, limits.cellBytes);
  const { minPartBytes, maxCopyBytes, windowBytes } = limits;
  assert(minPartBytes > 0 && maxCopyBytes >= 2 * minPartBytes, 'copies can be cut evenly');
  assert(windowBytes >= minPartBytes + MAX_RESERVE_BYTES, 'a smallest part and a piece fit');
  const start: Path = { sentBytes: 0, runCount: 0, runs: [], open: 'none', openBytes: 0 };
  const state: State = {
    limits,
    paths: [start],
    heldBytes: 0,
    nextOffset: undefined,
    sinceBorderBytes: 0,
    copy: { offset: 0, bytes: 0 },
    cutBytes: 0,
    steps: [],
  };
  return {
    push(piece) {
      assert(piece.sizeBytes >= 0 && piece.sizeBytes <= MAX_RESERVE_BYTES, 'a piece fits');
      if (piece.sizeBytes > 0) push(state, piece);
      return take(state);
    },
    end() {
      end(state);
      return take(state);
    },
  };
}

function push(state: State, piece: { sizeBytes: number; sameOffset?: number }): void {
  const { sizeBytes, sameOffset } = piece;
  const { minPartBytes } = state.limits;
  const goesOn = sameOffset !== undefined && sameOffset === state.nextOffset;
  if (!goesOn || state.sinceBorderBytes >= minPartBytes / BORDERS_PER_PART) {
    state.sinceBorderBytes = 0;
  }
  state.paths = cheapest(
    state.paths.flatMap((path) => [
      ...sent(state, path, sizeBytes),
      ...(sameOffset === undefined ? [] : copied(state, path, sizeBytes, sameOffset)),
    ]),
    minPartBytes,
  );
  state.sinceBorderBytes += sizeBytes;
  state.nextOffset = sameOffset === undefined ? undefined : sameOffset + sizeBytes;
  state.heldBytes += sizeBytes;
  sayAgreed(state);
  while (state.heldBytes > state.limits.windowBytes - MAX_RESERVE_BYTES) {
    makeRoom(state);
    sayAgreed(state);
  }
}

// ------------------------------------------------------------------------------------------------ paths

/** The open run may end before the piece at hand. */
function mayClose({ limits, sinceBorderBytes }: State, path: Path): boolean {
  if (path.open === 'none') return true;
  return sinceBorderBytes === 0 && path.openBytes >= limits.minPartBytes;
}

/** The path if the piece is sent: none where that would end a copy too early. */
function sent(state: State, path: Path, bytes: number): Path[] {
  const sentBytes = path.sentBytes + bytes;
  if (path.open === 'send') return [{ ...grown(path, bytes), sentBytes }];
  if (!mayClose(state, path)) return [];
  return [{ ...begun(path, { kind: 'send', bytes, offset: 0 }), sentBytes }];
}

/** The path if the piece is copied: none where that would end a part too early. */
function copied(state: State, path: Path, bytes: number, offset: number): Path[] {
  if (path.open === 'copy' && offset === state.nextOffset) return [grown(path, bytes)];
  if (!mayClose(state, path)) return [];
  return [begun(path, { kind: 'copy', bytes, offset })];
}

function grown(path: Path, bytes: number): Path {
  const last = path.runs.at(-1) as Run;
  return {
    ...path,
    runs: [...path.runs.slice(0, -1), { ...last, bytes: last.bytes + bytes }],
    openBytes: path.openBytes + bytes,
  };
}

function begun(path: Path, run: Run): Path {
  return {
    sentBytes: path.sentBytes,
    runCount: path.runCount + 1,
    runs: [...path.runs.filter((r) => r.bytes > 0), run],
    open: run.kind,
    openBytes: run.bytes,
  };
}

/** Leaves out every path that another one beats: as far or farther in the same kind of run, and no dearer. */
function cheapest(paths: readonly Path[], minPartBytes: number): Path[] {
  const sorted = [...paths].sort((a, b) => a.sentBytes - b.sentBytes || a.runCount - b.runCount);
  const kept: Path[] = [];
  for (const path of sorted) {
    const length = Math.min(path.openBytes, minPartBytes);
    const isBeaten = kept.some((k) => k.open === path.open && k.openBytes >= length);
    if (!isBeaten) kept.push(path);
  }
  return kept;
}

// ------------------------------------------------------------------------------------------------ deciding

/** Says what all paths have in common at the front of the window. */
function sayAgreed(state: State): void {
  for (;;) {
    if (!state.paths.some(({ runs }) => goesOn(state, runs[0]))) sayCopy(state);
    const [first, ...others] = state.paths.map(({ runs }) => runs[0]);
    if (first === undefined) return;
    if (!others.every((r) => r?.kind === first.kind && r.offset === first.offset)) return;
    const bytes = Math.min(...state.paths.map(({ runs }) => (runs[0] as Run).bytes));
    if (first.kind === 'copy') {
      if (bytes === 0) return;
      sayDrop(state, first.offset, bytes);
    } else {
      const isClosed = ({ runs }: Path) => runs.length > 1 && runs[0]?.bytes === bytes;
      if (!state.paths.every(isClosed)) return;
      saySend(state, bytes);
      state.cutBytes = 0;
    }
    state.paths = state.paths.map((path) => shortened(path, bytes));
  }
}

/** Decides as the best path does, at least one byte. */
function makeRoom(state: State): void {
  const { minPartBytes, windowBytes } = state.limits;
  const lead = leader(state);
  const first = lead.runs[0] as Run;
  if (first.kind === 'copy') {
    const excess = state.heldBytes - (windowBytes - MAX_RESERVE_BYTES);
    const bytes = Math.min(first.bytes, excess);
    state.paths = state.paths.filter(({ runs: [r] }) => {
      return r?.kind === 'copy' && r.offset === first.offset && r.bytes >= bytes;
    });
    return;
  }
  const bytes = cutLength(state, lead);
  state.paths = state.paths.filter(({ runs: [r, next] }) => {
    if (r?.kind !== 'send' || r.bytes < bytes) return false;
    return next === undefined || r.bytes === bytes || r.bytes - bytes >= minPartBytes;
  });
  saySend(state, bytes);
  state.cutBytes += bytes;
  state.paths = cheapest(
    state.paths.map((path) => shortened(path, bytes)),
    minPartBytes,
  );
}

/** The cheapest path that can go on whatever follows, counting what it must yet send. */
function leader({ paths, limits: { minPartBytes } }: State): Path {
  const owed = (path: Path) =>
    path.sentBytes + (path.open === 'send' ? Math.max(0, minPartBytes - path.openBytes) : 0);
  const safe = paths.filter((path) => path.open !== 'copy' || path.openBytes >= minPartBytes);
  const lead = safe.reduce((a, b) => (owed(b) < owed(a) ? b : a), safe[0] as Path);
  assert(lead !== undefined, 'sending everything is always possible');
  return lead;
}

/** How much of a run that is being sent becomes a part: at best so that what stays is long enough to be one. */
function cutLength(state: State, lead: Path): number {
  const { minPartBytes } = state.limits;
  const agreed = Math.min(
    ...state.paths.map(({ runs: [r] }) => (r?.kind === 'send' ? r.bytes : 0)),
  );
  const ofLead = (lead.runs[0] as Run).bytes;
  if (agreed < minPartBytes && lead.runs.length > 1) return ofLead;
  const length = agreed < minPartBytes ? ofLead : agreed;
  const isLong = state.cutBytes >= LONG_RUN_PARTS * minPartBytes;
  return isLong || length < 2 * minPartBytes ? length : length - minPartBytes;
}

/** The path without its oldest bytes, which were decided as it says. */
function shortened(path: Path, bytes: number): Path {
  const [first, ...others] = path.runs as [Run, ...Run[]];
  const left = { ...first, offset: first.offset + bytes, bytes: first.bytes - bytes };
  if (first.kind === 'copy') {
    return { ...path, runs: left.bytes === 0 && others.length > 0 ? others : [left, ...others] };
  }
  const rest = { ...left, offset: 0 };
  if (others.length > 0) return { ...path, runs: rest.bytes === 0 ? others : [rest, ...others] };
  if (rest.bytes === 0) return { ...path, runs: [], open: 'none', openBytes: 0 };
  return { ...path, runs: [rest], openBytes: rest.bytes };
}

function end(state: State): void {
  const best = cheapest(state.paths, state.limits.minPartBytes)[0] as Path;
  for (const run of best.runs) {
    if (run.bytes === 0) continue;
    if (run.kind === 'send') saySend(state, run.bytes);
    else sayDrop(state, run.offset, run.bytes);
  }
  sayCopy(state);
  state.paths = [];
}

// ------------------------------------------------------------------------------------------------ steps

function goesOn({ copy }: State, run: Run | undefined): boolean {
  return copy.bytes > 0 && run?.kind === 'copy' && run.offset === copy.offset + copy.bytes;
}

function saySend(state: State, sizeBytes: number): void {
  sayCopy(state);
  state.steps.push({ kind: 'send', sizeBytes });
  state.heldBytes -= sizeBytes;
}

function sayDrop(state: State, offset: number, sizeBytes: number): void {
  const { minPartBytes, maxCopyBytes } = state.limits;
  if (!goesOn(state, { kind: 'copy', offset, bytes: sizeBytes })) {
    sayCopy(state);
    state.copy = { offset, bytes: 0 };
  }
  state.cutBytes = 0;
  state.steps.push({ kind: 'drop', sizeBytes });
  state.heldBytes -= sizeBytes;
  state.copy.bytes += sizeBytes;
  while (state.copy.bytes >= maxCopyBytes + minPartBytes) sayPart(state, maxCopyBytes);
}

/** The copy has ended: what is left of it is at most two of the longest, and is cut evenly. */
function sayCopy(state: State): void {
  let count = Math.ceil(state.copy.bytes / state.limits.maxCopyBytes);
  for (; count > 0; count--) sayPart(state, Math.ceil(state.copy.bytes / count));
}

function sayPart(state: State, sizeBytes: number): void {
  state.steps.push({ kind: 'copy', offset: state.copy.offset, sizeBytes });
  state.copy = { offset: state.copy.offset + sizeBytes, bytes: state.copy.bytes - sizeBytes };
}

function take(state: State): PlanStep[] {
  const { steps } = state;
  state.steps = [];
  return steps;
}
