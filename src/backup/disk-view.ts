/**
 * A backup read without restoring it: a disk as a raw image, or the archive as it lies in the bucket, from any byte on.
 *
 * What is needed to find a block (directory of the index, facts of the archive) is looked up once and kept for a while, so
 * a look into a disk costs one request to the bucket, or two where the entries of its index are not there yet. Blocks
 * that are not stored are zeros. Bytes of a disk are given out only after their block has been proved (disk-blocks.ts); those
 * of the archive as they are, since whoever fetches it checks it (`xvault download` does). Nothing here writes anything.
 */
import { createArena } from '../arena.ts';
import type { Backup } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Arena, Cancellable, ObjectFacts } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { CONTENT_AT, createDiskBlocks } from '../xva/disk-blocks.ts';
import { createFrameMap } from '../xva/frames.ts';
import { BLOCK_BYTES, type BlocksIndex, type IndexedDisk } from '../xva/types.ts';
import {
  type BlockCache,
  type BlockSource,
  type CachedBlocks,
  createBlockCache,
  SHELF_SLOTS,
  SLOT_BYTES,
} from './block-cache.ts';
import type { Engine } from './context.ts';
import { findIndex, lookAtArchive, rangesOf } from './find-index.ts';
import type { Lending, Lent } from './lending.ts';

const ZEROS = Buffer.alloc(BLOCK_BYTES);

/** Readers at once: each holds two copies of 256 KiB outside the budget, one here and one in its socket. */
const MAX_READERS = 64;

/** Backups whose directories are kept, 128 KiB for each TiB of disk as a rule, and for how long. */
const KEPT_BACKUPS = 16;
const KEPT_MS = 10 * 60_000;

/** Ends of the last reads of one disk: who goes on where one of them ended reads front to back. */
const KEPT_ENDS = 16;
/** Blocks read ahead of one who goes on: as many as he has read so far, but never more. */
const MOST_AHEAD = 2 * SHELF_SLOTS;

/** Only of tests: the service gives its own budget. */
const OWN_ARENA_BYTES = 4 * SHELF_SLOTS * SLOT_BYTES;

/** Bytes that can be read from any place. */
export interface ByteView {
  sizeBytes: number;
  /** Strong, in quotes: other bytes have another one. */
  etag: string;
  fileName: string;
  /**
   * The bytes of a range inside, piece by piece; each is the reader's own. Errors: `data_corrupt`, `not_found` when the archive
   * went or was replaced meanwhile, `limit_reached`, the store's. After an error nothing follows.
   */
  read(
    range: { offset: number; length: number },
    options: Cancellable,
  ): AsyncGenerator<Uint8Array, void, undefined>;
  /**
   * The same for who sends the pieces on: a piece may be memory of the cache, and stays as it is until it is released; which must
   * happen soon, and at the latest when `onWanted` says so. `isQuick` is looked at before each piece.
   */
  lend(
    range: { offset: number; length: number },
    lending: Lending,
    options: Cancellable,
  ): AsyncGenerator<Lent, void, undefined>;
}

/** The part of the service that reads from backups. */
export interface DiskService {
  /**
   * A disk of a backup by its index in the record; undefined when there is no such backup. Errors: `not_found` for a disk
   * it does not have, `data_corrupt` when its index or archive is not right, `store_*`.
   */
  openDisk(
    input: { backupId: string; disk: number },
    options: Cancellable,
  ): Promise<ByteView | undefined>;
  /** The archive itself; its entity tag is the bucket's. Errors: as `openDisk`. */
  openArchive(backupId: string, options: Cancellable): Promise<ByteView | undefined>;
}

export interface DiskViews extends DiskService {
  close(): void;
}

type Range = { offset: number; length: number };
type Pieces = AsyncGenerator<Lent, void, undefined>;
/** One read: what of, and how the reader takes it. */
interface Reading {
  range: Range;
  lending: Lending;
}

/** What was found out of one backup. */
interface Opened {
  backup: Backup;
  archive: ObjectFacts;
  openedAt: number;
  /** Made when they are first wanted: a download needs no index. */
  index?: Promise<{ index: BlocksIndex; key: string }>;
  disks: Map<number, Promise<OpenDisk>>;
  pieces?: CachedBlocks;
}

interface OpenDisk {
  disk: IndexedDisk;
  blocks: CachedBlocks;
  /** Where reads ended → how many bytes were read front to back up to there. */
  ends: Map<number, number>;
}

/** The readers over the engine's bucket. `loadArena`: where blocks lie meanwhile. */
export function createDiskViews(
  engine: Engine,
  { loadArena = createOwnArena }: { loadArena?: (() => Promise<Arena>) | undefined } = {},
): DiskViews {
  const cache = createBlockCache({ loadArena, clock: engine.clock });
  const backups = new Map<string, Promise<Opened | undefined>>();
  const limited = createLimit(MAX_READERS);

  const open = async (id: string, { signal }: Cancellable): Promise<Opened | undefined> => {
    const kept = await backups.get(id)?.catch(() => undefined); // asked again below
    signal.throwIfAborted();
    if (kept && engine.clock.elapsed() - kept.openedAt < KEPT_MS) return kept;
    const opening = openBackup(engine, id);
    backups.delete(id);
    backups.set(id, opening);
    const [oldest] = backups.keys();
    if (backups.size > KEPT_BACKUPS && oldest !== undefined) backups.delete(oldest);
    return await opening;
  };
  const viewOf = (
    { backup: { id } }: Opened,
    facts: Omit<ByteView, 'read' | 'lend'>,
    piecesOf: (reading: Reading, options: Cancellable) => Pieces,
  ): ByteView => {
    const onLost = () => backups.delete(id);
    const lend: ByteView['lend'] = (range, lending, options) =>
      limited(() => explained(piecesOf({ range, lending }, options), { id, onLost }));
    return {
      ...facts,
      lend,
      read: async function* (range, options) {
        for await (const { bytes } of lend(range, { isQuick: false }, options)) yield bytes;
      },
    };
  };

  return {
    openDisk: async ({ backupId, disk: number }, options) => {
      const opened = await open(backupId, options);
      if (opened === undefined) return undefined;
      const found = await openDisk(opened, number, { engine, cache });
      const facts = {
        sizeBytes: found.disk.virtualSizeBytes,
        etag: `"${backupId}-disk${number}-${opened.backup.archive.content_digest}"`,
        fileName: `${nameOf(opened)}-disk${number}.raw`,
      };
      return viewOf(opened, facts, (reading, to) => readDisk(found, reading, to));
    },
    openArchive: async (backupId, options) => {
      const opened = await open(backupId, options);
      if (opened === undefined) return undefined;
      const { sizeBytes, etag } = opened.archive;
      opened.pieces ??= cache.of(archiveSource(opened, engine));
      const { pieces } = opened;
      const facts = { sizeBytes, etag: `"${bare(etag)}"`, fileName: `${nameOf(opened)}.xva` };
      return viewOf(opened, facts, (reading, to) => readArchive(pieces, reading, to));
    },
    close: cache.close,
  };
}

async function openBackup(engine: Engine, id: string): Promise<Opened | undefined> {
  const entry = await engine.catalog.find(id);
  const backup = entry && (await engine.catalog.record(entry, { signal: NEVER }));
  if (backup === undefined) return undefined;
  const archive = await lookAtArchive(backup, { engine, signal: NEVER });
  if ('why' in archive) {
    throw new BackupError(archive.code, `read backup ${id}: ${archive.why}`, {
      details: { key: backup.archive.key },
    });
  }
  return { backup, archive, openedAt: engine.clock.elapsed(), disks: new Map() };
}

/** Errors: `not_found`, with the disks there are. */
function openDisk(
  opened: Opened,
  number: number,
  { engine, cache }: { engine: Engine; cache: BlockCache },
): Promise<OpenDisk> {
  const { backup } = opened;
  if (!backup.disks.some(({ index }) => index === number)) {
    const there = backup.disks.map(({ index, name }) => ({ disk: index, name }));
    const text = `find disk ${number} of backup ${backup.id}: it has ${there.length}, counted from 0`;
    return Promise.reject(new BackupError('not_found', text, { details: { disks: there } }));
  }
  const found = opened.disks.get(number) ?? makeDisk(opened, number, { engine, cache });
  opened.disks.set(number, found);
  found.catch(() => opened.disks.delete(number));
  return found;
}

async function makeDisk(
  opened: Opened,
  number: number,
  { engine, cache }: { engine: Engine; cache: BlockCache },
): Promise<OpenDisk> {
  const { archive } = opened;
  opened.index ??= findDirectory(opened, engine);
  const { index, key } = await opened.index.catch((error) => {
    delete opened.index;
    throw error;
  });
  const disk = index.disks[number] as IndexedDisk;
  const source = createDiskBlocks({
    disk,
    frames: index.frames && createFrameMap(index),
    hash: await engine.hasher(),
    readIndex: (range, options) => rangesOf(engine.store, key, options)(range),
    readArchive: async (range, options) => {
      const found = await engine.store.get(archive.key, { ...options, range });
      const isOurs = found && bare(found.etag) === bare(archive.etag);
      if (isOurs && found.bytes.length === range.length) return found.bytes;
      const how = found === undefined ? 'gone' : 'changed';
      throw new BackupError('precondition_failed', `read archive: it is ${how}`);
    },
    fillFromArchive: (offset, target, options) =>
      engine.store.fill({ ...archive, offset }, target, options),
  });
  return { disk, blocks: cache.of({ ...source, contentAt: CONTENT_AT }), ends: new Map() };
}

/** The directory alone: every block is compared with its entry when it is read. */
async function findDirectory({ backup }: Opened, engine: Engine) {
  const found = await findIndex(backup, { engine, signal: NEVER, entries: 'unproved' });
  if (found.index !== undefined) return { index: found.index, key: found.key };
  const text = `read disks of backup ${backup.id}: ${found.why}; xvault index ${backup.id} makes it anew`;
  throw new BackupError('data_corrupt', text, { details: { index: found.found } });
}

/** The archive as pieces of one slot each. */
function archiveSource({ archive }: Opened, { store }: Engine): BlockSource {
  return {
    contentAt: 0,
    load: async (from, memory, options) => {
      const offset = from * SLOT_BYTES;
      const length = Math.min(memory.length, archive.sizeBytes - offset);
      await store.fill({ ...archive, offset }, memory.subarray(0, length), options);
    },
  };
}

async function* readDisk(
  { disk, blocks, ends }: OpenDisk,
  { range: { offset, length }, lending }: Reading,
  options: Cancellable,
): Pieces {
  const { presence } = disk;
  const end = offset + length;
  // who reads front to back in small pieces will go on
  const behind = ends.get(offset) ?? 0;
  ends.delete(offset);
  ends.set(end, behind + length);
  const [oldest] = ends.keys();
  if (ends.size > KEPT_ENDS && oldest !== undefined) ends.delete(oldest);
  const ahead = Math.min(MOST_AHEAD, Math.floor(behind / BLOCK_BYTES));
  const until = Math.min(disk.storedBlocks, presence.rank(Math.ceil(end / BLOCK_BYTES)) + ahead);
  for (let at = offset; at < end; ) {
    const number = Math.floor(at / BLOCK_BYTES);
    const from = at % BLOCK_BYTES;
    const count = Math.min(BLOCK_BYTES - from, end - at);
    if (presence.has(number)) {
      const position = presence.rank(number);
      const wish = { position, from, length: count, needed: until - position };
      const piece = await blocks.lend(wish, lending, options);
      at += piece.bytes.length;
      yield piece;
    } else {
      options.signal.throwIfAborted();
      at += count;
      yield { bytes: ZEROS.subarray(0, count), release: () => undefined };
    }
  }
}

async function* readArchive(
  pieces: CachedBlocks,
  { range: { offset, length }, lending }: Reading,
  options: Cancellable,
): Pieces {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const position = Math.floor(at / SLOT_BYTES);
    const from = at % SLOT_BYTES;
    const wish = {
      position,
      from,
      length: Math.min(SLOT_BYTES - from, end - at),
      needed: Math.ceil(end / SLOT_BYTES) - position,
    };
    const piece = await pieces.lend(wish, lending, options);
    at += piece.bytes.length;
    yield piece;
  }
}

/** Of an object that was there a moment ago, and is not: it is no condition of the caller's that failed. */
async function* explained(
  pieces: Pieces,
  { id, onLost }: { id: string; onLost: () => void },
): Pieces {
  try {
    yield* pieces;
  } catch (error) {
    // what was found out of it may be what is wrong: an index that is made anew counts for the next reader
    if (isBackupError(error, 'precondition_failed', 'data_corrupt')) onLost();
    if (!isBackupError(error, 'precondition_failed')) throw error;
    const text = `read backup ${id}: its archive went, or was replaced, meanwhile`;
    throw new BackupError('not_found', text, { cause: error });
  }
}

/** Counts those who read. Errors: `limit_reached` for one too many, when he asks for his first piece. */
function createLimit(most: number): (begin: () => Pieces) => Pieces {
  let open = 0;
  return async function* limited(begin) {
    if (open >= most) {
      throw new BackupError(
        'limit_reached',
        `read another backup: ${most} readers are here already`,
      );
    }
    open += 1;
    try {
      yield* begin();
    } finally {
      open -= 1;
    }
  };
}

/** What a download is called: as the archive. */
function nameOf({ archive: { key } }: Opened): string {
  return key.slice(key.lastIndexOf('/') + 1).replace(/\.xva$/, '');
}

async function createOwnArena(): Promise<Arena> {
  return createArena({ totalBytes: OWN_ARENA_BYTES, unitBytes: SHELF_SLOTS * SLOT_BYTES });
}

/** Some stores quote an ETag in one answer and not in another. */
const bare = (etag: string) => etag.replaceAll('"', '');
