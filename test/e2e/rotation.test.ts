/**
 * Weeks of backups under the bucket's own rules: what is old goes, the last good one of each machine stays, and what is
 * listed is what can be restored, every day.
 *
 * Three machines, each on a scripted pool of its own; from a day on one of them can be backed up no more. The rules are the
 * server's work: of the embedded one by a clock of days, of a real Ceph RGW, where a day lasts two seconds, by its own (in
 * the long run). Each day has a service of its own that starts, works and ends, as under a scheduler, so the guard runs
 * with the jobs alone. A day after it was made, record or archive of every second backup is written again, so that rules
 * delete one of both a day before the other.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ExpirationStatus,
  PutBucketLifecycleConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import { createService } from '../../src/backup/create-service.ts';
import { siblingId } from '../../src/backup/ids.ts';
import { createBackupCatalog } from '../../src/catalog/backups.ts';
import { DAY_MS } from '../../src/catalog/forecast.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { type Backup, backupRequestSchema, backupSchema } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { BackupError } from '../../src/errors.ts';
import type { Clock, ObjectFacts, ObjectStore, Pool } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { DEFAULT_ROTATION } from '../../src/settings-rotation.ts';
import { NEVER } from '../../src/signals.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { createScriptedPool, type ScriptedPool } from '../backup/scripted-pool.ts';
import { VM_UUID } from '../records.ts';
import { CEPH_DAY_SECONDS, startCeph } from '../servers/ceph.ts';
import { type S3Server, startEmbedded } from '../servers/index.ts';
import { createTestLog, silentMeter } from './world.ts';

const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const options = { signal: NEVER };
const UNIT_BYTES = 8 * 1_050_112;
const HASHER = await loadHasher();
/** Backed up to the end, with records made young again; so, with archives; and one that stops. */
const POOLS = ['dc1', 'dc2', 'dc3'] as const;
const START_MS = Date.UTC(2026, 0, 5, 1);

interface Play {
  server: S3Server;
  /** Time as the server sees it, in days of its rules. */
  now(): number;
  /** Resolves when this day has begun. */
  begin(day: number): Promise<void>;
  /** The server's times, as `now` tells time. */
  lens(store: ObjectStore): ObjectStore;
  days: number;
  /** The third machine's backups fail from this day on. */
  stopDay: number;
  retentionDays: number;
  marginDays: number;
  /** Days of the server between two backups. */
  step: number;
}

interface Night {
  play: Play;
  store: ObjectStore;
  pools: ScriptedPool[];
}

test('embedded: who is backed up no more keeps the last good one, everything else goes in its time', async () => {
  let now = START_MS;
  const clock = { now: () => now };
  const server = await startEmbedded({ clock, etag: 'fast' });
  try {
    await playDays({
      server,
      now: clock.now,
      begin: async (day) => {
        now = START_MS + day * DAY_MS;
      },
      lens: (store) => store,
      ...(isLong ? LONG : { days: 10, stopDay: 3, retentionDays: 3, marginDays: 2 }),
      step: 1,
    });
  } finally {
    await server.stop();
  }
});

const LONG = { days: 60, stopDay: 20, retentionDays: 14, marginDays: 3 };

test('ceph: the same for sixty days of its own rules', async (t) => {
  if (!isLong) return t.skip('in the long run');
  const server = await startCeph();
  if ('skipped' in server) return t.skip(server.skipped);
  const realMs = Date.now();
  const faster = DAY_MS / (CEPH_DAY_SECONDS * 1000);
  const shown = (real: number) => START_MS + (real - realMs) * faster;
  const step = 2; // the work of a night must fit
  try {
    await playDays({
      server,
      now: () => shown(Date.now()),
      begin: async (day) => {
        const atMs = realMs + day * step * CEPH_DAY_SECONDS * 1000;
        await systemClock.sleep(Math.max(0, atMs - Date.now()), options);
      },
      lens: (store) => shiftTimes(store, shown),
      ...LONG,
      retentionDays: LONG.retentionDays * step,
      marginDays: LONG.marginDays * step,
      step,
    });
  } finally {
    await server.stop();
  }
});

async function playDays(play: Play): Promise<void> {
  const { server, days, stopDay } = play;
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const bucket = await server.createBucket('rotation');
  const arena = createArena({ totalBytes: 4 * UNIT_BYTES, unitBytes: UNIT_BYTES });
  const deps = { clock: systemClock, log: createTestLog(), arena, meter: silentMeter };
  const place = { endpoint, region, bucket, prefix: 'xv', pathStyle: true, credentials };
  const store = play.lens(createS3Store(place, deps));
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const rule = {
    ID: 'daily',
    Status: 'Enabled' as ExpirationStatus,
    Filter: { Prefix: 'xv/backups/daily/' },
    Expiration: { Days: play.retentionDays },
  };
  const LifecycleConfiguration = { Rules: [rule] };
  await client.send(
    new PutBucketLifecycleConfigurationCommand({ Bucket: bucket, LifecycleConfiguration }),
  );
  client.destroy();
  const pools = POOLS.map((name) => Object.assign(createScriptedPool(), { name }));
  const night: Night = { play, store, pools };
  const made = new Map<string, Backup[]>(POOLS.map((pool) => [pool, []]));
  for (let day = 0; day < days; day++) {
    await play.begin(day);
    if (day === stopDay) fail(pools[2] as ScriptedPool);
    for (const backup of await backUpAll(night)) made.get(backup.vm.pool)?.push(backup);
    await checkListing(night, day);
    await makeYoung(store, 'backup.json', made.get('dc1')?.at(-2));
    await makeYoung(store, 'web.xva', made.get('dc2')?.at(-2));
  }
  await checkEnd(night, made);
  store.close();
}

function fail(pool: ScriptedPool): void {
  pool.onCall = (operation) => {
    if (operation === 'snapshotVm') throw new BackupError('snapshot_refused', 'snapshot: no');
  };
}

/** One night: a process that starts, backs all up, looks after the last good ones, and ends. Returns what was made. */
async function backUpAll({ play, store, pools }: Night): Promise<Backup[]> {
  const clock: Clock = { ...systemClock, now: play.now };
  const service = createService(
    {
      pools: pools as readonly Pool[],
      store,
      stateStore: store,
      clock,
      ids: { uuid: () => idAt(play.now()) },
      log: createTestLog(),
      meter: silentMeter,
      loadHasher: async () => HASHER,
    },
    {
      prefix: 'xv',
      concurrency: 4,
      concurrencyPerPool: 4,
      concurrencyPerSr: 4,
      queueLimit: 10,
      retentionClasses: ['daily'],
      instance: systemIds.uuid(),
      catalogTtlMs: 0,
      // time flies: a lease of minutes would be over at once
      leaseMs: 60 * DAY_MS,
      rotation: { ...DEFAULT_ROTATION, lastGoodDays: play.marginDays },
    },
  );
  const jobs = await Promise.all(
    pools.map(async ({ name: pool }) => {
      const request = backupRequestSchema.parse({ pool });
      const job = await service.startBackup({ vm: 'web', request, triggeredBy: 'test' }, options);
      return await service.waitJob(job.id, { timeoutMs: 60_000 }, options);
    }),
  );
  const made: Backup[] = [];
  for (const job of jobs) {
    if (job?.result) made.push(job.result);
    else assert.equal(job?.error?.code, 'snapshot_refused', JSON.stringify(job?.error));
  }
  await service.drain({ drainMs: 60_000 });
  return made;
}

/** Ids tell the instant they were made, and it is another one here. */
function idAt(ms: number): string {
  const time = Math.trunc(ms).toString(16).padStart(12, '0');
  return siblingId(`${time.slice(0, 8)}-${time.slice(8)}`, systemIds.uuid());
}

/** What is listed is what has archive and record somewhere, and each machine has such a backup. */
async function checkListing({ play, store, pools }: Night, day: number): Promise<void> {
  const clock: Clock = { ...systemClock, now: play.now };
  const catalog = createBackupCatalog({ store, keys: createKeys('xv'), clock }, { ttlMs: 0 });
  for (const { name: pool } of pools) {
    // rules of a real server may be at work between two looks
    for (let looks = 1; ; looks++) {
      const before = [...(await restorable(store, pool)).keys()].sort();
      const listed = (await catalog.entries({ pool })).map(({ backupId }) => backupId).sort();
      const after = [...(await restorable(store, pool)).keys()].sort();
      if (String(before) !== String(after) && looks < 10) continue;
      assert.deepEqual(listed, after, `day ${day}, ${pool}`);
      assert.notDeepEqual(listed, [], `day ${day}: ${pool} has a backup`);
      break;
    }
  }
}

/** By the raw keys, without the code under test: backup id → keys of its archive. */
async function restorable(store: ObjectStore, pool: string): Promise<Map<string, string[]>> {
  const keys = new Set<string>();
  for (const prefix of ['xv/backups/', 'xv/pinned/']) {
    for (const { key } of (await store.list({ prefix }, options)).objects) keys.add(key);
  }
  const found = new Map<string, string[]>();
  for (const key of keys) {
    const [, id] = /\/([^/]+)\/web\.xva$/.exec(key) ?? [];
    if (id === undefined || !key.includes(`/${pool}/`)) continue;
    if (!keys.has(key.replace('web.xva', 'backup.json'))) continue;
    found.set(id, [...(found.get(id) ?? []), key]);
  }
  return found;
}

/** As if it had been stored now: it outlives the other half of its backup by a day. */
async function makeYoung(store: ObjectStore, name: string, backup: Backup | undefined) {
  if (backup === undefined) return;
  const key = backup.archive.key.replace('web.xva', name);
  const found = await store.get(key, options);
  if (found) await store.put(key, found.bytes, options);
}

async function checkEnd(night: Night, made: ReadonlyMap<string, Backup[]>): Promise<void> {
  const { play, store } = night;
  const last = made.get('dc3')?.at(-1)?.id ?? '';
  for (const pool of POOLS) {
    const kept = (made.get(pool) ?? []).filter(
      ({ created_at: at }) => Date.parse(at) > play.now() - (play.retentionDays + 1) * DAY_MS,
    );
    const wanted = pool === 'dc3' ? [last] : kept.map(({ id }) => id);
    // a store may take its time, and what is gone a day early is one half
    for (let tries = 0; ; tries++) {
      const there = await restorable(store, pool);
      const extra = [...there.keys()].filter((id) => !wanted.includes(id));
      assert.ok(there.has(made.get(pool)?.at(-1)?.id ?? ''), `${pool}: the newest stays`);
      if (extra.length === 0) break;
      assert.ok(tries < 30, `${pool}: ${extra} should be gone`);
      await systemClock.sleep(play.step === 1 ? 0 : 1000, options);
    }
  }
  const there = await restorable(store, 'dc3');
  const key = `xv/pinned/dc3/${VM_UUID}/${last}/web.xva`;
  assert.deepEqual([...there], [[last, [key]]]);
  const archive = await store.get(key, options);
  const record = await store.get(key.replace('web.xva', 'backup.json'), options);
  const backup = backupSchema.parse(JSON.parse(String(Buffer.from(record?.bytes ?? []))));
  assert.deepEqual(backup, made.get('dc3')?.at(-1), 'its record is the one that was made');
  assert.equal(archive?.bytes.length, backup.archive.size_bytes);
  const copies = (await store.list({ prefix: 'xv/pinned/' }, options)).objects;
  assert.ok(
    copies.every(({ key }) => key.includes(last)),
    'nothing else is kept out of rotation',
  );
}

/** The times of a server whose days last seconds, as if they lasted days. */
function shiftTimes(store: ObjectStore, shown: (realMs: number) => number): ObjectStore {
  const shift = <T extends Pick<ObjectFacts, 'lastModified'>>(found: T): T => ({
    ...found,
    lastModified: shown(found.lastModified),
  });
  return {
    ...store,
    get: async (key, how) => {
      const found = await store.get(key, how);
      return found && shift(found);
    },
    head: async (key, how) => {
      const found = await store.head(key, how);
      return found && shift(found);
    },
    list: async (input, how) => {
      const page = await store.list(input, how);
      return { ...page, objects: page.objects.map(shift) };
    },
  };
}
