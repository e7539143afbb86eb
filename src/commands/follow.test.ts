import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { sampleJob } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { jobView } from '../http/views.ts';
import type { ServiceClient } from './client.ts';
import { backUp, follow, jobExitCode, runToEnd } from './follow.ts';

const never = () => Promise.reject(new Error('not asked for in this test'));

/** A client whose job runs until it is cancelled. */
function scriptedClient(end: Partial<Job>) {
  const job = sampleJob({ status: 'running' });
  const asked = Promise.withResolvers<void>();
  const client: ServiceClient = {
    kind: 'remote',
    startBackup: never,
    startIndex: never,
    getBackup: never,
    readArchive: () => assert.fail('not asked here'),
    startRestore: never,
    startVerify: never,
    startRestoreTest: never,
    startAdopt: never,
    startRun: never,
    getRun: never,
    cancelRun: never,
    listRuns: never,
    listJobs: never,
    listBackups: never,
    status: never,
    sweep: never,
    renewLastGood: never,
    startPin: never,
    unpin: never,
    rotation: never,
    applyRotation: never,
    cancelJob: () => {
      asked.resolve();
      return Promise.resolve(jobView({ ...job, cancel_requested: true }));
    },
    watchJob: async function* () {
      yield jobView(job);
      await asked.promise;
      yield jobView({ ...job, ...end });
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return { client, started: jobView(job) };
}

test('Ctrl-C cancels the job and waits for its end', async () => {
  const { client, started } = scriptedClient({ status: 'cancelled' });
  const stop = new AbortController();
  const terminal = createTestTerminal();
  const ended = follow({ client, terminal, signal: stop.signal }, started);
  stop.abort(new BackupError('cancelled', 'stop'));
  const job = await ended;
  assert.equal(job.status, 'cancelled');
  assert.equal(jobExitCode(job), 130);
  assert.match(terminal.text.err, /cancelling/);
});

test('a job that ended although it was asked to stop counts as what it is', async () => {
  const { client, started } = scriptedClient({ status: 'succeeded' });
  const terminal = createTestTerminal();
  const signal = AbortSignal.abort(new BackupError('cancelled', 'stop'));
  assert.equal(jobExitCode(await follow({ client, terminal, signal }, started)), 0);
});

test('a cancel that is refused is told, not swallowed', async () => {
  const { client, started } = scriptedClient({});
  client.cancelJob = () => Promise.reject(new BackupError('forbidden', 'cancel job'));
  client.watchJob = async function* (_id, { signal }) {
    yield started;
    signal.throwIfAborted();
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  };
  const stop = new AbortController();
  const ended = follow({ client, terminal: createTestTerminal(), signal: stop.signal }, started);
  stop.abort(new BackupError('cancelled', 'stop'));
  await assert.rejects(ended, { code: 'forbidden' });
});

test('the exit code of a failed job is that of its error', () => {
  const error = { type: '', title: '', status: 503, detail: '', code: 'pool_unavailable' };
  assert.equal(jobExitCode(jobView(sampleJob({ status: 'failed', error }))), 13);
  assert.equal(jobExitCode(jobView(sampleJob({ status: 'failed' }))), 1);
});

/** A client whose machine is taken by a job of `owner` until that job was watched to its end. */
function takenClient(owner: string) {
  const left = sampleJob({ id: '019aaf4a-0000-7c51-8f0a-5b7d0c1e2f34', status: 'running' });
  const own = sampleJob({ status: 'queued' });
  const watched: string[] = [];
  const client: ServiceClient = {
    ...scriptedClient({}).client,
    kind: 'direct',
    instance: 'this-one',
    startBackup: () => {
      if (watched.includes(left.id)) return Promise.resolve(jobView(own));
      const details = { job_id: left.id, owner };
      return Promise.reject(new BackupError('job_conflict', 'start job', { details }));
    },
    watchJob: async function* (id) {
      const job = id === left.id ? left : own;
      yield jobView(job);
      watched.push(id);
      yield jobView({ ...job, status: 'succeeded' });
    },
  };
  return { client, left, own };
}

test('a job that this process took over is finished first, then comes the backup asked for', async () => {
  const { client, left, own } = takenClient('this-one');
  const terminal = createTestTerminal();
  const signal = new AbortController().signal;
  const ended = await backUp({ client, terminal, signal }, { vm: 'web', wishes: {} });
  assert.equal(ended.id, own.id);
  assert.equal(ended.status, 'succeeded');
  assert.match(terminal.text.err, new RegExp(`an earlier run left: ${left.id}`));
});

test('a job taken over that is what was asked for is the answer: no second backup', async () => {
  const { client, left } = takenClient('this-one');
  const signal = new AbortController().signal;
  const input = { client, terminal: createTestTerminal(), signal, isAnswer: () => true };
  assert.equal((await backUp(input, { vm: 'web', wishes: {} })).id, left.id);
});

test('who is to leave cancels nothing and shows the job as it was left', async () => {
  const { client, started } = scriptedClient({});
  const leave = new AbortController();
  client.left = async () => undefined;
  client.cancelJob = () => assert.fail('nothing is cancelled');
  let looks = 0;
  client.watchJob = async function* (_id, { signal }) {
    looks += 1;
    yield { ...started, status: looks === 1 ? 'running' : 'queued' };
    signal.throwIfAborted();
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  };
  const signal = new AbortController().signal;
  const terminal = createTestTerminal();
  const ended = follow({ client, terminal, signal, leave: leave.signal }, started);
  leave.abort(new BackupError('cancelled', 'stop'));
  const job = await ended;
  assert.equal(job.status, 'queued');
  assert.equal(jobExitCode(job), 143);
});

test('a job of another instance is a conflict', async () => {
  const { client } = takenClient('another-one');
  const signal = new AbortController().signal;
  const input = { client, terminal: createTestTerminal(), signal };
  await assert.rejects(backUp(input, { vm: 'web', wishes: {} }), { code: 'job_conflict' });
});

test('a lease that nobody renews is waited for; who lives, or waits in a queue, is a conflict', async () => {
  const at = (until: number, owner = 'b') => ({ owner, until });
  type Look = ReturnType<typeof at> | 'queued' | undefined;
  const cases: [what: string, look: (second: number) => Look, code: string, seconds: number][] = [
    ['killed', (s) => (s < 120 ? at(90) : undefined), 'done', 120],
    ['alive', (s) => at(s < 30 ? 90 : 120), 'job_conflict', 30],
    ['another took it over', (s) => at(90, s < 100 ? 'b' : 'c'), 'job_conflict', 100],
    ['never free', () => at(90), 'job_conflict', 185],
    [
      'killed long ago, within the clocks’ difference',
      (s) => (s < 5 ? at(-10) : undefined),
      'done',
      5,
    ],
    ['in a queue', () => 'queued', 'job_conflict', 0],
  ];
  for (const [what, look, code, seconds] of cases) {
    const clock = createSimClock();
    const begun = clock.now();
    const { client, started } = scriptedClient({});
    const done = { ...started, status: 'succeeded' as const };
    client.watchJob = async function* () {
      yield done;
    };
    const input = { client, terminal: createTestTerminal(), signal: new AbortController().signal };
    const start = async () => {
      const found = look((clock.now() - begun) / 1000);
      if (found === undefined) return done;
      const holder = found !== 'queued' && {
        owner: found.owner,
        expires_at: new Date(begun + found.until * 1000).toISOString(),
      };
      const details = { job_id: started.id, ...holder };
      throw new BackupError('job_conflict', 'start job', { details });
    };
    let end: unknown;
    const ended = (how: string) => {
      end = [how, (clock.now() - begun) / 1000];
    };
    runToEnd({ ...input, waitForLease: clock }, start).then(
      () => ended('done'),
      (error: BackupError) => ended(error.code),
    );
    for (let i = 0; i < 60 && end === undefined; i++) await clock.advance(i === 0 ? 0 : 5000);
    assert.deepEqual(end, [code, seconds], what);
  }
});
