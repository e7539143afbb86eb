/**
 * A block's member as it stands in memory: header, content, padding, checksum member (docs/xva.md,
 * "Block and checksum"). Judged and written in place.
 */
import { createHash } from 'node:crypto';
import { formatXxh64 } from './hash.ts';
import { readHeader, TAR_BLOCK_BYTES, writeHeader } from './tar.ts';

/** Header of the checksum member and the checksum, padded. */
export const CHECKSUM_MEMBER_BYTES = 2 * TAR_BLOCK_BYTES;

interface BlockFacts {
  name: string;
  sizeBytes: number;
  /** Of the content. */
  xxh64: bigint;
}

/** What is wrong with the checksum at the end of `view`, if anything. */
export function judgeChecksum(view: Buffer, block: BlockFacts): string | undefined {
  const at = view.length - CHECKSUM_MEMBER_BYTES;
  const header = readHeader(view, at);
  if (header.kind !== 'member') return 'find checksum of block';
  const { name, sizeBytes } = header;
  const text = () =>
    view.toString('latin1', at + TAR_BLOCK_BYTES, at + TAR_BLOCK_BYTES + sizeBytes);
  if (name === `${block.name}.xxhash` && sizeBytes === 16) {
    if (text().toUpperCase() === formatXxh64(block.xxh64)) return undefined;
  } else if (name === `${block.name}.checksum` && sizeBytes === 40) {
    const data = view.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + block.sizeBytes);
    if (text().toLowerCase() === createHash('sha1').update(data).digest('hex')) return undefined;
  } else {
    return 'find checksum of block';
  }
  return 'verify checksum of block';
}

/**
 * Writes everything around the content anew, under `name`. True if nothing changed.
 */
export function writeMember(view: Buffer, { name, sizeBytes, xxh64 }: BlockFacts): boolean {
  const tailAt = TAR_BLOCK_BYTES + sizeBytes;
  const checksumAt = view.length - CHECKSUM_MEMBER_BYTES;
  const before = Buffer.concat([view.subarray(0, TAR_BLOCK_BYTES), view.subarray(tailAt)]);
  writeHeader(view, 0, name, sizeBytes);
  view.fill(0, tailAt, checksumAt);
  writeHeader(view, checksumAt, `${name}.xxhash`, 16);
  view.fill(0, checksumAt + TAR_BLOCK_BYTES);
  view.write(formatXxh64(xxh64), checksumAt + TAR_BLOCK_BYTES, 16, 'latin1');
  return (
    before.compare(view, 0, TAR_BLOCK_BYTES, 0, TAR_BLOCK_BYTES) === 0 &&
    before.compare(view, tailAt, view.length, TAR_BLOCK_BYTES) === 0
  );
}

/**
 * A block's member of ours with the checksum importers before CH 8.1 know: SHA-1 in place of XXH64, in as many bytes. A
 * copy.
 */
export function withSha1(member: Uint8Array): Buffer {
  const view = Buffer.from(member);
  const header = readHeader(view, 0);
  if (header.kind !== 'member') throw new TypeError('no member of a block');
  const { name, sizeBytes } = header;
  const at = view.length - CHECKSUM_MEMBER_BYTES;
  const data = view.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + sizeBytes);
  writeHeader(view, at, `${name}.checksum`, 40);
  view.fill(0, at + TAR_BLOCK_BYTES);
  view.write(createHash('sha1').update(data).digest('hex'), at + TAR_BLOCK_BYTES, 40, 'latin1');
  return view;
}
