/**
 * Deltas in trouble: a base that is no more what it was, copies that fail, ranges that are not the same after all. What
 * is promised is kept or an error says why not, and nothing stays.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import { MAX_RESERVE_BYTES } from '../../src/ports.ts';
import { createRandom } from '../crash/random.ts';
import type { ProxyEffect } from '../sim/fault-proxy.ts';
import {
  assertStored,
  type Base,
  beginDelta,
  drawPieces,
  joined,
  putBase,
  samePieces,
  sharedBase,
  writePieces,
} from './object-delta.ts';
import { assertNothingLeft } from './object-upload.ts';
import {
  BRIEF,
  type GetServer,
  openRig,
  type Rig,
  sampleBytes,
  UNIT_BYTES,
} from './store-target.ts';

const { signal } = new AbortController();
const LOSE: ProxyEffect = { kind: 'lose-answer' };
const BUSY: ProxyEffect = { kind: 'status', status: 503, code: 'SlowDown', retryAfterSeconds: 1 };
const BROKEN: ProxyEffect = { kind: 'status', status: 500, code: 'InternalError' };

/** Declares the tests; `server` is asked for when they run. */
export function testDeltaFaults(name: string, server: GetServer): void {
  describe(`object store, deltas in trouble: ${name}`, () => {
    testRefusals(server);
    testFaults(server);
  });
}

function testFaults(server: GetServer): void {
  test('copies, parts and looks that fail or whose answers are lost are tried again', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    const fresh = { bytes: sampleBytes(MAX_RESERVE_BYTES, 8) };
    const sections = [[fresh, ...samePieces(base, 0, 13)], samePieces(base, 8, 22)];
    const head = sampleBytes(150_016, 4);
    await using upload = await beginDelta(rig, base, { maxBytes: 31 * MAX_RESERVE_BYTES });
    await upload.write(head, { signal });
    upload.arrange([1, 0]);
    const faults: [string, ProxyEffect][] = [
      ['UploadPartCopy', BUSY],
      ['UploadPartCopy', LOSE],
      ['UploadPart', { kind: 'reset', afterBytes: 1_000_000 }],
      ['HeadObject', BROKEN],
      ['GetObject', BUSY],
      ['CompleteMultipartUpload', LOSE],
    ];
    for (const [operation, effect] of faults) rig.proxy.plan({ operation, effect });
    for (const pieces of sections) {
      await writePieces(upload, pieces);
      await upload.endSection({ signal });
    }
    const [first = [], second = []] = sections;
    await assertStored(rig, upload, Buffer.concat([head, joined(second), joined(first)]));
    assert(upload.counters.retries >= 4);
    assert(rig.proxy.struck >= 4);
  });

  test('the looks at the base are as patient as parts: work of hours hangs on them', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    await using upload = await beginDelta(rig, base, { maxBytes: 31 * MAX_RESERVE_BYTES });
    rig.proxy.plan({ effect: BROKEN, operation: 'HeadObject', times: 7 });
    const pieces = samePieces(base, 0, 12);
    await writePieces(upload, pieces);
    await assertStored(rig, upload, joined(pieces));
    assert.equal(rig.proxy.struck, 7);
  });

  test('a copy that fails for good ends the upload, and nothing stays', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    const times = Number.POSITIVE_INFINITY;
    rig.proxy.plan({ effect: BROKEN, operation: 'UploadPartCopy', times });
    {
      await using upload = await beginDelta(rig, base, { maxBytes: 31 * MAX_RESERVE_BYTES });
      const work = async () => {
        await writePieces(upload, samePieces(base, 0, 20));
        await upload.complete({ signal });
      };
      await assert.rejects(work, (error) => isBackupError(error, 'store_unavailable'));
    }
    await assertNothingLeft(rig);
  });

  test('bytes that are not the same in the base are never reported as stored', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (!target.expected.checksum) return t.skip('no checksum here: seams are read back instead');
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    await using upload = await beginDelta(rig, base);
    const [piece, ...others] = samePieces(base, 0, 12);
    const other = { ...piece, bytes: sampleBytes(MAX_RESERVE_BYTES, 77) };
    const work = async () => {
      await writePieces(upload, [...others, other].sort(byOffset));
      await upload.complete({ signal });
    };
    await assert.rejects(work, (error) => isBackupError(error, 'data_corrupt'));
  });

  test('where the store honours it, a copy is refused as soon as the base is another', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.copyConditions !== true) return t.skip('not honoured here');
    await using rig = await openRig(target, { quirks: { copyConditions: true } });
    const base = await putBase(rig);
    await using upload = await beginDelta(rig, base);
    const fresh = sampleBytes(UNIT_BYTES, 8);
    await writePieces(upload, samePieces(base, 0, 10));
    while (upload.counters.copiedBytes === 0) await upload.write(fresh, { signal });
    await rig.store.put(base.key, base.bytes.subarray(1), { signal });
    const work = async () => {
      await writePieces(upload, samePieces(base, 12, 22));
      await upload.complete({ signal });
    };
    await assert.rejects(work, (error) => {
      assert(isBackupError(error, 'precondition_failed') && error.details.base === 'changed');
      const { cause } = error;
      return isBackupError(cause) && cause.details.operation === 'UploadPartCopy';
    });
  });
}

const byOffset = (a: { sameOffset?: number }, b: { sameOffset?: number }) =>
  (a.sameOffset ?? 0) - (b.sameOffset ?? 0);

function testRefusals(server: GetServer): void {
  const given: [string, 'changed' | 'gone', (rig: Rig, base: Base) => Promise<unknown>][] = [
    ['was replaced', 'changed', (rig, { key }) => rig.store.put(key, 'other', { signal })],
    ['is gone', 'gone', (rig, { key }) => rig.store.delete(key, { signal })],
  ];
  for (const [what, state, harm] of given) {
    for (const moment of ['before the first copy', 'before completing']) {
      test(`a base that ${what} ${moment} ends the upload, and nothing stays`, async (t) => {
        const target = server();
        if ('skipped' in target) return t.skip(target.skipped);
        if (target.brief && (state === 'changed') !== (moment === 'before completing'))
          return t.skip(BRIEF);
        await using rig = await openRig(target);
        const base = await putBase(rig);
        const pieces = [{ bytes: sampleBytes(9000) }, ...samePieces(base, 2, 15)];
        {
          await using upload = await beginDelta(rig, base, { maxBytes: 31 * MAX_RESERVE_BYTES });
          if (moment === 'before the first copy') await harm(rig, base);
          const work = async () => {
            await writePieces(upload, pieces);
            const last = sampleBytes(UNIT_BYTES, 9);
            if (moment === 'before completing') {
              // What follows decides the copy; no more than the store's number of parts.
              for (let i = 0; i < 9 && upload.counters.copiedBytes === 0; i += 1) {
                await upload.write(last, { signal });
              }
              assert(upload.counters.copiedBytes > 0);
              await harm(rig, base);
            }
            await upload.complete({ signal });
          };
          await assert.rejects(work, (error) => {
            assert(isBackupError(error, 'precondition_failed'), String(error));
            assert.equal(error.details.base, state);
            assert.notEqual(error.retry, 'later');
            return true;
          });
        }
        await rig.store.delete(base.key, { signal });
        await assertNothingLeft(rig);
      });
    }
  }

  test('an upload that is given up while lanes are staged leaves nothing', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const base = await sharedBase(rig);
    for (const ended of [1, 2]) {
      await using upload = await beginDelta(rig, base, { maxBytes: 60 * MAX_RESERVE_BYTES });
      await upload.write(sampleBytes(1000), { signal });
      upload.arrange([1, 0, 2]);
      for (let i = 0; i < ended; i += 1) {
        await writePieces(upload, drawPieces(createRandom(i), base, 14));
        await upload.endSection({ signal });
      }
      await writePieces(upload, drawPieces(createRandom(9), base, 9));
    }
    await assertNothingLeft(rig);
  });

  test('a store that cannot copy parts refuses a base and another order at once', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    const base = { key: `${rig.prefix}x`, sizeBytes: 9, etag: '"x"', bytes: Buffer.alloc(9) };
    const store = rig.open({ quirks: { copyParts: false } });
    const refused = (error: unknown) =>
      isBackupError(error, 'store_refused') && error.details.copy_parts === false;
    await assert.rejects(beginDelta(rig, base, { store }), refused);
    {
      await using upload = await beginDelta(rig, undefined, { store });
      await upload.write(Buffer.from('head'), { signal });
      assert.throws(() => upload.arrange([1, 0]), refused);
    }
    await assertNothingLeft(rig);
    await using upload = await beginDelta(rig, undefined, { store, maxBytes: 10 });
    upload.arrange([0]);
    await upload.endSection({ signal });
    await upload.write(Buffer.from('tail'), { signal });
    await assertStored(rig, upload, Buffer.from('tail'));
  });
}
