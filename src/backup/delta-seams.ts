/**
 * Reads back where copied and sent bytes meet, on stores that prove nothing of a whole object.
 *
 * A store that copied a wrong range, or joined parts in the wrong order, shows at their ends: there the members on
 * both sides are read from the stored object and must be the blocks of the index, header to checksum. Of many such
 * places some are drawn at random, so that every backup looks at others.
 */
import { randomInt } from 'node:crypto';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { blockAt, entryRange } from '../xva/blocks-index.ts';
import { readEntry } from '../xva/entries.ts';
import { createFrameMap } from '../xva/frames.ts';
import { writeMember } from '../xva/member.ts';
import { TAR_BLOCK_BYTES } from '../xva/tar.ts';
import type { BlocksIndex, Hasher } from '../xva/types.ts';
import { decompressFrame } from '../xva/zstd.ts';

/** However small the share: one look proves little. */
const LEAST_SEAMS = 3;

export interface SeamCheck {
  store: ObjectStore;
  key: string;
  seams: readonly number[];
  /** 0: none are looked at. */
  percent: number;
  index: BlocksIndex;
  /** The whole blocks.idx. */
  indexBytes: Uint8Array;
  hash: Hasher;
}

interface Place {
  disk: number;
  position: number;
}

interface Archive {
  index: BlocksIndex;
  rangeOf(place: Place): { offset: number; length: number };
}

/** Returns how many members were read. Errors: `data_corrupt` naming the member, the store's. */
export async function checkSeams(check: SeamCheck, options: Cancellable): Promise<number> {
  const archive = archiveOf(check.index);
  const looked = new Set<string>();
  for (const seam of draw(check.seams, check.percent)) {
    for (const at of [seam - 1, seam]) {
      const place = placeOf(archive, at);
      if (place === undefined) continue;
      const name = `${place.disk}:${place.position}`;
      if (looked.has(name)) continue;
      looked.add(name);
      await checkMember(check, { ...place, ...archive.rangeOf(place) }, options);
    }
  }
  return looked.size;
}

/** As many of `seams` as `percent` of them, each at most once. */
function draw(seams: readonly number[], percent: number): number[] {
  if (percent <= 0) return [];
  const left = [...seams];
  const count = Math.max(LEAST_SEAMS, Math.ceil((seams.length * percent) / 100));
  const drawn: number[] = [];
  while (drawn.length < count && left.length > 0) {
    drawn.push(...left.splice(randomInt(left.length), 1));
  }
  return drawn;
}

/** The member byte `at` belongs to; undefined in ova.xml and at the end. */
function placeOf(archive: Archive, at: number): Place | undefined {
  const { index } = archive;
  const disk = index.disks.findLastIndex(
    (_, i) => archive.rangeOf({ disk: i, position: 0 }).offset <= at,
  );
  const found = index.disks[disk];
  if (found === undefined) return undefined;
  let [low, high] = [0, found.storedBlocks - 1];
  while (low < high) {
    const position = Math.ceil((low + high) / 2);
    if (archive.rangeOf({ disk, position }).offset <= at) low = position;
    else high = position - 1;
  }
  const { offset, length } = archive.rangeOf({ disk, position: low });
  return at < offset + length ? { disk, position: low } : undefined;
}

/** Where members lie in the stored object, compressed or not. */
function archiveOf(index: BlocksIndex): Archive {
  const frames = index.frames && createFrameMap(index);
  return {
    index,
    rangeOf: ({ disk: at, position }) => {
      const disk = index.disks[at] as BlocksIndex['disks'][number];
      const block = blockAt(disk, position);
      const frame = frames?.frameOf(disk, block.number);
      return frame
        ? { offset: frame.offsetBytes, length: frame.lengthBytes }
        : { offset: block.offsetBytes, length: block.memberBytes };
    },
  };
}

async function checkMember(
  { store, key, index, indexBytes, hash }: SeamCheck,
  { offset, length, ...place }: Place & { offset: number; length: number },
  { signal }: Cancellable,
): Promise<void> {
  const disk = index.disks[place.disk] as BlocksIndex['disks'][number];
  const block = blockAt(disk, place.position);
  const found = await store.get(key, { signal, range: { offset, length } });
  const name = `${disk.archiveId}/${String(block.number).padStart(8, '0')}`;
  const entries = Buffer.from(indexBytes.buffer, indexBytes.byteOffset, indexBytes.byteLength);
  const { xxh64 } = readEntry(entries, entryRange(disk, place.position, place.position + 1).offset);
  const isThere = found !== undefined && found.bytes.length === length;
  const member = isThere && (await unpack(found.bytes, block.memberBytes, index));
  if (member) {
    const content = member.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + block.lengthBytes);
    const facts = { name, sizeBytes: block.lengthBytes, xxh64 };
    if (hash.xxh64(content) === xxh64 && writeMember(member, facts)) return;
  }
  throw new BackupError(
    'data_corrupt',
    `read back archive: the store did not put ${name} where it belongs, offset=${offset}`,
    { details: { key, block: name, offset } },
  );
}

/** The member's own bytes; undefined for a frame that cannot be read. */
async function unpack(
  bytes: Uint8Array,
  memberBytes: number,
  { frames }: BlocksIndex,
): Promise<Buffer | undefined> {
  if (frames === undefined) return Buffer.from(bytes);
  try {
    return await decompressFrame(bytes, memberBytes);
  } catch (error) {
    if (isBackupError(error, 'data_corrupt')) return undefined;
    throw error;
  }
}
