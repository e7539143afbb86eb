/**
 * What every test of a misfortune starts with and ends with.
 *
 * Start: a small pool, a bucket, one good backup. End: one clear sentence with the right code and advice, nothing
 * left on pool or bucket, nothing listed that is not whole, the good backup still there, and the next one succeeds.
 */
import assert from 'node:assert/strict';
import type { ErrorCode, Retry } from '../../src/errors.ts';
import type { JobView } from '../../src/http/views.ts';
import { NEVER } from '../../src/signals.ts';
import { createFastClock } from '../xapi/fast-clock.ts';
import { type HttpWorld, startHttpWorld } from './app.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import type { WorldOptions } from './world.ts';

/** Waits between tries pass so many times faster. */
const HURRY = 100;
const MACHINE = 'app';

export interface FaultWorld extends HttpWorld {
  good: string;
  vmUuid: string;
}

/** A world with one good backup of the machine `app`; waits of the adapters are short. */
export async function startFaultWorld(options: WorldOptions = {}): Promise<FaultWorld> {
  const { poolSettings, storeSettings, ...rest } = options;
  const world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES },
    poolClock: createFastClock(HURRY),
    storeClock: createFastClock(HURRY),
    poolSettings: { callTimeoutMs: 1500, ...poolSettings },
    storeSettings: { idleTimeoutMs: 1000, ...storeSettings },
    ...rest,
  });
  const first = await world.run(MACHINE);
  assert.equal(first.status, 'succeeded', JSON.stringify(first.error));
  return Object.assign(world, { good: first.result?.id ?? '', vmUuid: first.vm.uuid });
}

export interface Expected {
  code: ErrorCode;
  retry?: Retry;
  says?: RegExp;
  status?: 'failed' | 'cancelled';
}

/** Backs up the machine under the misfortune and proves that it ended well or, as expected, not. */
export async function assertOutcome(
  world: FaultWorld,
  expected: Expected | 'succeeds',
): Promise<void> {
  // a delta would be sent whole when its parts turn out wrong (delta-trouble.test.ts); here all of it is sent at once
  const job = await world.run(MACHINE, { mode: 'full' });
  await assertEnded(world, job, expected);
}

/** The same for a job that has ended already. */
export async function assertEnded(
  world: FaultWorld,
  job: JobView,
  expected: Expected | 'succeeds',
): Promise<void> {
  const text = JSON.stringify({ error: job.error, status: job.status });
  const backups = await world.backupsOf(world.vmUuid);
  if (expected === 'succeeds') {
    assert.equal(job.status, 'succeeded', text);
    assert.equal(backups[0], job.result?.id);
  } else {
    assert.equal(job.status, expected.status ?? 'failed', text);
    assert.equal(job.error?.code, expected.code, text);
    if (expected.retry) assert.equal(job.error?.retry, expected.retry, text);
    if (expected.says) assert.match(job.error?.detail ?? '', expected.says);
    assertSentence(job.error?.detail ?? '');
    assert.equal(job.result, undefined);
  }
  assert.ok(backups.includes(world.good), 'the good backup is still listed');
  for (const id of backups) await assertWhole(world, id);
  await assertNothingLeft(world, text);
  world.sim.faults.clear();
  world.s3?.faults.clear();
  const next = await world.run(MACHINE);
  assert.equal(next.status, 'succeeded', JSON.stringify(next.error));
  await assertNothingLeft(world, text);
  assert.equal((await world.backupsOf(world.vmUuid)).length, backups.length + 1);
}

async function assertNothingLeft(world: FaultWorld, text: string): Promise<void> {
  // a task whose reference was in an answer that got lost: the pool drops ended tasks by itself
  for (const [ref, task] of world.sim.world.all('task')) {
    if (task.name_label !== 'Async.VM.snapshot' || task.status !== 'success') continue;
    world.sim.world.destroy('task', ref);
  }
  assert.deepEqual(await world.audit(), [], text);
}

/** For people: says what was tried, on one line, without a stack and without another program's objects. */
function assertSentence(detail: string): void {
  assert.match(detail, /^[a-z].{10,600}$/);
  assert.doesNotMatch(detail, /\n|\[object|undefined|OpaqueRef:.*session| at .*\.ts:/);
}

/** What is listed has its archive, of the size its record tells. */
async function assertWhole(world: FaultWorld, id: string): Promise<void> {
  const backup = (await world.call('GET', `/v1/backups/${id}`)).json<
    NonNullable<JobView['result']>
  >();
  const facts = await world.store.head(backup.archive.key, { signal: NEVER });
  assert.equal(facts?.sizeBytes, backup.archive.size_bytes);
  assert.equal(backup.disks.length, 2);
}
