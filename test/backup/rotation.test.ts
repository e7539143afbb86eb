/** The bucket's rules looked at and written by the service, on the embedded server with its lifecycle clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  S3Client,
  type LifecycleRule as StoreRule,
} from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import { createService } from '../../src/backup/create-service.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import type { Clock, LifecycleRule, ObjectStore } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { DEFAULT_ROTATION } from '../../src/settings-rotation.ts';
import { NEVER } from '../../src/signals.ts';
import { hastyClock, QUIET, UNIT_BYTES } from '../conformance/store-target.ts';
import { nextId, sampleBackup, VM_UUID } from '../records.ts';
import { startCeph } from '../servers/ceph.ts';
import { type SimS3, type SimS3Options, startSimS3 } from '../sim/s3/index.ts';

const DAY_MS = 86_400_000;
const options = { signal: NEVER };
const keys = createKeys('xv');
const METER = { count: () => {}, observe: () => {} };
const DAMAGED = {
  at: '2026-11-13T12:00:00.000Z',
  kind: 'whole',
  percent: 100,
  ok: false,
  read_bytes: 1,
  checked_blocks: 0,
  job_id: nextId(),
  problem: { part: 'archive', code: 'data_corrupt', detail: 'block 1 is wrong' },
};
const LOGS: LifecycleRule = {
  id: 'logs',
  enabled: true,
  prefix: 'logs/',
  narrowed: true,
  tagged: false,
  largerThanBytes: 5,
  expirationDays: 2,
};

interface ServiceParts {
  store: ObjectStore;
  stateStore?: ObjectStore;
  clock: Clock;
}

function openService({ store, stateStore = store, clock }: ServiceParts) {
  const retentionDays = { daily: 14, monthly: 400 };
  return createService(
    { pools: [], store, stateStore, clock, ids: systemIds, log: QUIET, meter: METER },
    {
      prefix: 'xv',
      concurrency: 1,
      concurrencyPerPool: 1,
      concurrencyPerSr: 1,
      queueLimit: 1,
      instance: 'a',
      retentionClasses: Object.keys(retentionDays),
      retentionDays,
      rotation: { ...DEFAULT_ROTATION, lastGoodDays: 3 },
      catalogTtlMs: 0,
    },
  );
}

async function setUp(over: SimS3Options & { stateBucket?: string } = {}) {
  let nowMs = Date.parse('2026-11-01T12:00:00Z');
  const clock = { ...hastyClock(), now: () => nowMs };
  const buckets = ['store', ...(over.stateBucket ? [over.stateBucket] : [])];
  const sim = await startSimS3({ buckets, clock, ...over });
  const open = (bucket: string) => openStore(sim, bucket);
  const store = open('store');
  const stateStore = over.stateBucket ? open(over.stateBucket) : store;
  const service = openService({ store, stateStore, clock });
  return {
    sim,
    store,
    stateStore,
    service,
    pass: (days: number) => {
      nowMs += days * DAY_MS;
    },
    /** A backup of the machine `VM_UUID`, as far as listings tell. */
    add: async (retention: string, place: 'original' | 'pinned' = 'original') => {
      const id = nextId();
      const parts = { retention, pool: 'dc1', vmUuid: VM_UUID, backupId: id };
      const isPinned = place === 'pinned';
      const archive = isPinned ? keys.pinned(parts, 'web.xva') : keys.archive(parts, 'web');
      const record = isPinned ? keys.pinned(parts, 'backup.json') : keys.record(parts);
      await store.put(archive, 'archive', options);
      await store.put(record, JSON.stringify(sampleBackup({ id, retention })), options);
      return { id, archive };
    },
    [Symbol.asyncDispose]: async () => {
      await service.drain({ drainMs: 0 });
      store.close();
      if (stateStore !== store) stateStore.close();
      await sim.close();
    },
  };
}

type Server = Pick<SimS3, 'endpoint' | 'region' | 'accessKeyId' | 'secretAccessKey'>;

function openStore(server: Server, bucket: string): ObjectStore {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const arena = createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES });
  return createS3Store(
    { endpoint, region, credentials, bucket, prefix: 'xv', pathStyle: true },
    { clock: hastyClock(), log: QUIET, arena, meter: METER },
  );
}

test('rules are shown, written beside those of others, and do what they say; a second time nothing is to be done', async () => {
  await using world = await setUp();
  const { service, store, sim } = world;
  await store.putLifecycle({ found: [], rules: [{ ...LOGS, narrowed: false }] }, options);
  const before = await service.rotation(options);
  assert.equal(before.in_order, false);
  assert.deepEqual(before.buckets[0]?.holds, ['backups', 'state']);
  const dry = await service.applyRotation({ dryRun: true }, options);
  assert.equal(dry.applied, false);
  assert.equal((await store.lifecycle(options))?.length, 1);
  const daily = await world.add('daily');
  const monthly = await world.add('monthly');
  const pinned = await world.add('daily', 'pinned');
  const { applied } = await service.applyRotation({ dryRun: false }, options);
  assert.equal(applied, true);
  const rules = (await store.lifecycle(options)) ?? [];
  assert.equal(rules[0]?.id, 'logs');
  const again = await service.applyRotation({ dryRun: false }, options);
  assert.deepEqual([again.applied, again.in_order], [false, true]);
  assert.equal(sim.stats.requests.PutBucketLifecycleConfiguration, 2);
  world.pass(16);
  await store.head(daily.archive, options);
  const left = sim.inspect.keys('store').filter((key) => key.endsWith('.xva'));
  assert.deepEqual(left.sort(), [monthly.archive, pinned.archive].sort());
});

test('with a state bucket each gets its own rules', async () => {
  await using world = await setUp({ stateBucket: 'state' });
  const { service, store, stateStore } = world;
  await service.applyRotation({ dryRun: false }, options);
  const prefixes = async (of: ObjectStore) =>
    ((await of.lifecycle(options)) ?? []).map(({ prefix }) => prefix);
  assert.deepEqual((await prefixes(stateStore)).sort(), [
    'xv/idempotency/',
    'xv/jobs/',
    'xv/probe/',
    'xv/runs/',
  ]);
  assert.ok(!(await prefixes(store)).includes('xv/jobs/'));
  assert.equal((await service.rotation(options)).in_order, true);
});

test('nothing is written that would soon delete the last backup of a machine, or what is pinned', async () => {
  await using world = await setUp();
  const { service, store } = world;
  await world.add('daily');
  world.pass(12);
  const { buckets } = await service.rotation(options);
  assert.match(buckets[0]?.refusals?.join() ?? '', new RegExp(`within 3 days of dc1/${VM_UUID}`));
  const refused = { code: 'rotation_refused', message: /xvault pin/ };
  await assert.rejects(service.applyRotation({ dryRun: false }, options), refused);
  assert.deepEqual(await store.lifecycle(options), []);
  await world.add('daily', 'pinned');
  assert.equal(
    (await service.applyRotation({ dryRun: true }, options)).buckets[0]?.refusals,
    undefined,
  );
  const all = { ...LOGS, id: 'all', prefix: '', expirationDays: 900, narrowed: false };
  await store.putLifecycle({ found: [], rules: [all] }, options);
  const pinned = {
    code: 'rotation_refused',
    message: /1 pinned backups would be deleted by rule all/,
  };
  await assert.rejects(service.applyRotation({ dryRun: false }, options), pinned);
});

test('nothing is written that would soon delete the last good backup behind a newer one that is damaged', async () => {
  await using world = await setUp();
  const { service, store } = world;
  const good = await world.add('daily');
  world.pass(12);
  const damaged = await world.add('daily');
  const found = { version: 1, backup_id: damaged.id, whole: DAMAGED };
  await store.put(keys.verified(damaged.id), JSON.stringify(found), options);
  const { buckets } = await service.rotation(options);
  assert.match(
    buckets[0]?.refusals?.join() ?? '',
    new RegExp(`within 3 days of dc1/${VM_UUID} .backup ${good.id}.: back them up, or pin`),
  );
});

test('what the bucket locks by itself is held against its rules, class by class', async () => {
  await using world = await setUp();
  const byDefault = { mode: 'compliance', days: 20 } as const;
  const store = { ...world.store, bucketLock: async () => ({ enabled: true, byDefault }) };
  const service = openService({ store, clock: systemClock });
  await service.applyRotation({ dryRun: false }, options);
  const { buckets } = await service.rotation(options);
  assert.deepEqual(buckets[0]?.warnings, [
    'daily: locked for 20 days, hidden by its rule after 14: paid for 6 more',
    'monthly: locked for 20 of the 400 days it lives',
  ]);
  await service.drain({ drainMs: 0 });
});

test('a missing right is named; a store without rules is told', async () => {
  const forbidden = new Set(['s3:PutLifecycleConfiguration', 's3:GetBucketVersioning']);
  await using world = await setUp({ policy: (action) => !forbidden.has(action) });
  const { service, sim } = world;
  const { buckets } = await service.rotation(options);
  assert.match(buckets[0]?.warnings.join() ?? '', /allow s3:GetBucketVersioning/);
  assert.equal(buckets[0]?.versioned, undefined);
  await assert.rejects(service.applyRotation({ dryRun: false }, options), {
    code: 'store_credentials',
    message: /s3:PutLifecycleConfiguration/,
  });
  const effect = { kind: 'status', status: 501, code: 'NotImplemented' } as const;
  sim.faults.add({ effect, operation: 'GetBucketLifecycleConfiguration' });
  await assert.rejects(service.applyRotation({ dryRun: false }, options), {
    code: 'rotation_refused',
    message: /this store has no lifecycle rules/,
  });
});

/** As people have them: without a name, with tags, in the old spelling. */
const OTHERS: StoreRule[] = [
  { Status: 'Enabled', Filter: { Prefix: 'logs/' }, Expiration: { Days: 3 } },
  {
    ID: 'tags',
    Status: 'Enabled',
    Filter: { And: { Prefix: 'x/', Tags: [{ Key: 'keep', Value: 'short' }] } },
    Expiration: { Days: 3 },
  },
  {
    ID: 'old',
    Status: 'Disabled',
    Prefix: 'y/',
    Expiration: { Date: new Date('2030-01-01T00:00:00Z') },
  } as StoreRule,
];

/** Applies twice beside rules of others, which stay what they were. */
async function applyTwice(
  server: Server,
  { bucket, versioned }: { bucket: string; versioned: boolean },
) {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const Bucket = bucket;
  if (versioned) {
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  }
  const LifecycleConfiguration = { Rules: OTHERS };
  await client.send(new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration }));
  client.destroy();
  const store = openStore(server, bucket);
  const service = openService({ store, clock: systemClock });
  try {
    const others = async () =>
      ((await store.lifecycle(options)) ?? [])
        .filter(({ id }) => !id.startsWith('xvault:'))
        .map((rule) => JSON.stringify(rule))
        .sort();
    const before = await others();
    assert.equal(before.length, OTHERS.length);
    const first = await service.applyRotation({ dryRun: false }, options);
    const again = await service.applyRotation({ dryRun: false }, options);
    assert.deepEqual([first.applied, again.applied, again.in_order], [true, false, true]);
    assert.deepEqual(await others(), before);
    assert.equal(again.buckets[0]?.found?.length, OTHERS.length + (versioned ? 21 : 11));
  } finally {
    await service.drain({ drainMs: 0 });
    store.close();
  }
}

for (const versioned of [false, true]) {
  const what = versioned ? 'a versioned bucket' : 'a plain bucket';
  test(`embedded: beside rules of others ${what} gets ours once`, async () => {
    const sim = await startSimS3({ buckets: ['store'] });
    try {
      await applyTwice(sim, { bucket: 'store', versioned });
    } finally {
      await sim.close();
    }
  });
}

test('ceph: beside rules of others a bucket gets ours once, versioned or not', async (t) => {
  if (process.env.XVAULT_TEST_LONG === undefined) return t.skip('in the long run');
  const server = await startCeph();
  if ('skipped' in server) return t.skip(server.skipped);
  t.after(() => server.stop());
  for (const versioned of [false, true]) {
    const bucket = await server.createBucket(`rules-${versioned}`);
    await applyTwice(server, { bucket, versioned });
  }
});
