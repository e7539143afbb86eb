/** How large an archive can become at most, known before a byte is read. */

const BLOCK_BYTES = 1_048_576;
/** A block with its header, its checksum and the checksum's header (docs/xva.md). */
const BLOCK_MEMBER_BYTES = 1_050_112;
/** The codec refuses a larger ova.xml; rewriting it may lengthen it a little; header and end of the archive. */
const OVA_BYTES = 20 * 1_048_576;

/** Every block of every disk stored, a short last one counted as whole. */
export function maxArchiveBytes(disks: readonly { virtualSizeBytes: number }[]): number {
  const blocks = disks.map((disk) => Math.ceil(disk.virtualSizeBytes / BLOCK_BYTES));
  return blocks.reduce((sum, count) => sum + count * BLOCK_MEMBER_BYTES, OVA_BYTES);
}
