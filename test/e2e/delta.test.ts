/**
 * Deltas on real bytes: each is byte for byte what a full of the same snapshot is, and each restores alone.
 *
 * Short by default; XVAULT_TEST_LONG=1 runs thirty days and every persona.
 */
import '../fewer-collections.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pool } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import type { PersonaName, SimMachine } from '../sim/pool.ts';
import { assertDaysRestore, assertRestores, contents, LIVING } from './delta-days.ts';
import {
  assertSameBytes,
  createDraw,
  createLab,
  type Lab,
  resultOf,
  writeNoise,
} from './delta-world.ts';
import { startWorld, type WorldOptions } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };
const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const PERSONAS: readonly PersonaName[] = isLong ? ['8.0', '8.2', '8.3', 'xs9'] : ['8.3'];
const DAYS = isLong ? 30 : 5;
const ROUNDS = isLong ? 3 : 1;

async function open(
  persona: PersonaName,
  seed: number,
  over: WorldOptions = {},
): Promise<Lab & AsyncDisposable> {
  const world = await startWorld({ pool: { persona, seed, machines: [LIVING] }, ...over });
  return {
    ...createLab(world, 'living'),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

for (const persona of PERSONAS) {
  test(`a delta and a full of the same snapshot have the same bytes, on a pool of version ${persona}`, async () => {
    await using lab = await open(persona, 11);
    await assertSameBytes(lab, { seed: 7, rounds: ROUNDS });
  });
}

test('they have the same bytes where the store wants parts of one size', async () => {
  await using lab = await open('8.3', 13, { equalParts: true });
  await assertSameBytes(lab, { seed: 17, rounds: ROUNDS });
});

for (const equalParts of isLong ? [false, true] : [false]) {
  test(`compressed archives have the same bytes, too, and restore; parts of one size: ${equalParts}`, async () => {
    await using lab = await open('8.3', 19, { equalParts });
    const root = lab.machine.disks[0] as SimMachine['disks'][number];
    // frames longer than the blocks in them, and enough of them to be copied
    writeNoise(root, { offset: 0, bytes: 16 * MIB }, createDraw(3));
    const plain = resultOf(await lab.backup());
    const first = resultOf(await lab.backup({ compression: 'zstd' }));
    assert.equal(first.mode, 'full', 'a plain archive is no base of a compressed one');
    assert.equal(plain.archive.content_digest, first.archive.content_digest);
    const wish = { seed: 43, rounds: ROUNDS, compression: 'zstd' as const };
    // of few cells hardly one is the same from end to end
    await assertSameBytes(lab, equalParts ? { ...wish, leastCopiedBytes: 1 } : wish);
    const last = resultOf(await lab.backup({ compression: 'zstd' }));
    assert.equal(last.mode, 'delta');
    await assertRestores(lab.store, last, contents(lab.machine));
  });
}

for (const seed of isLong ? [29, 30, 31] : [29]) {
  test(`days in a row restore each alone, whatever the machine does and whatever fails, seed ${seed}`, async () => {
    await using lab = await open('8.3', 23);
    await assertDaysRestore(lab, { seed, days: DAYS });
  });
}

test('a dry run tells mode, base and bytes; the backup then is what was told', async () => {
  await using lab = await open('8.3', 37);
  const before = (await lab.backup({ dry_run: true })).dry_run;
  assert.equal(before?.mode, 'full');
  assert.equal(before?.estimated_sent_bytes, before?.estimated_bytes);
  const first = resultOf(await lab.backup());
  assert.deepEqual([first.mode, first.sent_ratio], ['full', 1]);
  const second = resultOf(await lab.backup());
  const told = (await lab.backup({ dry_run: true })).dry_run;
  assert.equal(told?.mode, 'delta');
  assert.equal(told?.base?.backup_id, second.id);
  assert.equal(told?.estimated_sent_bytes, second.sent_bytes);
  const third = resultOf(await lab.backup());
  assert.equal(third.base?.backup_id, second.id);
  assert.equal(third.mode_reason, told?.mode_reason);
  assert.equal(third.sent_bytes, second.sent_bytes, 'nothing changed in between');
  assert(third.sent_bytes < third.archive.size_bytes / 4, `${third.sent_bytes} sent`);
  const { uploads, copies, reads } = third.requests ?? { uploads: 0, copies: 0, reads: 0 };
  assert(uploads > 0 && copies > 0 && reads > 0);
  assert.equal(third.estimated_cost?.currency, 'USD');
  assert.deepEqual(await lab.world.audit(), []);
});

test('a base that vanishes in mid-job costs nothing but its bytes', async () => {
  await using lab = await open('8.3', 31);
  const { machine, store, world } = lab;
  const first = resultOf(await lab.backup());
  writeNoise(
    machine.disks[0] as SimMachine['disks'][number],
    { offset: 0, bytes: 100 },
    createDraw(1),
  );
  let opened = 0;
  const pool: Pool = {
    ...world.pool,
    openExport: async (input, to) => {
      opened += 1;
      if (opened === 1) await store.delete(first.archive.key, options);
      return await world.pool.openExport(input, to);
    },
  };
  const second = resultOf(await lab.backup({ mode: 'delta' }, pool));
  assert.equal(opened, 2);
  assert.equal(second.mode, 'full');
  assert.match(second.mode_reason, /is gone/);
  assert.equal(second.base, undefined);
  assert.match(second.warnings.join(), /everything was sent instead/);
  await assertRestores(store, second, contents(machine));
  assert.deepEqual(await world.audit(), []);
});
