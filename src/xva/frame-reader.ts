/**
 * Reads a compressed archive of ours as a stream: frame by frame, with the lengths of all of them.
 *
 * Memory is one frame and its content. Hosts and other tools need none of this: the frames, one
 * behind the other, are what `zstd -d` reads.
 */
import { BackupError, isBackupError } from '../errors.ts';
import { decodeIndex } from './blocks-index.ts';
import { COMPRESSION, createFrameMap, createLengths, type Frame, LENGTH_BYTES } from './frames.ts';
import { type ArchiveSummary, type ArchiveVisitor, type Fill, readArchive } from './reader.ts';
import { TAR_BLOCK_BYTES } from './tar.ts';
import {
  BLOCK_MEMBER_BYTES,
  type BlocksIndex,
  type FrameTable,
  type Hasher,
  MAX_OVA_BYTES,
} from './types.ts';
import { decompressFrame, readFrame } from './zstd.ts';

export interface FrameReader {
  /** Gives what the frames hold. */
  fill: Fill;
  /** Lengths of the frames read so far, compressed and not. */
  lengths(): Buffer;
  plainLengths(): Buffer;
}

/** Opens a compressed archive. Errors: `data_corrupt` for what are no frames of ours. */
export function createFrameReader(
  source: Fill,
  { groupBlocks }: { groupBlocks: number },
): FrameReader {
  const maxPlainBytes = Math.max(
    MAX_OVA_BYTES + 2 * TAR_BLOCK_BYTES,
    groupBlocks * BLOCK_MEMBER_BYTES,
  );
  const [lengths, plainLengths] = [createLengths(), createLengths()];
  let plain: Buffer = Buffer.alloc(0);
  const read = async (length: number) => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, await source(bytes));
  };
  let offset = 0;
  const next = async (): Promise<boolean> => {
    const found = await readFrame(read, { maxPlainBytes }).catch((error) => {
      throw inFrameAt(offset, error);
    });
    if (found === undefined) return false;
    plain = await decompressFrame(found.frame, found.plainBytes).catch((error) => {
      throw inFrameAt(offset, error);
    });
    offset += found.frame.length;
    lengths.add(found.frame.length);
    plainLengths.add(found.plainBytes);
    return true;
  };
  return {
    lengths: lengths.bytes,
    plainLengths: plainLengths.bytes,
    fill: async (target) => {
      let filled = 0;
      while (filled < target.length && (plain.length > 0 || (await next()))) {
        const count = plain.copy(target, filled);
        plain = plain.subarray(count);
        filled += count;
      }
      return filled;
    },
  };
}

/**
 * `indexArchive` for a compressed archive. How it was compressed is not in it and must be told; the
 * grouping is checked.
 */
export async function indexCompressedArchive(
  fill: Fill,
  input: {
    hash: Hasher;
    digestKey: Uint8Array;
    compression?: Pick<FrameTable, 'parameters' | 'groupBlocks'>;
    visitor?: ArchiveVisitor;
  },
  { signal }: { signal: AbortSignal },
): Promise<ArchiveSummary> {
  const { compression = COMPRESSION, ...rest } = input;
  const { parameters, groupBlocks } = compression;
  const reader = createFrameReader(fill, { groupBlocks });
  const frames = () => ({ parameters, groupBlocks, lengths: reader.lengths() });
  const summary = await readArchive(reader.fill, { ...rest, order: 'kept', frames }, { signal });
  checkGroups(decodeIndex(summary.index, input.hash), reader.plainLengths());
  return summary;
}

/** Damage, with where in the stored object its frame begins. */
function inFrameAt(offset: number, error: unknown): unknown {
  if (!isBackupError(error, 'data_corrupt')) return error;
  const details = { ...error.details, object_offset_bytes: offset };
  return new BackupError('data_corrupt', `${error.message}, offset=${offset}`, {
    details,
    cause: error.cause,
  });
}

/** Every frame must hold its group and nothing else. */
function checkGroups(index: BlocksIndex, plainLengths: Buffer): void {
  let ordinal = 0;
  for (const frame of eachFrame(index)) {
    if (frame.plainBytes === plainLengths.readUInt32BE(ordinal++ * LENGTH_BYTES)) continue;
    throw new BackupError('data_corrupt', 'read archive: its frames are not as we write them', {
      details: { offset_bytes: frame.offsetBytes },
    });
  }
}

/** All frames of an index, in order. */
function* eachFrame(index: BlocksIndex): Generator<Frame> {
  const map = createFrameMap(index);
  yield map.head;
  for (const disk of index.disks) {
    for (let position = 0; position < disk.storedBlocks; ) {
      const frame = map.frameOf(disk, disk.presence.select(position)) as Frame;
      yield frame;
      position += frame.storedBlocks;
    }
  }
  yield map.end;
}
