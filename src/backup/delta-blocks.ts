/**
 * Finds the blocks of an export in the base, by their digests, while they go by.
 *
 * A block's member is the same bytes in two archives when folder, number, length and content are: the folder is the
 * disk's device, the content is known by its keyed digest (docs/xva.md). The base's index lies in the bucket and may be
 * large, so its entries are read by windows; an export asks in ascending order, so each is read once.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { entryRange, findBlock } from '../xva/blocks-index.ts';
import { ENTRY_BYTES, readEntry } from '../xva/entries.ts';
import { createFrameMap } from '../xva/frames.ts';
import type { ArchiveDisk, BlocksIndex, IndexedDisk, KeptBlock } from '../xva/types.ts';

/** Entries read at once: 1 MiB, which tells of 42 GiB stored. */
const WINDOW_ENTRIES = Math.floor(1_048_576 / ENTRY_BYTES);

export interface BaseBlocks {
  /**
   * Where in the base the member of this block, or its frame, lies; undefined when it does not, or when the index cannot be read now:
   * sending some blocks more is better than losing hours of work. Errors: the store's others, `lostBase`.
   */
  find(
    disk: ArchiveDisk,
    block: KeptBlock,
    options: Cancellable,
  ): Promise<{ offsetBytes: number; lengthBytes: number } | undefined>;
  /** Ranges read so far. */
  readonly reads: number;
}

/** Blocks that are sent unasked after the store did not answer, before it is asked again. */
const PAUSE_BLOCKS = 256;

interface Window {
  disk: IndexedDisk;
  /** Position of its first entry among the disk's. */
  from: number;
  bytes: Buffer;
}

/** Over an index that was opened and checked. */
export function createBaseBlocks(
  store: ObjectStore,
  { index, indexKey }: { index: BlocksIndex; indexKey: string },
): BaseBlocks {
  const disks = new Map(index.disks.map((disk) => [disk.archiveId, disk]));
  const frames = index.frames && createFrameMap(index);
  let window: Window | undefined;
  let reads = 0;
  let pause = 0;

  const read = async (disk: IndexedDisk, from: number, options: Cancellable) => {
    const range = entryRange(disk, from, Math.min(disk.storedBlocks, from + WINDOW_ENTRIES));
    reads += 1;
    const found = await store.get(indexKey, { ...options, range }).catch((error) => {
      if (isBackupError(error, 'store_unavailable')) return 'away' as const;
      throw error;
    });
    if (found === 'away') return undefined;
    if (found === undefined) throw lostBase('gone', indexKey);
    if (found.bytes.length !== range.length) throw lostBase('changed', indexKey);
    const { buffer, byteOffset, length } = found.bytes;
    return { disk, from, bytes: Buffer.from(buffer, byteOffset, length) };
  };

  return {
    find: async ({ archiveId }, block, options) => {
      const disk = disks.get(archiveId);
      const found = disk && findBlock(disk, block.number);
      if (!disk || !found || found.lengthBytes !== block.lengthBytes) return undefined;
      let at = window?.disk === disk ? (found.position - window.from) * ENTRY_BYTES : -1;
      if (window === undefined || at < 0 || at >= window.bytes.length) {
        if (pause > 0) {
          pause -= 1;
          return undefined;
        }
        const next = await read(disk, found.position, options);
        if (next === undefined) {
          pause = PAUSE_BLOCKS;
          return undefined;
        }
        window = next;
        at = 0;
      }
      if (!readEntry(window.bytes, at).digest.equals(block.digest)) return undefined;
      const { offsetBytes, memberBytes } = found;
      return frames === undefined
        ? { offsetBytes, lengthBytes: memberBytes }
        : frames.frameOf(disk, block.number);
    },
    get reads() {
      return reads;
    },
  };
}

/** The base is not any more what it was when it was chosen: the backup begins again without one. */
export function lostBase(how: 'gone' | 'changed', key: string): BackupError {
  return new BackupError('precondition_failed', `read base: it is ${how}, key=${key}`, {
    details: { base: how },
  });
}

/** Why a base is none any more, as it reads behind its name. */
const LOSSES = {
  gone: 'is gone',
  changed: 'is changed',
  archived: 'went to a class that cannot be read at once',
  damaged: 'gave other bytes than it should hold',
} as const;

export type BaseLoss = keyof typeof LOSSES;

/** How the base was lost, if that is what stopped a backup. */
export function baseLoss(error: unknown): BaseLoss | undefined {
  if (!isBackupError(error, 'precondition_failed', 'data_corrupt')) return undefined;
  const { base } = error.details;
  return Object.keys(LOSSES).find((one): one is BaseLoss => one === base);
}

/** In words. */
export function tellLoss(lost: BaseLoss): string {
  return LOSSES[lost];
}
