/**
 * The ids of our archives, which are also the folders of their disks (docs/xva.md, "Ids").
 *
 * Importers want disks in the order of their ids as text and ids of which none is a prefix of
 * another. A disk's id is its device number, so that it, and with it every header of the disk's
 * blocks, stays the same from backup to backup.
 */
import { BackupError } from '../errors.ts';
import type { ArchiveDisk, DiskOrder } from './types.ts';

/** XenAPI's device numbers end at 255; ids of other objects begin here. */
const FIRST_OTHER = 256;
/** Disks have three digits, always. */
const DISK_DIGITS = 3;
/** The last number of a disk: one must be left for the machine itself. */
const LAST_DISK = 998;

/** Gives each disk its id and its place; they stay in the order in which they came. */
export function nameDisks(disks: ArchiveDisk[], order: Exclude<DiskOrder, 'kept'>): ArchiveDisk[] {
  const numbers = order === 'arrival' ? disks.map((_, i) => i) : numberByDevice(disks);
  if (numbers.some((number) => number > LAST_DISK)) {
    throw new BackupError('data_corrupt', `read ova.xml: too many disks, found=${disks.length}`);
  }
  const ranked = [...numbers].sort((a, b) => a - b);
  return disks.map((disk, i) => {
    const number = numbers[i] as number;
    return { ...disk, index: ranked.indexOf(number), archiveId: idOf(number, DISK_DIGITS) };
  });
}

/**
 * Ids of the `count` objects that are no disks: behind all disks, with three digits while these
 * suffice. If not, all of them get more, and begin with digits no disk has.
 */
export function nameOthers(disks: readonly ArchiveDisk[], count: number): string[] {
  const used = disks.map(({ archiveId }) => Number(archiveId.slice('Ref:'.length)));
  const next = Math.max(FIRST_OTHER, ...used.map((number) => number + 1));
  let digits = DISK_DIGITS;
  let unit = 1;
  for (; (10 ** DISK_DIGITS - next) * unit < count; digits++) unit *= 10;
  return Array.from({ length: count }, (_, i) => idOf(next * unit + i, digits));
}

/** The lowest device of several that name one disk; what is no number comes last. */
export function compareDevices(a: string, b: string): number {
  const [first, second] = [deviceNumber(a), deviceNumber(b)];
  if (first !== second) return (first ?? FIRST_OTHER) - (second ?? FIRST_OTHER);
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * A disk without a device number of its own (a name, a number twice) is numbered behind all that
 * have one, by the text of its device and its uuid: at the next backup that may be another number,
 * which costs time and nothing else.
 */
function numberByDevice(disks: readonly ArchiveDisk[]): number[] {
  const numbers = new Map<number, ArchiveDisk>();
  const left: ArchiveDisk[] = [];
  for (const disk of disks.toSorted(byUuid)) {
    const number = deviceNumber(disk.userdevice);
    if (number === undefined || numbers.has(number)) left.push(disk);
    else numbers.set(number, disk);
  }
  left.sort((a, b) => compareDevices(a.userdevice, b.userdevice) || byUuid(a, b));
  for (const [i, disk] of left.entries()) numbers.set(FIRST_OTHER + i, disk);
  const found = new Map([...numbers].map(([number, disk]) => [disk, number]));
  return disks.map((disk) => found.get(disk) as number);
}

function byUuid(a: ArchiveDisk, b: ArchiveDisk): number {
  return a.liveVdiUuid < b.liveVdiUuid ? -1 : a.liveVdiUuid > b.liveVdiUuid ? 1 : 0;
}

function deviceNumber(userdevice: string): number | undefined {
  const number = /^(0|[1-9]\d{0,2})$/.test(userdevice) ? Number(userdevice) : FIRST_OTHER;
  return number < FIRST_OTHER ? number : undefined;
}

function idOf(number: number, digits: number): string {
  return `Ref:${String(number).padStart(digits, '0')}`;
}
