/**
 * All of an archive, read front to back; of a job that was interrupted, from where it had come.
 *
 * The first try streams the archive and makes its index anew, which proves everything (verify-archive.ts). Meanwhile each block is
 * compared with the index that is there, too, and every minute the job remembers how many were right. Whoever goes on
 * begins behind them and reads the rest by that index, as a sample does (verify-sample.ts): ova.xml, the end, and every block of the
 * rest, header to checksum. What then is not compared any more is the store's checksum of the whole object, which needs all bytes in
 * one go. An index that cannot be used, or another object under the key, means to begin again.
 */
import type { Job } from '../catalog/record.ts';
import type { BlocksIndex, KeptBlock } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import type { LookedAt } from './find-index.ts';
import { isSame, readWhole, type StoredArchive } from './verify-archive.ts';
import { indexDamage } from './verify-damage.ts';
import { checkRuns, createEntries, placeOfRun, type Run, runsFrom } from './verify-sample.ts';

/** A minute of reading is no loss; a write a minute no load. */
const REMEMBER_EVERY_MS = 60_000;

interface Whole {
  job: Job;
  stored: StoredArchive;
  index: LookedAt;
  onRead(readBytes: number): void;
}

/** Returns how many blocks the archive holds, all of them right. Errors: `data_corrupt` as `readWhole`, and of the index. */
export async function checkWhole(input: Whole, context: StepContext): Promise<number> {
  const { job, stored, index, onRead } = input;
  const { verify: former } = job.checkpoint;
  const isGoingOn = former !== undefined && former.etag === stored.archive.etag;
  if (isGoingOn && index.index !== undefined) {
    return await checkRest({ ...input, index, from: former.blocks }, context);
  }
  const old = index.index ?? index.directory;
  const visitor = index.index === undefined ? {} : createMarks({ stored, index }, context);
  const summary = await readWhole({ ...stored, old, visitor, onRead }, context);
  // the archive first: what is wrong with an index is told only of one that is right
  if (index.index === undefined) throw indexDamage(stored.backup, index);
  if (!(await isSame(summary.index, index, context))) {
    throw indexDamage(stored.backup, { why: 'its index is not that of its blocks' });
  }
  return summary.disks.reduce((sum, { storedBlocks }) => sum + storedBlocks, 0);
}

type Usable = LookedAt & { index: BlocksIndex };

async function checkRest(
  { stored, index, from, onRead }: Omit<Whole, 'index'> & { index: Usable; from: number },
  context: StepContext,
): Promise<number> {
  const { disks } = index.index;
  const all = disks.reduce((sum, { storedBlocks }) => sum + storedBlocks, 0);
  const runs = runsFrom(disks, from);
  const [first] = runs;
  const skipped = first ? placeOfRun(first, index.index).offset : stored.archive.sizeBytes;
  const mark = createMark(stored, context);
  let done = from;
  const onRun = async (run: Run) => {
    done += run.to - run.from;
    await mark(done);
  };
  await checkRuns(
    {
      ...stored,
      index: index.index,
      indexKey: index.key,
      runs,
      onRun,
      onRead: (readBytes) => onRead(Math.min(stored.archive.sizeBytes, skipped + readBytes)),
    },
    context,
  );
  return all;
}

/** Counts the blocks that are those of the index, from the first on, and remembers how many. */
function createMarks(
  { stored, index }: { stored: StoredArchive; index: Usable },
  context: StepContext,
): { block(block: KeptBlock): Promise<void> } {
  const entries = createEntries({ indexKey: index.key }, context);
  const mark = createMark(stored, context);
  const positions = index.index.disks.map(() => 0);
  let count = 0;
  let isIndexRight = true;
  return {
    block: async ({ diskIndex, xxh64 }) => {
      const disk = index.index.disks[diskIndex];
      const position = positions[diskIndex] ?? 0;
      if (!isIndexRight || disk === undefined || position >= disk.storedBlocks) return;
      positions[diskIndex] = position + 1;
      const [sum] = await entries(disk, position, position + 1);
      isIndexRight = sum === xxh64;
      if (isIndexRight) await mark(++count);
    },
  };
}

function createMark({ archive: { etag } }: StoredArchive, { engine, remember }: StepContext) {
  const { clock } = engine;
  let lastMs = clock.elapsed();
  return async (blocks: number): Promise<void> => {
    if (clock.elapsed() - lastMs < REMEMBER_EVERY_MS) return;
    lastMs = clock.elapsed();
    await remember({ verify: { etag, blocks } });
  };
}
