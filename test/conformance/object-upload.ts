/**
 * The port ObjectUpload: archives of any size through little memory, whole or not at all.
 *
 * Units are the smallest a part fits into and the store is told of few part numbers, so that growing, staging and
 * joining happen within some dozen MiB.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { isBackupError } from '../../src/errors.ts';
import { MAX_RESERVE_BYTES, type ObjectStore, type ObjectUpload } from '../../src/ports.ts';
import { encodeCrc32 } from '../../src/s3/crc32.ts';
import {
  BRIEF,
  differsAt,
  type GetServer,
  MIB,
  openRig,
  type Rig,
  SLOW,
  sampleBytes,
  UNIT_BYTES,
} from './store-target.ts';

const { signal } = new AbortController();
const LONG = process.env.XVAULT_TEST_LONG === '1';

/** Declares the tests; `server` is asked for when they run. */
export function testObjectUpload(name: string, server: GetServer): void {
  describe(`object store, uploads: ${name}`, () => {
    testSizes(server);
    testManyParts(server);
    testAbandoned(server);
    testManyAtOnce(server);
  });
}

export async function begin(
  rig: Rig,
  name = 'archive.xva',
  store: ObjectStore = rig.store,
  maxBytes?: number,
): Promise<ObjectUpload> {
  const key = `${rig.prefix}backups/${name}`;
  const stagingPrefix = `${rig.prefix}staging/`;
  const bound = maxBytes === undefined ? {} : { maxBytes };
  const input = { key, contentType: 'application/x-xva', stagingPrefix, ...bound };
  return await store.beginUpload(input, { signal });
}

/** Nothing listed, nothing unfinished, no memory held. */
export async function assertNothingLeft(rig: Rig): Promise<void> {
  const { objects } = await rig.store.list({ prefix: rig.prefix }, { signal });
  assert.deepEqual(objects, []);
  if (rig.server.expected.listUploads) {
    assert.deepEqual(await rig.store.listUploads(rig.prefix, { signal }), []);
  }
  assert.equal(rig.arena.usedBytes, 0);
}

function testSizes(server: GetServer): void {
  const sizes = [0, 1, 5 * MIB - 1, 5 * MIB, UNIT_BYTES, UNIT_BYTES + 1, 3 * UNIT_BYTES + 12_345];
  const special = new Set([0, UNIT_BYTES, 3 * UNIT_BYTES + 12_345]);
  for (const size of sizes) {
    test(`an object of ${size} bytes arrives as it was`, async (t) => {
      const target = server();
      if ('skipped' in target) return t.skip(target.skipped);
      if (target.brief && !special.has(size)) return t.skip(BRIEF);
      await using rig = await openRig(target);
      await using upload = await begin(rig);
      const bytes = sampleBytes(size);
      await upload.write(bytes, { signal });
      const stored = await upload.complete({ signal });
      assert.equal(stored.sizeBytes, size);
      assert.equal(upload.counters.acceptedBytes, size);
      assert.equal(upload.counters.sentBytes, size);
      assert.equal((await rig.store.head(upload.key, { signal }))?.etag, stored.etag);
      assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
      if (rig.server.expected.checksum && upload.counters.parts > 1) {
        assert.deepEqual(stored.checksum, { algorithm: 'crc32', value: encodeCrc32(crc32(bytes)) });
      }
      assert.equal(rig.arena.usedBytes, 0);
      await upload[Symbol.asyncDispose]();
      assert.notEqual(await rig.store.head(upload.key, { signal }), undefined);
    });
  }

  test('pieces of any length, partly or not committed, follow each other without a gap', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    await using upload = await begin(rig);
    const bytes = sampleBytes(17 * MIB, 2);
    const lengths = [1, MAX_RESERVE_BYTES, 512, 700_001, 0, MAX_RESERVE_BYTES - 1, 63];
    for (let at = 0, i = 0; at < bytes.length; i += 1) {
      const want = lengths[i % lengths.length] ?? 0;
      const memory = await upload.reserve(want, { signal });
      assert.equal(memory.length, want);
      const used = Math.min(i % 3 === 0 ? Math.floor(want / 2) : want, bytes.length - at);
      memory.fill(0xee);
      memory.set(bytes.subarray(at, at + used));
      upload.commit(used);
      at += used;
    }
    await upload.complete({ signal });
    assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
  });
}

function testManyParts(server: GetServer): void {
  test('an archive that outgrows its part numbers is staged and joined', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.slow) return t.skip(SLOW);
    // Eight parts sent directly, a staging object of ten, and one of what is left.
    await using rig = await openRig(target, { quirks: { maxParts: 10 } });
    await using upload = await begin(rig);
    const size = 18 * UNIT_BYTES + 4321;
    const bytes = sampleBytes(size, 3);
    for (let at = 0; at < size; at += MIB) {
      await upload.write(bytes.subarray(at, at + MIB), { signal });
    }
    const stored = await upload.complete({ signal });
    assert.equal(stored.sizeBytes, size);
    assert(upload.counters.joinedBytes > 10 * UNIT_BYTES);
    assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
    const { objects } = await rig.store.list({ prefix: rig.prefix }, { signal });
    assert.deepEqual(
      objects.map(({ key }) => key),
      [upload.key],
      'staging is removed',
    );
    assert.equal(rig.arena.usedBytes, 0);
  });

  test('more than all part numbers can hold is refused, and nothing stays', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target, { quirks: { maxParts: 2 } });
    {
      await using upload = await begin(rig);
      const piece = sampleBytes(MIB);
      await assert.rejects(
        async () => {
          for (let i = 0; i < 40; i += 1) await upload.write(piece, { signal });
        },
        (error) => isBackupError(error, 'store_refused') && error.details.max_parts === 2,
      );
    }
    await assertNothingLeft(rig);
  });

  test('equal parts: an archive that surely fits is sent directly', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, { quirks: { equalParts: true } });
    const size = 2 * UNIT_BYTES + 777;
    await using upload = await begin(rig, 'direct.xva', rig.store, size);
    const bytes = sampleBytes(size, 4);
    for (let at = 0; at < size; at += 999_999) {
      await upload.write(bytes.subarray(at, at + 999_999), { signal });
    }
    await upload.complete({ signal });
    assert.equal(upload.counters.joinedBytes, 0);
    assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
  });

  test('equal parts: an archive of unknown size is staged and joined by equal copies', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, { quirks: { equalParts: true, maxParts: 3 } });
    await using upload = await begin(rig);
    const size = 5 * UNIT_BYTES + 777;
    const bytes = sampleBytes(size, 5);
    await upload.write(bytes, { signal });
    await upload.complete({ signal });
    assert.equal(upload.counters.joinedBytes, size);
    assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
  });
}

function testAbandoned(server: GetServer): void {
  test('an upload that is given up leaves nothing', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    {
      await using upload = await begin(rig);
      await upload.write(sampleBytes(3 * UNIT_BYTES), { signal });
    }
    await assertNothingLeft(rig);
  });

  test('an upload that is given up while staging leaves nothing', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, { quirks: { maxParts: 5 } });
    {
      await using upload = await begin(rig);
      await upload.write(sampleBytes(6 * UNIT_BYTES), { signal });
    }
    await assertNothingLeft(rig);
  });

  test('who waits for memory leaves by his signal', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target, {}, { units: 1 });
    {
      await using upload = await begin(rig, 'first.xva');
      await upload.write(Buffer.alloc(1), { signal });
      await using second = await begin(rig, 'second.xva');
      const controller = new AbortController();
      const waiting = second.reserve(10, controller);
      controller.abort(new Error('enough'));
      await assert.rejects(waiting, /enough/);
    }
    await assertNothingLeft(rig);
  });

  test('a key that is taken is not overwritten', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalComplete) return t.skip('not honoured here');
    await using first = await begin(rig);
    await first.write(Buffer.from('first'), { signal });
    const stored = await first.complete({ signal });
    await using second = await begin(rig);
    await second.write(Buffer.from('second'), { signal });
    await assert.rejects(second.complete({ signal }), (e) =>
      isBackupError(e, 'precondition_failed'),
    );
    assert.equal((await rig.store.head(first.key, { signal }))?.etag, stored.etag);
  });

  test('an upload aborted by somebody else says so', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    {
      await using upload = await begin(rig);
      await rig.store.abortUpload(upload, { signal });
      await rig.store.abortUpload(upload, { signal });
      await upload.write(Buffer.from('late'), { signal });
      await assert.rejects(upload.complete({ signal }), (e) => isBackupError(e, 'store_refused'));
    }
    await assertNothingLeft(rig);
  });

  test('unfinished uploads are found by their prefix', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.listUploads) return t.skip('not listed here');
    await using upload = await begin(rig);
    const [found, ...others] = await rig.store.listUploads(rig.prefix, { signal });
    assert.deepEqual(others, []);
    assert.equal(found?.key, upload.key);
    assert.equal(found?.uploadId, upload.uploadId);
    assert(Math.abs((found?.initiated ?? 0) - Date.now()) < 120_000);
  });
}

function testManyAtOnce(server: GetServer): void {
  const count = LONG ? 16 : 6;
  test(`${count} uploads on memory for three parts all arrive`, async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.slow) return t.skip(SLOW);
    await using rig = await openRig(target, {}, { units: 3 });
    const one = async (i: number) => {
      await using upload = await begin(rig, `${i}.xva`);
      const bytes = sampleBytes(UNIT_BYTES + 1000 * i, i + 1);
      for (let at = 0; at < bytes.length; at += MAX_RESERVE_BYTES) {
        const piece = bytes.subarray(at, at + MAX_RESERVE_BYTES);
        const memory = await upload.reserve(piece.length, { signal });
        await new Promise((resolve) => setImmediate(resolve));
        memory.set(piece);
        upload.commit(piece.length);
        assert(rig.arena.usedBytes <= 3 * UNIT_BYTES);
      }
      const stored = await upload.complete({ signal });
      assert.equal(stored.sizeBytes, bytes.length);
      assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
    };
    await Promise.all(Array.from({ length: count }, (_, i) => one(i)));
    assert.equal(rig.arena.usedBytes, 0);
  });
}
