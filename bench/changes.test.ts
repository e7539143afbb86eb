import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_MEMBER_BYTES } from '../src/xva/types.ts';
import {
  clustered,
  HABITS,
  makeDisk,
  SEED_ARCHIVE_BYTES,
  SEED_CHANGED_BYTES,
  scattered,
  seedMachines,
} from './changes.ts';
import { limitsFor, planBackup, sumPlanned } from './planned.ts';

const MIB = 1024 ** 2;
const STORED = 20_480;
const CHANGED = 205;
const OPTIONS = { version: 'next', ovaMemberBytes: 30_720, limits: limitsFor(256) };

function plan(flags: Uint8Array) {
  const disk = makeDisk({ device: 0, blocks: 5 * STORED, storedBlocks: STORED, seed: 1 });
  return planBackup({ name: 'm', disks: [{ ...disk, changed: { next: flags } }] }, OPTIONS);
}

const count = (flags: Uint8Array) => flags.reduce((sum, flag) => sum + flag, 0);

test('a made-up disk stores as many blocks as asked for, its first and last among them', () => {
  const { numbers } = makeDisk({ device: 0, blocks: 5000, storedBlocks: 1000, seed: 7 });
  assert.equal(numbers.length, 1000);
  assert.deepEqual([numbers[0], numbers.at(-1)], [0, 4999]);
  assert(numbers.every((number, i) => i === 0 || number > (numbers[i - 1] as number)));
});

test('1 % in 50 clusters sends no more than 1.35 times what changed and 5 MiB for each cluster', () => {
  const flags = clustered(STORED, { changedBlocks: CHANGED, clusters: 50, seed: 2 });
  assert.equal(count(flags), CHANGED);
  assert.equal(flags.filter((flag, i) => flag === 1 && flags[i - 1] !== 1).length, 50);
  const { sentBytes, changedBytes } = plan(flags);
  assert.equal(changedBytes, CHANGED * BLOCK_MEMBER_BYTES);
  assert(sentBytes <= 1.35 * changedBytes + 50 * 5 * MIB, `sent_bytes=${sentBytes}`);
});

test('1 % of lone blocks sends no more than 5.1 times what changed', () => {
  const flags = scattered(STORED, CHANGED);
  assert.equal(count(flags), CHANGED);
  const { sentBytes, changedBytes } = plan(flags);
  assert(sentBytes <= 5.1 * changedBytes, `sent_bytes=${sentBytes}`);
});

test('an eighth of the seed case has its sums and sends no more than 1.15 times what changed', () => {
  const input = { scale: 8, memberBytes: BLOCK_MEMBER_BYTES, habits: HABITS, version: 'next' };
  const planned = seedMachines(input).map((machine) => planBackup(machine, OPTIONS));
  const { archiveBytes, changedBytes, sentBytes } = sumPlanned(planned);
  assert(Math.abs(archiveBytes - SEED_ARCHIVE_BYTES / 8) < 6 * MIB, `archive=${archiveBytes}`);
  assert(Math.abs(changedBytes - SEED_CHANGED_BYTES / 8) < 6 * MIB, `changed=${changedBytes}`);
  assert(sentBytes <= 1.15 * changedBytes, `sent=${sentBytes} changed=${changedBytes}`);
});
