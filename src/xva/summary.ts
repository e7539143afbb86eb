/** What is left of an archive when it has gone by: what each disk holds, and blocks.idx. */
import { diskStoredBytes, encodeIndex } from './blocks-index.ts';
import { digestContent, type EntryTable } from './entries.ts';
import type { ArchiveDisk, DiskTotals, FrameTable, Hasher, NormaliserInput } from './types.ts';

interface Read {
  /** In any order. */
  disks: readonly ArchiveDisk[];
  /** By place in the archive. */
  tables: readonly EntryTable[];
}

/** What each disk holds, in the order of the archive. */
export function countDisks({ disks, tables }: Read): DiskTotals[] {
  return inOrder(disks).map((disk) => {
    const storedBlocks = tableOf(tables, disk).count;
    return {
      disk,
      storedBlocks,
      storedBytes: diskStoredBytes(disk.virtualSizeBytes, storedBlocks),
    };
  });
}

/** XXH64 over the XXH64 of every stored block, in the order of the archive. */
export function digestDisks({ disks, tables, hash }: Read & { hash: Hasher }): bigint {
  const pieces = inOrder(disks).flatMap((disk) => tableOf(tables, disk).pieces);
  return digestContent(pieces, hash);
}

/** The bytes of blocks.idx, for an archive of which every disk has its last block. */
export function indexOf(
  read: Read & {
    hash: Hasher;
    input: NormaliserInput;
    ovaMemberBytes: number;
    contentDigest: bigint;
    frames: FrameTable | undefined;
  },
): Buffer {
  const { hash, tables } = read;
  const disks = inOrder(read.disks).map((disk) => ({
    archiveId: disk.archiveId,
    vdiUuid: disk.liveVdiUuid,
    virtualSizeBytes: disk.virtualSizeBytes,
    table: tableOf(tables, disk),
  }));
  return encodeIndex({ ...read, digestKey: read.input.digestKey, disks }, hash);
}

function inOrder(disks: readonly ArchiveDisk[]): ArchiveDisk[] {
  return disks.toSorted((a, b) => a.index - b.index);
}

function tableOf(tables: readonly EntryTable[], disk: ArchiveDisk): EntryTable {
  return tables[disk.index] as EntryTable;
}
