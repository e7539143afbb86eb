/**
 * Where members lie in a stored archive, plain or compressed, and whether bytes read from there are what belongs there.
 *
 * A member is a block of a disk with its header and checksum; of a compressed archive it is the content of one frame. Its
 * bytes follow from the index: names and lengths from its place, the content from its checksum. So single members, and runs of
 * them, are proved without reading what lies before.
 */
import { isBackupError } from '../errors.ts';
import { blockAt } from '../xva/blocks-index.ts';
import { createFrameMap } from '../xva/frames.ts';
import { writeMember } from '../xva/member.ts';
import { TAR_BLOCK_BYTES } from '../xva/tar.ts';
import type { BlocksIndex, Hasher, IndexedBlock, IndexedDisk } from '../xva/types.ts';
import { decompressFrame } from '../xva/zstd.ts';

/** A stored block, by its disk's place in the archive and its own among the disk's stored blocks. */
export interface MemberPlace {
  disk: number;
  position: number;
}

export interface ArchivePlaces {
  diskOf(place: MemberPlace): IndexedDisk;
  blockOf(place: MemberPlace): IndexedBlock;
  /** Of the stored object. */
  rangeOf(place: MemberPlace): { offset: number; length: number };
  /** The member this byte of the stored object belongs to; undefined in ova.xml and at the end. */
  placeAt(offset: number): MemberPlace | undefined;
}

/** The places of one archive. */
export function createPlaces(index: BlocksIndex): ArchivePlaces {
  const frames = index.frames && createFrameMap(index);
  const diskOf = ({ disk }: MemberPlace) => index.disks[disk] as IndexedDisk;
  const blockOf = (place: MemberPlace) => blockAt(diskOf(place), place.position);
  const rangeOf: ArchivePlaces['rangeOf'] = (place) => {
    const block = blockOf(place);
    const frame = frames?.frameOf(diskOf(place), block.number);
    return frame
      ? { offset: frame.offsetBytes, length: frame.lengthBytes }
      : { offset: block.offsetBytes, length: block.memberBytes };
  };
  return {
    diskOf,
    blockOf,
    rangeOf,
    placeAt: (at) => {
      const disk = index.disks.findLastIndex(
        (_, i) => rangeOf({ disk: i, position: 0 }).offset <= at,
      );
      const found = index.disks[disk];
      if (found === undefined) return undefined;
      let [low, high] = [0, found.storedBlocks - 1];
      while (low < high) {
        const position = Math.ceil((low + high) / 2);
        if (rangeOf({ disk, position }).offset <= at) low = position;
        else high = position - 1;
      }
      const { offset, length } = rangeOf({ disk, position: low });
      return at < offset + length ? { disk, position: low } : undefined;
    },
  };
}

/** The name of a block's member. */
export function memberName(disk: IndexedDisk, { number }: IndexedBlock): string {
  return `${disk.archiveId}/${String(number).padStart(8, '0')}`;
}

/** Whether these bytes of the stored object are this block's member, header to checksum. They may be changed. */
export async function isMember(
  bytes: Buffer,
  input: {
    disk: IndexedDisk;
    block: IndexedBlock;
    xxh64: bigint;
    isCompressed: boolean;
    hash: Hasher;
  },
): Promise<boolean> {
  const { disk, block, xxh64, isCompressed, hash } = input;
  const member = isCompressed ? await unpack(bytes, block.memberBytes) : bytes;
  if (member?.length !== block.memberBytes) return false;
  const content = member.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + block.lengthBytes);
  const facts = { name: memberName(disk, block), sizeBytes: block.lengthBytes, xxh64 };
  return hash.xxh64(content) === xxh64 && writeMember(member, facts);
}

/** undefined for a frame that cannot be read. */
async function unpack(bytes: Uint8Array, memberBytes: number): Promise<Buffer | undefined> {
  try {
    return await decompressFrame(bytes, memberBytes);
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return undefined;
    throw error;
  }
}
