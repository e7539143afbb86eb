/**
 * Sections in any order: bytes come as the host sends the disks, the object lies as importers want them.
 *
 * Sections that come in their place are written directly: those at the beginning, and the last run, the longest end of
 * the order in which places follow each other. Those between are lanes (lane.ts). When the last run begins, what
 * stands before it is known: its parts get their numbers, and only what is too short for a part is read back then, as
 * the run's first bytes. All copying waits until the object is completed, since the host is not to wait for it.
 *
 *   places 2 0 3 1:   2 → lane   0 → lane   3 → lane   1 → run      object: head 0 | 1 | 2 3 tail
 *   places 0 2 1:     0 → direct   2 → lane   1 → run               object: head 0 | 1 | 2 tail
 *
 * Memory: the cutter's, in turn for the pieces and for what is read back; beside it only a small head and the tail.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { BackupError } from '../errors.ts';
import { type Cancellable, MAX_RESERVE_BYTES, type PlanLimits } from '../ports.ts';
import { compose, type Recipe, type Stretch } from './compose.ts';
import { foldCrc32, type Sum } from './crc32.ts';
import type { Cutter, PartSink } from './cutter.ts';
import { createLane, type Lane, type Place, readStretch } from './lane.ts';
import type { Outlet } from './outlet.ts';
import type { Origin, Seams } from './seams.ts';
import { addCopy, addSend, completeStaged, type Delivery, type Slot } from './section.ts';

export interface AssemblyParts {
  delivery: Delivery;
  outlet: Outlet;
  cutter: Cutter;
  seams: Seams;
  limits: PlanLimits;
}

interface Arrangement {
  /** The place of each section, by arrival. */
  places: readonly number[];
  /** Sections before this one come in their place. */
  firstLane: number;
  /** The last run begins here. */
  lastRun: number;
}

export interface Assembly extends AssemblyParts {
  arrangement: Arrangement;
  /** The section whose bytes come; -1: the head, one more than there are: the tail. */
  arrival: number;
  /** The section the cutter is set for. */
  entered: number;
  /** What was too short for a part when the first lane began. */
  kept: Stretch<Place>[];
  lanes: Map<number, Lane>;
  /** Parts that have their number, and are made at the end. */
  deferred: { recipe: Recipe<Place>; slot: Slot }[];
  tail: Buffer[];
  /** By place: head, sections, tail. */
  digests: Map<number, Digest>;
}

interface Digest extends Sum {
  crc: number;
  /** What comes behind it, in order, from the first piece on whose checksum is not known yet. */
  coming: Sum[];
}

/** An object whose bytes come as they lie, until `arrange`. */
export function createAssembly(parts: AssemblyParts): Assembly {
  return {
    ...parts,
    arrangement: { places: [], firstLane: 0, lastRun: 0 },
    arrival: -1,
    entered: -1,
    kept: [],
    lanes: new Map(),
    deferred: [],
    tail: [],
    digests: new Map(),
  };
}

/** As in ObjectUpload. Errors: `store_refused` where parts cannot be copied and sections do not come as they lie. */
export function arrange(assembly: Assembly, places: readonly number[]): void {
  assert(assembly.arrival === -1 && assembly.arrangement.places.length === 0, 'arrange once');
  const isPermutation = places.toSorted((a, b) => a - b).every((place, i) => place === i);
  assert(isPermutation, `places=${places.join()}`);
  const moved = places.findIndex((place, i) => place !== i);
  const { facts } = assembly.delivery.context;
  if (moved !== -1 && !facts.copyParts) {
    throw new BackupError(
      'store_refused',
      `put disks into another order: the store cannot copy parts, provider=${facts.provider}`,
      { details: { copy_parts: false }, retry: 'after-fix' },
    );
  }
  const firstLane = moved === -1 ? places.length : moved;
  let lastRun = places.length;
  if (moved !== -1) {
    do lastRun -= 1;
    while (places[lastRun - 1] === (places[lastRun] ?? 0) - 1);
  }
  assembly.arrangement = { places: [...places], firstLane, lastRun };
  assembly.arrival = 0;
}

/** The section at hand is whole. */
export async function endSection(assembly: Assembly, options: Cancellable): Promise<void> {
  const { places } = assembly.arrangement;
  assert(assembly.arrival >= 0 && assembly.arrival < places.length, 'no section is open');
  await enter(assembly, options);
  assembly.arrival += 1;
}

type Stage = 'direct' | 'lane' | 'run' | 'tail';

function stageOf({ arrangement }: Assembly, arrival: number): Stage {
  const { places, firstLane, lastRun } = arrangement;
  if (arrival < firstLane || firstLane === places.length) return 'direct';
  if (arrival < lastRun) return 'lane';
  // Where the run is the object's end, the tail just follows it.
  return arrival < places.length || places.at(-1) === places.length - 1 ? 'run' : 'tail';
}

/** What comes is the tail, and lanes stand before it. */
export const isTail = (assembly: Assembly) => stageOf(assembly, assembly.arrival) === 'tail';

/** Sets the cutter for the section whose bytes come next. */
export async function enter(assembly: Assembly, options: Cancellable): Promise<void> {
  const { arrival, entered, arrangement, delivery, cutter, outlet } = assembly;
  if (arrival === entered) return;
  const from = stageOf(assembly, entered);
  const to = stageOf(assembly, arrival);
  if (to === 'lane') {
    if (from === 'direct') await keepRest(assembly, options);
    else await cutter.flush({ signal: options.signal, evenEmpty: false });
    const lane = createLane(delivery, () => outlet.expect(0));
    assembly.lanes.set(arrangement.places[arrival] ?? -1, lane);
    cutter.begin(lane.sink, { rest: 'forget', whole: false });
  } else if (to === 'run' && from === 'lane') {
    await beginRun(assembly, options);
  }
  assembly.entered = arrival;
}

/** Usually ova.xml, small enough to be kept; more is staged as it is. */
async function keepRest({ cutter, delivery, outlet, kept }: Assembly, options: Cancellable) {
  const { bytes, range } = cutter.settle();
  if (bytes.length <= MAX_RESERVE_BYTES) {
    kept.push(atHand(Buffer.from(bytes)));
  } else {
    const lane = createLane(delivery, () => outlet.expect(0));
    cutter.begin(lane.sink, { rest: 'keep', whole: true });
    await cutter.flush({ signal: options.signal, evenEmpty: false });
    kept.push(...lane.stretches);
  }
  if (range) kept.push({ from: 'base', ...range, canCopy: true });
}

const atHand = (bytes: Buffer): Stretch<Place> => ({
  from: bytes,
  offset: 0,
  length: bytes.length,
  canCopy: false,
});

/** All lanes are there: what stands before the run gets its parts' numbers, and the run begins with what is left. */
async function beginRun(assembly: Assembly, options: Cancellable): Promise<void> {
  const { delivery, cutter, lanes, arrangement, limits, kept, deferred } = assembly;
  await cutter.flush({ signal: options.signal, evenEmpty: false });
  await delivery.sender.drain(options);
  const signal = AbortSignal.any([options.signal, delivery.sender.signal]);
  const used = [...kept, ...stretchesOf(lanes, () => true)].map(({ from }) => from);
  for (const from of new Set(used)) {
    if (from !== 'base' && !Buffer.isBuffer(from)) await completeStaged(from, { signal });
  }
  const place = arrangement.places[arrangement.lastRun] ?? 0;
  const before = [...kept, ...stretchesOf(lanes, (other) => other < place)];
  const { recipes, rest } = compose(before, limits, { isEnd: false });
  for (const recipe of recipes) deferred.push(number(assembly, recipe, false));
  cutter.begin(finalSink(assembly), { rest: 'forget', whole: false });
  for (const stretch of rest) {
    assembly.seams.announce(stretch.length, originOf(assembly, stretch));
    await append(assembly, stretch, { signal });
  }
}

function stretchesOf(lanes: Assembly['lanes'], which: (place: number) => boolean) {
  const places = [...lanes.keys()].filter(which).sort((a, b) => a - b);
  return places.flatMap((place) => lanes.get(place)?.stretches ?? []);
}

/** Gives a part its place in the object. */
function number(assembly: Assembly, recipe: Recipe<Place>, isLast: boolean) {
  const stretches = recipe.kind === 'copy' ? [recipe.stretch] : recipe.stretches;
  for (const stretch of stretches) {
    if (Buffer.isBuffer(stretch.from)) assembly.seams.noteSent(stretch.length);
    else assembly.seams.note(stretch.length, originOf(assembly, stretch));
  }
  return { recipe, slot: assembly.outlet.next(recipe.sizeBytes, { isLast }) };
}

function originOf({ delivery }: Assembly, { from, offset }: Stretch<Place>): Origin | undefined {
  if (Buffer.isBuffer(from)) return undefined;
  const key = from === 'base' ? delivery.guard?.base.key : from.key;
  return { key: key ?? '', offset };
}

/** Parts that are written where they belong. */
export function finalSink({ delivery, outlet, seams }: Omit<AssemblyParts, 'cutter'>): PartSink {
  return {
    expect: (sizeBytes) => outlet.expect(sizeBytes),
    send: (part, end) => {
      seams.noteSent(part.body.length);
      addSend(delivery, outlet.next(part.body.length, end), part);
    },
    copy: (range, end) => {
      seams.note(range.length, { key: delivery.guard?.base.key ?? '', offset: range.offset });
      addCopy(delivery, outlet.next(range.length, end), { staged: undefined, ...range });
    },
  };
}

/** Puts bytes that lie elsewhere into the cutter. */
async function append(
  { cutter, delivery }: Assembly,
  stretch: Stretch<Place>,
  options: Cancellable,
): Promise<void> {
  const { from, length } = stretch;
  const origin = Buffer.isBuffer(from) ? undefined : from === 'base' ? 'base' : 'staged';
  for (let at = 0; at < length; at += MAX_RESERVE_BYTES) {
    const sizeBytes = Math.min(MAX_RESERVE_BYTES, length - at);
    const memory = await cutter.reserve(sizeBytes, options);
    const piece = { ...stretch, offset: stretch.offset + at, length: sizeBytes };
    memory.set(await readStretch(delivery, piece, options));
    cutter.commit({ sizeBytes, crc: delivery.hasCrc ? crc32(memory) : 0, origin });
  }
}

/** Everything has come: makes all parts that are missing. They are acknowledged when the sender is drained. */
export async function finish(assembly: Assembly, options: Cancellable): Promise<void> {
  const { cutter, delivery, lanes, arrangement, limits, deferred, tail, arrival } = assembly;
  const { places } = arrangement;
  assert(arrival === (places.length === 0 ? arrival : places.length), 'all sections have ended');
  const signal = AbortSignal.any([options.signal, delivery.sender.signal]);
  let inMemory: Buffer | undefined;
  if (isTail(assembly)) {
    const { bytes, range } = cutter.settle();
    inMemory = bytes;
    const place = places.at(-1) ?? 0;
    const after: Stretch<Place>[] = [
      atHand(bytes),
      ...(range ? [{ from: 'base', ...range, canCopy: true } as const] : []),
      ...stretchesOf(lanes, (other) => other > place),
      ...tail.map(atHand),
    ];
    const { recipes } = compose(after, limits, { isEnd: true });
    const numbered = recipes.map((r, i) => number(assembly, r, i === recipes.length - 1));
    // Its first part may begin with what lies in the cutter's memory.
    deferred.unshift(...numbered);
  } else {
    // An object of no bytes is one part of no bytes.
    const evenEmpty = delivery.counters.acceptedBytes === 0;
    await cutter.flush({ signal, evenEmpty });
  }
  for (const { recipe, slot } of deferred) {
    if (recipe.kind === 'copy') await copyPart(assembly, recipe.stretch, slot, { signal });
    else await sendPart(assembly, { ...recipe, slot, inMemory }, { signal });
  }
  // An empty rest may have been kept.
  cutter.close();
}

async function copyPart(
  { delivery }: Assembly,
  { from, offset, length }: Stretch<Place>,
  slot: Slot,
  options: Cancellable,
): Promise<void> {
  assert(!Buffer.isBuffer(from));
  await delivery.sender.room(options);
  addCopy(delivery, slot, { staged: from === 'base' ? undefined : from, offset, length });
}

/** Reads what belongs to one part, behind what of it is in the cutter's memory already. */
async function sendPart(
  assembly: Assembly,
  part: { stretches: Stretch<Place>[]; slot: Slot; inMemory: Buffer | undefined },
  options: Cancellable,
): Promise<void> {
  const { cutter, delivery } = assembly;
  const { stretches, slot, inMemory } = part;
  const isFirst = inMemory !== undefined && stretches[0]?.from === inMemory;
  const sink: PartSink = {
    expect: () => {},
    send: (made) => addSend(delivery, slot, made),
    copy: () => assert.fail('all of it is sent'),
  };
  cutter.begin(sink, { rest: isFirst ? 'keep' : 'forget', whole: true });
  for (const stretch of isFirst ? stretches.slice(1) : stretches) {
    await append(assembly, stretch, options);
  }
  await cutter.flush({ signal: options.signal, evenEmpty: false });
}

/** Bytes behind everything, while lanes wait for their place before them. */
export function addToTail({ tail }: Assembly, bytes: Buffer): void {
  tail.push(Buffer.from(bytes));
  const sizeBytes = tail.reduce((sum, { length }) => sum + length, 0);
  assert(sizeBytes <= MAX_RESERVE_BYTES, `tail_bytes=${sizeBytes}`);
}

/** Counts committed bytes to the checksum of their section, as soon as theirs is known. */
export function digest({ digests, arrangement, arrival }: Assembly, piece: Sum): void {
  const place = arrangement.places[arrival] ?? arrival;
  const found = digests.get(place) ?? { crc: 0, sizeBytes: 0, coming: [] };
  digests.set(place, found);
  found.coming.push(piece);
  addKnown(found);
}

function addKnown(found: Digest): void {
  const first = found.coming.findIndex(({ crc }) => crc === undefined);
  const known = found.coming.splice(0, first === -1 ? found.coming.length : first);
  found.crc = foldCrc32(known, found.crc);
  for (const { sizeBytes } of known) found.sizeBytes += sizeBytes;
}

/** The checksum of the whole object, from its sections' in the order of places; all parts are acknowledged. */
export function wholeCrc({ digests }: Assembly): number {
  const inOrder = [...digests].sort(([a], [b]) => a - b).map(([, found]) => found);
  for (const found of inOrder) {
    addKnown(found);
    assert.equal(found.coming.length, 0);
  }
  return foldCrc32(inOrder);
}
