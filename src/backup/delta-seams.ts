/**
 * Reads back where copied and sent bytes meet, on stores that prove nothing of a whole object.
 *
 * A store that copied a wrong range, or joined parts in the wrong order, shows at their ends: there the members on
 * both sides are read from the stored object and must be the blocks of the index, header to checksum. Of many such
 * places some are drawn at random, so that every backup looks at others.
 */
import { randomInt } from 'node:crypto';
import { BackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { blockAt, entryRange } from '../xva/blocks-index.ts';
import { readEntry } from '../xva/entries.ts';
import { writeMember } from '../xva/member.ts';
import { TAR_BLOCK_BYTES } from '../xva/tar.ts';
import { BLOCK_MEMBER_BYTES, type BlocksIndex, type Hasher } from '../xva/types.ts';

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

/** Returns how many members were read. Errors: `data_corrupt` naming the member, the store's. */
export async function checkSeams(check: SeamCheck, options: Cancellable): Promise<number> {
  const looked = new Set<string>();
  for (const seam of draw(check.seams, check.percent)) {
    for (const at of [seam - 1, seam]) {
      const place = placeOf(check.index, at);
      if (place === undefined) continue;
      const name = `${place.disk}:${place.position}`;
      if (looked.has(name)) continue;
      looked.add(name);
      await checkMember(check, place, options);
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
function placeOf(index: BlocksIndex, at: number): { disk: number; position: number } | undefined {
  const disk = index.disks.findLastIndex(({ offsetBytes }) => offsetBytes <= at);
  const found = index.disks[disk];
  if (found === undefined) return undefined;
  const position = Math.floor((at - found.offsetBytes) / BLOCK_MEMBER_BYTES);
  return position < found.storedBlocks ? { disk, position } : undefined;
}

async function checkMember(
  { store, key, index, indexBytes, hash }: SeamCheck,
  place: { disk: number; position: number },
  { signal }: Cancellable,
): Promise<void> {
  const disk = index.disks[place.disk] as BlocksIndex['disks'][number];
  const block = blockAt(disk, place.position);
  const range = { offset: block.offsetBytes, length: block.memberBytes };
  const found = await store.get(key, { signal, range });
  const name = `${disk.archiveId}/${String(block.number).padStart(8, '0')}`;
  const entries = Buffer.from(indexBytes.buffer, indexBytes.byteOffset, indexBytes.byteLength);
  const { offset } = entryRange(disk, place.position, place.position + 1);
  const { xxh64 } = readEntry(entries, offset);
  if (found !== undefined && found.bytes.length === block.memberBytes) {
    const member = Buffer.from(found.bytes);
    const content = member.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + block.lengthBytes);
    const facts = { name, sizeBytes: block.lengthBytes, xxh64 };
    if (hash.xxh64(content) === xxh64 && writeMember(member, facts)) return;
  }
  throw new BackupError(
    'data_corrupt',
    `read back archive: the store did not put ${name} where it belongs, offset=${range.offset}`,
    { details: { key, block: name, offset: range.offset } },
  );
}
