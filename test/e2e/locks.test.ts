/**
 * A month under object lock in compliance mode: archive, index and record are locked from their first moment, and nothing
 * xvault does in all that time (deltas, indexes made anew, verifications, cancels, failures, sweeps) asks the store to change or
 * remove one of them. On the embedded server by its clock; shorter on a real Ceph RGW, in the long form.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DeleteObjectCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  type ObjectVersion,
  PutBucketLifecycleConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import { createService, type RunningService } from '../../src/backup/create-service.ts';
import { type Backup, backupRequestSchema, type Job } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import type { Clock } from '../../src/ports.ts';
import type { LockRule } from '../../src/s3/lock.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { DEFAULT_ROTATION } from '../../src/settings-rotation.ts';
import { NEVER } from '../../src/signals.ts';
import { startCeph } from '../servers/index.ts';
import { bucketMaker, type S3Server } from '../servers/server.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { startSimS3 } from '../sim/s3/index.ts';
import { assertRestores, contents } from './delta-days.ts';
import { writeNoise } from './delta-world.ts';
import { silentMeter, startWorld, type TestWorld } from './world.ts';

const MIB = 1_048_576;
const DAY_MS = 86_400_000;
const options = { signal: NEVER };
const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const BACKUPS = 'xv/backups/';
/** Between two backups of the month; shorter than any rule, so that there is a base. */
const STEP_DAYS = isLong ? 1 : 5;

/** Shorter than its rule; longer than its rule, which then only hides. */
const daily = { mode: 'compliance', days: 4 } as const;
const weekly = { mode: 'compliance', days: 20 } as const;
const LOCKS: LockRule[] = [
  { prefix: 'xv/backups/daily/', ...daily },
  { prefix: 'xv/backups/weekly/', ...weekly },
];
const RULES = [
  { ID: 'daily', Filter: { Prefix: 'xv/backups/daily/' }, Expiration: { Days: 6 } },
  { ID: 'weekly', Filter: { Prefix: 'xv/backups/weekly/' }, Expiration: { Days: 14 } },
  {
    ID: 'versions',
    Filter: { Prefix: '' },
    NoncurrentVersionExpiration: { NoncurrentDays: 1 },
    Expiration: { ExpiredObjectDeleteMarker: true },
  },
].map((rule) => ({ ...rule, Status: 'Enabled' as const }));

const MACHINE: MachineSpec = {
  name: 'web',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 7 * MIB, seed: 3, density: 1 }),
    },
  ],
};

interface Locked extends AsyncDisposable {
  world: TestWorld;
  client: S3Client;
  bucket: string;
  /** A process that works for this day only. */
  open(): RunningService;
}

/** Archives in a bucket with object lock, state in another. */
async function startLocked(server: S3Server, clock: Clock): Promise<Locked> {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.createBucket('locked', { objectLock: true });
  const state = await server.createBucket('state');
  const access = { endpoint, region, credentials: { accessKeyId, secretAccessKey } };
  const settings = { ...access, pathStyle: true, prefix: 'xv', locks: LOCKS };
  const world = await startWorld({
    store: { ...settings, bucket },
    storeClock: clock,
    pool: { seed: 5, machines: [MACHINE] },
  });
  const unitBytes = 8 * 1_050_112;
  const arena = createArena({ totalBytes: 4 * unitBytes, unitBytes });
  const shared = { clock, log: world.log, meter: silentMeter };
  const stateStore = createS3Store({ ...settings, bucket: state }, { ...shared, arena });
  const client = new S3Client({ ...access, forcePathStyle: true });
  return {
    world,
    client,
    bucket,
    open: () =>
      createService(
        { ...shared, pools: [world.pool], store: world.store, stateStore, ids: systemIds },
        {
          prefix: 'xv',
          concurrency: 1,
          concurrencyPerPool: 1,
          concurrencyPerSr: 1,
          queueLimit: 10,
          retentionClasses: ['daily', 'weekly'],
          instance: systemIds.uuid(),
          retentionDays: { daily: 6, weekly: 14 },
          rotation: { ...DEFAULT_ROTATION, locks: { daily, weekly } },
        },
      ),
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      stateStore.close();
      await world[Symbol.asyncDispose]();
    },
  };
}

async function run(service: RunningService, request: object): Promise<Job> {
  const input = { vm: 'web', request: backupRequestSchema.parse(request), triggeredBy: 'test' };
  const { id } = await service.startBackup(input, options);
  return (await service.waitJob(id, { timeoutMs: 60_000 }, options)) as Job;
}

/** Everything besides plain backups that may be wanted of one. */
async function useIt(service: RunningService, { id: backupId }: Backup): Promise<void> {
  const triggeredBy = 'test';
  const starts = [
    () => service.startIndex({ backupId, triggeredBy }, options),
    () => service.startVerify({ backupId, triggeredBy, wish: { percent: 100 } }, options),
  ];
  for (const start of starts) {
    const { id } = await start();
    const job = await service.waitJob(id, { timeoutMs: 60_000 }, options);
    assert.equal(job?.status, 'succeeded', JSON.stringify(job?.error));
  }
}

async function versionsOf({ client, bucket }: Locked): Promise<ObjectVersion[]> {
  const input = { Bucket: bucket, Prefix: BACKUPS };
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand(input));
  return Versions;
}

/** Each key was written once, and is locked for its class's days from then on. */
async function assertLocked(locked: Locked, now: () => number, seen: Map<string, number>) {
  const versions = await versionsOf(locked);
  const keys = versions.map(({ Key = '' }) => Key);
  assert.equal(new Set(keys).size, keys.length, 'an object was written twice');
  for (const { Key = '', VersionId } of versions) {
    const input = { Bucket: locked.bucket, Key, VersionId };
    if (!seen.has(Key)) {
      const head = await locked.client.send(new HeadObjectCommand(input));
      assert.equal(head.ObjectLockMode, 'COMPLIANCE', Key);
      const days = LOCKS.find(({ prefix }) => Key.startsWith(prefix))?.days ?? 0;
      const until = head.ObjectLockRetainUntilDate?.getTime() ?? 0;
      const made = head.LastModified?.getTime() ?? 0;
      assert.ok(Math.abs(until - made - days * DAY_MS) < 60_000, `${Key} until ${until}`);
      seen.set(Key, until);
    }
  }
  // What is locked is there, hidden by a rule or not.
  for (const [key, until] of seen) if (until > now()) assert.ok(keys.includes(key), key);
}

test('a month under compliance mode: nothing locked is ever asked to change', async () => {
  let offset = 0;
  const now = () => Date.now() + offset;
  const clock: Clock = { ...systemClock, now };
  const asked = new Set<string>();
  await using sim = await startSimS3({ etag: 'fast', clock: { now } });
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const facts = { endpoint, region, accessKeyId, secretAccessKey };
  const createBucket = bucketMaker(facts);
  const server: S3Server = { name: 'embedded', ...facts, createBucket, stop: () => sim.close() };
  await using locked = await startLocked(server, clock);
  const { world, client, bucket } = locked;
  const LifecycleConfiguration = { Rules: RULES };
  await client.send(
    new PutBucketLifecycleConfigurationCommand({ Bucket: bucket, LifecycleConfiguration }),
  );
  sim.faults.watch = ({ operation, bucket: where, key, done }) => {
    if (!done && where === bucket && key.startsWith(BACKUPS)) asked.add(`${operation} ${key}`);
  };
  const machine = world.sim.machine('web');
  const [disk] = machine.disks;
  assert.ok(disk);
  const seen = new Map<string, number>();
  const backups = 30 / STEP_DAYS;
  for (let i = 0; i < backups; i += 1, offset += STEP_DAYS * DAY_MS) {
    const service = locked.open();
    writeNoise(disk, { offset: (i % 7) * MIB, bytes: 5000 }, (below) => (i * 7919) % below);
    if (i % 5 === 3) {
      world.sim.faults.set('export-error', { afterBytes: 3_000_000 });
      assert.equal((await run(service, {})).status, 'failed');
      world.sim.faults.clear();
    }
    const job = await run(service, {
      retention: i % 3 === 0 ? 'weekly' : 'daily',
      compression: i % 6 === 5 ? 'zstd' : 'none',
    });
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    const backup = job.result as Backup;
    assert.equal(backup.archive.locked_until, seenUntil(backup, now()));
    if (i % 4 === 2) await useIt(service, backup);
    const report = await service.sweep({ dryRun: false }, options);
    assert.deepEqual(report.errors, []);
    await assertLocked(locked, now, seen);
    if (i === backups - 1) {
      await assertRestores(world.store, backup, contents(machine));
      const [archives] = (await service.rotation(options)).buckets;
      assert.deepEqual(
        archives?.warnings.filter((text) => /locked/.test(text)),
        [
          'daily: locked for 4 of the 6 days it lives',
          'weekly: locked for 20 days, hidden by its rule after 14: paid for 6 more',
        ],
      );
    }
    await service.drain({ drainMs: 0 });
  }
  const created = [...asked].filter((one) => /^(PutObject|CompleteMultipart)/.test(one)).length;
  assert.equal(created, seen.size, 'each object is made by one request');
  const harmless =
    /^(PutObject|CreateMultipartUpload|UploadPart|UploadPartCopy|CompleteMultipartUpload|AbortMultipartUpload|GetObject|HeadObject|ListParts) /;
  assert.deepEqual(
    [...asked].filter((one) => !harmless.test(one)),
    [],
  );
  const refused = Object.keys(sim.stats.answers).filter((answer) => / 403 /.test(answer));
  assert.deepEqual(refused, []);
});

/** The record says what the store says of the archive, to the second. */
function seenUntil({ archive, retention }: Backup, now: number): string | undefined {
  const { locked_until: until } = archive;
  const days = retention === 'weekly' ? 20 : 4;
  assert.ok(Math.abs(Date.parse(until ?? '') - now - days * DAY_MS) < 60_000, `${until}`);
  return until;
}

test('on Ceph RGW: locked as made; nobody removes a version, and a hidden backup comes back', async (t) => {
  if (!isLong) return t.skip('in the long form only');
  const server = await startCeph();
  if ('skipped' in server) return t.skip(server.skipped);
  t.after(() => server.stop());
  await using locked = await startLocked(server, systemClock);
  const { client, bucket, world } = locked;
  const service = locked.open();
  const full = await run(service, {});
  assert.equal(full.status, 'succeeded', JSON.stringify(full.error));
  const delta = await run(service, { mode: 'delta' });
  assert.equal(delta.status, 'succeeded', JSON.stringify(delta.error));
  await useIt(service, delta.result as Backup);
  await assertLocked(locked, systemClock.now, new Map());
  const [version] = await versionsOf(locked);
  const target = { Bucket: bucket, Key: version?.Key ?? '' };
  const one = { ...target, VersionId: version?.VersionId, BypassGovernanceRetention: true };
  await assert.rejects(client.send(new DeleteObjectCommand(one)), { name: 'AccessDenied' });
  const marker = await client.send(new DeleteObjectCommand(target));
  assert.equal(await world.store.head(target.Key, options), undefined);
  await client.send(new DeleteObjectCommand({ ...target, VersionId: marker.VersionId }));
  assert.ok((await world.store.head(target.Key, options))?.lockedUntil);
  await service.drain({ drainMs: 0 });
  // Leases in such a bucket are not trusted: state lies in another.
  assert.equal((await world.store.facts(options)).conditionalWrites, false);
});
