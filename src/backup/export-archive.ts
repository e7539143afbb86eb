/**
 * One byte's way from the pool to the bucket: export → normalise and verify in place → parts of one upload.
 *
 * The loop reserves memory of the process-wide budget first, has the host's next piece read straight into it, lets
 * the codec check and change it there, and hands the same memory on as part of the object. Nothing is copied but
 * ova.xml and a few headers. What is kept is decided piece by piece, so a zero block costs no memory either.
 */
import type { Cancellable, ExportStream, ObjectUpload } from '../ports.ts';
import { MAX_RESERVE_BYTES } from '../ports.ts';
import { type ArchiveDisk, BLOCK_BYTES, type KeptBlock, type Normaliser } from '../xva/types.ts';
import { createPacking, type Packing } from './packing.ts';

export interface ExportInput {
  source: ExportStream;
  upload: ObjectUpload;
  normaliser: Normaliser;
  /** How pieces become the object's bytes; as they are unless given. */
  packing?: Packing;
  /** Disks come in another order than they lie in the archive. */
  isArranged?: boolean;
  /** Called after every piece; cheap. */
  onRead(readBytes: number): void;
}

type Packed = ExportInput & { packing: Packing };

/**
 * Moves one whole export. Afterwards the source has ended, its task said success, and all bytes are committed to the
 * upload, which the caller completes.
 *
 * Errors: those of the source, the codec and the upload. Cancel: the caller disposes source and upload.
 */
export async function exportArchive(given: ExportInput, { signal }: Cancellable): Promise<number> {
  const input = { ...given, packing: given.packing ?? createPacking(given, 'none') };
  let readBytes = 0;
  for (;;) {
    signal.throwIfAborted();
    const piece = await readPiece(input, { signal });
    readBytes += piece.readBytes;
    input.onRead(readBytes);
    if (piece.end) break;
  }
  await expectEnd(input, { signal });
  await input.source.settle({ signal });
  return readBytes;
}

/** Reads one member (a block with its checksum, ova.xml, the end) and commits what the codec keeps of it. */
async function readPiece(
  input: Packed,
  { signal }: Cancellable,
): Promise<{ readBytes: number; end: boolean }> {
  const { source, upload, normaliser, packing } = input;
  let view = await upload.reserve(MAX_RESERVE_BYTES, { signal });
  let filledBytes = 0;
  for (;;) {
    const wantBytes = normaliser.wantBytes;
    if (wantBytes > view.length) view = grow(view, filledBytes, wantBytes);
    const missing = view.subarray(filledBytes, wantBytes);
    const got = await source.fill(missing, { signal });
    filledBytes += got;
    if (got < missing.length) throw normaliser.truncated(view, filledBytes);
    const step = normaliser.accept(view);
    switch (step.kind) {
      case 'more':
        continue;
      case 'keep':
        await commitBlock(input, view, step.bytes, { signal });
        return { readBytes: filledBytes, end: false };
      case 'drop':
        upload.commit(0);
        return { readBytes: filledBytes, end: false };
      case 'replace':
        upload.commit(0);
        await packing.head(step.bytes, { signal });
        arrange(input);
        return { readBytes: filledBytes, end: false };
      case 'end':
        upload.commit(0);
        await packing.end(step.bytes, { signal });
        return { readBytes: filledBytes, end: true };
    }
  }
}

/** The memory just read is a block's member; a disk's last block is always there, and ends it. */
async function commitBlock(
  { upload, normaliser, packing, isArranged }: Packed,
  memory: Buffer,
  memberBytes: number,
  { signal }: Cancellable,
): Promise<void> {
  const block = normaliser.block as KeptBlock;
  const disk = normaliser.disks.find(({ index }) => index === block.diskIndex) as ArchiveDisk;
  await packing.block({ memory, memberBytes, disk, block }, { signal });
  const endBytes = block.number * BLOCK_BYTES + block.lengthBytes;
  if (isArranged && endBytes === disk.virtualSizeBytes) await upload.endSection({ signal });
}

/** ova.xml is written, and with it is known which disks come, and in which order. */
function arrange({ upload, normaliser: { disks }, isArranged }: ExportInput): void {
  if (isArranged && disks.length > 0) upload.arrange(disks.map(({ index }) => index));
}

/** ova.xml may be larger than a block; the codec limits it (MAX_OVA_BYTES), and it is read once. */
function grow(view: Buffer, filledBytes: number, wantBytes: number): Buffer {
  const larger = Buffer.alloc(wantBytes);
  view.copy(larger, 0, 0, filledBytes);
  return larger;
}

/** A host that goes on after the end of the archive tells of an error there (an HTTP 500 text), or lies. */
async function expectEnd({ source, upload, normaliser }: ExportInput, { signal }: Cancellable) {
  const view = await upload.reserve(MAX_RESERVE_BYTES, { signal });
  const got = await source.fill(view.subarray(0, normaliser.wantBytes), { signal });
  const error = got === 0 ? undefined : normaliser.truncated(view, got);
  upload.commit(0);
  if (error) throw error;
}
