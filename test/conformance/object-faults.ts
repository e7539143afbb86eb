/**
 * The object store in trouble: resets, refusals, lost answers. What is promised is kept or an error says why not.
 *
 * Each trouble is made by the fault proxy, so real servers meet them as well as the embedded one.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { ProxyEffect } from '../sim/fault-proxy.ts';
import { assertNothingLeft, begin } from './object-upload.ts';
import {
  BRIEF,
  differsAt,
  type GetServer,
  hastyClock,
  openRig,
  SLOW,
  sampleBytes,
  UNIT_BYTES,
} from './store-target.ts';

const { signal } = new AbortController();
const LOSE: ProxyEffect = { kind: 'lose-answer' };
const BUSY: ProxyEffect = { kind: 'status', status: 503, code: 'SlowDown', retryAfterSeconds: 1 };
const BROKEN: ProxyEffect = { kind: 'status', status: 500, code: 'InternalError' };

/** Declares the tests; `server` is asked for when they run. */
export function testObjectFaults(name: string, server: GetServer): void {
  describe(`object store, in trouble: ${name}`, () => {
    testUnclearWrites(server);
    testUploadFaults(server);
    testLastingFaults(server);
  });
}

function testUnclearWrites(server: GetServer): void {
  test('a write whose answer was lost is found to have won', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalWrites) return t.skip('not honoured here');
    const key = `${rig.prefix}lease`;
    rig.proxy.plan({ effect: LOSE, operation: 'PutObject' });
    const first = await rig.store.put(key, 'mine 1', { signal, ifAbsent: true });
    assert.equal((await rig.store.head(key, { signal }))?.etag, first.etag);
    rig.proxy.plan({ effect: LOSE, operation: 'PutObject' });
    const second = await rig.store.put(key, 'mine 2', { signal, ifMatch: first.etag });
    assert.equal((await rig.store.head(key, { signal }))?.etag, second.etag);
    assert.equal(rig.proxy.struck, 2);
  });

  test('a write whose every answer was lost is found to have won', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalWrites) return t.skip('not honoured here');
    const key = `${rig.prefix}lease`;
    rig.proxy.plan({ effect: LOSE, operation: 'PutObject', times: 5 });
    const { etag } = await rig.store.put(key, 'mine', { signal, ifAbsent: true });
    assert.equal((await rig.store.head(key, { signal }))?.etag, etag);
  });

  test('a write that was overtaken after its answer was lost has lost', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (!target.expected.conditionalWrites) return t.skip('not honoured here');
    let overtake = async () => {};
    await using rig = await openRig(target, {}, { clock: hastyClock(() => overtake()) });
    const key = `${rig.prefix}lease`;
    overtake = async () => {
      await rig.open({}, { clock: hastyClock() }).put(key, 'theirs', { signal });
    };
    rig.proxy.plan({ effect: LOSE, operation: 'PutObject' });
    await assert.rejects(rig.store.put(key, 'mine', { signal, ifAbsent: true }), (error) =>
      isBackupError(error, 'precondition_failed'),
    );
    assert.equal(
      Buffer.from((await rig.store.get(key, { signal }))?.bytes ?? []).toString(),
      'theirs',
    );
  });

  test('a delete whose answer was lost has deleted', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}gone`;
    const { etag } = await rig.store.put(key, 'x', { signal });
    rig.proxy.plan({ effect: LOSE, operation: 'DeleteObject' });
    await rig.store.delete(key, { signal, ifMatch: etag });
    assert.equal(await rig.store.head(key, { signal }), undefined);
  });

  test('a storm of refusals is waited out, as long as the store asked', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    const waits: number[] = [];
    const clock = hastyClock();
    const watched = {
      ...clock,
      sleep: async (ms: number, options: { signal: AbortSignal }) => {
        waits.push(ms);
        await clock.sleep(ms, options);
      },
    };
    await using rig = await openRig(target, {}, { clock: watched });
    rig.proxy.plan({ effect: BUSY, operation: 'PutObject', times: 4 });
    await rig.store.put(`${rig.prefix}x`, 'x', { signal });
    assert.equal(waits.length, 4);
    assert(waits.every((ms) => ms >= 1000));
  });
}

function testUploadFaults(server: GetServer): void {
  const cases: [string, string, ProxyEffect][] = [
    ['a part cut in the middle', 'UploadPart', { kind: 'reset', afterBytes: 2_000_000 }],
    ['a part cut at its head', 'UploadPart', { kind: 'reset', afterBytes: 1 }],
    ['a part refused', 'UploadPart', BUSY],
    ['a part whose answer was lost', 'UploadPart', LOSE],
    ['a beginning whose answer was lost', 'CreateMultipartUpload', LOSE],
    ['a completion refused', 'CompleteMultipartUpload', BROKEN],
    ['a completion whose answer was lost', 'CompleteMultipartUpload', LOSE],
    ['a last look that failed', 'HeadObject', BROKEN],
  ];
  for (const [what, operation, effect] of cases) {
    test(`an upload survives ${what}`, async (t) => {
      const target = server();
      if ('skipped' in target) return t.skip(target.skipped);
      if (target.brief && operation !== 'CompleteMultipartUpload') return t.skip(BRIEF);
      if (target.slow && operation !== 'CompleteMultipartUpload') return t.skip(SLOW);
      await using rig = await openRig(target);
      await rig.store.facts({ signal });
      rig.proxy.plan({ effect, operation, times: 2 });
      await using upload = await begin(rig, 'a.xva', rig.store, 3 * UNIT_BYTES);
      const bytes = sampleBytes(2 * UNIT_BYTES + 99);
      await upload.write(bytes, { signal });
      await upload.complete({ signal });
      assert.equal(rig.proxy.struck, 2);
      assert.equal(upload.counters.retries >= 1, true);
      assert.equal(upload.counters.sentBytes, bytes.length);
      assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
      assert.equal(rig.arena.usedBytes, 0);
    });
  }

  test('a join survives copies that fail or whose answers are lost', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    if (target.slow) return t.skip(SLOW);
    await using rig = await openRig(target, { quirks: { maxParts: 5 } });
    await rig.store.facts({ signal });
    rig.proxy.plan({ effect: BROKEN, operation: 'UploadPartCopy' });
    rig.proxy.plan({ effect: LOSE, operation: 'UploadPartCopy' });
    await using upload = await begin(rig);
    const bytes = sampleBytes(6 * UNIT_BYTES);
    await upload.write(bytes, { signal });
    await upload.complete({ signal });
    assert.equal(rig.proxy.struck, 2);
    assert.equal(await differsAt(rig.store, upload.key, bytes, signal), -1);
  });
}

function testLastingFaults(server: GetServer): void {
  const unavailable = (error: unknown) => isBackupError(error, 'store_unavailable');

  test('a part that fails for good ends the upload, and nothing stays', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    await rig.store.facts({ signal });
    rig.proxy.plan({ effect: BROKEN, operation: 'UploadPart', times: Number.POSITIVE_INFINITY });
    {
      await using upload = await begin(rig);
      const write = async () => {
        for (let i = 0; i < 40; i += 1) await upload.write(sampleBytes(UNIT_BYTES), { signal });
      };
      await assert.rejects(write, unavailable);
      await assert.rejects(upload.reserve(1, { signal }), unavailable);
      await assert.rejects(upload.complete({ signal }), unavailable);
    }
    await assertNothingLeft(rig);
  });

  test('a completion that fails for good says so', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    await rig.store.facts({ signal });
    const times = Number.POSITIVE_INFINITY;
    rig.proxy.plan({ effect: BROKEN, operation: 'CompleteMultipartUpload', times });
    {
      await using upload = await begin(rig);
      await upload.write(Buffer.from('x'), { signal });
      await assert.rejects(upload.complete({ signal }), unavailable);
    }
    await assertNothingLeft(rig);
  });

  test('a failed probe is not remembered', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, {}, { asks: true });
    rig.proxy.plan({ effect: BROKEN, operation: 'PutObject', times: 5 });
    await assert.rejects(rig.store.facts({ signal }), unavailable);
    assert.equal((await rig.store.facts({ signal })).bucket, rig.server.bucket);
  });

  test('an upload given up while parts hang on the line leaves nothing', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    if (target.brief) return t.skip(BRIEF);
    await using rig = await openRig(target);
    await rig.store.facts({ signal });
    rig.proxy.plan({ effect: { kind: 'hold' }, operation: 'UploadPart', times: 2 });
    {
      await using upload = await begin(rig);
      await upload.write(sampleBytes(2 * UNIT_BYTES + 1), { signal });
    }
    await assertNothingLeft(rig);
  });
}
