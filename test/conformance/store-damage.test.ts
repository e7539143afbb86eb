/**
 * What only the embedded server can play: damaged storage, missing rights, a wrong clock, silence, TLS.
 *
 * Goal: nothing that differs from what was sent is ever reported as stored, and every refusal names its mend.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createArena } from '../../src/arena.ts';
import { isBackupError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { createS3Store, type StoreSettings } from '../../src/s3/store.ts';
import { type Fault, type SimS3, type SimS3Options, startSimS3 } from '../sim/s3/index.ts';
import { hastyClock, QUIET, sampleBytes, UNIT_BYTES } from './store-target.ts';

const { signal } = new AbortController();
const KEY = 'backups/a.xva';

interface Rig extends AsyncDisposable {
  sim: SimS3;
  store: ObjectStore;
}

async function open(
  simOptions: SimS3Options = {},
  settings: Partial<StoreSettings> = {},
): Promise<Rig> {
  const sim = await startSimS3({ buckets: ['store'], ...simOptions });
  const { accessKeyId, secretAccessKey, caPem } = sim;
  const store = createS3Store(
    {
      endpoint: sim.endpoint,
      region: 'us-east-1',
      bucket: 'store',
      prefix: '',
      caPem,
      credentials: { accessKeyId, secretAccessKey },
      ...settings,
    },
    {
      clock: hastyClock(),
      log: QUIET,
      arena: createArena({ totalBytes: 4 * UNIT_BYTES, unitBytes: UNIT_BYTES }),
      meter: { count: () => {}, observe: () => {} },
    },
  );
  const close = async () => {
    store.close();
    await sim.close();
  };
  return { sim, store, [Symbol.asyncDispose]: close };
}

/** Uploads three parts with `faults` planned; the outcome of `complete`. */
async function upload({ sim, store }: Rig, ...faults: Fault[]) {
  await store.facts({ signal });
  const input = { key: KEY, contentType: 'application/x-xva', stagingPrefix: 'staging/' };
  await using writer = await store.beginUpload(input, { signal });
  for (const fault of faults) sim.faults.add(fault);
  await writer.write(sampleBytes(2 * UNIT_BYTES + 5), { signal });
  const stored = await writer.complete({ signal });
  return { stored, counters: { ...writer.counters } };
}

test('a part damaged on its way is refused by its checksum and sent again', async () => {
  await using rig = await open();
  const fault: Fault = { effect: { kind: 'receive-damaged' }, operation: 'UploadPart' };
  const { counters } = await upload(rig, fault);
  assert.equal(counters.retries, 1);
  assert(rig.sim.inspect.read('store', KEY)?.equals(sampleBytes(2 * UNIT_BYTES + 5)));
});

test('an object shorter than what was sent is data_corrupt', async () => {
  await using rig = await open();
  const fault: Fault = { effect: { kind: 'store-short' }, operation: 'UploadPart', partNumber: 2 };
  await assert.rejects(upload(rig, fault), (error) => isBackupError(error, 'data_corrupt'));
  assert.deepEqual(rig.sim.inspect.uploads('store'), []);
});

test('without checksums parts are listed and compared before completing', async () => {
  await using rig = await open({}, { quirks: { checksum: 'none' } });
  const fault: Fault = { effect: { kind: 'store-short' }, operation: 'UploadPart', partNumber: 1 };
  await assert.rejects(upload(rig, fault), (error) => isBackupError(error, 'data_corrupt'));
  assert.equal(rig.sim.inspect.read('store', KEY), undefined);
  assert.deepEqual(rig.sim.inspect.uploads('store'), []);
});

/** docs/reliability.md says so: a backup cannot promise what it did not read again. */
const UNSEEN: [string, StoreSettings['quirks'], Fault['effect']][] = [
  ['by a store after it has summed it', {}, { kind: 'store-damaged' }],
  ['by a store without checksums', { checksum: 'none' }, { kind: 'store-damaged' }],
  ['on its way to a store without checksums', { checksum: 'none' }, { kind: 'receive-damaged' }],
];
for (const [how, quirks, effect] of UNSEEN) {
  test(`a part that is changed ${how}, and keeps its length, is not noticed while backing up`, async () => {
    await using rig = await open({}, { quirks });
    const { stored } = await upload(rig, { effect, operation: 'UploadPart' });
    const sent = sampleBytes(2 * UNIT_BYTES + 5);
    assert.equal(stored.sizeBytes, sent.length);
    assert.equal(stored.checksum === undefined, quirks?.checksum === 'none', 'what was compared');
    assert.equal(rig.sim.inspect.read('store', KEY)?.equals(sent), false);
  });
}

test('an error inside a 200 answer to a completion is an error, and tried again', async () => {
  await using rig = await open();
  const effect = { kind: 'error-in-200', code: 'InternalError' } as const;
  const { counters } = await upload(rig, { effect, operation: 'CompleteMultipartUpload' });
  assert.equal(counters.retries, 1);
});

test('an answer cut off while reading is read again', async () => {
  await using rig = await open();
  await rig.store.put('k', sampleBytes(100_000), { signal });
  rig.sim.faults.add({
    effect: { kind: 'cut-answer', afterBytes: 5000 },
    operation: 'GetObject',
    times: 2,
  });
  const got = await rig.store.get('k', { signal });
  assert(sampleBytes(100_000).equals(got?.bytes ?? Buffer.alloc(0)));
});

test('a store that falls silent is given up after the idle time, not waited for', async () => {
  await using rig = await open({}, { idleTimeoutMs: 250, workTimeoutMs: 250 });
  rig.sim.faults.add({ effect: { kind: 'hang' }, operation: 'GetObject', times: 99 });
  await assert.rejects(rig.store.get('k', { signal }), (error) =>
    isBackupError(error, 'store_unavailable'),
  );
  rig.sim.faults.clear();
  rig.sim.faults.add({ effect: { kind: 'hang' }, operation: 'UploadPart', times: 1 });
  await upload(rig);
});

test('a right that is missing is named', async () => {
  let denied = '';
  await using rig = await open({ policy: (action) => action !== denied });
  await rig.store.facts({ signal });
  const cases: [string, string, () => Promise<unknown>][] = [
    ['s3:PutObject', 's3:PutObject', () => rig.store.put('k', 'x', { signal })],
    ['s3:PutObject', 's3:PutObject', () => upload(rig)],
    ['s3:ListBucket', 's3:ListBucket', () => rig.store.list({ prefix: '' }, { signal })],
    ['s3:DeleteObject', 's3:DeleteObject', () => rig.store.delete('k', { signal })],
    [
      's3:ListBucketMultipartUploads',
      's3:ListBucketMultipartUploads',
      () => rig.store.listUploads('', { signal }),
    ],
  ];
  await rig.store.put('k', 'x', { signal });
  for (const [action, right, call] of cases) {
    denied = action;
    await assert.rejects(
      call(),
      (error) => isBackupError(error, 'store_credentials') && error.details.right === right,
      action,
    );
  }
});

test('without the right to delete the probe still tells the facts', async () => {
  await using rig = await open({ policy: (action) => action !== 's3:DeleteObject' });
  assert.equal((await rig.store.facts({ signal })).conditionalWrites, true);
});

test('a clock that differs is set by the store’s own, as the SDK does', async () => {
  const hour = 3_600_000;
  await using rig = await open({ signatureClock: { now: () => Date.now() + hour } });
  // One refusal tells the store's time; the second try is signed with it.
  const outcome = await rig.store.put('k', 'x', { signal }).then(
    () => 'stored',
    (error: unknown) => error,
  );
  if (outcome === 'stored') return;
  assert(isBackupError(outcome, 'store_refused'));
  assert.match(outcome.message, /set the clock right/);
});

test('a certificate of an own CA is trusted when it is given, and only then', async () => {
  await using rig = await open({ tls: true });
  const { stored } = await upload(rig);
  assert.equal(stored.sizeBytes, 2 * UNIT_BYTES + 5);
  await using other = await open({ tls: true }, { caPem: undefined });
  await assert.rejects(other.store.head('k', { signal }), (error) =>
    isBackupError(error, 'configuration'),
  );
});

test('a provider nobody knows is a setting to correct', () => {
  assert.throws(
    () =>
      createS3Store(
        { bucket: 'b', prefix: '', provider: 'unheard-of' },
        {
          clock: hastyClock(),
          log: QUIET,
          arena: createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES }),
          meter: { count: () => {}, observe: () => {} },
        },
      ),
    (error) => isBackupError(error, 'configuration') && /minio/.test(error.message),
  );
});
