/**
 * Virtual disks of the simulated pool: sparse, copy-on-write, of any size.
 *
 * A disk is an unchanging base (nothing, a generated pattern, or a fixture with a real file system) under an overlay
 * of written pages. Pages are 64 KiB: the unit in which disks are called allocated, as in a QCOW2 cluster. Memory is
 * what was written (plus the fixture's own data), never the virtual size, so a disk of many TiB costs nothing.
 * Allocated does not mean non-zero: a page written with zeros stays allocated, as on a real host.
 */

import { createHash } from 'node:crypto';
import { PAGE_BYTES, type SimDisk } from './disks/overlay.ts';

export {
  changeFixtureDisk,
  type FixtureManifest,
  type FixtureVolume,
  listFixtureDisks,
  openFixtureDisk,
  readFixtureManifest,
} from './disks/fixture.ts';
export { createGeneratedDisk, type GeneratedDiskInput } from './disks/generated.ts';
export { createSparseDisk, PAGE_BYTES, type SimDisk } from './disks/overlay.ts';

const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

/**
 * SHA-256 (hex) of what a guest would read, whatever is allocated.
 *
 * Hashed are the size (u64, little endian), then for every 64 KiB page that holds a non-zero byte, in ascending
 * order, its offset (u64, little endian) and its bytes (the last page may be short). All-zero pages are left out,
 * allocated or not: two disks have one digest exactly if they have the same size and content.
 */
export function digestDisk(disk: SimDisk): string {
  const hash = createHash('sha256');
  const number = Buffer.alloc(8);
  const update = (value: number) => {
    number.writeBigUInt64LE(BigInt(value));
    hash.update(number);
  };
  update(disk.sizeBytes);
  const buffer = new Uint8Array(PAGE_BYTES);
  for (let at = disk.nextData(0); at !== undefined; at = disk.nextData(at + PAGE_BYTES)) {
    const page = buffer.subarray(0, Math.min(PAGE_BYTES, disk.sizeBytes - at));
    disk.read(at, page);
    if (Buffer.compare(page, ZERO_PAGE.subarray(0, page.length)) === 0) continue;
    update(at);
    hash.update(page);
  }
  return hash.digest('hex');
}

/** The first `sizeBytes` of a disk that an import made larger; throws when there is anything behind them. */
export function clipDisk(disk: SimDisk, sizeBytes: number): SimDisk {
  const page = new Uint8Array(PAGE_BYTES);
  for (let at = disk.nextData(sizeBytes); at !== undefined; at = disk.nextData(at + PAGE_BYTES)) {
    const rest = page.subarray(0, Math.min(PAGE_BYTES, disk.sizeBytes - at));
    disk.read(at, rest);
    if (rest.some((byte) => byte !== 0)) throw new Error(`data behind the end: offset=${at}`);
  }
  return {
    sizeBytes,
    read: (offset, target) => disk.read(offset, target),
    write: (offset, bytes) => disk.write(offset, bytes),
    nextData(offset) {
      const at = disk.nextData(offset);
      return at === undefined || at >= sizeBytes ? undefined : at;
    },
    clone: () => clipDisk(disk.clone(), sizeBytes),
  };
}
