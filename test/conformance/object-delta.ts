/**
 * The port ObjectUpload over a base and with sections in any order: the object is what was meant, byte for byte, and
 * nothing else stays.
 *
 * The archives are random: runs of pieces that are the same as a range of the base, and runs that are not. One base
 * serves all tests that leave it as it is.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { createPartPlan } from '../../src/backup/plan.ts';
import { MAX_RESERVE_BYTES, type ObjectStore, type ObjectUpload } from '../../src/ports.ts';
import { encodeCrc32 } from '../../src/s3/crc32.ts';
import { createRandom, type Random } from '../crash/random.ts';
import {
  BRIEF,
  differsAt,
  type GetServer,
  MIB,
  openRig,
  type Rig,
  SLOW,
  sampleBytes,
} from './store-target.ts';

const { signal } = new AbortController();
const BASE_PIECES = 24;
const LONG = process.env.XVAULT_TEST_LONG === '1';
const SEEDS = LONG ? 12 : 1;

export interface Piece {
  bytes: Buffer;
  sameOffset?: number;
}

export interface Base {
  key: string;
  bytes: Buffer;
  sizeBytes: number;
  etag: string;
}

/** Declares the tests; `server` is asked for when they run. */
export function testObjectDelta(name: string, server: GetServer): void {
  describe(`object store, deltas: ${name}`, () => {
    testExtents(server);
    testSections(server);
    testLimits(server);
    testLongCopies(server);
  });
}

const shared = new Map<string, Promise<Base>>();

/** A base that stays. */
export async function sharedBase(rig: Rig): Promise<Base> {
  const { endpoint } = rig.server;
  const base = shared.get(endpoint) ?? putBase(rig, `shared/${endpoint.replace(/\W/g, '-')}.xva`);
  shared.set(endpoint, base);
  return await base;
}

/** Puts a base there that the test may harm. */
export async function putBase(rig: Rig, key = `${rig.prefix}backups/base.xva`): Promise<Base> {
  const bytes = sampleBytes(BASE_PIECES * MAX_RESERVE_BYTES, 7);
  const stagingPrefix = `${rig.prefix}staging/`;
  const input = { key, contentType: 'application/x-xva', stagingPrefix, maxBytes: bytes.length };
  await using upload = await rig.store.beginUpload(input, { signal });
  await upload.write(bytes, { signal });
  const { sizeBytes, etag } = await upload.complete({ signal });
  return { key, bytes, sizeBytes, etag };
}

/** Runs of the base and runs that are new. */
export function drawPieces(random: Random, base: Base, count: number): Piece[] {
  const pieces: Piece[] = [];
  while (pieces.length < count) {
    const isSame = random.between(0, 2) > 0;
    const run = Math.min(random.between(1, isSame ? 12 : 3), count - pieces.length);
    const first = random.between(0, BASE_PIECES - run);
    for (let i = 0; i < run; i += 1) {
      const sameOffset = (first + i) * MAX_RESERVE_BYTES;
      const bytes = base.bytes.subarray(sameOffset, sameOffset + MAX_RESERVE_BYTES);
      const fresh = () => sampleBytes(MAX_RESERVE_BYTES, random.between(8, 255));
      pieces.push(isSame ? { bytes, sameOffset } : { bytes: fresh() });
    }
  }
  return pieces;
}

/** Pieces [from, to) of the base. */
export function samePieces(base: Base, from: number, to: number): Piece[] {
  return Array.from({ length: to - from }, (_, i) => {
    const sameOffset = (from + i) * MAX_RESERVE_BYTES;
    const bytes = base.bytes.subarray(sameOffset, sameOffset + MAX_RESERVE_BYTES);
    return { bytes, sameOffset };
  });
}

export async function beginDelta(
  rig: Rig,
  base: Base | undefined,
  options: { store?: ObjectStore; name?: string; maxBytes?: number } = {},
): Promise<ObjectUpload> {
  const { store = rig.store, name = 'delta.xva', maxBytes } = options;
  const input = {
    key: `${rig.prefix}backups/${name}`,
    contentType: 'application/x-xva',
    stagingPrefix: `${rig.prefix}staging/`,
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(base && { base, createPlan: createPartPlan }),
  };
  return await store.beginUpload(input, { signal });
}

export async function writePieces(upload: ObjectUpload, pieces: readonly Piece[]): Promise<void> {
  for (const { bytes, sameOffset } of pieces) {
    const memory = await upload.reserve(bytes.length, { signal });
    memory.set(bytes);
    upload.commit(bytes.length, sameOffset);
  }
}

export const joined = (pieces: readonly Piece[]) => Buffer.concat(pieces.map(({ bytes }) => bytes));

/** Completes; the object, its facts and the counters agree with `expected`. */
export async function assertStored(
  rig: Rig,
  upload: ObjectUpload,
  expected: Buffer,
  borders?: ReadonlySet<number>,
): Promise<void> {
  const stored = await upload.complete({ signal });
  const { counters } = upload;
  assert.equal(stored.sizeBytes, expected.length);
  assert.equal(counters.acceptedBytes, expected.length);
  assert.equal(counters.sentBytes + counters.copiedBytes, expected.length);
  assert.equal(await differsAt(rig.store, upload.key, expected, signal), -1, 'first difference');
  if (stored.checksum) assert.equal(stored.checksum.value, encodeCrc32(crc32(expected)));
  const seams = stored.seams ?? [];
  assert(seams.every((at, i) => at > (seams[i - 1] ?? 0) && at < expected.length));
  // A cell ends anywhere.
  if (borders && !rig.server.expected.equalParts) {
    assert.deepEqual(
      seams.filter((at) => !borders.has(at)),
      [],
      'seams lie between pieces',
    );
  }
  assert.equal(rig.arena.usedBytes, 0);
  const { objects } = await rig.store.list({ prefix: `${rig.prefix}staging/` }, { signal });
  assert.deepEqual(objects, [], 'staging is removed');
}

function testExtents(server: GetServer): void {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    test(`what is the same is copied, what is new is sent, seed ${seed}`, async (t) => {
      const target = server();
      if ('skipped' in target) return t.skip(target.skipped);
      await using rig = await openRig(target);
      const base = await sharedBase(rig);
      const random = createRandom(seed);
      const pieces = [{ bytes: sampleBytes(10_752, 3) }, ...drawPieces(random, base, 30)];
      pieces.push({ bytes: Buffer.alloc(1024) });
      const expected = joined(pieces);
      const maxBytes = expected.length + 1000;
      await using upload = await beginDelta(rig, base, { maxBytes });
      await writePieces(upload, pieces);
      await assertStored(rig, upload, expected);
      assert(upload.counters.copyRequests > 0);
      assert(upload.counters.copiedBytes > 0);
    });
  }

  test('an archive that did not change is copied but for its ends', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    const pieces = samePieces(base, 0, BASE_PIECES);
    await using upload = await beginDelta(rig, base, { maxBytes: base.sizeBytes });
    await writePieces(upload, pieces);
    await assertStored(rig, upload, base.bytes);
    assert.equal(upload.counters.sentBytes, 0);
  });

  test('the seams are where ranges of the base begin and end', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.slow) return t.skip(SLOW);
    await using rig = await openRig(target);
    if (target.expected.equalParts) return t.skip('ranges end at cells here');
    const base = await sharedBase(rig);
    const fresh: Piece[] = Array.from({ length: 6 }, (_, i) => ({
      bytes: sampleBytes(MAX_RESERVE_BYTES, 50 + i),
    }));
    const pieces = [
      ...samePieces(base, 0, 7),
      ...fresh,
      ...samePieces(base, 13, 20),
      ...samePieces(base, 5, 12),
    ];
    await using upload = await beginDelta(rig, base);
    await writePieces(upload, pieces);
    const { seams } = await upload.complete({ signal });
    assert.deepEqual(
      seams,
      [7, 13, 20].map((pieceCount) => pieceCount * MAX_RESERVE_BYTES),
    );
  });
}

function testLongCopies(server: GetServer): void {
  test('a range longer than one copy may be takes several', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    if (target.expected.equalParts) return t.skip('a cell is one copy here');
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    const store = rig.open({ quirks: { maxPartBytes: 11 * MIB } });
    const fresh = { bytes: sampleBytes(MAX_RESERVE_BYTES, 3) };
    const pieces = [...samePieces(base, 0, BASE_PIECES), fresh, ...samePieces(base, 1, 3)];
    await using upload = await beginDelta(rig, base, { store });
    await upload.write(Buffer.alloc(500), { signal });
    upload.arrange([1, 0]);
    await writePieces(upload, pieces);
    await upload.endSection({ signal });
    await writePieces(upload, pieces);
    await upload.endSection({ signal });
    const section = joined(pieces);
    await assertStored(rig, upload, Buffer.concat([Buffer.alloc(500), section, section]));
    assert(upload.counters.copyRequests >= 4);
  });
}

function testSections(server: GetServer): void {
  const orders: [string, number[]][] = [
    ['last first', [1, 0]],
    ['one in the middle late', [0, 2, 1, 3]],
    ['all turned round', [3, 2, 1, 0]],
    ['a run at the end', [2, 0, 3, 1]],
    ['as they lie', [0, 1, 2]],
  ];
  for (let seed = 1; LONG && seed <= 30; seed += 1) {
    const random = createRandom(seed);
    const places = Array.from({ length: random.between(2, 7) }, (_, i) => i);
    for (let i = places.length - 1; i > 0; i -= 1) {
      const other = random.between(0, i);
      [places[i], places[other]] = [places[other] ?? 0, places[i] ?? 0];
    }
    orders.push([`in some order, ${places.join(' ')}`, places]);
  }
  for (const [i, [what, places]] of orders.entries()) {
    for (const withBase of LONG || i === 0 ? [true, false] : [true]) {
      test(`sections that come ${what} lie in their places, ${withBase ? 'over a base' : 'all new'}`, async (t) => {
        const target = server();
        if ('skipped' in target) return t.skip(target.skipped);
        if (target.brief && i > 0) return t.skip(BRIEF);
        if (target.slow && i > 1) return t.skip(SLOW);
        await using rig = await openRig(target);
        const base = await sharedBase(rig);
        const random = createRandom(100 + i);
        await assertArranged(rig, { random, places, base, withBase });
      });
    }
  }
}

async function assertArranged(
  rig: Rig,
  given: { random: Random; places: readonly number[]; base: Base; withBase: boolean },
): Promise<void> {
  const { random, places, base, withBase } = given;
  const head = sampleBytes(random.pick([700, 150_016, 2_500_000]), 4);
  const tail = Buffer.alloc(1024);
  // Short ones, too: a disk of a few blocks, and one of nothing.
  const sections = places.map(() => {
    const short = { bytes: sampleBytes(random.between(1, 900_000), random.between(8, 255)) };
    const count = random.pick([0, 1, 3, 9, 14]);
    return [...drawPieces(random, base, count), ...(count % 2 === 1 ? [short] : [])];
  });
  const inOrder = places.flatMap((_, place) => sections[places.indexOf(place)] ?? []);
  const expected = Buffer.concat([head, joined(inOrder), tail]);
  const borders = new Set([head.length]);
  for (let at = head.length, i = 0; i < inOrder.length; i += 1) {
    at += inOrder[i]?.bytes.length ?? 0;
    borders.add(at);
  }
  const over = withBase ? base : undefined;
  await using upload = await beginDelta(rig, over, { maxBytes: expected.length });
  await upload.write(head, { signal });
  upload.arrange(places);
  for (const pieces of sections) {
    await writePieces(upload, withBase ? pieces : pieces.map(({ bytes }) => ({ bytes })));
    await upload.endSection({ signal });
  }
  await upload.write(tail, { signal });
  await assertStored(rig, upload, expected, borders);
}

function testLimits(server: GetServer): void {
  test('parts beyond the store’s number are staged, copies too, and joined', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    if (target.slow) return t.skip(SLOW);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    const random = createRandom(5);
    const places = [1, 0, 2];
    const few = rig.open({ quirks: { maxParts: 5 } });
    const sections = places.map(() => drawPieces(random, base, 14));
    const inOrder = [sections[1] ?? [], sections[0] ?? [], sections[2] ?? []];
    await using upload = await beginDelta(rig, base, { store: few });
    upload.arrange(places);
    for (const pieces of sections) {
      await writePieces(upload, pieces);
      await upload.endSection({ signal });
    }
    await assertStored(rig, upload, joined(inOrder.flat()));
    assert(upload.counters.joinedBytes > 0);
  });

  // Sixteen windows in the short run, too: src/s3/window.test.ts.
  const count = LONG ? 16 : 6;
  test(`${count} uploads over a base on memory for one window all arrive`, async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    if (target.slow) return t.skip(SLOW);
    await using rig = await openRig(target, {}, { units: 3 });
    const base = await sharedBase(rig);
    const one = async (i: number) => {
      const random = createRandom(i);
      const places = i % 2 === 0 ? [1, 0] : [0, 1];
      const sections = places.map(() => drawPieces(random, base, 6));
      const maxBytes = 13 * MAX_RESERVE_BYTES;
      await using upload = await beginDelta(rig, base, { name: `${i}.xva`, maxBytes });
      await upload.write(Buffer.alloc(1000, i), { signal });
      upload.arrange(places);
      for (const pieces of sections) {
        for (const piece of pieces) {
          await writePieces(upload, [piece]);
          await new Promise((resolve) => setImmediate(resolve));
        }
        await upload.endSection({ signal });
      }
      const stored = await upload.complete({ signal });
      const inOrder = places.map((_, place) => sections[places.indexOf(place)] ?? []);
      const expected = Buffer.concat([Buffer.alloc(1000, i), joined(inOrder.flat())]);
      assert.equal(stored.sizeBytes, expected.length);
      assert.equal(await differsAt(rig.store, upload.key, expected, signal), -1);
    };
    await Promise.all(Array.from({ length: count }, (_, i) => one(i)));
    assert.equal(rig.arena.usedBytes, 0);
  });
}
