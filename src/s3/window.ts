/**
 * Cuts what comes into parts by a plan that may copy ranges of a base instead of sending the same bytes.
 *
 * What the plan has not decided yet lies in a window: the bytes [head, end) of one slab of fixed size, behind those of
 * the same slab that are on their way out. When the next piece does not fit behind it, the window moves: to the front
 * of its slab if nothing of that is on its way any more, else to a new slab, whichever comes first. Waiting for memory
 * while holding some is safe here because who waits is also woken by his own parts' acknowledgement, for which nobody
 * needs memory: so any number of uploads on any budget of one slab or more go on.
 *
 *   |..sent, not acknowledged..|...window...|..free..|
 *                              head         end
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import type { Cancellable, PartPlan, PlanLimits, Slab } from '../ports.ts';
import { combineCrc32 } from './crc32.ts';
import type { BaseRange, Cutter, PartSink, Piece, Rest } from './cutter.ts';
import type { Delivery, Part } from './section.ts';

/** One slab and who uses it: the window, and each part on its way. */
interface Ground {
  slab: Slab;
  users: number;
  /** Told when the window is the only user. */
  onIdle: (() => void) | undefined;
}

/** A committed piece, or what is left of it. `crc` undefined: to be computed, since it was cut. */
interface Held {
  sizeBytes: number;
  crc: number | undefined;
  origin: Piece['origin'];
}

interface State {
  delivery: Delivery;
  limits: PlanLimits;
  createPlan: (limits: PlanLimits) => PartPlan;
  plan: PartPlan;
  sink: PartSink;
  ground: Ground | undefined;
  head: number;
  end: number;
  held: Held[];
  /** Let go for the copy that is said next. `crc` undefined: of more than one copy. */
  dropped: { sizeBytes: number; crc: number | undefined };
  isClosed: boolean;
}

const NOTHING = Buffer.alloc(0);

/** Makes a cutter whose parts go to `sink`. */
export function createWindow(
  delivery: Delivery,
  planning: { limits: PlanLimits; createPlan: (limits: PlanLimits) => PartPlan },
  sink: PartSink,
): Cutter {
  const { limits, createPlan } = planning;
  const state: State = {
    delivery,
    limits,
    createPlan,
    plan: createPlan(limits),
    sink,
    ground: undefined,
    head: 0,
    end: 0,
    held: [],
    dropped: { sizeBytes: 0, crc: 0 },
    isClosed: false,
  };
  return {
    findsCrc: false,
    reserve: async (sizeBytes, options) => await reserve(state, sizeBytes, options),
    commit: (piece) => commit(state, piece),
    flush: async ({ evenEmpty }) => flush(state, evenEmpty),
    settle: () => settle(state),
    begin: (next, { rest, whole }) => {
      if (rest === 'forget') forget(state);
      state.sink = next;
      state.plan = whole ? onePart(state.end - state.head) : createPlan(limits);
    },
    close: () => {
      state.isClosed = true;
      leave(state);
    },
  };
}

async function reserve(state: State, sizeBytes: number, options: Cancellable): Promise<Buffer> {
  const { sender } = state.delivery;
  state.sink.expect(state.limits.windowBytes);
  await sender.room(options);
  const lengthBytes = state.limits.windowBytes;
  if (state.ground === undefined) await takeGround(state, options);
  else if (state.end + sizeBytes > lengthBytes) await move(state, state.ground, options);
  const { ground, end } = state;
  assert(ground !== undefined && end + sizeBytes <= lengthBytes, `window_bytes=${end}`);
  return ground.slab.bytes.subarray(end, end + sizeBytes);
}

function commit(state: State, piece: Piece): void {
  const { sizeBytes, sameOffset } = piece;
  if (sizeBytes === 0) return;
  state.end += sizeBytes;
  state.held.push({ sizeBytes, crc: piece.crc, origin: piece.origin });
  const steps = state.plan.push(
    sameOffset === undefined ? { sizeBytes } : { sizeBytes, sameOffset },
  );
  for (const step of steps) follow(state, step, false);
}

function follow(state: State, step: ReturnType<PartPlan['push']>[number], isLast: boolean): void {
  if (step.kind === 'drop') drop(state, step.sizeBytes);
  else if (step.kind === 'send') state.sink.send(cutPart(state, step.sizeBytes), { isLast });
  else state.sink.copy(takeRange(state, step), { isLast });
}

function drop(state: State, sizeBytes: number): void {
  const { crc } = takeHeld(state, sizeBytes);
  const { dropped } = state;
  if (dropped.crc !== undefined) dropped.crc = combineCrc32(dropped.crc, crc, sizeBytes);
  dropped.sizeBytes += sizeBytes;
}

/** The window's oldest bytes as a part, which uses the slab until it is released. */
function cutPart(state: State, sizeBytes: number): Part {
  const { ground, head } = state;
  assert(ground !== undefined && state.dropped.sizeBytes === 0, 'a copy was announced');
  const { crc, rereadBytes } = takeHeld(state, sizeBytes);
  const body = ground.slab.bytes.subarray(head, head + sizeBytes);
  ground.users += 1;
  let isHeld = true;
  const release = () => {
    if (isHeld) letGo(ground);
    isHeld = false;
  };
  return { body, crc, rereadBytes, release };
}

function takeRange(state: State, step: { offset: number; sizeBytes: number }): BaseRange {
  const { dropped } = state;
  const { offset, sizeBytes: length } = step;
  assert(length <= dropped.sizeBytes, `copy_bytes=${length} dropped_bytes=${dropped.sizeBytes}`);
  const isAll = length === dropped.sizeBytes;
  const crc = isAll ? dropped.crc : undefined;
  dropped.sizeBytes -= length;
  // Cut into several copies: the checksum is of all of them.
  dropped.crc = isAll ? 0 : undefined;
  return { offset, length, crc };
}

/** Moves the head on; the checksum of what is passed, and how much of it was read back. */
function takeHeld(
  state: State,
  sizeBytes: number,
): { crc: number; rereadBytes: Part['rereadBytes'] } {
  const { held, delivery, head } = state;
  assert(sizeBytes > 0 && sizeBytes <= state.end - head, `step_bytes=${sizeBytes}`);
  const rereadBytes = { base: 0, staged: 0 };
  let crc = 0;
  let at = head;
  let passed = 0;
  for (const target = head + sizeBytes; at < target; ) {
    const piece = held[passed];
    assert(piece !== undefined, 'the window has pieces for all its bytes');
    const length = Math.min(piece.sizeBytes, target - at);
    const isWhole = length === piece.sizeBytes;
    const bytes = state.ground?.slab.bytes.subarray(at, at + length) ?? NOTHING;
    const known = isWhole ? piece.crc : undefined;
    if (delivery.hasCrc) crc = combineCrc32(crc, known ?? crc32(bytes), length);
    if (piece.origin !== undefined) rereadBytes[piece.origin] += length;
    at += length;
    if (isWhole) {
      passed += 1;
    } else {
      piece.sizeBytes -= length;
      piece.crc = undefined;
    }
  }
  held.splice(0, passed);
  state.head = at;
  return { crc, rereadBytes };
}

function flush(state: State, evenEmpty: boolean): void {
  const steps = state.plan.end();
  for (const [i, step] of steps.entries()) follow(state, step, i === steps.length - 1);
  if (evenEmpty && steps.length === 0) {
    const part = { body: NOTHING, crc: 0, rereadBytes: { base: 0, staged: 0 }, release: () => {} };
    state.sink.send(part, { isLast: true });
  }
  assert(state.head === state.end && state.dropped.sizeBytes === 0, 'everything is decided');
  leave(state);
}

function settle(state: State): Rest {
  const { minPartBytes, cellBytes = minPartBytes } = state.limits;
  const steps = state.plan.end();
  const last = steps.at(-1);
  const isShort = last !== undefined && last.kind !== 'drop' && last.sizeBytes < cellBytes;
  for (const step of isShort ? steps.slice(0, -1) : steps) follow(state, step, false);
  if (isShort && last.kind === 'copy') return { bytes: NOTHING, range: takeRange(state, last) };
  const bytes = state.ground?.slab.bytes.subarray(state.head, state.end) ?? NOTHING;
  assert.equal(bytes.length, isShort ? last.sizeBytes : 0);
  return { bytes };
}

function forget(state: State): void {
  state.head = state.end;
  state.held.length = 0;
}

/** The plan of a part that is put together by others: all of it is sent. */
function onePart(restBytes: number): PartPlan {
  let sizeBytes = restBytes;
  return {
    push: (piece) => {
      sizeBytes += piece.sizeBytes;
      return [];
    },
    end: () => (sizeBytes === 0 ? [] : [{ kind: 'send', sizeBytes }]),
  };
}

async function takeGround(state: State, options: Cancellable): Promise<void> {
  const { context, sender } = state.delivery;
  const signal = AbortSignal.any([options.signal, sender.signal]);
  const { windowBytes } = state.limits;
  const slab = await context.arena.take(windowBytes, windowBytes, { signal });
  if (signal.aborted || state.isClosed) {
    slab.release();
    signal.throwIfAborted();
  }
  state.ground = { slab, users: 1, onIdle: undefined };
  state.head = 0;
  state.end = 0;
}

/** To the front of its slab or to another, whichever is free first. */
async function move(state: State, ground: Ground, options: Cancellable): Promise<void> {
  const slab = ground.users === 1 ? undefined : await otherOrIdle(state, ground, options);
  const window = ground.slab.bytes.subarray(state.head, state.end);
  if (slab === undefined) {
    ground.slab.bytes.copyWithin(0, state.head, state.end);
  } else {
    window.copy(slab.bytes);
    state.ground = { slab, users: 1, onIdle: undefined };
    letGo(ground);
  }
  state.head = 0;
  state.end = window.length;
}

/** A new slab; undefined: nothing of the old one is on its way any more. */
async function otherOrIdle(
  state: State,
  ground: Ground,
  options: Cancellable,
): Promise<Slab | undefined> {
  const { limits } = state;
  const { context, sender } = state.delivery;
  const idle = Promise.withResolvers<undefined>();
  ground.onIdle = () => idle.resolve(undefined);
  const enough = new AbortController();
  const outer = AbortSignal.any([options.signal, sender.signal]);
  const signal = AbortSignal.any([outer, enough.signal]);
  const taking = context.arena.take(limits.windowBytes, limits.windowBytes, { signal });
  try {
    const slab = await Promise.race([taking, idle.promise]);
    if (slab === undefined) {
      enough.abort(new Error('the own slab is free'));
      // It may have been granted in the same moment.
      const late = await taking.catch(() => undefined);
      late?.release();
    }
    if (outer.aborted || state.isClosed) {
      slab?.release();
      outer.throwIfAborted();
    }
    return slab;
  } finally {
    ground.onIdle = undefined;
  }
}

function letGo(ground: Ground): void {
  ground.users -= 1;
  if (ground.users === 0) ground.slab.release();
  else if (ground.users === 1) ground.onIdle?.();
}

function leave(state: State): void {
  const { ground } = state;
  state.ground = undefined;
  state.held.length = 0;
  state.head = 0;
  state.end = 0;
  if (ground !== undefined) letGo(ground);
}
