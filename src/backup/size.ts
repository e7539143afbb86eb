/** How large an archive can become at most, known before a byte is read. */
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES, MAX_OVA_BYTES } from '../xva/types.ts';

/** The codec refuses a larger ova.xml; rewriting it may lengthen it a little; header and end of the archive. */
const OVA_BYTES = MAX_OVA_BYTES + 4 * BLOCK_BYTES;

/** Every block of every disk stored, a short last one counted as whole. */
export function maxArchiveBytes(disks: readonly { virtualSizeBytes: number }[]): number {
  const blocks = disks.map((disk) => Math.ceil(disk.virtualSizeBytes / BLOCK_BYTES));
  return blocks.reduce((sum, count) => sum + count * BLOCK_MEMBER_BYTES, OVA_BYTES);
}
