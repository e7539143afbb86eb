/**
 * Drives a normaliser over a whole archive: for verifying one, rebuilding its index, or reading its
 * disks.
 *
 * It takes normalised archives and a host's own alike, since reading is the same work as
 * normalising; memory is one block. The backup itself does not come through here: there the blocks
 * are read into upload memory.
 */
import { createDigestKey, digestOva } from './hash.ts';
import { createNormaliser } from './normaliser.ts';
import {
  type ArchiveDisk,
  BLOCK_MEMBER_BYTES,
  type DiskTotals,
  type FrameTable,
  type Hasher,
  type KeptBlock,
  type Normaliser,
  type NormaliserInput,
} from './types.ts';

/** Fills `target` completely and says how much came; less only at the end of the source. */
export type Fill = (target: Uint8Array) => Promise<number>;

/**
 * What a reader may want of the archive as it goes by; bytes are valid until the promise resolves.
 */
export interface ArchiveVisitor {
  /** Before the first block. */
  disks?(disks: readonly ArchiveDisk[]): void | Promise<void>;
  /** Every stored block, in order: the rest of each disk reads as zeros. */
  block?(block: KeptBlock, content: Buffer): void | Promise<void>;
  /** The normalised archive, piece by piece; disks in the order in which they come. */
  bytes?(bytes: Uint8Array): void | Promise<void>;
}

export interface ArchiveSummary {
  /** In the order of the archive. */
  disks: DiskTotals[];
  /** The disks in the order in which they came. */
  arrivals: readonly ArchiveDisk[];
  /** Of the normalised archive. */
  archiveBytes: number;
  contentDigest: string;
  /** SHA-256, in hex, of ova.xml with its header and padding, as it stands in the normalised archive. */
  ovaSha256: string;
  /** The bytes of blocks.idx. */
  index: Uint8Array;
}

/**
 * Reads and checks one archive to its end. Unless told otherwise, disks stay in their order and are
 * digested under a key of no further use.
 *
 * Errors: those of the normaliser, those of `fill` and of the visitor as they are. Cancel: between
 * two blocks.
 */
export async function readArchive(
  fill: Fill,
  input: Partial<NormaliserInput> & {
    hash: Hasher;
    visitor?: ArchiveVisitor;
    /** Asked at the end: the frames that were read. */
    frames?: () => FrameTable;
  },
  { signal }: { signal: AbortSignal },
): Promise<ArchiveSummary> {
  const { hash, visitor = {} } = input;
  const normaliser = createNormaliser(
    { order: 'arrival', digestKey: createDigestKey(), ...input },
    hash,
  );
  const memory = Buffer.allocUnsafe(BLOCK_MEMBER_BYTES);
  let archiveBytes = 0;
  let ovaSha256 = '';
  for (;;) {
    signal.throwIfAborted();
    const step = await nextStep(fill, normaliser, memory);
    if (step.kind === 'drop') continue;
    const bytes = step.kind === 'keep' ? memory.subarray(0, step.bytes) : step.bytes;
    if (step.kind === 'replace') {
      ovaSha256 = digestOva(step.bytes);
      await visitor.disks?.(normaliser.disks);
    }
    const block = step.kind === 'keep' ? normaliser.block : undefined;
    if (block) await visitor.block?.(block, memory.subarray(512, 512 + block.lengthBytes));
    await visitor.bytes?.(bytes);
    archiveBytes += bytes.length;
    if (step.kind === 'end') break;
  }
  const trailing = await fill(memory.subarray(0, normaliser.wantBytes));
  if (trailing > 0) throw normaliser.truncated(memory, trailing);
  return {
    disks: normaliser.totals(),
    arrivals: normaliser.disks,
    archiveBytes,
    contentDigest: normaliser.contentDigest(),
    ovaSha256,
    index: normaliser.index(input.frames?.()),
  };
}

/**
 * Reads an archive of ours as it lies in the bucket and makes its index anew: with the same key,
 * byte for byte the one that was written with it.
 *
 * Errors: as `readArchive`; `data_corrupt` also for an archive that is not as we write it, since
 * nothing may be copied from it.
 */
export function indexArchive(
  fill: Fill,
  input: {
    hash: Hasher;
    digestKey: Uint8Array;
    visitor?: ArchiveVisitor;
    frames?: () => FrameTable;
  },
  { signal }: { signal: AbortSignal },
): Promise<ArchiveSummary> {
  return readArchive(fill, { ...input, order: 'kept' }, { signal });
}

/** Turns pieces of any size, such as a download's, into exact fills. */
export function fillFrom(source: AsyncIterable<Uint8Array>): Fill {
  const pieces = source[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array();
  return async (target) => {
    let filled = 0;
    while (filled < target.length) {
      if (rest.length === 0) {
        const { done, value } = await pieces.next();
        if (done) break;
        rest = value;
      }
      const count = Math.min(rest.length, target.length - filled);
      target.set(rest.subarray(0, count), filled);
      rest = rest.subarray(count);
      filled += count;
    }
    return filled;
  };
}

async function nextStep(fill: Fill, normaliser: Normaliser, blockMemory: Buffer) {
  let memory = blockMemory;
  let filled = 0;
  for (;;) {
    const want = normaliser.wantBytes;
    if (want > memory.length) memory = Buffer.concat([memory.subarray(0, filled)], want);
    filled += await fill(memory.subarray(filled, want));
    if (filled < want) throw normaliser.truncated(memory, filled);
    const step = normaliser.accept(memory.subarray(0, want));
    if (step.kind !== 'more') return step;
  }
}
