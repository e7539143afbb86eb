/** What is left of an archive when it has gone by: blocks.idx and the digest of its content. */
import {
  digestEntries,
  diskMemberBytes,
  END_BYTES,
  type EntryTable,
  encodeIndex,
  type IndexedDisk,
} from './blocks-index.ts';
import type { ArchiveDisk, Hasher } from './types.ts';

export interface Summary {
  /** The bytes of blocks.idx. */
  index: Buffer;
  /** XXH64 over the XXH64 of every stored block, in order. */
  digest: bigint;
}

/**
 * Places the disks one behind the other and builds their index. Every disk must have its last
 * block.
 */
export function summariseArchive(input: {
  hash: Hasher;
  ovaMemberBytes: number;
  disks: readonly ArchiveDisk[];
  /** One for each disk. */
  tables: readonly EntryTable[];
}): Summary {
  const { hash, ovaMemberBytes } = input;
  let archiveBytes = ovaMemberBytes;
  const disks = input.disks.map((disk, i): IndexedDisk => {
    const { count, bytes } = input.tables[i] as EntryTable;
    const offsetBytes = archiveBytes;
    archiveBytes += diskMemberBytes(disk.virtualSizeBytes, count);
    return {
      archiveId: disk.archiveId,
      vdiUuid: disk.liveVdiUuid,
      virtualSizeBytes: disk.virtualSizeBytes,
      offsetBytes,
      storedBlocks: count,
      entries: bytes(),
    };
  });
  archiveBytes += END_BYTES;
  const tables = disks.map((disk) => disk.entries);
  const contentDigest = digestEntries(tables, hash);
  const index = encodeIndex({ archiveBytes, ovaMemberBytes, contentDigest, disks }, hash);
  return { index, digest: contentDigest };
}
