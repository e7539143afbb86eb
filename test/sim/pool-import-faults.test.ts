/**
 * What goes wrong with imports on the host's side, and what a host then leaves: nothing, unless it was killed itself.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { type Source, startSource, startTarget, type Target } from './import-world.ts';
import type { FaultName, SimPoolOptions } from './pool.ts';

const MIB = 1_048_576;

let source: Source;
let archive: Buffer;

before(async () => {
  source = await startSource();
  archive = await source.archive();
});
after(() => source.pool.close());

async function withTarget(
  work: (target: Target) => Promise<void>,
  options: SimPoolOptions = {},
): Promise<void> {
  const target = await startTarget(options);
  try {
    await work(target);
  } finally {
    await target.pool.close();
  }
}

interface Case {
  fault: FaultName;
  params: object;
  status: string;
  error?: string[];
  /** Of the answer; '' when there is none. */
  line: RegExp;
  /** How many objects stay: a machine, two disks, two cards make five. */
  stays: number;
}

const OK = /^HTTP\/1\.1 200 OK$/;

/** In the middle of the second disk, when all objects are there. */
const middle = { afterBytes: 4 * MIB };

const CASES: Case[] = [
  {
    fault: 'import-refused',
    params: { code: 'OPERATION_NOT_ALLOWED', params: ['no'] },
    status: 'failure',
    error: ['OPERATION_NOT_ALLOWED', 'no'],
    line: /^HTTP\/1\.1 500 /,
    stays: 0,
  },
  { fault: 'import-no-response', params: {}, status: 'pending', line: /^$/, stays: 0 },
  {
    fault: 'import-error',
    params: { ...middle, code: 'SR_BACKEND_FAILURE_44', params: ['', 'no space', ''] },
    status: 'failure',
    error: ['SR_BACKEND_FAILURE_44', '', 'no space', ''],
    line: OK,
    stays: 0,
  },
  {
    fault: 'import-reset',
    params: middle,
    status: 'failure',
    error: ['IMPORT_ERROR_PREMATURE_EOF'],
    line: /^(HTTP\/1\.1 200 OK)?$/,
    stays: 0,
  },
  {
    fault: 'import-task-failure',
    params: {},
    status: 'failure',
    error: ['VDI_IO_ERROR', 'Device I/O error'],
    line: OK,
    stays: 0,
  },
  { fault: 'import-task-pending', params: {}, status: 'pending', line: OK, stays: 5 },
  {
    fault: 'import-killed',
    params: middle,
    status: 'pending',
    line: /^(HTTP\/1\.1 200 OK)?$/,
    stays: 5,
  },
];

for (const { fault, params, status, error = [], line, stays } of CASES) {
  test(`${fault}: the task is ${status}, ${stays} objects stay`, async () => {
    await withTarget(async ({ pool, send, left }) => {
      pool.faults.set(fault, params as never);
      const { task, answer } = await send(archive);
      assert.equal(pool.faults.fired(fault), 1);
      assert.deepEqual([task.status, ...task.error_info], [status, ...error]);
      assert.match(answer.statusLine, line);
      assert.equal((await left()).length, stays);
      const again = await send(archive);
      assert.equal(again.task.status, 'success', 'a fault strikes once');
    });
  });
}

/** Begins an import by hand: the head and the first bytes, the connection stays open. */
async function begin({ pool, caller }: Target, bytes: Buffer) {
  const task = await caller.call('task.create', 'import', '');
  const { hostname, port } = new URL(pool.url);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  socket.on('error', () => undefined); // what the host does to us is seen on its side
  await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const lines = [
    `PUT /import?task_id=${task} HTTP/1.1`,
    `Cookie: session_id=${caller.session}`,
    `Content-Length: ${archive.length}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  socket.write(bytes);
  return { task, socket, closed };
}

/** Waits until the world is so; every change is looked at. */
async function until({ pool }: Target, ready: () => boolean): Promise<void> {
  while (!ready()) {
    await new Promise<void>((resolve) => {
      const stop = pool.world.onChange(() => {
        stop();
        resolve();
      });
    });
  }
}

const imported = ({ pool }: Target) =>
  pool.world.all('VM').find(([, vm]) => vm.name_label === 'two disks');

test('while it comes in, the machine is there, locked, and the disk hangs on dom0', async () => {
  await withTarget(async (target) => {
    const { pool, caller } = target;
    const { task, socket, closed } = await begin(target, archive.subarray(0, 2 * MIB));
    socket.resume();
    await until(target, () => imported(target) !== undefined);
    const [vm = '', record] = imported(target) ?? [];
    assert.deepEqual(record?.current_operations, { [task]: 'import' });
    const otherConfig = await caller.call<Record<string, string>>('task.get_other_config', task);
    assert.deepEqual(otherConfig, { object_creation: 'complete' });
    const allowed = await caller.call<string[]>('VM.get_allowed_operations', vm);
    assert.deepEqual(allowed.includes('start') || allowed.includes('destroy'), false);
    assert.ok((await target.left()).some((line) => line.startsWith('disk on dom0')));
    socket.end(archive.subarray(2 * MIB));
    await closed;
    await until(target, () => pool.world.get('task', task).status !== 'pending');
    assert.equal(pool.world.get('task', task).status, 'success');
    assert.deepEqual(pool.world.get('VM', vm).current_operations, {});
  });
});

test('a client that hangs up half-way leaves nothing', async () => {
  await withTarget(async (target) => {
    const { pool, caller, left } = target;
    const { task, socket } = await begin(target, archive.subarray(0, 2 * MIB));
    await until(target, () => imported(target) !== undefined);
    socket.destroy();
    await until(target, () => pool.world.get('task', task).status !== 'pending');
    assert.deepEqual(pool.world.get('task', task).error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
    await caller.call('task.destroy', task);
    assert.deepEqual(await left(), []);
  });
});

test('a cancelled import ends with the next progress and leaves nothing', async () => {
  await withTarget(
    async (target) => {
      const { pool, caller, left } = target;
      const { task, socket, closed } = await begin(target, archive.subarray(0, 2 * MIB));
      await until(target, () => imported(target) !== undefined);
      await caller.call('task.cancel', task);
      assert.equal(pool.world.get('task', task).status, 'pending', 'nothing moved');
      socket.resume();
      socket.write(archive.subarray(2 * MIB));
      await closed;
      const { status, error_info } = pool.world.get('task', task);
      assert.deepEqual([status, error_info], ['cancelled', ['TASK_CANCELLED', task]]);
      await caller.call('task.destroy', task);
      assert.deepEqual(await left(), []);
    },
    { progressIntervalMs: 0 },
  );
});

for (const misfortune of ['the toolstack restarts', 'the host goes down'] as const) {
  test(`${misfortune} in the middle: everything made so far stays, unlocked`, async () => {
    await withTarget(async (target) => {
      const { pool } = target;
      const { socket, closed } = await begin(target, archive.subarray(0, 2 * MIB));
      socket.resume();
      await until(target, () => imported(target) !== undefined);
      if (misfortune === 'the toolstack restarts') pool.restartToolstack();
      else await pool.stopHost(0);
      await closed;
      const ignore = /^(task|session) |^\d+ open/;
      const stays = () => pool.audit().filter((line) => !ignore.test(line));
      await until(target, () => stays().length === 5);
      const [, record] = imported(target) ?? [];
      assert.deepEqual(record?.current_operations, {});
      const config = record?.other_config as Record<string, string>;
      assert.match(config.import_task ?? '', /^OpaqueRef:/);
    });
  });
}

test('a host that never answers, or stops reading, holds on until the client gives up', async () => {
  await withTarget(async (target) => {
    const { pool, caller, left } = target;
    pool.faults.set('import-hangs', {});
    const hung = await begin(target, archive);
    await until(target, () => pool.faults.fired('import-hangs') === 1);
    assert.equal(pool.world.get('task', hung.task).status, 'pending');
    hung.socket.destroy();
    pool.faults.set('import-silent', { afterBytes: MIB, silentMs: 3_600_000 });
    const silent = await begin(target, archive.subarray(0, 3 * MIB));
    await until(target, () => pool.faults.fired('import-silent') === 1);
    assert.equal(pool.world.get('task', silent.task).status, 'pending');
    silent.socket.destroy();
    await until(target, () => pool.world.get('task', silent.task).status !== 'pending');
    for (const { task } of [hung, silent]) await caller.call('task.destroy', task);
    assert.deepEqual(await left(), []);
  });
});
