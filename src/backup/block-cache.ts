/**
 * Blocks of backups that somebody reads, in memory of the budget: a few shelves of eight, the least used given up first.
 *
 * Programs that read a disk over HTTP ask for some kilobytes at a time, blocks can only be checked whole, and an answer
 * to one program should not wait while bytes travel that it will ask for next. So blocks stay for a moment, neighbours
 * that are needed come with one request to the bucket, and up to WINDOW_BLOCKS of them come ahead.
 *
 * Backups go first. Little memory is held for a reader who takes his time: bytes are copied out, or lent to who is quick
 * (lending.ts), and a shelf on which nothing is being loaded, copied or lent goes back as soon as anybody waits for memory,
 * and after a while without readers.
 */
import assert from 'node:assert/strict';
import { BackupError } from '../errors.ts';
import type { Arena, Cancellable, Clock, Slab } from '../ports.ts';
import { untilAborted } from '../signals.ts';
import { BLOCK_MEMBER_BYTES } from '../xva/types.ts';
import { createLender, type Lender, type Lending, type Lent } from './lending.ts';

/** Memory of one block: as much as its member takes in a plain archive, so that neighbours are one range there. */
export const SLOT_BYTES = BLOCK_MEMBER_BYTES;

/** Blocks of one shelf, and of one request to the bucket at most: one unit of the service's budget. */
export const SHELF_SLOTS = 8;

/** From the block that is read on, as far as they are needed: with four requests on their way a line is full. */
const WINDOW_BLOCKS = 4 * SHELF_SLOTS;

/** What one copy takes at most: it lies outside the budget. */
const COPY_BYTES = 256 * 1024;

/** Of the budget, for all readers together. */
const BUDGET_SHARE = 1 / 4;

/** Programs pause between two looks into a disk; longer than this they rather have ended. */
const IDLE_MS = 10_000;

/** Where the blocks of one disk, or the pieces of one archive, come from. */
export interface BlockSource {
  /**
   * Fills `memory`, of SLOT_BYTES for each, with neighbouring blocks; they are right when it resolves. Never writes to
   * it any more once it has settled.
   */
  load(from: number, memory: Buffer, options: Cancellable): Promise<void>;
  /** Where in its slot a block's content begins. */
  readonly contentAt: number;
}

/** A piece of one block. */
export interface BlockWish {
  position: number;
  from: number;
  length: number;
  /** Blocks that will be read one after the other, from this one on. */
  needed: number;
}

export interface CachedBlocks {
  /** The piece, or as much of it as is copied at once. Errors: those of `load`. */
  lend(wish: BlockWish, lending: Lending, options: Cancellable): Promise<Lent>;
}

export interface BlockCache {
  of(source: BlockSource): CachedBlocks;
  /** Gives all memory back; reads after it fail. */
  close(): void;
}

interface Shelf {
  slab: Slab;
  used: number;
  loads: Load[];
  /** The later, the larger. */
  usedAt: number;
}

/** Neighbours that came, or come, together. */
interface Load {
  blocks: Map<number, Load>;
  source: BlockSource;
  from: number;
  count: number;
  place?: { shelf: Shelf; slot: number };
  done: Promise<void>;
  isSettled: boolean;
  /** Copies that are due as soon as it is there. */
  readers: number;
  /** Its last block was read: it has served its purpose. */
  isRead: boolean;
}

interface Shelves {
  arena: Arena | undefined;
  all: Shelf[];
  /** Loads that have no place yet. */
  waiting: number;
  clock: number;
  /** Resolved when a load, a copy or a loan ends. */
  idle: PromiseWithResolvers<void>;
  lender: Lender<Shelf>;
  /** Ends what is on its way when the cache is closed. */
  closing: AbortSignal;
}

/** An empty cache; memory is taken when something is read. */
export function createBlockCache(deps: {
  loadArena: () => Promise<Arena>;
  clock: Pick<Clock, 'sleep'>;
}): BlockCache {
  const closing = new AbortController();
  const shelves: Shelves = {
    arena: undefined,
    all: [],
    waiting: 0,
    clock: 0,
    idle: Promise.withResolvers(),
    lender: createLender(
      { clock: deps.clock, onReturned: () => becameIdle(shelves) },
      { signal: closing.signal },
    ),
    closing: closing.signal,
  };
  const findPlace = createPlaces(shelves, deps);
  let isResting = false;

  /** Without readers for a while, the memory goes back. */
  const rest = async (): Promise<void> => {
    for (let seen = -1; seen !== shelves.clock; ) {
      seen = shelves.clock;
      await deps.clock.sleep(IDLE_MS, { signal: closing.signal });
    }
    clear(shelves);
  };
  const restSoon = (): void => {
    if (isResting || shelves.closing.aborted) return;
    isResting = true;
    rest().then(
      () => {
        isResting = false;
      },
      () => undefined, // closed meanwhile
    );
  };
  const lend = async (
    { blocks, source }: Pick<Load, 'blocks' | 'source'>,
    { wish, lending }: { wish: BlockWish; lending: Lending },
    { signal }: Cancellable,
  ): Promise<Lent> => {
    signal.throwIfAborted();
    closing.signal.throwIfAborted();
    const { position, needed } = wish;
    const begin = (from: number, count: number) =>
      beginLoad({ blocks, source, from, count }, shelves, findPlace);
    const load = blocks.get(position) ?? begin(position, missingFrom(blocks, position, needed));
    load.readers += 1;
    try {
      readAhead(blocks, wish, shelves, begin);
      await untilAborted(load.done, signal);
      return pieceOf(load, { wish, lending }, shelves);
    } finally {
      load.readers -= 1;
      becameIdle(shelves);
      restSoon();
    }
  };

  return {
    of: (source) => {
      const blocks: Load['blocks'] = new Map();
      return {
        lend: (wish, lending, options) => lend({ blocks, source }, { wish, lending }, options),
      };
    },
    close: () => {
      closing.abort(new BackupError('draining', 'read backup: this instance is shutting down'));
      clear(shelves);
    },
  };
}

/** Finds memory for loads one after the other, in the order in which they were begun. */
function createPlaces(
  shelves: Shelves,
  { loadArena }: { loadArena: () => Promise<Arena> },
): (load: Load) => Promise<Buffer> {
  let turns: Promise<unknown> = Promise.resolve();
  const openArena = async (): Promise<Arena> => {
    if (shelves.arena !== undefined) return shelves.arena;
    const arena = await loadArena();
    arena.onShort(() => clear(shelves));
    shelves.arena = arena;
    return arena;
  };
  return (load) => {
    shelves.waiting += 1;
    const turn = turns.then(async () => {
      try {
        return await placeOf(load, shelves, await openArena());
      } finally {
        shelves.waiting -= 1;
      }
    });
    turns = turn.catch(() => undefined); // told to whoever waits for the load
    return turn;
  };
}

function beginLoad(
  input: Pick<Load, 'blocks' | 'source' | 'from' | 'count'>,
  shelves: Shelves,
  findPlace: (load: Load) => Promise<Buffer>,
): Load {
  const { blocks, source, from, count } = input;
  const load: Load = {
    ...input,
    done: Promise.resolve(),
    isSettled: false,
    readers: 0,
    isRead: false,
  };
  for (let at = from; at < from + count; at++) blocks.set(at, load);
  const run = async (): Promise<void> => {
    try {
      // not tied to the one who asked first: others may wait for it by now
      await source.load(from, await findPlace(load), { signal: shelves.closing });
    } catch (error) {
      forget(load); // the next who asks tries again
      throw error;
    } finally {
      load.isSettled = true;
      becameIdle(shelves);
    }
  };
  load.done = run();
  load.done.catch(() => undefined); // told to whoever waits for it
  return load;
}

/** Memory for a load: on a shelf with room, on a new one, or in place of what was used least. */
async function placeOf(load: Load, shelves: Shelves, arena: Arena): Promise<Buffer> {
  const { closing: signal } = shelves;
  for (;;) {
    signal.throwIfAborted();
    const shelf = shelves.all.find(({ used }) => used + load.count <= SHELF_SLOTS);
    if (shelf !== undefined) return put(load, shelf, shelves);
    if (shelves.all.length < mostShelves(arena)) {
      const bytes = SHELF_SLOTS * SLOT_BYTES;
      const slab = await arena.take(bytes, bytes, { signal });
      shelves.all.push({ slab, used: 0, loads: [], usedAt: shelves.clock });
      continue;
    }
    const oldest = leastUsed(shelves, (shelf) => isIdle(shelf, shelves));
    if (oldest !== undefined) empty(oldest);
    else await untilAborted(shelves.idle.promise, signal);
  }
}

function put(load: Load, shelf: Shelf, shelves: Shelves): Buffer {
  const slot = shelf.used;
  shelf.used += load.count;
  shelf.loads.push(load);
  touch(shelf, shelves);
  load.place = { shelf, slot };
  return shelf.slab.bytes.subarray(slot * SLOT_BYTES, (slot + load.count) * SLOT_BYTES);
}

/** Begins to load what will be needed next, where that takes nothing from anybody and needs no waiting. */
function readAhead(
  blocks: ReadonlyMap<number, Load>,
  { position, needed }: BlockWish,
  shelves: Shelves,
  begin: (from: number, count: number) => void,
): void {
  const end = position + Math.min(needed, WINDOW_BLOCKS);
  const isAll = needed <= WINDOW_BLOCKS;
  for (let from = position; from < end; from++) {
    if (blocks.has(from)) continue;
    const count = missingFrom(blocks, from, end - from);
    // as one request; the last ones of all that is needed may be fewer
    if (count < SHELF_SLOTS && !isAll) return;
    if (!makeRoom(shelves)) return;
    begin(from, count);
    from += count - 1;
  }
}

/** Says whether a whole shelf is free at once, or can be made free. */
function makeRoom(shelves: Shelves): boolean {
  const { arena, all, waiting } = shelves;
  if (arena === undefined || waiting > 0 || arena.isShort) return false;
  if (all.some(({ used }) => used === 0)) return true;
  const isFree = arena.usedBytes + SHELF_SLOTS * SLOT_BYTES <= arena.totalBytes;
  if (all.length < mostShelves(arena) && isFree) return true;
  const done = leastUsed(
    shelves,
    (shelf) => isIdle(shelf, shelves) && shelf.loads.every((l) => l.isRead),
  );
  if (done !== undefined) empty(done);
  return done !== undefined;
}

/** Blocks from this one on that are wanted and not there, as many as one request takes. */
function missingFrom(blocks: ReadonlyMap<number, Load>, from: number, wanted: number): number {
  let count = 1;
  while (count < Math.min(wanted, SHELF_SLOTS) && !blocks.has(from + count)) count += 1;
  return count;
}

function pieceOf(
  load: Load,
  { wish, lending }: { wish: BlockWish; lending: Lending },
  shelves: Shelves,
): Lent {
  assert(load.place, 'a load that is done has a place');
  const { position, from, length } = wish;
  const { shelf: place, slot } = load.place;
  touch(place, shelves);
  if (position === load.from + load.count - 1) load.isRead = true;
  const at = (slot + position - load.from) * SLOT_BYTES + load.source.contentAt + from;
  const { arena, lender } = shelves;
  // one shelf at least stays for those who get copies; nothing more is lent of what somebody waits for
  const most = arena === undefined || arena.isShort ? 0 : mostShelves(arena) - 1;
  const bytes = place.slab.bytes.subarray(at, at + length);
  const lent = lender.lend(bytes, { place, lending, most });
  return lent ?? { bytes: Buffer.from(bytes.subarray(0, COPY_BYTES)), release: () => undefined };
}

function touch(shelf: Shelf, shelves: Shelves): void {
  shelves.clock += 1;
  shelf.usedAt = shelves.clock;
}

function becameIdle(shelves: Shelves): void {
  shelves.idle.resolve();
  shelves.idle = Promise.withResolvers();
  if (shelves.closing.aborted || shelves.arena?.isShort) clear(shelves);
}

/** Gives back every shelf on which nothing goes on. */
function clear(shelves: Shelves): void {
  const idle = shelves.all.filter((shelf) => isIdle(shelf, shelves));
  shelves.all = shelves.all.filter((shelf) => !idle.includes(shelf));
  for (const shelf of idle) {
    empty(shelf);
    shelf.slab.release();
  }
  shelves.lender.askBack(() => shelves.arena?.isShort === true);
}

function empty(shelf: Shelf): void {
  for (const load of shelf.loads) forget(load);
  shelf.loads = [];
  shelf.used = 0;
}

function forget(load: Load): void {
  const { blocks, from, count } = load;
  for (let at = from; at < from + count; at++) if (blocks.get(at) === load) blocks.delete(at);
}

function isIdle(shelf: Shelf, { lender }: Shelves): boolean {
  if (lender.holds(shelf)) return false;
  return shelf.loads.every(({ isSettled, readers }) => isSettled && readers === 0);
}

function leastUsed({ all }: Shelves, fits: (shelf: Shelf) => boolean): Shelf | undefined {
  const found = all.filter(fits).sort((a, b) => a.usedAt - b.usedAt);
  return found[0];
}

function mostShelves({ totalBytes }: Arena): number {
  return Math.max(1, Math.floor((totalBytes * BUDGET_SHARE) / (SHELF_SLOTS * SLOT_BYTES)));
}
