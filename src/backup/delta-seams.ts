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
import { entryRange } from '../xva/blocks-index.ts';
import { readEntry } from '../xva/entries.ts';
import type { BlocksIndex, Hasher } from '../xva/types.ts';
import {
  type ArchivePlaces,
  createPlaces,
  isMember,
  type MemberPlace,
  memberName,
} from './archive-places.ts';

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
  const places = createPlaces(check.index);
  const looked = new Set<string>();
  for (const seam of draw(check.seams, check.percent)) {
    for (const at of [seam - 1, seam]) {
      const place = places.placeAt(at);
      if (place === undefined) continue;
      const name = `${place.disk}:${place.position}`;
      if (looked.has(name)) continue;
      looked.add(name);
      await checkMember(check, { places, ...place }, options);
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

async function checkMember(
  { store, key, index, indexBytes, hash }: SeamCheck,
  { places, ...place }: MemberPlace & { places: ArchivePlaces },
  { signal }: Cancellable,
): Promise<void> {
  const [disk, block] = [places.diskOf(place), places.blockOf(place)];
  const { offset, length } = places.rangeOf(place);
  const found = await store.get(key, { signal, range: { offset, length } });
  const entries = Buffer.from(indexBytes.buffer, indexBytes.byteOffset, indexBytes.byteLength);
  const { xxh64 } = readEntry(entries, entryRange(disk, place.position, place.position + 1).offset);
  const isCompressed = index.frames !== undefined;
  const isThere = found !== undefined && found.bytes.length === length;
  const bytes = isThere && Buffer.from(found.bytes);
  if (bytes && (await isMember(bytes, { disk, block, xxh64, isCompressed, hash }))) return;
  const name = memberName(disk, block);
  throw new BackupError(
    'data_corrupt',
    `read back archive: the store did not put ${name} where it belongs, offset=${offset}`,
    { details: { key, block: name, offset } },
  );
}
