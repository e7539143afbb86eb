/**
 * A share of an archive, read by its index: the beginning, the end, and runs of blocks drawn at random between them.
 *
 * Every run is as likely as any other, so a single damaged block is found with the probability that was asked for (5 % of the
 * blocks: one time in twenty), and damage in many places nearly always: of k places apart the chance that all are missed
 * is (1 − share)^k. The draw hangs on the job's id: a job that is begun again after a crash looks at the same runs, the next
 * job at others. Runs come in the order of the archive; a few neighbours are read at once, since a request costs as much as a
 * block.
 */
import type { Backup } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts } from '../ports.ts';
import { END_BYTES, entryRange } from '../xva/blocks-index.ts';
import { ENTRY_BYTES, readEntry } from '../xva/entries.ts';
import { createFrameMap } from '../xva/frames.ts';
import { createDigestKey, digestOva } from '../xva/hash.ts';
import { createNormaliser } from '../xva/normaliser.ts';
import { TAR_BLOCK_BYTES } from '../xva/tar.ts';
import {
  type BlocksIndex,
  type Hasher,
  type IndexedDisk,
  MAX_OVA_BYTES,
  type Normaliser,
} from '../xva/types.ts';
import { decompressFrame } from '../xva/zstd.ts';
import { type ArchivePlaces, createPlaces, isMember } from './archive-places.ts';
import type { StepContext } from './context.ts';
import { rangesOf } from './find-index.ts';
import { describePlace } from './verify-place.ts';

/** Neighbouring stored blocks of one disk that are read at once. */
const RUN_BLOCKS = 4;
/** However small the share: one look proves little. */
const LEAST_RUNS = 3;
/** Runs on their way at once; each has memory of its own, of some 4 MiB. */
const PARALLEL_RUNS = 2;
/** Entries of the index read at once. */
const WINDOW_ENTRIES = 40_000;

/** Stored blocks `from` to before `to` of one disk, counted among the disk's stored blocks. */
export interface Run {
  disk: number;
  from: number;
  to: number;
}

export interface SampleFigures {
  readBytes: number;
  checkedBlocks: number;
}

interface Sample {
  backup: Backup;
  archive: ObjectFacts;
  index: BlocksIndex;
  indexKey: string;
  /** In the order of the archive. */
  runs: readonly Run[];
  onRead(readBytes: number, totalBytes: number): void;
  /** Each run in its turn, when it and all before it were right. */
  onRun?(run: Run): Promise<void>;
}

interface Reader {
  input: Sample;
  context: Pick<StepContext, 'engine' | 'signal'>;
  hash: Hasher;
  places: ArchivePlaces;
  entries: (disk: IndexedDisk, from: number, to: number) => Promise<bigint[]>;
  figures: SampleFigures;
}

/**
 * Draws runs of the disks' stored blocks so that at least `percent` of them are looked at: each run with the same
 * probability, in ascending order, each once. `draw` gives numbers from 0 to below 1.
 */
export function drawRuns(
  disks: readonly { storedBlocks: number }[],
  percent: number,
  draw: () => number,
): Run[] {
  const counts = disks.map(({ storedBlocks }) => Math.ceil(storedBlocks / RUN_BLOCKS));
  let left = counts.reduce((sum, count) => sum + count, 0);
  let wanted = Math.min(left, Math.max(LEAST_RUNS, Math.ceil((left * percent) / 100)));
  const runs: Run[] = [];
  for (const [disk, count] of counts.entries()) {
    for (let i = 0; i < count && wanted > 0; i++, left--) {
      // as many are drawn as are wanted: the last ones surely, if few were drawn before (Knuth, selection sampling)
      if (draw() * left >= wanted) continue;
      wanted -= 1;
      const to = Math.min((i + 1) * RUN_BLOCKS, disks[disk]?.storedBlocks ?? 0);
      runs.push({ disk, from: i * RUN_BLOCKS, to });
    }
  }
  return runs;
}

/** All stored blocks behind the first `skip` of them, counted over all disks. */
export function runsFrom(disks: readonly { storedBlocks: number }[], skip: number): Run[] {
  const runs: Run[] = [];
  let before = 0;
  for (const [disk, { storedBlocks }] of disks.entries()) {
    for (let from = Math.max(0, skip - before); from < storedBlocks; from += RUN_BLOCKS) {
      runs.push({ disk, from, to: Math.min(storedBlocks, from + RUN_BLOCKS) });
    }
    before += storedBlocks;
  }
  return runs;
}

/** Where a run lies in the stored object. */
export function placeOfRun(run: Run, index: BlocksIndex): { offset: number; length: number } {
  return rangeOf(run, createPlaces(index));
}

/** Reads and checks beginning, end and these runs. Errors: `data_corrupt` naming object, disk and block; `precondition_failed`; the store's. */
export async function checkRuns(
  input: Sample,
  context: Pick<StepContext, 'engine' | 'signal'>,
): Promise<SampleFigures> {
  const hash = await context.engine.hasher();
  const places = createPlaces(input.index);
  const { runs } = input;
  const entries = createEntries(input, context);
  const reader: Reader = {
    input,
    context,
    hash,
    places,
    entries,
    figures: { readBytes: 0, checkedBlocks: 0 },
  };
  const edges = edgesOf(input);
  const lengths = [...edges, ...runs.map((run) => rangeOf(run, places))].map(
    ({ length }) => length,
  );
  const totalBytes = lengths.reduce((sum, length) => sum + length, 0);
  const read = (count: number, bytes: number) => {
    reader.figures.checkedBlocks += count;
    reader.figures.readBytes += bytes;
    input.onRead(reader.figures.readBytes, totalBytes);
  };
  const [head, end] = edges;
  checkHead(await readEdge(reader, head), reader);
  read(0, head.length);
  checkEnd(await readEdge(reader, end), input.backup);
  read(0, end.length);
  const inTurn = createTurns(runs, input.onRun);
  await eachParallel(runs, context, async (run, signal) => {
    const bytes = await checkRun(run, { ...reader, context: { ...context, signal } });
    read(run.to - run.from, bytes);
    await inTurn(run);
  });
  return reader.figures;
}

/** Tells of each run when all before it were told. */
function createTurns(runs: readonly Run[], tell: Sample['onRun']): (run: Run) => Promise<void> {
  const done = new Set<Run>();
  let next = 0;
  return async (run) => {
    done.add(run);
    for (let one = runs[next]; one !== undefined && done.delete(one); one = runs[++next]) {
      await tell?.(one);
    }
  };
}

/** The first that fails stops the others; none is left at work. */
async function eachParallel<T>(
  items: readonly T[],
  { signal }: Cancellable,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const any = AbortSignal.any([signal, stop.signal]);
  let next = 0;
  const worker = async () => {
    try {
      for (let item = items[next++]; item !== undefined; item = items[next++]) {
        any.throwIfAborted();
        await work(item, any);
      }
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: PARALLEL_RUNS }, worker));
  signal.throwIfAborted();
  const failed = ended.find((one) => one.status === 'rejected');
  if (failed) throw stop.signal.reason;
}

/** A small generator (mulberry32) over a seed that is text: the same draw for the same job. */
export function createDraw(seed: string): () => number {
  let state = 0;
  for (const letter of seed) state = (Math.imul(state, 31) + letter.charCodeAt(0)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Edge {
  offset: number;
  length: number;
  plainBytes: number;
}

/** ova.xml and the end, as they lie in the stored object. */
function edgesOf({ index }: Sample): [Edge, Edge] {
  const { ovaMemberBytes, archiveBytes } = index;
  if (ovaMemberBytes > MAX_OVA_BYTES + 2 * TAR_BLOCK_BYTES) {
    throw new BackupError('data_corrupt', 'read blocks.idx: ova.xml cannot be that long');
  }
  const map = index.frames && createFrameMap(index);
  if (map === undefined) {
    return [
      { offset: 0, length: ovaMemberBytes, plainBytes: ovaMemberBytes },
      { offset: archiveBytes - END_BYTES, length: END_BYTES, plainBytes: END_BYTES },
    ];
  }
  const edge = (frame: typeof map.head, plainBytes: number): Edge => ({
    offset: frame.offsetBytes,
    length: frame.lengthBytes,
    plainBytes,
  });
  return [edge(map.head, ovaMemberBytes), edge(map.end, END_BYTES)];
}

/** Its bytes before compression. */
async function readEdge(
  { input, context }: Reader,
  { offset, length, plainBytes }: Edge,
): Promise<Buffer> {
  const { backup, index, archive } = input;
  const bytes = Buffer.alloc(length);
  const { key, etag } = archive;
  await context.engine.store.fill({ key, etag, offset }, bytes, context);
  if (index.frames === undefined) return bytes;
  return await decompressFrame(bytes, plainBytes).catch((error) => {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    throw damage(`${error.message}, offset=${offset}`, backup);
  });
}

/** ova.xml must be what was stored, and tell of the disks the record tells of. */
function checkHead(member: Buffer, { input, hash }: Reader): void {
  const { backup } = input;
  const { ova_sha256: stored } = backup.archive;
  if (stored !== undefined && stored !== digestOva(member)) {
    throw damage('verify ova.xml: it is not the one that was stored', backup);
  }
  const normaliser = createNormaliser({ order: 'kept', digestKey: createDigestKey() }, hash);
  try {
    acceptOva(normaliser, member);
  } catch (error) {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    throw damage(error.message, backup);
  }
  const [found, wanted] = [
    normaliser.disks.map((disk) => `${disk.archiveId} ${disk.virtualSizeBytes}`),
    backup.disks.map((disk) => `${disk.archive_id} ${disk.virtual_size_bytes}`),
  ];
  if (found.join() !== wanted.join()) {
    throw damage('verify ova.xml: its disks are not those that were stored', backup);
  }
}

function acceptOva(normaliser: Normaliser, member: Buffer): void {
  for (;;) {
    const want = normaliser.wantBytes;
    if (want > member.length) throw normaliser.truncated(member, member.length);
    const { kind } = normaliser.accept(member.subarray(0, want));
    if (kind !== 'more') return;
  }
}

function checkEnd(bytes: Buffer, backup: Backup): void {
  if (bytes.some((byte) => byte !== 0)) throw damage('read end of archive: it is no end', backup);
}

/** Returns how many bytes it read. */
async function checkRun(run: Run, { input, context, ...reader }: Reader): Promise<number> {
  const { backup, index, archive } = input;
  const { places, hash } = reader;
  const { offset, length } = rangeOf(run, places);
  const bytes = Buffer.alloc(length);
  const { key, etag } = archive;
  const disk = places.diskOf({ disk: run.disk, position: run.from });
  const [sums] = await Promise.all([
    reader.entries(disk, run.from, run.to),
    context.engine.store.fill({ key, etag, offset }, bytes, context),
  ]);
  for (let position = run.from; position < run.to; position++) {
    const place = { disk: run.disk, position };
    const range = places.rangeOf(place);
    const at = range.offset - offset;
    const facts = {
      disk,
      block: places.blockOf(place),
      xxh64: sums[position - run.from] as bigint,
      isCompressed: index.frames !== undefined,
      hash,
    };
    if (await isMember(bytes.subarray(at, at + range.length), facts)) continue;
    const { text, details } = describePlace({ places, ...place }, backup);
    throw damage(`verify block: it is not what was stored, ${text}`, backup, {
      ...details,
      object_offset_bytes: range.offset,
    });
  }
  return length;
}

function rangeOf({ disk, from, to }: Run, places: ArchivePlaces) {
  const first = places.rangeOf({ disk, position: from });
  const last = places.rangeOf({ disk, position: to - 1 });
  return { offset: first.offset, length: last.offset + last.length - first.offset };
}

/** Checksums out of the index, by windows: runs come in order, so each is read once. */
export function createEntries(
  { indexKey }: Pick<Sample, 'indexKey'>,
  { engine, signal }: Pick<StepContext, 'engine' | 'signal'>,
): Reader['entries'] {
  const read = rangesOf(engine.store, indexKey, { signal });
  let window:
    | { disk: IndexedDisk; from: number; to: number; bytes: Promise<Uint8Array> }
    | undefined;
  return async (disk, from, to) => {
    if (window?.disk !== disk || from < window.from || to > window.to) {
      const end = Math.min(disk.storedBlocks, from + WINDOW_ENTRIES);
      window = { disk, from, to: end, bytes: read(entryRange(disk, from, end)) };
    }
    const { from: first, bytes } = window;
    const { buffer, byteOffset, length } = await bytes;
    const view = Buffer.from(buffer, byteOffset, length);
    return Array.from(
      { length: to - from },
      (_, i) => readEntry(view, (from - first + i) * ENTRY_BYTES).xxh64,
    );
  };
}

function damage(text: string, { archive: { key } }: Backup, details: object = {}): BackupError {
  return new BackupError('data_corrupt', `${text}, key=${key}`, { details: { ...details, key } });
}
