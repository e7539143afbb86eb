import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDraw, drawRuns } from './verify-sample.ts';

const DISKS = [{ storedBlocks: 1001 }, { storedBlocks: 1 }, { storedBlocks: 398 }];
const BLOCKS = 1400;

const blocksOf = (seed: string, percent: number) =>
  drawRuns(DISKS, percent, createDraw(seed)).flatMap(({ disk, from, to }) =>
    Array.from({ length: to - from }, (_, i) => disk * 10_000 + from + i),
  );

test('a draw is ascending, within the disks, without repeats, and the same for the same job', () => {
  for (const percent of [0.001, 1, 5, 33.3, 99]) {
    const blocks = blocksOf('job', percent);
    assert.deepEqual(
      blocks,
      [...new Set(blocks)].sort((a, b) => a - b),
    );
    assert.ok(
      blocks.every(
        (block) => block % 10_000 < (DISKS[Math.floor(block / 10_000)]?.storedBlocks ?? 0),
      ),
    );
    assert.ok(blocks.length >= Math.min((BLOCKS * percent) / 100 - 4, BLOCKS), `${blocks.length}`);
    assert.ok(blocks.length <= Math.max(12, (BLOCKS * percent) / 100 + 8), `${blocks.length}`);
    assert.deepEqual(blocks, blocksOf('job', percent));
  }
  assert.notDeepEqual(blocksOf('job', 5), blocksOf('another', 5));
  assert.equal(blocksOf('all', 100).length, BLOCKS);
  assert.deepEqual(drawRuns([], 5, createDraw('none')), []);
});

test('any block is looked at with the probability that was asked for', () => {
  const JOBS = 4000;
  const watched = [0, 1, 500, 1000, 10_000, 20_000, 20_397];
  for (const percent of [5, 20]) {
    const seen = new Map(watched.map((block) => [block, 0]));
    for (let job = 0; job < JOBS; job += 1) {
      const blocks = new Set(blocksOf(`job-${job}`, percent));
      for (const block of watched)
        if (blocks.has(block)) seen.set(block, (seen.get(block) ?? 0) + 1);
    }
    // five standard deviations: the seeds are fixed, so what passes once passes always
    const slack = 5 * Math.sqrt(((percent / 100) * (1 - percent / 100)) / JOBS);
    for (const [block, count] of seen) {
      assert.ok(Math.abs(count / JOBS - percent / 100) < slack, `${block}: ${count} of ${JOBS}`);
    }
  }
});
