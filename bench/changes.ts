/**
 * Made-up machines: which blocks their disks store, and which of them change until the next backup.
 *
 * Nothing here holds bytes. A block is known by its position among the stored ones of its disk, since that is how blocks
 * lie in an archive: what is not stored leaves no gap there. Everything follows from a seed, so two runs plan the same.
 */
import { createRandom, type Random } from '../test/crash/random.ts';

export interface MachineDisk {
  device: number;
  /** Of the virtual size, in blocks of 1 MiB. */
  blocks: number;
  /** Numbers of the stored blocks, ascending; the first and the last block of a disk are always stored. */
  numbers: Uint32Array;
  /** For each later backup, by its name: 1 for every stored block that differs from the first backup's. */
  changed: Record<string, Uint8Array>;
}

export interface Machine {
  name: string;
  /** In the order in which the host exports them. */
  disks: MachineDisk[];
}

/** A disk of which nothing has changed yet: its stored blocks lie in runs, as files do. */
export function makeDisk(input: {
  device: number;
  blocks: number;
  storedBlocks: number;
  seed: number;
}): MachineDisk {
  const { device, blocks, storedBlocks, seed } = input;
  const random = createRandom(seed);
  const longest = Math.min(LONGEST_RUN, Math.ceil(storedBlocks / 2));
  const runs: number[] = [];
  for (let left = storedBlocks; left > 0; left -= runs.at(-1) as number) {
    runs.push(Math.min(left, random.between(Math.min(LEAST_RUN, longest), longest)));
  }
  const [first = 0, ...others] = runs;
  const last = others.pop() ?? 0;
  const starts = place(others, blocks - first - last, random).map((start) => first + start);
  const numbers = new Uint32Array(storedBlocks);
  let position = 0;
  for (const [i, start] of [0, ...starts, blocks - last].entries()) {
    const length = [first, ...others, last][i] as number;
    for (let number = start; number < start + length; number += 1) numbers[position++] = number;
  }
  return { device, blocks, numbers, changed: {} };
}

const LEAST_RUN = 64;
const LONGEST_RUN = 1024;

/** Clusters of 1 to twice the mean length less one, as many as wanted, each somewhere in its own stretch of the disk. */
export function clustered(
  storedBlocks: number,
  { changedBlocks, clusters, seed }: { changedBlocks: number; clusters: number; seed: number },
): Uint8Array {
  const random = createRandom(seed);
  const lengths = Array.from({ length: clusters }, () => Math.floor(changedBlocks / clusters));
  for (let i = 0; i < changedBlocks % clusters; i += 1) lengths[i] = (lengths[i] as number) + 1;
  // Two by two they differ as far as they can, which changes neither their number nor their sum.
  for (let i = 0; i + 1 < clusters; i += 2) {
    const moved = random.between(0, (lengths[i] as number) - 1);
    lengths[i] = (lengths[i] as number) - moved;
    lengths[i + 1] = (lengths[i + 1] as number) + moved;
  }
  const slot = Math.floor(storedBlocks / clusters);
  const flags = new Uint8Array(storedBlocks);
  for (const [i, length] of lengths.entries()) {
    const start = i * slot + random.between(0, Math.max(0, slot - length - APART));
    flags.fill(1, start, start + length);
  }
  return flags;
}

/** Nearer clusters than this are one, since the smallest part is five blocks. */
const APART = 6;

/** Lone blocks, each in the middle of its own stretch of the disk: the worst there is. */
export function scattered(storedBlocks: number, changedBlocks: number): Uint8Array {
  const flags = new Uint8Array(storedBlocks);
  const slot = storedBlocks / changedBlocks;
  for (let i = 0; i < changedBlocks; i += 1) flags[Math.floor((i + 0.5) * slot)] = 1;
  return flags;
}

/** Every block. */
export function everything(storedBlocks: number): Uint8Array {
  return new Uint8Array(storedBlocks).fill(1);
}

// ------------------------------------------------------------------------------------------------ the seed case

/** Bytes of all archives, and of them those that were new, in a real case of several machines. */
export const SEED_ARCHIVE_BYTES = 269e9;
/** @see SEED_ARCHIVE_BYTES */
export const SEED_CHANGED_BYTES = 21.64e9;

/** How much of what changed is what; the shares of a machine are 1 in all. */
interface Mix {
  journal: number;
  table: number;
  files: number;
}

const DATABASE: Mix = { journal: 0.4, table: 0.5, files: 0.1 };
const MAIL: Mix = { journal: 0.2, table: 0.25, files: 0.55 };
const FILES: Mix = { journal: 0.1, table: 0, files: 0.9 };
const SERVICE: Mix = { journal: 0.5, table: 0, files: 0.5 };
const LOGS: Mix = { journal: 0.9, table: 0, files: 0.1 };

/** GB of archive, GB changed: the sums are those of the case, how they were spread is not known. */
const SEED_MACHINES: readonly { name: string; gb: number; changedGb: number; mix: Mix }[] = [
  { name: 'sales-db', gb: 60, changedGb: 5.6, mix: DATABASE },
  { name: 'erp-db', gb: 45, changedGb: 4.5, mix: DATABASE },
  { name: 'mail', gb: 64, changedGb: 5.2, mix: MAIL },
  { name: 'files', gb: 70, changedGb: 4.0, mix: FILES },
  { name: 'web', gb: 20, changedGb: 1.5, mix: SERVICE },
  { name: 'logs', gb: 10, changedGb: 0.84, mix: LOGS },
];

/** What is supposed about the writing; other suppositions are planned as well, to see what hangs on them. */
export interface Habits {
  /** Of the pages of a table that is in use: how many a day's work writes to. */
  writtenPages: number;
  /** Of all changed blocks: how many are alone, beside the file systems' own. */
  loneBlocks: number;
}

/** See `changesOf`. */
export const HABITS: Habits = { writtenPages: 0.05, loneBlocks: 0 };

/**
 * The machines of the seed case, one disk each, `scale` times smaller; lengths of clusters stay what they are.
 *
 * Known are the two sums only. Machines, shares and habits are supposed. `version` names the later backup.
 */
export function seedMachines(input: {
  scale: number;
  memberBytes: number;
  habits: Habits;
  version: string;
}): Machine[] {
  const { scale, memberBytes, habits, version } = input;
  const blocks = (gb: number) => Math.round((gb * 1e9) / memberBytes / scale);
  return SEED_MACHINES.map(({ name, gb, changedGb, mix }, i) => {
    const storedBlocks = blocks(gb);
    const disk = makeDisk({ device: 0, blocks: 2 * storedBlocks, storedBlocks, seed: 100 + i });
    const changedBlocks = blocks(changedGb);
    const flags = changesOf({ storedBlocks, changedBlocks, mix, habits, seed: 200 + i });
    return { name, disks: [{ ...disk, changed: { [version]: flags } }] };
  });
}

/**
 * Clusters of changed blocks as programs and file systems make them, by what is documented of how they allocate. A model, not
 * a measurement of machines.
 *
 * - File systems: ext4 keeps the bitmaps and inode tables of 16 groups of 128 MiB together (docs.kernel.org,
 *   filesystems/ext4, "Flexible Block Groups"), so for each 2 GiB in use bitmaps and a piece of an inode table are
 *   written anew: two lone blocks. They are dear: five times their size.
 * - Journals: PostgreSQL writes and recycles WAL files of 16 MiB (manual, "WAL Configuration"), MySQL's redo log
 *   and binary logs are longer still. One to eight such files in a row, touching 16 n + 1 blocks.
 * - Tables in use: InnoDB's pages are 16 KiB, 64 of them an extent of 1 MiB, and large tables grow by up to four
 *   extents at once (manual, "File Space Management"). If a day's work writes to a share p of a table's pages, a
 *   block of 1 MiB stays as it was with probability (1 - p)^64: 4 % for p = 5 %, 53 % for p = 1 %. So at this grain a
 *   table in use is nearly all changed, or else mostly not. Stretches of 64 to 512 blocks.
 * - New files and messages: ext4 packs small ones into reservations of 2 MiB (fs/ext4/mballoc.h, 512 blocks of 4 KiB) and
 *   gives large ones runs of their own: 2 to 64 blocks, each doubling as often as the next.
 */
function changesOf(input: {
  storedBlocks: number;
  changedBlocks: number;
  mix: Mix;
  habits: Habits;
  seed: number;
}): Uint8Array {
  const { storedBlocks, changedBlocks, mix, habits, seed } = input;
  const random = createRandom(seed);
  const lone = Math.round(changedBlocks * habits.loneBlocks) + fileSystemBlocks(storedBlocks);
  const rest = changedBlocks - lone;
  const journal = Math.round(rest * mix.journal);
  const table = Math.round(rest * mix.table);
  const clusters = [
    ...fill(lone, () => solid(1)),
    ...fill(journal, () => solid(16 * random.between(1, 8) + 1)),
    ...fill(table, () => written(random.between(64, 512), habits.writtenPages, random)),
    ...fill(rest - journal - table, () => solid(Math.round(2 * 32 ** draw(random)))),
  ];
  shuffle(clusters, random);
  const starts = place(
    clusters.map(({ length }) => length),
    storedBlocks,
    random,
  );
  const flags = new Uint8Array(storedBlocks);
  for (const [i, cluster] of clusters.entries()) flags.set(cluster, starts[i] as number);
  return flags;
}

const GROUP_BLOCKS = 2048;
const PAGES_OF_BLOCK = 64;

const fileSystemBlocks = (storedBlocks: number) => 2 * Math.ceil(storedBlocks / GROUP_BLOCKS);
const solid = (length: number) => new Uint8Array(length).fill(1);
const draw = (random: Random) => random.between(0, 999_999) / 1e6;

function written(length: number, writtenPages: number, random: Random): Uint8Array {
  const unchanged = (1 - writtenPages) ** PAGES_OF_BLOCK;
  return solid(length).map(() => (draw(random) < unchanged ? 0 : 1));
}

/** Clusters with `count` changed blocks in all; the last one is cut short. */
function fill(count: number, make: () => Uint8Array): Uint8Array[] {
  const made: Uint8Array[] = [];
  for (let left = count; left > 0; ) {
    const cluster = make();
    let end = 0;
    for (; left > 0 && end < cluster.length; end += 1) left -= cluster[end] as number;
    made.push(cluster.subarray(0, end));
  }
  return made;
}

function shuffle<T>(items: T[], random: Random): void {
  for (let i = items.length - 1; i > 0; i -= 1) {
    const j = random.between(0, i);
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
}

/** Where stretches of these lengths begin if they lie in this order within `total`, with gaps drawn at random. */
function place(lengths: readonly number[], total: number, random: Random): number[] {
  const free = total - lengths.reduce((sum, length) => sum + length, 0);
  if (free < 0) throw new Error(`stretches of ${total - free} do not fit into ${total}`);
  const weights = Array.from({ length: lengths.length + 1 }, () => random.between(1, 1000));
  const perWeight = free / weights.reduce((sum, weight) => sum + weight, 0);
  let at = 0;
  return lengths.map((length, i) => {
    const start = at + Math.floor((weights[i] as number) * perWeight);
    at = start + length;
    return start;
  });
}
