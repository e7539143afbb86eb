/**
 * Joins staging objects into the final object by copies inside the store (UploadPartCopy).
 *
 * Every staging object is completed and proved first (size, and checksum where the store gives one). Its key is
 * unique to this upload and never written again, so nothing can change between that proof and the copy; stores that
 * ignore copy conditions (RGW, R2) make this the only guard there is.
 */
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { countPieces, cutPieces, type Layout } from './layout.ts';
import type { Outlet } from './outlet.ts';
import { addCopy, completeStaged, type Delivery, takeSlot } from './section.ts';

/** Completes and copies the staging objects that hold what outgrew the direct parts, behind these. */
export async function joinStaged(
  delivery: Delivery,
  layout: Layout,
  { direct, overflow }: Pick<Outlet, 'direct' | 'overflow'>,
  options: Cancellable,
): Promise<void> {
  const { sender } = delivery;
  const needed = countPieces(layout, overflow);
  if (needed > layout.pieces) {
    throw new BackupError(
      'store_refused',
      `join an archive of this size, pieces=${needed} max_pieces=${layout.pieces}`,
      { details: { pieces: needed, max_pieces: layout.pieces }, retry: 'after-fix' },
    );
  }
  for (const section of overflow) {
    await completeStaged(section, options);
    for (const piece of cutPieces(layout, section.bytes)) {
      await sender.room(options);
      addCopy(delivery, takeSlot(direct, piece.length), { staged: section, ...piece });
    }
  }
  await sender.drain(options);
}
