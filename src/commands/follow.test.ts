import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { sampleJob } from '../../test/records.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { jobView } from '../http/views.ts';
import type { ServiceClient } from './client.ts';
import { follow, jobExitCode } from './follow.ts';

const never = () => Promise.reject(new Error('not asked for in this test'));

/** A client whose job runs until it is cancelled. */
function scriptedClient(end: Partial<Job>) {
  const job = sampleJob({ status: 'running' });
  const asked = Promise.withResolvers<void>();
  const client: ServiceClient = {
    kind: 'remote',
    startBackup: never,
    listJobs: never,
    listBackups: never,
    status: never,
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
