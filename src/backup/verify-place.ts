/** Says of damage where it lies, as far as that is known: the object, and the disk and block a byte of it belongs to. */
import type { Backup } from '../catalog/record.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { BlocksIndex } from '../xva/types.ts';
import { type ArchivePlaces, createPlaces, type MemberPlace } from './archive-places.ts';

/** What was wrong of an archive, with key, disk and block in message and details. Other errors stay as they are. */
export function locate(
  error: unknown,
  { backup, index }: { backup: Backup; index: BlocksIndex | undefined },
): unknown {
  if (!isBackupError(error, 'data_corrupt')) return error;
  const { key } = backup.archive;
  const place = error.details.block === undefined && index ? findPlace(error, index) : undefined;
  const found = place && describePlace(place, backup);
  return new BackupError(
    'data_corrupt',
    [error.message, found?.text, `key=${key}`].filter(Boolean).join(', '),
    { details: { ...error.details, ...found?.details, key }, cause: error.cause ?? error },
  );
}

/** The block at this place, for people and for machines. */
export function describePlace(
  { places, disk, position }: { places: ArchivePlaces } & MemberPlace,
  { disks }: Backup,
): { text: string; details: Record<string, unknown> } {
  const { number } = places.blockOf({ disk, position });
  const name = disks[disk]?.name ?? '';
  const source = places.diskOf({ disk, position }).archiveId;
  return {
    text: `disk=${disk} name=${JSON.stringify(name)} block=${number}`,
    details: { disk_index: disk, disk_name: name, source_id: source, block: number },
  };
}

/** Offsets are told of the object where a frame cannot be read, and of the archive before compression otherwise. */
function findPlace({ details }: BackupError, index: BlocksIndex) {
  const { frames: _, ...plain } = index;
  const { object_offset_bytes: ofObject, offset_bytes: ofArchive } = details;
  const [places, offset] =
    typeof ofObject === 'number'
      ? [createPlaces(index), ofObject]
      : [createPlaces(plain), ofArchive];
  const place = typeof offset === 'number' ? places.placeAt(offset) : undefined;
  return place && { places, ...place };
}
