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
import type { PartReceipt } from './multipart.ts';
import type { Outlet } from './outlet.ts';
import { completeStaged, type Delivery } from './section.ts';

/** Completes and copies all staging objects; returns the final upload's parts behind the direct ones, in order. */
export async function joinStaged(
  delivery: Delivery,
  layout: Layout,
  { direct, overflow }: Pick<Outlet, 'direct' | 'overflow'>,
  options: Cancellable,
): Promise<PartReceipt[]> {
  const { context, sender, counters } = delivery;
  const copied: PartReceipt[] = [];
  let partNumber = direct.parts;
  const needed = countPieces(layout, overflow);
  if (needed > layout.pieces) {
    throw new BackupError(
      'store_refused',
      `join an archive of this size, pieces=${needed} max_pieces=${layout.pieces}`,
      { details: { pieces: needed, max_pieces: layout.pieces }, retry: 'after-fix' },
    );
  }
  const final = await direct.multipart;
  for (const section of overflow) {
    await completeStaged(section, options);
    const pieces = cutPieces(layout, section.bytes);
    for (const piece of pieces) {
      const source = { sourceKey: section.key, ...piece, whole: pieces.length === 1 };
      const number = ++partNumber;
      await sender.room(options);
      sender.add(async (to) => {
        copied.push(await final.copyPart({ partNumber: number, ...source }, to));
        counters.joinedBytes += piece.length;
        counters.parts += 1;
        context.meter.count('store_copied_bytes', piece.length);
      });
    }
  }
  await sender.drain(options);
  return copied.sort((a, b) => a.partNumber - b.partNumber);
}
