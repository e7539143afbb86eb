/** Jobs that one instance leaves and another finds: by a drain, by a death; and whom they wait for then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EngineWorld, keys, leave, options, setUp } from '../../test/backup/engine-world.ts';
import { nextId, sampleJob } from '../../test/records.ts';
import { isEnded, type Job } from '../catalog/record.ts';
import { runRequestSchema } from '../catalog/run.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';
import { parseTime } from '../time.ts';

const SR = { uuid: 'sr-1', name: 'nfs' };

/** Holds every export until `go`. */
function holdExports({ pool }: EngineWorld): { go(): void; exports(): number } {
  const gate = Promise.withResolvers<void>();
  let exports = 0;
  pool.onCall = async (operation, signal) => {
    if (operation !== 'openExport') return;
    exports += 1;
    const stopped = new Promise<void>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await Promise.race([gate.promise, stopped]);
  };
  return { go: gate.resolve, exports: () => exports };
}

/** A job of another machine that nobody works on. */
const leaveOther = (world: EngineWorld, over: Partial<Job> = {}): Promise<Job> => {
  const vm = { uuid: nextId(), name: 'other', pool: 'dc1' };
  const base = sampleJob();
  const checkpoint = { ...base.checkpoint, srs: [SR], vm_ref: 'OpaqueRef:web' };
  return leave(world, { status: 'queued', vm, checkpoint, ...over });
};

/** An instance for one job at a time: the export of `other` is held, `waits` has yet to begin. */
async function drainable() {
  const world = setUp({ concurrency: 1 });
  const hold = holdExports(world);
  const first = world.instance('a');
  const other = await leaveOther(world);
  await first.start();
  await world.clock.advance(1000);
  return { world, hold, first, other, waits: await world.start(first) };
}

test('a dry run whose instance died is ended by another', async () => {
  const world = setUp();
  const { request } = sampleJob();
  const job = await leave(world, { request: { ...request, dry_run: true } });
  await world.instance('b').start();
  const ended = await world.ended(job.id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.deepEqual(ended.dry_run?.disks, []);
});

test('a dry run that lives is left alone, and disturbs no backup of its machine', async () => {
  const world = setUp();
  const gate = Promise.withResolvers<void>();
  let held = false;
  world.pool.onCall = async (operation) => {
    if (operation !== 'facts' || held) return;
    held = true;
    await gate.promise;
  };
  const service = world.instance('a');
  const dry = await world.start(service, { dry_run: true });
  await world.clock.advance(1000);
  await world.instance('b').start();
  assert.equal(world.record(dry.id).instance, 'a');
  const real = await world.start(service);
  assert.equal((await world.ended(real.id)).status, 'succeeded');
  gate.resolve();
  assert.equal((await world.ended(dry.id)).attempt, 1);
  const leases = [...world.store.objects.keys()].filter((key) => key.startsWith(keys.leasesPrefix));
  assert.deepEqual(leases, []);
});

test('jobs that are taken over wait for their SR like all others', async () => {
  const world = setUp({ concurrencyPerSr: 1 });
  const hold = holdExports(world);
  const jobs = [await leaveOther(world), await leaveOther(world)];
  const service = world.instance('b');
  await service.start();
  await world.until('an export', () => hold.exports() > 0);
  await world.clock.advance(5000);
  assert.equal(hold.exports(), 1);
  const shown = await Promise.all(jobs.map(({ id }) => service.getJob(id, options)));
  const waiting = shown.find((job) => job?.status === 'queued');
  assert.equal(waiting?.waiting_because, '1 of 1 jobs run on SR nfs (XVAULT_CONCURRENCY_PER_SR)');
  const page = await service.listJobs({ pageSize: 10, status: 'queued' }, options);
  assert.deepEqual(
    page.items.map((job) => job.waiting_because),
    [waiting?.waiting_because],
  );
  hold.go();
  for (const { id } of jobs) assert.equal((await world.ended(id)).status, 'succeeded');
});

test('a drain leaves waiting jobs to the next instance as they are', async () => {
  const { world, hold, first, other, waits } = await drainable();
  const { id, waiting_because: reason } = waits;
  assert.match(reason ?? '', /1 of 1 jobs run in this instance \(XVAULT_CONCURRENCY\)/);
  const drained = first.drain({ drainMs: 600_000 });
  await world.clock.advance(1000);
  const next = world.instance('b');
  await next.start();
  await world.clock.advance(1000);
  assert.equal(world.record(id).instance, 'b', 'while the first still ends what runs');
  assert.equal(world.record(id).attempt, 1, 'nobody failed with it');
  assert.equal(isEnded(world.record(other.id)), false);
  hold.go();
  assert.equal((await world.ended(other.id)).status, 'succeeded');
  await drained;
  assert.equal((await world.ended(id)).status, 'succeeded');
  assert.equal(world.counts.get('jobs_queued'), 0);
});

test('a job that a drain left is gone on with, however many came after it', async () => {
  const { world, hold, first, other, waits } = await drainable();
  const { id } = waits;
  const drained = first.drain({ drainMs: 600_000 });
  hold.go();
  await drained;
  assert.equal((await world.ended(other.id)).status, 'succeeded');
  assert.equal(isEnded(world.record(id)), false);
  const at = world.record(id).created_at;
  for (let count = 0; count < 501; count++) {
    await leave(world, { id: nextId(), status: 'cancelled', finished_at: at });
  }
  await world.instance('b').start();
  assert.equal((await world.ended(id)).status, 'succeeded');
});

for (const what of ['a job', 'a run'] as const) {
  test(`a drain that comes while ${what} is being recorded ends when it is left, unlocked`, async () => {
    const world = setUp();
    const prefix = what === 'a job' ? keys.jobsPrefix : keys.runsPrefix;
    const gate = Promise.withResolvers<void>();
    let isHeld = false;
    const put: EngineWorld['store']['put'] = async (key, ...rest) => {
      if (key.startsWith(prefix)) {
        isHeld = true;
        await gate.promise;
      }
      return await world.store.put(key, ...rest);
    };
    const service = world.instance('a', { ...world.store, put });
    const request = runRequestSchema.parse({ select: { all: true } });
    const started =
      what === 'a job'
        ? world.start(service)
        : service.startRun({ request, triggeredBy: 'test' }, options);
    await world.until('the record', () => isHeld);
    let isDrained = false;
    const drained = service.drain({ drainMs: 0 }).then(() => {
      isDrained = true;
    });
    await world.clock.advance(1000);
    assert.equal(isDrained, false);
    gate.resolve();
    await started;
    await world.until('the end of the drain', () => isDrained);
    await drained;
    for (const [key, { bytes }] of world.store.objects) {
      if (!key.startsWith(keys.leasesPrefix)) continue;
      const { expires_at: end } = JSON.parse(bytes.toString());
      assert.ok(parseTime(end) < world.clock.now(), 'parked: it keeps nobody who goes on waiting');
    }
  });
}

test('what runs longer than the drain may is tried again by the next instance, if that is wanted', async () => {
  const world = setUp({ retry: { attempts: 2, firstPauseMs: 60_000 } });
  const hold = holdExports(world);
  const first = world.instance('a');
  const { id } = await world.start(first);
  await world.until('an export', () => hold.exports() > 0);
  const drained = first.drain({ drainMs: 1000 });
  await world.until('the end of the drain', () => world.record(id).status === 'queued');
  await drained;
  assert.equal(world.record(id).last_error?.code, 'draining');
  assert.deepEqual(world.pool.snapshots, []);
  hold.go();
  await world.instance('b').start();
  await world.clock.advance(1000);
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.attempt, 2);
});

test('a job has written its last record before its lease is given back', async () => {
  const world = setUp();
  let record: Job | undefined;
  let id = '';
  world.store.onCall = (operation, key) => {
    if (operation === 'delete' && key.startsWith(keys.leasesPrefix)) record = world.record(id);
  };
  ({ id } = await world.start(world.instance('a')));
  await world.ended(id);
  await world.clock.advance(1000);
  assert.equal(record?.status, 'succeeded');
});

test('a job whose end could not be written keeps its machine until another instance wrote it', async () => {
  const world = setUp();
  const put: ObjectStore['put'] = async (key, body, to) => {
    const isEnd = key.startsWith(keys.jobsPrefix) && String(body).includes('"succeeded"');
    if (isEnd) throw new BackupError('store_unavailable', 'put');
    return await world.store.put(key, body, to);
  };
  const { id } = await world.start(world.instance('a', { ...world.store, put }));
  await world.until('its end', () => world.lines.some((line) => line.startsWith('job given up')));
  const other = world.instance('b');
  await assert.rejects(world.start(other), { code: 'job_conflict' });
  await other.start();
  assert.equal((await world.ended(id)).status, 'succeeded');
  assert.equal(world.backups().length, 1);
});

test('whoever saw a job end may start the next one at once', async () => {
  const world = setUp();
  const gate = Promise.withResolvers<void>();
  world.store.onCall = async (operation, key) => {
    if (operation === 'delete' && key.startsWith(keys.leasesPrefix)) await gate.promise;
  };
  const service = world.instance('a');
  const { id } = await world.start(service);
  assert.equal((await world.ended(id)).status, 'succeeded');
  const next = world.start(world.instance('b'));
  await world.clock.advance(1000);
  gate.resolve();
  await world.clock.advance(1000);
  assert.equal((await world.ended((await next).id)).status, 'succeeded');
});

test('a lease that an ended job did not give back is a conflict until it has run out', async () => {
  const world = setUp();
  const service = world.instance('a');
  const { id } = await world.start(service);
  const lease = keys.lease('dc1', sampleJob().vm.uuid);
  world.store.onCall = (operation, key) => {
    if (operation === 'delete' && key === lease) throw new Error('killed here');
  };
  await world.ended(id);
  await world.clock.advance(1000);
  const refused = assert.rejects(
    world.start(service),
    (error: { code: string; details: object }) => {
      assert.equal(error.code, 'job_conflict');
      assert.equal((error.details as { retry_after_seconds: number }).retry_after_seconds, 30);
      return true;
    },
  );
  await world.clock.advance(10_000);
  await refused;
});

test('who began a job and did not end it is named when it is given up', async () => {
  const world = setUp();
  const base = sampleJob();
  const former = ['a', 'b', 'c', 'd'];
  const job = await leave(world, {
    phase: 'exporting',
    attempt: 7,
    instance: 'e',
    checkpoint: { ...base.checkpoint, former_instances: former, failures: 2 },
  });
  await world.instance('f').start();
  const ended = await world.ended(job.id);
  assert.match(
    ended.error?.detail ?? '',
    /5 instances.*died with it, or lost its lease.*a, b, c, d, e/,
  );
});
