import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keys, options, setUp } from '../../test/backup/engine-world.ts';
import { nextId } from '../../test/records.ts';
import { problemOf } from '../catalog/problem.ts';
import { type Run, runRequestSchema } from '../catalog/run.ts';
import { BackupError } from '../errors.ts';
import type { Notice } from '../notices.ts';
import { formatTime } from '../time.ts';

const DAY_MS = 86_400_000;

function createWorld() {
  const told: Notice[] = [];
  const notifier = {
    targets: () => ['ops'],
    send: async (notice: Notice) => {
      told.push(notice);
      return [{ target: 'ops', ok: true, attempts: 1 }];
    },
  };
  const world = setUp({}, { notifier });
  const leave = async (finishedMs: number, ...problems: BackupError[]): Promise<Run> => {
    const at = formatTime(finishedMs);
    const run: Run = {
      version: 1,
      id: nextId(),
      status: 'failed',
      request: runRequestSchema.parse({ select: { all: true } }),
      deadline_at: at,
      created_at: at,
      updated_at: at,
      finished_at: at,
      cancel_requested: false,
      triggered_by: 'nightly',
      planned: true,
      machines: [],
      skipped: [],
      problems: problems.map((error) => problemOf(error)),
      notes: [],
    };
    await world.store.put(keys.run(run.id), JSON.stringify(run), options);
    return run;
  };
  /** An engine comes, and goes. */
  const engine = async (name: string) => {
    const service = world.instance(name);
    await service.start();
    await world.clock.advance(1000);
    await service.drain({ drainMs: 0 });
  };
  return { ...world, told, leave, engine };
}

const GAVE_UP = new BackupError('engine_unavailable', 'end run: its container was gone each time');

test('the report of a run that was given up is sent by the next engine, and by no other, on no other day', async () => {
  const { clock, told, leave, engine } = createWorld();
  const run = await leave(clock.now(), GAVE_UP);
  await engine('b');
  await engine('c');
  await clock.advance(DAY_MS - 60_000);
  await engine('d');
  assert.deepEqual(
    told.map(({ event, about }) => [event, about]),
    [['run.finished', run.id]],
  );
  assert.match(told[0]?.todo ?? '', /container was gone each time/);
});

test('of runs that an engine ended, or that are old, nothing is told again', async () => {
  const { clock, told, leave, engine } = createWorld();
  await leave(clock.now(), new BackupError('pool_unavailable', 'reach the pool'));
  await leave(clock.now() - DAY_MS, GAVE_UP);
  await engine('b');
  assert.deepEqual(told, []);
});
