import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextId } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError } from '../errors.ts';
import type { Log } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { createKeys } from './keys.ts';
import { createVerifications } from './verifications.ts';
import { isDamaged, standing, type Verification, withVerification } from './verified.ts';

const options = { signal: NEVER };
const keys = createKeys('xv');
const ID = nextId();

/** `at` is a minute of the hour: later ones are larger. */
function seen(at: number, kind: Verification['kind'], part?: 'archive' | 'index' | 'restore') {
  const verification: Verification = {
    at: `2026-11-23T10:${String(at).padStart(2, '0')}:00.000Z`,
    kind,
    percent: kind === 'sampled' ? 5 : 100,
    ok: part === undefined,
    read_bytes: 1,
    checked_blocks: 1,
    job_id: ID,
    ...(part && { problem: { part, code: 'data_corrupt', detail: part } }),
  };
  return verification;
}

/** Minute and kind of the one that counts after all of them, in this order. */
function after(...all: Verification[]): string {
  const first = withVerification(undefined, ID, all[0] as Verification);
  const record = all.slice(1).reduce((one, next) => withVerification(one, ID, next), first);
  const { at, kind, problem } = standing(record) as Verification;
  return `${Number(at.slice(14, 16))} ${kind} ${problem?.part ?? 'ok'}`;
}

test('the newest counts as long as none found a fault', () => {
  assert.equal(after(seen(1, 'whole')), '1 whole ok');
  assert.equal(after(seen(1, 'whole'), seen(2, 'sampled')), '2 sampled ok');
  assert.equal(after(seen(1, 'whole'), seen(2, 'sampled'), seen(3, 'restored')), '3 restored ok');
});

test('damage of the archive stands until all of it was read and found right', () => {
  for (const kind of ['whole', 'sampled'] as const) {
    const damage = seen(1, kind, 'archive');
    assert.equal(after(damage, seen(2, 'sampled')), `1 ${kind} archive`);
    assert.equal(after(damage, seen(2, 'sampled', 'index')), `1 ${kind} archive`);
    assert.equal(after(damage, seen(2, 'restored')), `1 ${kind} archive`);
    assert.equal(after(damage, seen(2, 'whole')), '2 whole ok');
    // who tells of the index has read the whole archive before
    assert.equal(after(damage, seen(2, 'whole', 'index')), '2 whole index');
  }
});

test('a lost index stands until it was seen right, a failed start until it starts', () => {
  assert.equal(after(seen(1, 'whole', 'index'), seen(2, 'restored')), '1 whole index');
  assert.equal(after(seen(1, 'whole', 'index'), seen(2, 'sampled')), '2 sampled ok');
  assert.equal(after(seen(1, 'restored', 'restore'), seen(2, 'whole')), '1 restored restore');
  assert.equal(after(seen(1, 'restored', 'restore'), seen(2, 'restored')), '2 restored ok');
});

test('what was disproved is no reason to drop what comes later', () => {
  const before = [seen(1, 'sampled', 'archive'), seen(2, 'whole')];
  assert.equal(after(...before, seen(3, 'sampled', 'index')), '3 sampled index');
  assert.equal(after(...before, seen(3, 'whole', 'index'), seen(4, 'sampled')), '4 sampled ok');
});

test('only a fault of the archive makes a backup no good one', () => {
  assert.equal(isDamaged(seen(1, 'sampled', 'archive')), true);
  assert.equal(isDamaged(seen(1, 'whole', 'index')), false);
  assert.equal(isDamaged(undefined), false);
});

function setUp() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const log = { warn: () => undefined } as unknown as Log;
  const open = () => createVerifications({ store, keys, clock, log }, { ttlMs: 30_000 });
  return { clock, store, open };
}

test('what one instance keeps another finds, and reads once for as long as it stays', async () => {
  const { clock, store, open } = setUp();
  const [one, other] = [open(), open()];
  assert.equal((await other.of([ID], options)).size, 0);
  await one.keep(ID, seen(1, 'whole'), options);
  assert.deepEqual((await one.of([ID, nextId()], options)).get(ID), seen(1, 'whole'));
  await clock.advance(31_000);
  assert.deepEqual((await other.of([ID], options)).get(ID), seen(1, 'whole'));
  const reads = store.calls.get('get');
  await clock.advance(31_000);
  await other.of([ID], options);
  assert.equal(store.calls.get('get'), reads);
  await one.keep(ID, seen(2, 'sampled', 'archive'), options);
  await clock.advance(31_000);
  assert.equal(isDamaged((await other.of([ID], options)).get(ID)), true);
});

test('two that are kept at once are both there', async () => {
  const { store, open } = setUp();
  await Promise.all([
    open().keep(ID, seen(1, 'whole'), options),
    open().keep(ID, seen(2, 'restored'), options),
  ]);
  const record = JSON.parse(store.objects.get(keys.verified(ID))?.bytes.toString() ?? '{}');
  assert.deepEqual(Object.keys(record).sort(), ['backup_id', 'restored', 'version', 'whole']);
});

test('what cannot be read says nothing, and stops nothing', async () => {
  const { store, open } = setUp();
  await store.put(keys.verified(ID), 'no JSON', options);
  assert.equal((await open().of([ID], options)).size, 0);
  store.onCall = (operation) => {
    if (operation === 'get') throw new BackupError('store_credentials', 'read: 403');
  };
  assert.equal((await open().of([ID], options)).size, 0);
  store.onCall = () => undefined;
  await open().keep(ID, seen(1, 'whole'), options);
  assert.equal((await open().of([ID], options)).size, 1);
});
