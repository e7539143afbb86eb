/**
 * Joins staging objects into the final object by copies inside the store (UploadPartCopy).
 *
 * Every staging object is completed and proved first (size, and checksum where the store gives one). Its key is
 * unique to this upload and never written again, so nothing can change between that proof and the copy; stores that
 * ignore copy conditions (RGW, R2) make this the only guard there is.
 */
import { BackupError } from '../errors.ts';
import type { Cancellable, UploadCounters } from '../ports.ts';
import type { StoreContext } from './context.ts';
import { combineCrc32 } from './crc32.ts';
import { cutPieces, type Layout } from './layout.ts';
import type { Multipart, PartReceipt } from './multipart.ts';
import type { Sender } from './sender.ts';

/** One upload that takes parts: the final one or a staging object. */
export interface Section {
  key: string;
  multipart: Promise<Multipart>;
  /** Acknowledged parts, in any order until the end. */
  receipts: PartReceipt[];
  /** Part numbers given out. */
  parts: number;
  /** Bytes of those parts. */
  bytes: number;
  /** Completed (or about to be): there may be an object to remove. */
  stored?: boolean;
}

interface JoinInput {
  context: StoreContext;
  layout: Layout;
  /** The final upload's section first. */
  sections: Section[];
  final: Multipart;
  sender: Sender;
  counters: UploadCounters;
}

/** Completes and copies all staging objects; returns the final upload's parts behind the direct ones, in order. */
export async function joinStaged(
  { context, layout, sections, final, sender, counters }: JoinInput,
  options: Cancellable,
): Promise<PartReceipt[]> {
  const [direct, ...staged] = sections;
  const copied: PartReceipt[] = [];
  let partNumber = direct?.parts ?? 0;
  const needed = countPieces(layout, staged);
  if (needed > layout.pieces) {
    throw new BackupError(
      'store_refused',
      `join an archive of this size, pieces=${needed} max_pieces=${layout.pieces}`,
      { details: { pieces: needed, max_pieces: layout.pieces }, retry: 'after-fix' },
    );
  }
  for (const section of staged) {
    const multipart = await section.multipart;
    const crc = section.receipts.reduce((sum, r) => combineCrc32(sum, r.crc ?? 0, r.sizeBytes), 0);
    section.stored = true;
    await multipart.complete({ parts: section.receipts, crc, ifAbsent: false }, options);
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

/** Copies it takes to join what lies in `staged`. */
export function countPieces(layout: Layout, staged: Pick<Section, 'bytes'>[]): number {
  return staged.reduce((sum, { bytes }) => sum + cutPieces(layout, bytes).length, 0);
}
