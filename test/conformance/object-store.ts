/**
 * The port ObjectStore, small objects: what any store must do, asked of a real server.
 *
 * Goal: whoever implements or configures a store sees at once which promise of ports.ts does not hold there.
 * Uploads are in object-upload.ts, troubles in object-faults.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { type GetServer, openRig } from './store-target.ts';

const { signal } = new AbortController();
const lost = (error: unknown) => isBackupError(error, 'precondition_failed');

/** Declares the tests; `server` is asked for when they run. */
export function testObjectStore(name: string, server: GetServer): void {
  describe(`object store, small objects: ${name}`, () => {
    testPlainObjects(server);
    testConditions(server);
    testListing(server);
    testRefusals(server);
  });
}

function testPlainObjects(server: GetServer): void {
  test('what was put is got, with its size, ETag and time', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}a/b.json`;
    const { etag } = await rig.store.put(key, '{"a":1}', { signal, contentType: 'text/plain' });
    const got = await rig.store.get(key, { signal });
    assert.equal(Buffer.from(got?.bytes ?? []).toString(), '{"a":1}');
    assert.equal(got?.etag, etag);
    const head = await rig.store.head(key, { signal });
    assert.equal(head?.sizeBytes, 7);
    assert.equal(head?.etag, etag);
    assert(Math.abs((head?.lastModified ?? 0) - Date.now()) < 120_000);
  });

  test('an empty object is an object', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    await rig.store.put(`${rig.prefix}empty`, '', { signal });
    assert.equal((await rig.store.get(`${rig.prefix}empty`, { signal }))?.bytes.length, 0);
  });

  test('nothing there is undefined, and deleting it succeeds', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}nothing`;
    assert.equal(await rig.store.get(key, { signal }), undefined);
    assert.equal(await rig.store.head(key, { signal }), undefined);
    await rig.store.delete(key, { signal });
  });

  test('a range is half-open and may reach beyond the end', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}digits`;
    await rig.store.put(key, '0123456789', { signal });
    const read = async (offset: number, length: number) =>
      Buffer.from(
        (await rig.store.get(key, { range: { offset, length }, signal }))?.bytes ?? [],
      ).toString();
    assert.equal(await read(2, 3), '234');
    assert.equal(await read(8, 100), '89');
    await assert.rejects(read(10, 1), (error) => isBackupError(error, 'store_refused'));
  });

  test('a presigned link reads without credentials, under the name given', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}linked`;
    await rig.store.put(key, 'content', { signal });
    const fileName = 'Büro "1".xva';
    const link = await rig.store.presignGet({ key, expiresSeconds: 60, fileName });
    const answer = await fetch(link, { signal });
    assert.equal(answer.status, 200);
    assert.equal(await answer.text(), 'content');
    const disposition = answer.headers.get('content-disposition') ?? '';
    if (!rig.server.expected.equalParts) assert.match(disposition, /B%C3%BCro%20%221%22\.xva/);
  });
}

function testConditions(server: GetServer): void {
  test('the facts are what this server can do', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, {}, { asks: true });
    const facts = await rig.store.facts({ signal });
    const { conditionalWrites, conditionalComplete, equalParts } = rig.server.expected;
    assert.deepEqual(
      {
        conditionalWrites: facts.conditionalWrites,
        conditionalComplete: facts.conditionalComplete,
        equalParts: facts.equalParts,
      },
      { conditionalWrites, conditionalComplete, equalParts },
    );
    const { objects } = await rig.store.list({ prefix: rig.prefix }, { signal });
    assert.deepEqual(objects, [], 'the probe removes what it wrote');
  });

  test('a conditional write wins once and then says it lost', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalWrites) return t.skip('not honoured here');
    const key = `${rig.prefix}lease`;
    const first = await rig.store.put(key, 'one', { signal, ifAbsent: true });
    await assert.rejects(rig.store.put(key, 'two', { signal, ifAbsent: true }), lost);
    const second = await rig.store.put(key, 'three', { signal, ifMatch: first.etag });
    await assert.rejects(rig.store.put(key, 'four', { signal, ifMatch: first.etag }), lost);
    const got = await rig.store.get(key, { signal });
    assert.equal(Buffer.from(got?.bytes ?? []).toString(), 'three');
    assert.equal(got?.etag, second.etag);
  });

  test('replacing what is gone is lost', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalWrites) return t.skip('not honoured here');
    const key = `${rig.prefix}gone`;
    const { etag } = await rig.store.put(key, 'one', { signal });
    await rig.store.delete(key, { signal });
    await assert.rejects(rig.store.put(key, 'two', { signal, ifMatch: etag }), lost);
  });

  test('of many who write at once exactly one wins', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    if (!rig.server.expected.conditionalWrites) return t.skip('not honoured here');
    const key = `${rig.prefix}race`;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) =>
        rig.store.put(key, `writer ${i}`, { signal, ifAbsent: true }),
      ),
    );
    const winners = outcomes.flatMap((o, i) => (o.status === 'fulfilled' ? [i] : []));
    for (const o of outcomes) if (o.status === 'rejected') assert(lost(o.reason), o.reason);
    assert.equal(winners.length, 1);
    const got = await rig.store.get(key, { signal });
    assert.equal(Buffer.from(got?.bytes ?? []).toString(), `writer ${winners[0]}`);
  });

  test('a delete under a stale ETag leaves the object, under the right one removes it', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const key = `${rig.prefix}guarded`;
    const old = await rig.store.put(key, 'one', { signal });
    const now = await rig.store.put(key, 'two', { signal });
    await assert.rejects(rig.store.delete(key, { signal, ifMatch: old.etag }), lost);
    assert.notEqual(await rig.store.head(key, { signal }), undefined);
    await rig.store.delete(key, { signal, ifMatch: now.etag });
    assert.equal(await rig.store.head(key, { signal }), undefined);
    await rig.store.delete(key, { signal, ifMatch: now.etag });
  });
}

function testListing(server: GetServer): void {
  async function walk(store: ObjectStore, input: { prefix: string; delimiter?: string }) {
    const keys: string[] = [];
    const prefixes: string[] = [];
    let startAfter: string | undefined;
    for (let pages = 0; pages < 50; pages += 1) {
      const from = startAfter === undefined ? {} : { startAfter };
      const page = await store.list({ ...input, ...from, limit: 3 }, { signal });
      keys.push(...page.objects.map(({ key }) => key));
      prefixes.push(...page.prefixes);
      assert(page.objects.length + page.prefixes.length <= 3);
      if (page.next === undefined) return { keys, prefixes };
      startAfter = page.next;
    }
    throw new Error('the listing has no end');
  }

  test('pages give every key once and in order', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const names = Array.from({ length: 11 }, (_, i) => `${rig.prefix}k/${String(i * 7)}`).sort();
    for (const key of names) await rig.store.put(key, 'x', { signal });
    const { keys } = await walk(rig.store, { prefix: `${rig.prefix}k/` });
    assert.deepEqual(keys, names);
  });

  test('a delimiter gives every folder once, also across pages', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const folders = ['a', 'b', 'c', 'd', 'e'].map((folder) => `${rig.prefix}${folder}/`);
    for (const folder of folders) {
      for (const name of ['1', '2']) await rig.store.put(`${folder}${name}`, 'x', { signal });
    }
    await rig.store.put(`${rig.prefix}cc`, 'x', { signal });
    const { keys, prefixes } = await walk(rig.store, { prefix: rig.prefix, delimiter: '/' });
    assert.deepEqual(prefixes, folders);
    assert.deepEqual(keys, [`${rig.prefix}cc`]);
  });

  test('an empty prefix has an empty page', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const page = await rig.store.list({ prefix: `${rig.prefix}none/` }, { signal });
    assert.deepEqual(page, { objects: [], prefixes: [] });
  });
}

function testRefusals(server: GetServer): void {
  test('a wrong secret is store_credentials', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const { accessKeyId } = rig.server;
    const store = rig.open({ credentials: { accessKeyId, secretAccessKey: 'wrong-secret' } });
    const denied = (error: unknown) => isBackupError(error, 'store_credentials');
    await assert.rejects(store.put(`${rig.prefix}x`, 'x', { signal }), denied);
    await assert.rejects(store.head(`${rig.prefix}x`, { signal }), denied);
  });

  test('a bucket that is not there is a setting to correct', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target, {}, { asks: true });
    const store = rig.open({ bucket: 'no-such-bucket-here' });
    await assert.rejects(store.facts({ signal }), (e) => isBackupError(e, 'configuration'));
  });

  test('a call whose signal is aborted rejects with its reason', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    const reason = new Error('enough');
    await assert.rejects(
      rig.store.head(`${rig.prefix}x`, { signal: AbortSignal.abort(reason) }),
      (error) => error === reason,
    );
    rig.proxy.plan({ effect: { kind: 'hold' }, operation: 'HeadObject' });
    const controller = new AbortController();
    const waiting = rig.store.head(`${rig.prefix}x`, controller);
    controller.abort(reason);
    await assert.rejects(waiting, (error) => error === reason);
  });

  test('a key that is not plain is a bug', async (t) => {
    const target = server();
    if ('skipped' in target) return t.skip(target.skipped);
    await using rig = await openRig(target);
    for (const key of ['', '/a', 'a b', 'a//b', 'a/../b', 'ä', 'a?b']) {
      await assert.rejects(rig.store.head(key, { signal }), { name: 'AssertionError' });
    }
  });
}
