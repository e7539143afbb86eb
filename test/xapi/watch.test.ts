/** A host that stops working without closing the connection. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { VmRef } from '../../src/ports.ts';
import { createXapiPool } from '../../src/xapi/pool.ts';
import { float, type Rec } from '../sim/xapi/values.ts';
import { createFastClock } from './fast-clock.ts';
import { createKeptLog, silentMeter } from './quiet.ts';
import { startScriptedHost } from './scripted-host.ts';

const signal = new AbortController().signal;
const HEAD = 'HTTP/1.0 200 OK\r\n\r\n';

/** One export whose task looks as told each time it is asked for, and whose socket gets what `serve` writes. */
async function exportFrom(input: {
  task(polls: number): Rec;
  serve(socket: Socket): void;
  stallTimeoutMs: number;
}) {
  let polls = 0;
  const host = await startScriptedHost({
    onCall: (method) => {
      if (method === 'session.login_with_password') return 'OpaqueRef:s';
      if (method === 'task.create') return 'OpaqueRef:t';
      if (method.includes('get_all_records') || method === 'VM.get_record') return {};
      if (method !== 'task.get_record') return '';
      polls += 1;
      return input.task(polls);
    },
    onExport: (socket) => input.serve(socket),
  });
  const pool = createXapiPool(
    {
      name: 'p',
      urls: [host.url],
      username: 'u',
      password: 'password',
      trust: { kind: 'system' },
      taskPollMs: 1_000,
      stallTimeoutMs: input.stallTimeoutMs,
    },
    { clock: createFastClock(200), log: createKeptLog(), meter: silentMeter },
  );
  const stream = await pool.openExport(
    { snapshot: 'OpaqueRef:v' as VmRef, label: 'x' },
    { signal },
  );
  return {
    host,
    stream,
    [Symbol.asyncDispose]: async () => {
      await stream[Symbol.asyncDispose]();
      await pool.close();
      await host[Symbol.asyncDispose]();
    },
  };
}

const pending = (progress: number): Rec => ({ status: 'pending', progress: float(progress) });
const failed: Rec = {
  status: 'failure',
  progress: float(1),
  error_info: ['VDI_IO_ERROR', 'Device I/O error'],
};

test('a task that failed while the connection stays open ends the export with its error', async () => {
  await using run = await exportFrom({
    task: (polls) => (polls < 3 ? pending(0) : failed),
    serve: (socket) => socket.write(`${HEAD}some bytes`),
    stallTimeoutMs: 3600_000,
  });
  await assert.rejects(run.stream.fill(Buffer.alloc(1000), { signal }), (error) => {
    assert.ok(isBackupError(error, 'source_failed'));
    assert.equal(error.details.xapi_code, 'VDI_IO_ERROR');
    return true;
  });
});

test('silence is borne as long as the task moves', async () => {
  const { promise: socket, resolve } = Promise.withResolvers<Socket>();
  await using run = await exportFrom({
    task: (polls) => {
      if (polls === 30) void socket.then((s) => s.end('and the rest'));
      return pending(Math.min(0.9, polls / 100));
    },
    serve: (s) => {
      s.write(`${HEAD}some bytes `);
      resolve(s);
    },
    stallTimeoutMs: 5_000,
  });
  const target = Buffer.alloc(1000);
  const size = await run.stream.fill(target, { signal });
  assert.equal(target.toString('latin1', 0, size), 'some bytes and the rest');
  assert.ok(run.stream.taskProgress >= 0.29);
});

test('a writer that takes its time is no silence of the host', async () => {
  let polls = 0;
  const { promise: waited, resolve } = Promise.withResolvers<void>();
  await using run = await exportFrom({
    task: () => {
      polls += 1;
      if (polls === 20) resolve();
      return pending(0);
    },
    serve: (socket) => socket.end(`${HEAD}some bytes`),
    stallTimeoutMs: 5_000,
  });
  await waited;
  const target = Buffer.alloc(4);
  assert.equal(await run.stream.fill(target, { signal }), 4);
});

test('an export that was given up is cancelled and its task destroyed', async () => {
  const run = await exportFrom({
    task: () => pending(0),
    serve: (socket) => socket.write(`${HEAD}some bytes`),
    stallTimeoutMs: 5_000,
  });
  await assert.rejects(run.stream.fill(Buffer.alloc(1000), { signal }), (error) =>
    isBackupError(error, 'source_truncated'),
  );
  await run[Symbol.asyncDispose]();
  const ending = run.host.calls.filter((method) => /task\.(cancel|destroy)/.test(method));
  assert.deepEqual(ending, ['task.cancel', 'task.destroy']);
});
