/** Compresses a normalised archive in memory as a backup does, in groups of any size. */
import { diskMemberBytes } from '../../src/xva/blocks-index.ts';
import { COMPRESSION, createFrameLog } from '../../src/xva/frames.ts';
import {
  BLOCK_BYTES,
  BLOCK_MEMBER_BYTES,
  type BlocksIndex,
  type FrameTable,
  type IndexedDisk,
} from '../../src/xva/types.ts';
import { compressFrame } from '../../src/xva/zstd.ts';

/** The compressed archive and its frames. */
export async function compress(
  archive: Buffer,
  index: BlocksIndex,
  groupBlocks = 1,
): Promise<{ bytes: Buffer; frames: FrameTable }> {
  const log = createFrameLog({ parameters: 'test', groupBlocks });
  const frames: Buffer[] = [];
  const add = async (from: number, to: number): Promise<number> => {
    const frame = await compressFrame(archive.subarray(from, to), COMPRESSION.level);
    frames.push(frame);
    return frame.length;
  };
  log.head(await add(0, index.ovaMemberBytes));
  for (const [i, disk] of index.disks.entries()) {
    for (const [from, to] of groupsOf(disk, groupBlocks)) log.add(i, await add(from, to));
  }
  log.end(await add(archive.length - 1024, archive.length));
  return { bytes: Buffer.concat(frames), frames: log.table() };
}

/** Ranges of the archive that are one frame each. */
function groupsOf(disk: IndexedDisk, groupBlocks: number): [number, number][] {
  const { offsetBytes, storedBlocks, virtualSizeBytes, presence } = disk;
  const ranges: [number, number][] = [];
  const blocks = Math.ceil(virtualSizeBytes / BLOCK_BYTES);
  const end = offsetBytes + diskMemberBytes(virtualSizeBytes, storedBlocks);
  for (let number = 0, position = 0; number < blocks; number += groupBlocks) {
    const from = offsetBytes + position * BLOCK_MEMBER_BYTES;
    for (let n = number; n < Math.min(blocks, number + groupBlocks); n++) {
      if (presence.has(n)) position++;
    }
    const to = Math.min(end, offsetBytes + position * BLOCK_MEMBER_BYTES);
    if (to > from) ranges.push([from, to]);
  }
  return ranges;
}
