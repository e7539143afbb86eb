import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleJob } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { isBackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { createJobStore } from './job-store.ts';
import { createKeys } from './keys.ts';

const options = { signal: NEVER };

function setUp() {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const keys = createKeys('');
  const open = () => createJobStore({ store, keys, clock });
  return { clock, store, keys, jobs: open(), other: open() };
}

test('a job written by one instance is read the same by another', async () => {
  const { jobs, other } = setUp();
  const job = sampleJob();
  await jobs.create(job, options);
  assert.deepEqual(await other.read(job.id), job);
  assert.equal(await other.read(sampleJob().id), undefined);
});

test('however often a job is polled its record is read once a second, and never again once it ended', async () => {
  const { jobs, other, store, clock } = setUp();
  const state = await jobs.create(sampleJob(), options);
  for (let i = 0; i < 100; i++) await other.read(state.job.id);
  assert.equal(store.calls.get('get'), 1);
  await jobs.save(state, { ...state.job, status: 'succeeded' }, options);
  await clock.advance(1000);
  assert.equal((await other.read(state.job.id))?.status, 'succeeded');
  await clock.advance(3600_000);
  await other.read(state.job.id);
  assert.equal(store.calls.get('get'), 2);
});

test('of two writers the second is told, and update puts its change on top of the first', async () => {
  const { jobs, other } = setUp();
  const mine = await jobs.create(sampleJob(), options);
  await other.update(mine.job.id, (job) => ({ ...job, cancel_requested: true }), options);
  await assert.rejects(jobs.save(mine, { ...mine.job, phase: 'exporting' }, options), (error) =>
    isBackupError(error, 'precondition_failed'),
  );
  const after = await jobs.update(mine.job.id, (job) => ({ ...job, phase: 'exporting' }), options);
  assert.equal(after?.cancel_requested, true);
  assert.equal(after?.phase, 'exporting');
});

test('a failed read is not remembered', async () => {
  const { jobs, other, store } = setUp();
  const { job } = await jobs.create(sampleJob(), options);
  store.onCall = () => {
    throw new Error('down');
  };
  await assert.rejects(other.read(job.id), /down/);
  delete store.onCall;
  assert.equal((await other.read(job.id))?.id, job.id);
});

test('a damaged record is an error that names the job', async () => {
  const { jobs, store, keys } = setUp();
  const id = sampleJob().id;
  await store.put(keys.job(id), '{', options);
  await assert.rejects(
    jobs.read(id),
    (error) => isBackupError(error, 'data_corrupt') && error.message.includes(id),
  );
});

test('ids are listed newest first, over pages, and only the tail is listed again', async () => {
  const { jobs, other, store } = setUp();
  const ids: string[] = [];
  for (let i = 0; i < 2300; i++) {
    const { job } = await jobs.create(sampleJob(), options);
    ids.unshift(job.id);
  }
  assert.deepEqual(await other.ids(options), ids);
  const first = store.calls.get('list') ?? 0;
  assert.equal(first, 3);
  ids.unshift((await jobs.create(sampleJob(), options)).job.id);
  assert.deepEqual(await other.ids(options), ids);
  assert.equal(store.calls.get('list'), first + 1);
});
