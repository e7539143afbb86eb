import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import {
  ABANDONED_MS,
  createIdempotency,
  EXPIRY_MS,
  type IdempotentRequest,
} from './idempotency.ts';
import { createKeys } from './keys.ts';

const REQUEST: IdempotentRequest = {
  tokenName: 'nightly',
  key: 'k-1',
  method: 'POST',
  path: '/v1/vms/web-1/backups',
  body: { mode: 'auto', exclude_disks: ['0', '1'] },
};
const ANSWER = { status: 202, headers: { location: '/v1/jobs/1' }, body: '{"id":"1"}' };
const options = { signal: NEVER };

function createWorld() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  let made = 0;
  const warnings: string[] = [];
  const log = {
    debug: () => {},
    info: () => {},
    warn: (message: string) => void warnings.push(message),
    error: () => {},
    child: () => log,
  };
  const instance = (over: ObjectStore = store) =>
    createIdempotency({
      store: over,
      keys: createKeys(''),
      clock,
      ids: { uuid: () => String(++made) },
      log,
    });
  let worked = 0;
  const work = async () => {
    worked++;
    return ANSWER;
  };
  return { clock, store, instance, work, warnings, worked: () => worked };
}

/** Work that says when it begins and ends when told to. */
function heldWork() {
  const begun = Promise.withResolvers<void>();
  const { promise, resolve } = Promise.withResolvers<typeof ANSWER>();
  const work = () => {
    begun.resolve();
    return promise;
  };
  return { work, begun: begun.promise, finish: () => resolve(ANSWER) };
}

test('a repeat gets the first answer, at the same and at another instance', async () => {
  const { instance, work, worked } = createWorld();
  const one = instance();
  assert.deepEqual(await one.run(REQUEST, work, options), { answer: ANSWER, replayed: false });
  assert.deepEqual(await one.run(REQUEST, work, options), { answer: ANSWER, replayed: true });
  const reordered = { ...REQUEST, body: { exclude_disks: ['0', '1'], mode: 'auto' } };
  assert.deepEqual(await instance().run(reordered, work, options), {
    answer: ANSWER,
    replayed: true,
  });
  assert.equal(worked(), 1);
});

test('another payload, path or method with the same key is refused', async () => {
  const { instance, work, worked } = createWorld();
  await instance().run(REQUEST, work, options);
  const others: Partial<IdempotentRequest>[] = [
    { body: { mode: 'full', exclude_disks: ['0', '1'] } },
    { body: { mode: 'auto', exclude_disks: ['1', '0'] } },
    { path: '/v1/vms/web-2/backups' },
    { method: 'DELETE' },
  ];
  for (const other of others) {
    const repeat = instance().run({ ...REQUEST, ...other }, work, options);
    await assert.rejects(repeat, { code: 'idempotency_mismatch' });
  }
  assert.equal(worked(), 1);
});

test('the same key of another token is another key', async () => {
  const { instance, work, worked } = createWorld();
  await instance().run(REQUEST, work, options);
  const other = await instance().run({ ...REQUEST, tokenName: 'ci' }, work, options);
  assert.equal(other.replayed, false);
  assert.equal(worked(), 2);
});

test('a repeat during the first request is told so, at the same and at another instance', async () => {
  const { instance, work, worked } = createWorld();
  const one = instance();
  const held = heldWork();
  const first = one.run(REQUEST, held.work, options);
  await held.begun;
  await assert.rejects(one.run(REQUEST, work, options), { code: 'idempotency_in_flight' });
  await assert.rejects(one.run({ ...REQUEST, body: {} }, work, options), {
    code: 'idempotency_mismatch',
  });
  await assert.rejects(instance().run(REQUEST, work, options), { code: 'idempotency_in_flight' });
  held.finish();
  await first;
  assert.equal((await instance().run(REQUEST, work, options)).replayed, true);
  assert.equal(worked(), 0);
});

test('of two instances that ask at once one works', async () => {
  const { instance, work, worked } = createWorld();
  const answers = await Promise.allSettled(
    Array.from({ length: 8 }, () => instance().run(REQUEST, work, options)),
  );
  assert.equal(worked(), 1);
  assert.equal(answers.filter((a) => a.status === 'fulfilled' && !a.value.replayed).length, 1);
});

test('work that failed is not remembered, and its repeat works anew', async () => {
  const { instance, work, worked } = createWorld();
  const failure = new BackupError('pool_unavailable', 'reach pool');
  await assert.rejects(
    instance().run(REQUEST, () => Promise.reject(failure), options),
    failure,
  );
  assert.equal((await instance().run(REQUEST, work, options)).replayed, false);
  assert.equal(worked(), 1);
});

test('an answer is forgotten after two days', async () => {
  const { instance, work, clock, worked } = createWorld();
  await instance().run(REQUEST, work, options);
  await clock.advance(EXPIRY_MS);
  assert.equal((await instance().run(REQUEST, work, options)).replayed, true);
  await clock.advance(1);
  const other = { ...REQUEST, body: {} };
  assert.equal((await instance().run(other, work, options)).replayed, false);
  assert.equal(worked(), 2);
});

test('the claim of an instance that died is taken over after a while', async () => {
  const { instance, work, clock } = createWorld();
  const held = heldWork();
  const dead = instance().run(REQUEST, held.work, options);
  await held.begun;
  await clock.advance(ABANDONED_MS);
  await assert.rejects(instance().run(REQUEST, work, options), { code: 'idempotency_in_flight' });
  await clock.advance(1);
  assert.equal((await instance().run(REQUEST, work, options)).replayed, false);
  // it was not dead after all: its late answer does not replace the newer one
  held.finish();
  assert.deepEqual(await dead, { answer: ANSWER, replayed: false });
  assert.equal((await instance().run(REQUEST, work, options)).replayed, true);
});

test('who takes a dead claim over makes the same thing, not another', async () => {
  const { instance, clock } = createWorld();
  const made: string[] = [];
  const held = heldWork();
  const dead = instance().run(
    REQUEST,
    async (reservedId) => {
      made.push(reservedId);
      return await held.work();
    },
    options,
  );
  await held.begun;
  await clock.advance(ABANDONED_MS + 1);
  const again = async (reservedId: string) => {
    made.push(reservedId);
    return ANSWER;
  };
  await instance().run(REQUEST, again, options);
  held.finish();
  await dead;
  assert.equal(made.length, 2);
  assert.equal(made[0], made[1]);
});

test('an answer that cannot be written down is given all the same, and logged', async () => {
  const { instance, work, store, warnings } = createWorld();
  const down = async () => {
    store.onCall = () => {
      throw new BackupError('store_unavailable', 'write object');
    };
    return await work();
  };
  assert.deepEqual((await instance().run(REQUEST, down, options)).answer, ANSWER);
  assert.deepEqual(warnings, ['idempotency record not written']);
});

test('a store that does not answer stops the work before it begins', async () => {
  const { instance, work, store, worked } = createWorld();
  store.onCall = () => {
    throw new BackupError('store_unavailable', 'read object');
  };
  await assert.rejects(instance().run(REQUEST, work, options), { code: 'store_unavailable' });
  assert.equal(worked(), 0);
});

test('a record nobody can read is an error, not a free key', async () => {
  const { instance, work, store } = createWorld();
  await instance().run(REQUEST, work, options);
  const [key = ''] = store.objects.keys();
  assert.match(key, /^idempotency\/[0-9a-f]{64}$/);
  for (const text of ['{"version":9}', '{"version":1,']) {
    await store.put(key, text, options);
    await assert.rejects(instance().run(REQUEST, work, options), { code: 'data_corrupt' });
  }
});

test('a store without conditional writes keeps the answers of one instance', async () => {
  const { instance, work, store, worked } = createWorld();
  const plain: ObjectStore = {
    ...store,
    facts: async (o) => ({ ...(await store.facts(o)), conditionalWrites: false }),
    put: (key, body, o) => {
      assert.equal(o.ifAbsent ?? o.ifMatch, undefined);
      return store.put(key, body, o);
    },
  };
  const only = instance(plain);
  const held = heldWork();
  const first = only.run(REQUEST, held.work, options);
  await held.begun;
  await assert.rejects(only.run(REQUEST, work, options), { code: 'idempotency_in_flight' });
  held.finish();
  await first;
  assert.equal((await only.run(REQUEST, work, options)).replayed, true);
  assert.equal(worked(), 0);
});

test('a key that others win again and again is given up, without work', async () => {
  const { instance, work, store, worked } = createWorld();
  store.onCall = (operation) => {
    if (operation === 'put') throw new BackupError('precondition_failed', 'write object');
  };
  await assert.rejects(instance().run(REQUEST, work, options), { code: 'idempotency_in_flight' });
  assert.equal(store.calls.get('put'), 3);
  assert.equal(worked(), 0);
});
