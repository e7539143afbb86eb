/** How large an archive can become at most, known before a byte is read. */
import type { BackupRequest } from '../catalog/record.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES, MAX_OVA_BYTES } from '../xva/types.ts';

/** The codec refuses a larger ova.xml; rewriting it may lengthen it a little; header and end of the archive. */
const OVA_BYTES = MAX_OVA_BYTES + 4 * BLOCK_BYTES;

/** A frame of what cannot be compressed is its content, 3 bytes for each 128 KiB of it, header and checksum. */
const FRAME_BYTES = 64;

/** Every block of every disk stored, a short last one counted as whole. */
export function maxArchiveBytes(
  disks: readonly { virtualSizeBytes: number }[],
  compression: BackupRequest['compression'],
): number {
  const blockBytes = BLOCK_MEMBER_BYTES + (compression === 'zstd' ? FRAME_BYTES : 0);
  const blocks = disks.map((disk) => Math.ceil(disk.virtualSizeBytes / BLOCK_BYTES));
  return blocks.reduce((sum, count) => sum + count * blockBytes, OVA_BYTES);
}
