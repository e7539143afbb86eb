/** When looks after last good backups end: a process for one job must not go before its copy is made. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleJob } from '../../test/records.ts';
import type { Clock, Log } from '../ports.ts';
import type { Guard } from './guard.ts';
import { createGuardSchedule } from './guard-schedule.ts';

const quiet = () => undefined;
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => log };
/** Every wait is over at once. */
const clock: Clock = { now: () => 0, elapsed: () => 0, sleep: async () => undefined };

/** A look that copies until it is let go or stopped. */
function begin() {
  const copying = Promise.withResolvers<void>();
  let stopped = false;
  const look: Guard['look'] = async ({ pool, vmUuid: uuid }, { signal }) => {
    signal.addEventListener('abort', () => copying.reject(signal.reason), { once: true });
    await copying.promise.catch((error) => {
      stopped = true;
      throw error;
    });
    return { vm: { uuid, pool }, guard: 'renewed' };
  };
  const guard = { look, all: () => assert.fail('not asked'), failures: new Map() };
  const schedule = createGuardSchedule({ clock, log }, guard);
  schedule.jobEnded(sampleJob());
  return { schedule, letGo: () => copying.resolve(), wasStopped: () => stopped };
}

test('a service that is told to stop waits for a look as long as for a job', async () => {
  const { schedule, wasStopped } = begin();
  await schedule.stop({ drainMs: 1 });
  assert.equal(wasStopped(), true);
});

test('a process for one job waits until the copy is made, however long, unless it is told to stop', async () => {
  const patient = begin();
  const { signal } = new AbortController();
  const ending = patient.schedule.stop({ drainMs: 1, until: signal });
  await new Promise(setImmediate);
  assert.equal(patient.wasStopped(), false);
  patient.letGo();
  await ending;
  assert.equal(patient.wasStopped(), false);

  const told = begin();
  const interrupt = new AbortController();
  const stopping = told.schedule.stop({ drainMs: 1, until: interrupt.signal });
  interrupt.abort(new Error('told to stop'));
  await stopping;
  assert.equal(told.wasStopped(), true);
  const late = begin();
  await late.schedule.stop({ drainMs: 1, until: AbortSignal.abort() });
  assert.equal(late.wasStopped(), true);
});
