/**
 * Reading an archive for a restore: all of it, or of some disks the ranges they lie in.
 *
 * Either way what is handed on is proved. The whole archive against its record, as by a verification. Ranges against the
 * index, whose entries are proved against the record's content digest when it is opened: what goes by is read as an
 * archive of its own (the edited ova.xml, those disks, the end), which the codec checks as any other, and the entries that
 * come out, made under the same key, must be the index's, disk by disk. Without a usable index, or where an archive has a disk
 * smaller than one block (its blocks of zeros are all stored), everything is read.
 */
import { BackupError } from '../errors.ts';
import { blockAt, decodeIndex, END_BYTES, memberBytesOf } from '../xva/blocks-index.ts';
import { createFrameReader } from '../xva/frame-reader.ts';
import { createFrameMap } from '../xva/frames.ts';
import { type Fill, fillFrom, readArchive } from '../xva/reader.ts';
import { BLOCK_BYTES, type BlocksIndex, type IndexedDisk } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { findIndex } from './find-index.ts';
import { type PassInput, pass } from './restore-send.ts';
import type { StoredArchive } from './verify-archive.ts';

type Context = Pick<StepContext, 'engine' | 'signal'>;

/** One way through the archive, not begun yet. */
export interface Pass {
  /** Bytes that will be read from the bucket. */
  readBytes: number;
  /** Errors: `data_corrupt`, those of store and visitor. */
  run(input: Pick<PassInput, 'visitor' | 'onRead'>): Promise<void>;
}

interface Range {
  offset: number;
  length: number;
}

/** Plans a pass over some disks. `makeMember` gives an ova.xml's member with just these. */
export async function planPass(
  { backup, archive }: StoredArchive,
  { wanted, makeMember }: { wanted: ReadonlySet<string>; makeMember(): Promise<Buffer> },
  context: Context,
): Promise<Pass> {
  const whole: Pass = {
    readBytes: archive.sizeBytes,
    run: (input) => pass({ backup, archive, ...input }, context),
  };
  const isAll = backup.disks.every(({ archive_id: id }) => wanted.has(id));
  const isTiny = backup.disks.some(({ virtual_size_bytes: bytes }) => bytes < BLOCK_BYTES);
  if (isAll || isTiny) return whole;
  const { index } = await findIndex(backup, context);
  if (index === undefined) return whole;
  const disks = index.disks.filter(({ archiveId }) => wanted.has(archiveId));
  const ranges = disks.map((disk) => rangeOf(index, disk));
  return {
    readBytes: ranges.reduce((sum, { length }) => sum + length, 0),
    run: async (input) => {
      const member = await makeMember();
      await readRanges({ backup, archive }, { index, disks, ranges, member, ...input }, context);
    },
  };
}

/** Where the disk lies in the stored object: its blocks, or their frames, are neighbours. */
function rangeOf(index: BlocksIndex, disk: IndexedDisk): Range {
  const last = blockAt(disk, disk.storedBlocks - 1);
  if (index.frames === undefined) {
    const end = last.offsetBytes + memberBytesOf(disk, last.number);
    return { offset: disk.offsetBytes, length: end - disk.offsetBytes };
  }
  const { frameOf } = createFrameMap(index);
  const [from, to] = [frameOf(disk, 0), frameOf(disk, last.number)];
  if (from === undefined || to === undefined) {
    throw new BackupError('internal', `find frames of disk ${disk.archiveId}`);
  }
  return { offset: from.offsetBytes, length: to.offsetBytes + to.lengthBytes - from.offsetBytes };
}

interface RangesInput extends Pick<PassInput, 'visitor' | 'onRead'> {
  index: BlocksIndex;
  disks: readonly IndexedDisk[];
  ranges: readonly Range[];
  member: Buffer;
}

async function readRanges(
  { backup, archive }: StoredArchive,
  { index, disks, ranges, member, visitor, onRead }: RangesInput,
  { engine, signal }: Context,
): Promise<void> {
  const { key, sizeBytes, etag } = archive;
  let readBytes = 0;
  const pieces = (async function* () {
    for (const range of ranges) {
      for await (const piece of engine.store.read({ key, sizeBytes, etag, range }, { signal })) {
        readBytes += piece.length;
        onRead(readBytes);
        yield piece;
      }
    }
  })();
  const stored = fillFrom(pieces);
  const blocks = index.frames ? createFrameReader(stored, index.frames).fill : stored;
  const fill = chain([fillFrom(only(member)), blocks, fillFrom(only(Buffer.alloc(END_BYTES)))]);
  const hash = await engine.hasher();
  const { digestKey } = index;
  try {
    const read = { hash, digestKey, visitor, order: 'kept' } as const;
    const summary = await readArchive(fill, read, { signal });
    const made = decodeIndex(summary.index, hash);
    for (const [i, disk] of disks.entries()) {
      if (made.disks[i]?.entriesDigest === disk.entriesDigest) continue;
      throw new BackupError(
        'data_corrupt',
        `prove disk ${disk.archiveId} of backup ${backup.id}: its blocks are not those that were stored`,
        { details: { key, source_id: disk.archiveId } },
      );
    }
  } finally {
    // gives memory back that was read ahead of an error
    await pieces.return();
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** One source behind the other. */
function chain(sources: Fill[]): Fill {
  const left = [...sources];
  return async (target) => {
    let filled = 0;
    for (let source = left[0]; source && filled < target.length; source = left[0]) {
      filled += await source(target.subarray(filled));
      if (filled < target.length) left.shift();
    }
    return filled;
  };
}
