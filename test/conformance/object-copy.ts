/**
 * The port ObjectStore, copies made by the store: the copy is the source, byte for byte, no byte comes here, and what is cut
 * off or refused leaves nothing.
 *
 * Pieces are made small, so that objects of some MiB have several.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/ports.ts';
import type { StoreSettings } from '../../src/s3/store.ts';
import {
  BRIEF,
  differsAt,
  type GetServer,
  MIB,
  openRig,
  type Rig,
  sampleBytes,
} from './store-target.ts';

const { signal } = new AbortController();
const SMALL_PIECES: Partial<StoreSettings> = { quirks: { maxPartBytes: 5 * MIB } };
const TYPE = 'application/x-xva';

/** Declares the tests; `server` is asked for when they run. */
export function testObjectCopy(name: string, server: GetServer): void {
  describe(`object store, copying: ${name}`, () => {
    testWhole(server);
    testAnew(server);
    testTroubles(server);
  });
}

async function putSource(rig: Rig, sizeBytes: number, seed = 1) {
  const bytes = sampleBytes(sizeBytes, seed);
  const key = `${rig.prefix}backups/source.xva`;
  const stagingPrefix = `${rig.prefix}staging/`;
  const input = { key, contentType: TYPE, stagingPrefix, maxBytes: sizeBytes };
  // several parts here, other pieces in the copy: what an ETag says of both differs
  await using upload = await rig.open({ quirks: {} }).beginUpload(input, { signal });
  await upload.write(bytes, { signal });
  const stored = await upload.complete({ signal });
  return { bytes, from: { key, sizeBytes, etag: stored.etag }, stored };
}

async function assertSame(store: ObjectStore, key: string, bytes: Buffer) {
  assert.equal(await differsAt(store, key, bytes, signal), -1);
}

function testWhole(server: GetServer): void {
  test('objects of any size are copied, with no byte on the line, and once only', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, SMALL_PIECES);
    for (const sizeBytes of [1, 700, 5 * MIB, 12 * MIB + 3]) {
      const { bytes, from, stored } = await putSource(rig, sizeBytes, (sizeBytes % 200) + 1);
      await rig.store.facts({ signal });
      const before = { ...rig.proxy.requests };
      const to = `${rig.prefix}pinned/${sizeBytes}.xva`;
      const seen: number[] = [];
      const copy = await rig.store.copy(
        { from, to, contentType: TYPE },
        { signal, onProgress: (copiedBytes) => seen.push(copiedBytes) },
      );
      assert.equal(copy.sizeBytes, sizeBytes);
      if (stored.checksum && copy.checksum) assert.deepEqual(copy.checksum, stored.checksum);
      assert.equal(seen.at(-1), sizeBytes);
      const pieces = Math.ceil(sizeBytes / (5 * MIB));
      const used = (name: string) => (rig.proxy.requests[name] ?? 0) - (before[name] ?? 0);
      assert.equal(used('UploadPartCopy'), pieces);
      assert.equal(used('GetObject') + used('UploadPart') + used('PutObject'), 0);
      await assertSame(rig.store, to, bytes);
      const again = await rig.store.copy({ from, to, contentType: TYPE }, { signal });
      assert.equal(again.etag, copy.etag);
      assert.equal(used('UploadPartCopy'), pieces, 'a copy that is there is not made again');
      await rig.store.delete(from.key, { signal });
    }
  });

  test('where parts cannot be copied it is one call', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const { bytes, from } = await putSource(rig, 6 * MIB);
    const store = rig.open({ quirks: { copyParts: false } });
    const to = `${rig.prefix}pinned/at-once.xva`;
    const copy = await store.copy({ from, to, contentType: TYPE }, { signal });
    assert.equal(copy.sizeBytes, bytes.length);
    assert.equal(rig.proxy.requests.UploadPartCopy ?? 0, 0);
    await assertSame(store, to, bytes);
  });
}

function testAnew(server: GetServer): void {
  for (const copyParts of [true, false]) {
    test(`a copy is made anew onto itself, and is young again, ${copyParts ? 'in pieces' : 'at once'}`, async (t) => {
      const target = server();
      if ('skipped' in target) return t.skip(target.skipped);
      if (target.brief && !copyParts) return t.skip(BRIEF);
      await using rig = await openRig(target);
      const { bytes, from } = await putSource(rig, 6 * MIB);
      const quirks = copyParts ? { maxPartBytes: 5 * MIB } : { copyParts };
      const store = rig.open({ quirks });
      const to = from.key;
      const before = await store.head(to, { signal });
      await store.facts({ signal });
      const operation = copyParts ? 'UploadPartCopy' : 'PutObject';
      const used = rig.proxy.requests[operation] ?? 0;
      const copy = await store.copy({ from, to, contentType: TYPE, anew: true }, { signal });
      assert.equal(copy.sizeBytes, bytes.length);
      const after = await store.head(to, { signal });
      assert.ok((rig.proxy.requests[operation] ?? 0) > used, 'it was written');
      assert.ok((after?.lastModified ?? 0) >= (before?.lastModified ?? 0));
      await assertSame(store, to, bytes);
      assert.deepEqual(await store.listUploads(rig.prefix, { signal }), []);
    });
  }
}

function testTroubles(server: GetServer): void {
  test('pieces that are refused or whose answer is lost are copied again', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target, SMALL_PIECES);
    const { bytes, from } = await putSource(rig, 12 * MIB);
    const effect = { kind: 'status', status: 503, code: 'SlowDown' } as const;
    rig.proxy.plan({ effect, operation: 'UploadPartCopy', times: 4 });
    rig.proxy.plan({ effect: { kind: 'lose-answer' }, operation: 'UploadPartCopy' });
    rig.proxy.plan({ effect: { kind: 'lose-answer' }, operation: 'CompleteMultipartUpload' });
    const to = `${rig.prefix}pinned/copy.xva`;
    await rig.store.copy({ from, to, contentType: TYPE }, { signal });
    assert.equal(rig.proxy.struck, 6);
    await assertSame(rig.store, to, bytes);
  });

  test('a source that is gone or another by now is not copied, and nothing is left', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target, SMALL_PIECES);
    const { from } = await putSource(rig, 12 * MIB);
    const to = `${rig.prefix}pinned/copy.xva`;
    const lost = (base: string) => (error: unknown) =>
      isBackupError(error, 'precondition_failed') && error.details.base === base;
    const copy = () => rig.store.copy({ from, to, contentType: TYPE }, { signal });
    await rig.store.delete(from.key, { signal });
    await putSource(rig, 12 * MIB, 9);
    await assert.rejects(copy(), lost('changed'));
    await rig.store.delete(from.key, { signal });
    await assert.rejects(copy(), lost('gone'));
    assert.equal(await rig.store.head(to, { signal }), undefined);
    assert.deepEqual(await rig.store.listUploads(rig.prefix, { signal }), []);
  });

  test('a copy that is cancelled leaves nothing', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target, SMALL_PIECES);
    const { from } = await putSource(rig, 12 * MIB);
    const to = `${rig.prefix}pinned/copy.xva`;
    const leaving = new AbortController();
    const reason = new Error('enough');
    const copying = rig.store.copy(
      { from, to, contentType: TYPE },
      { signal: leaving.signal, onProgress: () => leaving.abort(reason) },
    );
    await assert.rejects(copying, (error) => error === reason);
    assert.equal(await rig.store.head(to, { signal }), undefined);
    assert.deepEqual(await rig.store.listUploads(rig.prefix, { signal }), []);
  });
}
