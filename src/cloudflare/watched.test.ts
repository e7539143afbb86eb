import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  LONGEST_PAUSE_MS,
  lookedAt,
  nameIn,
  nextStep,
  pauseMs,
  type Seen,
  startedAgain,
  UNATTENDED_MS,
  type Watched,
} from './watched.ts';

const ID = '019b8bab-0681-7930-9356-4ed57b350d79';
const ALARM_MS = 30_000;

test('a 202 names its job or run by its location, whatever stands before it', () => {
  assert.deepEqual(nameIn(`/v1/jobs/${ID}`), { kind: 'job', id: ID });
  assert.deepEqual(nameIn(`https://xvault.example/v1/runs/${ID}`), { kind: 'run', id: ID });
  for (const other of [null, '', `/v1/backups/${ID}`, `/v1/jobs/${ID}/events`, '/v1/jobs/x']) {
    assert.equal(nameIn(other), undefined, String(other));
  }
});

test('what is done about one that is watched', () => {
  const watched: Watched = { kind: 'job', id: ID, starts: 2, startedAt: 0, milestone: 5 };
  const seen: Seen = { ended: false, updatedAt: '', milestone: 5, holder: 'nobody' };
  const now = { running: false, nowMs: 2 * ALARM_MS, maxStarts: 6, alarmMs: ALARM_MS };
  const last = { ...watched, starts: 6 };
  const late = { ...now, nowMs: LONGEST_PAUSE_MS };
  const steps = [
    [nextStep(watched, undefined, now), 'forget'],
    [nextStep(watched, { ...seen, ended: true }, now), 'forget'],
    [nextStep(watched, seen, { ...now, running: true }), 'wait'],
    [nextStep(watched, { ...seen, holder: 'other' }, now), 'wait'],
    [nextStep(watched, seen, { ...now, nowMs: 2 * ALARM_MS - 1 }), 'wait'],
    [nextStep(watched, seen, now), 'start'],
    [nextStep(watched, { ...seen, holder: 'ours' }, now), 'start'],
    [nextStep(last, seen, now), 'wait'],
    [nextStep(last, seen, late), 'give_up'],
    [nextStep(last, { ...seen, holder: 'ours' }, late), 'wait'],
    [nextStep(last, { ...seen, holder: 'other' }, late), 'wait'],
    [nextStep(last, { ...seen, milestone: 6 }, late), 'start'],
  ];
  for (const [index, [got, wanted]] of steps.entries()) assert.equal(got, wanted, `row ${index}`);
});

test('one that nobody works on though the container runs is given up, one that waits its turn is not', () => {
  const watched: Watched = { kind: 'job', id: ID, starts: 1, startedAt: 0, milestone: 0 };
  const seen = (holder: Seen['holder']): Seen => ({
    ended: false,
    updatedAt: '',
    milestone: 0,
    holder,
  });
  const now = { running: true, nowMs: 7, maxStarts: 6, alarmMs: ALARM_MS };
  const idle = lookedAt(watched, seen('nobody'), now);
  assert.equal(idle.idleSince, 7);
  const later = { ...now, nowMs: 7 + UNATTENDED_MS };
  assert.equal(lookedAt(idle, seen('nobody'), later), idle);
  assert.equal(nextStep(idle, seen('nobody'), { ...later, nowMs: later.nowMs - 1 }), 'wait');
  assert.equal(nextStep(idle, seen('nobody'), later), 'give_up');
  for (const holder of ['ours', 'other', 'queue'] as const) {
    assert.equal(nextStep(idle, seen(holder), later), 'wait', holder);
    assert.deepEqual(lookedAt(idle, seen(holder), later), watched, holder);
  }
  assert.deepEqual(lookedAt(idle, seen('nobody'), { ...later, running: false }), watched);
  assert.equal(startedAgain(idle, seen('nobody'), 8).idleSince, undefined);
});

test('six starts last a quarter of an hour', () => {
  const pauses = [1, 2, 3, 4, 5].map((starts) => pauseMs(starts, ALARM_MS));
  assert.deepEqual(pauses, [30_000, 60_000, 120_000, 240_000, 480_000]);
  assert.equal(pauseMs(1000, ALARM_MS), LONGEST_PAUSE_MS);
});
