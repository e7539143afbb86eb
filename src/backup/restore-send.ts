/**
 * The bytes of a restore on their way: archive out of the bucket, each block checked, edited, into the pool.
 *
 * Only after what was read is proved to be what was stored is the import settled (restore-pass.ts says how). Memory is a block
 * of 1 MiB beside what the store reads ahead inside the byte budget. A compressed archive is decompressed on the way: its
 * blocks must be looked at anyway, and any host reads the plain form.
 *
 * The length is known beforehand from the backup's record: ova.xml as edited, so many blocks for each disk, two zero blocks.
 */
import type { ImportStream } from '../ports.ts';
import { diskMemberBytes, END_BYTES } from '../xva/blocks-index.ts';
import { withSha1 } from '../xva/member.ts';
import type { ArchiveVisitor } from '../xva/reader.ts';
import { type ArchiveDisk, BLOCK_BYTES } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import type { PlannedDisk } from './restore-plan.ts';
import { readWhole, type StoredArchive } from './verify-archive.ts';

/** Zeros of a disk are written in pieces of this. */
const ZEROS = Buffer.alloc(BLOCK_BYTES);

type Write = (bytes: Uint8Array) => Promise<void>;

export interface PassInput extends StoredArchive {
  visitor: ArchiveVisitor;
  onRead(readBytes: number): void;
}

/** Bytes of the archive to be sent. */
export function sentLength(member: Buffer, disks: readonly PlannedDisk[]): number {
  return disks.reduce(
    (sum, { facts, storedBlocks }) => sum + diskMemberBytes(facts.virtualSizeBytes, storedBlocks),
    member.length + END_BYTES,
  );
}

/** Reads the archive once and proves it. Errors: `data_corrupt`, those of store and visitor. */
export async function pass(
  { backup, archive, visitor, onRead }: PassInput,
  context: Pick<StepContext, 'engine' | 'signal'>,
): Promise<void> {
  await readWhole({ backup, archive, old: undefined, visitor, onRead }, context);
}

/** Hands the archive on with another ova.xml, and only these disks' blocks. */
export function sendMachine(
  { member, disks, sha1 }: { member: Buffer; disks: readonly PlannedDisk[]; sha1: boolean },
  write: Write,
): ArchiveVisitor {
  const wanted = new Set(disks.map(({ facts }) => facts.archiveId));
  let places: readonly ArchiveDisk[] = [];
  let begun = false;
  /** Of the block whose member comes next; undefined before and after all blocks. */
  let wants: boolean | undefined;
  return {
    disks: (all) => {
      places = all;
    },
    block: ({ diskIndex }) => {
      wants = wanted.has(idAt(places, diskIndex));
    },
    bytes: async (bytes) => {
      if (!begun) {
        begun = true;
        return await write(member);
      }
      const isEnd = wants === undefined;
      const send = isEnd || wants;
      wants = undefined;
      if (send) await write(sha1 && !isEnd ? withSha1(bytes) : bytes);
    },
  };
}

/** Where the raw bytes of a disk go, in the order in which disks come. */
export interface RawTarget {
  disk: PlannedDisk;
  open(): Promise<ImportStream<void>>;
}

/**
 * Writes disks as raw bytes, one after another, each from its first byte to its last. `onSent`: a piece of a hole was; a hole
 * of a terabyte takes hours, in which nothing is read.
 */
export function sendDisks(
  targets: readonly RawTarget[],
  { signal, onSent }: { signal: AbortSignal; onSent(): void },
): ArchiveVisitor & { sentBytes(): number } {
  const options = { signal };
  let places: readonly ArchiveDisk[] = [];
  let current: { index: number; at: number; stream: ImportStream<void> } | undefined;
  let done = 0;
  const enter = async (index: number, target: RawTarget) => {
    if (current?.index !== index) current = { index, at: 0, stream: await target.open() };
    return current;
  };
  return {
    disks: (all) => {
      places = all;
    },
    block: async ({ diskIndex, number, lengthBytes }, content) => {
      const id = idAt(places, diskIndex);
      const target = targets.find(({ disk }) => disk.facts.archiveId === id);
      if (target === undefined) return;
      const state = await enter(diskIndex, target);
      const offset = number * BLOCK_BYTES;
      for (; state.at < offset; state.at += BLOCK_BYTES) {
        await state.stream.write(ZEROS, options);
        onSent();
      }
      await state.stream.write(content, options);
      state.at += lengthBytes;
      if (state.at < target.disk.facts.virtualSizeBytes) return;
      await state.stream.settle(options);
      done += state.stream.sentBytes;
      current = undefined;
    },
    sentBytes: () => done + (current?.stream.sentBytes ?? 0),
  };
}

function idAt(places: readonly ArchiveDisk[], index: number): string {
  return places.find((disk) => disk.index === index)?.archiveId ?? '';
}
