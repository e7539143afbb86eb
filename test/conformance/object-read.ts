/**
 * The port ObjectStore, large objects read front to back: all bytes in order, whatever happens to single ranges, and all
 * memory given back.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/ports.ts';
import {
  BRIEF,
  type GetServer,
  openRig,
  type Rig,
  sampleBytes,
  UNIT_BYTES,
} from './store-target.ts';

const { signal } = new AbortController();
const lost = (error: unknown) => isBackupError(error, 'precondition_failed');

/** Declares the tests; `server` is asked for when they run. */
export function testObjectRead(name: string, server: GetServer): void {
  describe(`object store, reading: ${name}`, () => {
    testRanges(server);
    testFills(server);
    testChanges(server);
  });
}

async function store(rig: Rig, sizeBytes: number, seed = 1) {
  const bytes = sampleBytes(sizeBytes, seed);
  const key = `${rig.prefix}large`;
  const { etag } = await rig.store.put(key, bytes, { signal });
  return { bytes, input: { key, sizeBytes, etag } };
}

async function readOf(from: ObjectStore, input: Parameters<ObjectStore['read']>[0]) {
  const pieces: Buffer[] = [];
  for await (const piece of from.read(input, { signal })) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

function testRanges(server: GetServer): void {
  for (const units of [1, 2, 6]) {
    test(`an object of several ranges is read whole with room for ${units} of them`, async (t) => {
      const target = server();
      if ('skipped' in target) return t.skip(target.skipped);
      if (target.brief && units < 6) return t.skip(BRIEF);
      await using rig = await openRig(target, {}, { units });
      const { bytes, input } = await store(rig, 3 * UNIT_BYTES + 77);
      assert.ok((await readOf(rig.store, input)).equals(bytes));
      assert.equal(rig.arena.usedBytes, 0);
      assert.equal(rig.proxy.requests.GetObject, 4);
    });
  }

  test('one range of an object is read and nothing else', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const { bytes, input } = await store(rig, 3 * UNIT_BYTES + 77);
    const range = { offset: 70, length: UNIT_BYTES + 5 };
    const part = bytes.subarray(range.offset, range.offset + range.length);
    assert.ok((await readOf(rig.store, { ...input, range })).equals(part));
    assert.equal(rig.proxy.requests.GetObject, 2);
    assert.equal(rig.arena.usedBytes, 0);
  });

  test('ranges that are refused or cut short are asked for again', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const { bytes, input } = await store(rig, 2 * UNIT_BYTES);
    const effect = { kind: 'status', status: 503, code: 'SlowDown' } as const;
    rig.proxy.plan({ effect, operation: 'GetObject', times: 6 });
    rig.proxy.plan({ effect: { kind: 'lose-answer' }, operation: 'GetObject' });
    assert.ok((await readOf(rig.store, input)).equals(bytes));
    assert.equal(rig.proxy.struck, 7);
    assert.equal(rig.arena.usedBytes, 0);
  });

  test('a reader who leaves gives all memory back', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const { input } = await store(rig, 4 * UNIT_BYTES);
    for await (const piece of rig.store.read(input, { signal })) {
      assert.equal(piece.length, UNIT_BYTES);
      break;
    }
    assert.equal(rig.arena.usedBytes, 0);
    const leaving = new AbortController();
    const reason = new Error('enough');
    rig.proxy.plan({ effect: { kind: 'hold' }, operation: 'GetObject' });
    const read = rig.store.read(input, leaving).next();
    leaving.abort(reason);
    await assert.rejects(read, (error) => error === reason);
    assert.equal(rig.arena.usedBytes, 0);
  });
}

function testFills(server: GetServer): void {
  test('memory of the caller is filled from any place, again where an answer breaks off, and nothing else is', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const { bytes, input } = await store(rig, 3000);
    rig.proxy.plan({ effect: { kind: 'lose-answer' }, operation: 'GetObject' });
    const memory = Buffer.alloc(1200, 7);
    await rig.store.fill({ ...input, offset: 1900 }, memory.subarray(100, 1100), { signal });
    assert.ok(memory.subarray(100, 1100).equals(bytes.subarray(1900, 2900)));
    const rest = [memory.subarray(0, 100), memory.subarray(1100)];
    for (const around of rest) assert.ok(around.equals(Buffer.alloc(100, 7)));
    assert.equal(rig.arena.usedBytes, 0);
    await assert.rejects(rig.store.fill({ ...input, offset: 2900 }, memory, { signal }));
    const other = { ...input, etag: '"other"', offset: 0 };
    await assert.rejects(rig.store.fill(other, memory, { signal }), lost);
    await rig.store.delete(input.key, { signal });
    await assert.rejects(rig.store.fill({ ...input, offset: 0 }, memory, { signal }), lost);
  });
}

function testChanges(server: GetServer): void {
  test('an object that is gone or replaced is not read as the one that was meant', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const { input } = await store(rig, 2 * UNIT_BYTES);
    const reading = rig.store.read(input, { signal });
    await reading.next();
    await reading.return();
    await store(rig, 2 * UNIT_BYTES, 2);
    await assert.rejects(readOf(rig.store, input), lost);
    await rig.store.put(input.key, 'short', { signal });
    await assert.rejects(readOf(rig.store, input), lost);
    await rig.store.delete(input.key, { signal });
    await assert.rejects(readOf(rig.store, input), lost);
    assert.equal(rig.arena.usedBytes, 0);
  });
}
