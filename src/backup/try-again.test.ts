/** Jobs that fail for a reason that may pass are tried again, with pauses, whoever is there then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type EngineWorld,
  keys,
  LEASE_OVER_MS,
  options,
  setUp,
} from '../../test/backup/engine-world.ts';
import { sampleJob } from '../../test/records.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError, type BackupErrorOptions, type ErrorCode } from '../errors.ts';
import { formatTime, parseTime } from '../time.ts';
import { tryAgain } from './try-again.ts';

const MINUTE_MS = 60_000;
const RETRY = { attempts: 3, firstPauseMs: MINUTE_MS };

/** The pool refuses this operation so many times. */
function refuse(
  { pool }: EngineWorld,
  operation: string,
  input: { times: number; code?: ErrorCode } & BackupErrorOptions,
): void {
  const { times, code = 'pool_unavailable', ...rest } = input;
  let left = times;
  pool.onCall = (name) => {
    if (name === operation && left-- > 0) throw new BackupError(code, 'call the pool', rest);
  };
}

/** Waits until this attempt is the next one. */
function attempted(world: EngineWorld, id: string, attempt: number): Promise<void> {
  return world.until(`attempt ${attempt}`, () => {
    const job = world.record(id);
    return job.attempt === attempt && job.status === 'queued';
  });
}

test('a job that fails for a reason that may pass waits, visibly, and succeeds in the end', async () => {
  const world = setUp({ retry: RETRY });
  const service = world.instance('a');
  refuse(world, 'openExport', { times: 2 });
  const { id } = await world.start(service);
  await attempted(world, id, 2);
  const waiting = (await service.getJob(id, options)) as Job;
  assert.equal(waiting.status, 'queued');
  assert.equal(waiting.phase, 'preparing');
  assert.equal(waiting.attempt, 2);
  assert.equal(waiting.last_error?.code, 'pool_unavailable');
  assert.match(waiting.waiting_because ?? '', /attempt 1 of 3 failed \(pool_unavailable\)/);
  const pauseMs = parseTime(waiting.next_attempt_at ?? '') - world.clock.now();
  assert.ok(pauseMs > 50_000 && pauseMs <= MINUTE_MS, `pause=${pauseMs}`);
  assert.deepEqual(world.pool.snapshots, [], 'no snapshot stays over the pause');
  assert.equal(world.store.uploads.size, 0);
  await assert.rejects(world.start(service), { code: 'job_conflict' });
  await world.clock.advance(MINUTE_MS);
  await attempted(world, id, 3);
  const secondMs = parseTime(world.record(id).next_attempt_at ?? '') - world.clock.now();
  assert.ok(secondMs > 3 * MINUTE_MS, `pause=${secondMs}`);
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.next_attempt_at, undefined);
  assert.equal(ended.waiting_because, undefined);
  assert.equal(ended.last_error?.code, 'pool_unavailable', 'why it took so long is kept');
  assert.equal(world.backups().length, 1);
  assert.equal(world.counts.get('job_retries_total'), 2);
  assert.equal(world.counts.get('jobs_queued'), 0);
  assert.equal(world.counts.get('jobs_running'), 0);
});

test('after the last attempt the job has failed, with the last reason', async () => {
  const world = setUp({ retry: RETRY });
  refuse(world, 'openExport', { times: 9 });
  const { id } = await world.start(world.instance('a'));
  const ended = await world.ended(id);
  assert.equal(ended.status, 'failed');
  assert.equal(ended.attempt, 3);
  assert.equal(ended.error?.code, 'pool_unavailable');
  assert.equal(world.pool.calls.filter((call) => call === 'openExport').length, 3);
});

test('what only somebody can mend is not tried again', async () => {
  const world = setUp({ retry: RETRY });
  refuse(world, 'snapshotVm', { times: 1, code: 'snapshot_refused', retry: 'after-fix' });
  const { id } = await world.start(world.instance('a'));
  assert.equal((await world.ended(id)).status, 'failed');
  assert.ok(world.clock.elapsed() < MINUTE_MS);
});

test('a dry run tells at once', async () => {
  const world = setUp({ retry: RETRY });
  refuse(world, 'facts', { times: 1 });
  const { id } = await world.start(world.instance('a'), { dry_run: true });
  assert.equal((await world.ended(id)).status, 'failed');
  assert.ok(world.clock.elapsed() < MINUTE_MS);
});

test('a job that waits for its next attempt is cancelled at once', async () => {
  const world = setUp({ retry: RETRY });
  const service = world.instance('a');
  refuse(world, 'openExport', { times: 1 });
  const { id } = await world.start(service);
  await attempted(world, id, 2);
  await service.cancelJob(id, options);
  assert.equal((await world.ended(id)).status, 'cancelled');
  assert.ok(world.clock.elapsed() < MINUTE_MS);
  const { id: next } = await world.start(service);
  assert.equal((await world.ended(next)).status, 'succeeded');
});

test('an instance that dies during the pause leaves the attempt to another, not before its time', async () => {
  const world = setUp({ retry: { ...RETRY, firstPauseMs: 30 * MINUTE_MS } });
  refuse(world, 'openExport', { times: 1 });
  const { id } = await world.start(world.instance('a'));
  await attempted(world, id, 2);
  const lease = keys.lease('dc1', world.record(id).vm.uuid);
  // dead: its lease is not renewed any more
  const body = JSON.parse(world.store.objects.get(lease)?.bytes.toString('utf8') ?? '{}');
  const over = formatTime(world.clock.now() - LEASE_OVER_MS);
  await world.store.put(lease, JSON.stringify({ ...body, expires_at: over }), options);
  await world.instance('b').start();
  await world.clock.advance(5 * MINUTE_MS);
  assert.equal(world.record(id).status, 'queued');
  assert.equal(world.record(id).instance, 'b');
  assert.equal(world.record(id).attempt, 2, 'nobody failed with it meanwhile');
  await world.clock.advance(25 * MINUTE_MS);
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(world.backups().length, 1);
});

test('a snapshot an attempt could not remove goes before the next one is made', async () => {
  const world = setUp({ retry: RETRY });
  let exports = 0;
  world.pool.onCall = (name) => {
    if (name === 'openExport' && ++exports === 1) {
      throw new BackupError('pool_unavailable', 'call the pool');
    }
    if (name === 'removeSnapshot' && exports === 1 && world.clock.elapsed() < 6 * MINUTE_MS) {
      throw new BackupError('pool_unavailable', 'call the pool');
    }
  };
  const { id } = await world.start(world.instance('a'));
  await world.until('cleaning', () => world.record(id).phase === 'cleaning');
  await world.clock.advance(5 * MINUTE_MS);
  await attempted(world, id, 2);
  assert.match(world.record(id).last_error?.detail ?? '', /may be left/);
  const [left] = world.pool.snapshots;
  const ended = await world.ended(id);
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  const made = parseTime(ended.result?.created_at ?? '');
  assert.ok(made > parseTime(ended.created_at) + 5 * MINUTE_MS, 'of a snapshot of its own');
  assert.ok(left);
  assert.deepEqual(world.pool.snapshots, []);
});

const failedJob = (over: Partial<Job['error'] & object> = {}): Job =>
  sampleJob({
    status: 'failed',
    phase: 'cleaning',
    error: {
      type: 't',
      title: 't',
      status: 409,
      detail: 'd',
      code: 'snapshot_refused',
      retry: 'later',
      ...over,
    },
  });

test('the pause is as long as the error asks for, an hour at most', () => {
  const pause = (seconds: number) => {
    const job = failedJob({ details: { retry_after_seconds: seconds } });
    return parseTime(tryAgain(job, RETRY, 0)?.next_attempt_at ?? '');
  };
  assert.equal(pause(600), 600_000);
  assert.equal(pause(1), MINUTE_MS);
  assert.equal(pause(86_400), 3_600_000);
});

test('pauses grow, and a shutdown is none', () => {
  const many = { ...RETRY, attempts: 10 };
  const pauses: number[] = [];
  for (let job: Job | undefined = failedJob(); job; ) {
    const next = tryAgain(job, many, 0);
    if (next) pauses.push(parseTime(next.next_attempt_at ?? '') / MINUTE_MS);
    job = next && { ...next, status: 'failed', ...(job.error ? { error: job.error } : {}) };
  }
  assert.deepEqual(pauses, [1, 4, 16, 60, 60, 60, 60, 60, 60]);
  assert.equal(
    tryAgain(failedJob({ code: 'draining' }), RETRY, 5000)?.next_attempt_at,
    '1970-01-01T00:00:05.000Z',
  );
});

test('a job somebody wants no more is not tried again', () => {
  assert.equal(tryAgain({ ...failedJob(), cancel_requested: true }, RETRY, 0), undefined);
});

test('a guest that could not be released is called again first, and no round comes twice', () => {
  const after = (hooks: Job['checkpoint']['hooks']) => {
    const job = failedJob();
    const ended = { ...job, checkpoint: { ...job.checkpoint, hooks } };
    return tryAgain(ended, RETRY, 0)?.checkpoint.hooks;
  };
  assert.deepEqual(after({ round: 2, owed: false }), { round: 2, owed: false });
  const problem = 'the guest may still hold its data: 503';
  const stuck = { round: 2, owed: true, problem };
  assert.deepEqual(after({ round: 2, owed: false, problem }), stuck);
  assert.equal(after(undefined), undefined);
});
