/**
 * Two hundred machines at once on one process, sixteen at work, and monitors that ask a hundred times a second.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFleet, type Fleet, keys } from './fleet.ts';

const MACHINES = 200;
const POLL_EVERY_MS = 10;

/** Starts one backup of each machine through the API; the ids of their jobs. */
async function startAll(fleet: Fleet): Promise<string[]> {
  const answers = await Promise.all(
    fleet.vms.map(({ name }) => fleet.call('POST', `/v1/vms/${name}/backups`, {})),
  );
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([202]));
  const jobs = await Promise.all(answers.map((answer) => answer.json() as Promise<{ id: string }>));
  return jobs.map(({ id }) => id);
}

test('200 jobs wait and run, sixteen at a time, while everything is polled: none is lost or starved', async () => {
  // from 0.5 to 2.5 s each, so that many end at different times
  let turn = 0;
  const fleet = await createFleet({
    machines: MACHINES,
    exportMs: () => 500 + (turn++ % 5) * 500,
  });
  const ids = await startAll(fleet);
  assert.equal(fleet.gauges.running, 16);
  assert.equal(fleet.gauges.queued, MACHINES - 16);
  const paths = [
    ...ids.map((id) => `/v1/jobs/${id}`),
    ...Array.from({ length: 100 }, () => [
      '/v1/status',
      '/v1/jobs?status=queued',
      '/v1/vms',
      '/metrics',
    ]).flat(),
  ];
  const listedBefore = fleet.store.calls.get('list') ?? 0;
  const startedAt = fleet.clock.elapsed();
  let polls = 0;
  while (fleet.gauges.running + fleet.gauges.queued > 0) {
    const answer = await fleet.call('GET', paths[(polls * 7) % paths.length] ?? '');
    assert.equal(answer.status, 200);
    await answer.body?.cancel();
    polls += 1;
    await fleet.clock.advance(POLL_EVERY_MS);
    assert.ok(polls < 20_000, 'the jobs do not end');
  }
  const seconds = (fleet.clock.elapsed() - startedAt) / 1000;
  assert.ok(polls / seconds >= 99, `${polls / seconds} polls a second`);
  assert.equal(fleet.gauges.mostRunning, 16);

  const jobs = (await Promise.all(
    ids.map(async (id) => await (await fleet.call('GET', `/v1/jobs/${id}`)).json()),
  )) as { status: string; created_at: string; started_at: string; finished_at: string }[];
  assert.deepEqual(new Set(jobs.map(({ status }) => status)), new Set(['succeeded']));
  const stored = [...fleet.store.objects.keys()];
  assert.equal(stored.filter((key) => key.endsWith('/backup.json')).length, MACHINES);
  assert.deepEqual(
    stored.filter((key) => key.startsWith(keys.leasesPrefix)),
    [],
  );
  assert.deepEqual(fleet.pool.snapshots, []);
  // first come, first served: nobody began before one that had asked earlier, but for the sixteen side by side
  const begun = jobs.map(({ started_at: at }) => Date.parse(at));
  for (let at = 16; at < begun.length; at++) {
    const behind = begun.slice(at).filter((time) => time < (begun[at - 16] ?? 0)).length;
    assert.equal(behind, 0, `${behind} overtook job ${at - 16}`);
  }
  // polls are answered from what was read a moment ago, not by a call each
  const perSecond = (count: number) => count / seconds;
  assert.ok(
    perSecond(fleet.listings()) <= 2,
    `${perSecond(fleet.listings())} listings of the pool a second`,
  );
  const lists = (fleet.store.calls.get('list') ?? 0) - listedBefore;
  // after each backup the catalogue must show it at once, in rotation and out of it, and its guard looks at the machine:
  // which classes there are, each of them, and copies
  assert.ok(lists <= 5 * MACHINES + 4 * seconds, `${lists} listings of the bucket in ${seconds} s`);
});

test('the queue takes as many as it may, refuses the rest with 429 and Retry-After, and takes them later', async () => {
  const LIMIT = 50;
  const fleet = await createFleet(
    { machines: MACHINES, exportMs: () => 5000 },
    { concurrency: 16, queueLimit: LIMIT },
  );
  let left = fleet.vms.map(({ name }) => name);
  let refused = 0;
  for (let round = 0; left.length > 0; round++) {
    assert.ok(round < 100, 'they are not taken');
    // all at once: none of them may slip past the limit while another is being written down
    const answers = await Promise.all(
      left.map((name) => fleet.call('POST', `/v1/vms/${name}/backups`, {})),
    );
    assert.ok(fleet.service.waiting <= LIMIT, `${fleet.service.waiting} wait`);
    for (const answer of answers.filter(({ status }) => status !== 202)) {
      assert.equal(answer.status, 429);
      assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/);
      assert.equal(((await answer.json()) as { code: string }).code, 'limit_reached');
      refused += 1;
    }
    left = left.filter((_, at) => answers[at]?.status !== 202);
    await fleet.clock.advance(5000);
  }
  for (let round = 0; fleet.service.running + fleet.service.waiting > 0; round++) {
    assert.ok(round < 100);
    await fleet.clock.advance(5000);
  }
  assert.ok(refused >= MACHINES - 16 - LIMIT);
  assert.ok(fleet.gauges.mostQueued <= LIMIT + 16);
  const stored = [...fleet.store.objects.keys()];
  assert.equal(stored.filter((key) => key.endsWith('/backup.json')).length, MACHINES);
  assert.equal(
    stored.filter((key) => key.startsWith(keys.jobsPrefix)).length,
    MACHINES,
    'no job of a refused one',
  );
  assert.deepEqual(
    stored.filter((key) => key.startsWith(keys.leasesPrefix)),
    [],
  );
});
