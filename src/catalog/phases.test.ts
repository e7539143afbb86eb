import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PhaseTime, withPhase } from './phases.ts';

const AT = '2026-11-23T02:00:00.000Z';
const LATER = '2026-11-23T02:00:09.000Z';
const job: { status: string; phase: string; attempt: number; phases?: PhaseTime[] } = {
  status: 'running',
  phase: 'preparing',
  attempt: 1,
};

test('a phase is noted when it begins, once, and again with the next attempt', () => {
  const begun = withPhase(job, AT);
  assert.deepEqual(begun.phases, [{ phase: 'preparing', attempt: 1, at: AT }]);
  assert.equal(withPhase(begun, LATER), begun);
  const next = withPhase({ ...begun, phase: 'exporting' }, LATER);
  assert.equal(next.phases?.at(-1)?.at, LATER);
  assert.equal(withPhase({ ...begun, attempt: 2 }, LATER).phases?.length, 2);
});

test('a job that waits or has ended begins none, and the list has an end', () => {
  assert.equal(withPhase({ ...job, status: 'queued' }, AT).phases, undefined);
  assert.equal(withPhase({ ...job, status: 'succeeded' }, AT).phases, undefined);
  let many = job;
  for (let attempt = 1; attempt < 200; attempt++) many = withPhase({ ...many, attempt }, AT);
  assert.equal(many.phases?.length, 60);
  assert.equal(many.phases?.at(-1)?.attempt, 199);
});
