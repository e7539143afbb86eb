/**
 * The window alone: a base that is the archive itself, plans that decide at random, acknowledgements that come at any
 * time. What is on its way must not change until it is acknowledged.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { createArena } from '../arena.ts';
import type { Arena, PartPlan, PlanStep } from '../ports.ts';
import type { PartSink } from './cutter.ts';
import type { Delivery, Part } from './section.ts';
import { createSender } from './sender.ts';
import { createWindow } from './window.ts';

const WINDOW = 64;
const LARGEST = 16;
const { signal } = new AbortController();
const limits = { minPartBytes: 4, maxCopyBytes: 20, windowBytes: WINDOW };

/** Decides by the given draws, and keeps the rules of a plan. */
function createDrawnPlan(draws: readonly number[], startAt: number): PartPlan {
  let turn = 0;
  let held = 0;
  let at = startAt;
  let copied = 0;
  const draw = () => draws[turn++ % draws.length] ?? 0;
  const sayCopy = (steps: PlanStep[]) => {
    while (copied > 0) {
      const sizeBytes = Math.min(copied, limits.maxCopyBytes);
      steps.push({ kind: 'copy', offset: at - copied, sizeBytes });
      copied -= sizeBytes;
    }
  };
  const decide = (sizeBytes: number, steps: PlanStep[]) => {
    held -= sizeBytes;
    if (draw() % 2 === 0) {
      steps.push({ kind: 'drop', sizeBytes });
      at += sizeBytes;
      copied += sizeBytes;
      return;
    }
    sayCopy(steps);
    steps.push({ kind: 'send', sizeBytes });
    at += sizeBytes;
  };
  return {
    push: ({ sizeBytes }) => {
      const steps: PlanStep[] = [];
      held += sizeBytes;
      const mostHeld = draw() % (WINDOW - LARGEST + 1);
      while (held > mostHeld) decide(1 + (draw() % held), steps);
      return steps;
    },
    end: () => {
      const steps: PlanStep[] = [];
      if (held > 0) decide(held, steps);
      sayCopy(steps);
      return steps;
    },
  };
}

interface Run {
  arena: Arena;
  pieces: readonly number[];
  draws: readonly number[];
  seed: number;
}

/** One archive through one window; what the sink got must be the archive. */
async function runWindow({ arena, pieces, draws, seed }: Run): Promise<void> {
  const total = pieces.reduce((sum, size) => sum + size, 0);
  const archive = Buffer.from(Array.from({ length: total }, (_, i) => (i * 31 + seed * 7) % 251));
  const sender = createSender({ limit: () => 3 });
  const delivery = { context: { arena }, sender, hasCrc: true } as unknown as Delivery;
  const got = Buffer.alloc(total);
  let at = 0;
  const sink: PartSink = {
    expect: () => {},
    send: (part: Part) => {
      const from = at;
      at += part.body.length;
      assert.equal(part.crc, crc32(part.body));
      sender.add(async () => {
        const turns = draws[(from + seed) % draws.length] ?? 0;
        for (let i = 0; i < turns % 7; i += 1) await Promise.resolve();
        if (turns % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
        part.body.copy(got, from);
        part.release();
      });
    },
    copy: ({ offset, length, crc }) => {
      assert.equal(offset, at);
      const range = archive.subarray(offset, offset + length);
      if (crc !== undefined) assert.equal(crc, crc32(range));
      range.copy(got, at);
      at += length;
    },
  };
  const createPlan = () => createDrawnPlan(draws, 0);
  const window = createWindow(delivery, { limits, createPlan }, sink);
  let read = 0;
  for (const sizeBytes of pieces) {
    const memory = await window.reserve(LARGEST, { signal });
    memory.fill(0xee);
    archive.copy(memory, 0, read, read + sizeBytes);
    const crc = crc32(archive.subarray(read, read + sizeBytes));
    window.commit({ sizeBytes, crc, sameOffset: read });
    read += sizeBytes;
  }
  await window.flush({ signal, evenEmpty: false });
  await sender.drain({ signal });
  window.close();
  assert.equal(at, total);
  assert(got.equals(archive));
}

const archives = fc.record({
  pieces: fc.array(fc.integer({ min: 1, max: LARGEST }), { minLength: 1, maxLength: 60 }),
  draws: fc.array(fc.nat({ max: 1000 }), { minLength: 5, maxLength: 40 }),
});

test('parts and copies are the archive, and nothing changes on its way', async () => {
  await fc.assert(
    fc.asyncProperty(archives, fc.integer({ min: 1, max: 4 }), async (archive, slabs) => {
      const arena = createArena({ totalBytes: slabs * WINDOW, unitBytes: WINDOW });
      await runWindow({ arena, ...archive, seed: slabs });
      assert.equal(arena.usedBytes, 0);
    }),
    { numRuns: 300 },
  );
});

test('many windows on memory for one or two all come to their end', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(archives, { minLength: 2, maxLength: 16 }),
      fc.integer({ min: 1, max: 3 }),
      async (given, slabs) => {
        const arena = createArena({ totalBytes: slabs * WINDOW, unitBytes: WINDOW });
        await Promise.all(given.map((archive, seed) => runWindow({ arena, ...archive, seed })));
        assert.equal(arena.usedBytes, 0);
      },
    ),
    { numRuns: 60 },
  );
});

/** Sends every piece as it comes; the parts wait in `parts`. */
function createHeldBack(arena: Arena) {
  const sender = createSender({ limit: () => 3 });
  const delivery = { context: { arena }, sender, hasCrc: false } as unknown as Delivery;
  const parts: Part[] = [];
  const sink: PartSink = {
    expect: () => {},
    send: (part) => parts.push(part),
    copy: () => {},
  };
  const createPlan = (): PartPlan => ({
    push: ({ sizeBytes }) => [{ kind: 'send', sizeBytes }],
    end: () => [],
  });
  const window = createWindow(delivery, { limits, createPlan }, sink);
  const fill = async () => {
    for (let i = 0; i < WINDOW / LARGEST; i += 1) {
      await window.reserve(LARGEST, { signal });
      window.commit({ sizeBytes: LARGEST, crc: 0 });
    }
  };
  return { window, parts, fill };
}

test('memory that is granted in the moment the own becomes free is given back', async () => {
  const arena = createArena({ totalBytes: 2 * WINDOW, unitBytes: WINDOW });
  const { window, parts, fill } = createHeldBack(arena);
  await fill();
  const others = await arena.take(WINDOW, WINDOW, { signal });
  const waiting = window.reserve(LARGEST, { signal });
  await new Promise((resolve) => setImmediate(resolve));
  for (const part of parts) part.release();
  others.release();
  await waiting;
  assert.equal(arena.usedBytes, WINDOW);
  window.close();
  assert.equal(arena.usedBytes, 0);
});

test('who waits for room leaves by his signal, and his memory is given back', async () => {
  const arena = createArena({ totalBytes: WINDOW, unitBytes: WINDOW });
  const { window, parts, fill } = createHeldBack(arena);
  await fill();
  const controller = new AbortController();
  const waiting = window.reserve(LARGEST, controller);
  controller.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  window.close();
  assert.equal(arena.usedBytes, WINDOW);
  for (const part of parts) part.release();
  for (const part of parts) part.release();
  assert.equal(arena.usedBytes, 0);
});
