/** A whole run over real bytes, with the rights users are given and nothing more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunView } from '../../src/http/run-answers.ts';
import { enforce, readPolicy } from '../security/policy.ts';
import { createSparseDisk } from '../sim/disk.ts';
import { startHttpWorld } from './app.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import { BUCKET } from './world.ts';

const SCRATCH = {
  name: 'scratch [NOBACKUP]',
  storage: 'nfs' as const,
  bootable: false,
  open: () => createSparseDisk(2 * 1_048_576),
};
const [APP, ...OTHERS] = SMALL_MACHINES;
const MACHINES = [{ ...APP, name: 'app', disks: [...(APP?.disks ?? []), SCRATCH] }, ...OTHERS];

test('all machines of a pool in one call: what can be backed up is, the rest is told with its mend', async () => {
  const watch = enforce(readPolicy(BUCKET, 'xv/'));
  await using world = await startHttpWorld({
    pool: { machines: MACHINES },
    s3: { policy: watch.policy },
    service: { concurrency: 2 },
  });
  const body = { select: { all: true }, skip: ['other'] };
  const planned = (
    await world.call('POST', '/v1/runs', { body: { ...body, dry_run: true } })
  ).json<RunView>();
  const order = planned.machines.map(({ vm }) => vm.name);
  assert.deepEqual(order, ['app', 'stick', 'twin', 'twin'], 'the largest first');
  const headers = { 'idempotency-key': 'tonight' };
  const begun = (await world.call('POST', '/v1/runs', { body, headers })).json<RunView>();
  const again = (await world.call('POST', '/v1/runs', { body, headers })).json<RunView>();
  assert.equal(again.id, begun.id);
  const answer = await world.call('GET', begun.links.self, { headers: { prefer: 'wait=55' } });
  const run = answer.json<RunView>();
  assert.equal(run.status, 'partial', answer.text);
  const { succeeded, failed, skipped } = run.counts;
  assert.deepEqual({ succeeded, failed, skipped }, { succeeded: 3, failed: 1, skipped: 1 });
  const app = run.machines.find(({ vm }) => vm.name === 'app');
  assert.deepEqual(app?.left_out, ['disk 2 (scratch [NOBACKUP]): marked [nobackup]']);
  const backup = (await world.call('GET', `/v1/backups/${app?.made?.backup_id}`)).json<{
    disks: unknown[];
    excluded_disks: { name: string }[];
    triggered_by: string;
  }>();
  assert.deepEqual(
    [backup.disks.length, backup.excluded_disks.map(({ name }) => name), backup.triggered_by],
    [2, [SCRATCH.name], `nightly (run ${run.id})`],
  );
  const stick = run.machines.find(({ vm }) => vm.name === 'stick');
  assert.equal(stick?.error?.code, 'snapshot_refused');
  const text = await world.call('GET', run.links.self, { headers: { accept: 'text/plain' } });
  assert.match(text.text, /^partial: 3 of 4 machines backed up, 1 failed, 1 left out\n/);
  assert.match(text.text, /\nwhat to do:\n {2}stick: The pool cannot make the snapshot/);
  assert.match(text.text, /\nmachines left out:\n {2}other \(dc1\): other is in the skip list\n/);
  assert.match((await world.call('GET', '/metrics')).text, /xvault_runs_total{result="partial"} 1/);
  assert.deepEqual(await world.audit(), []);
  assert.deepEqual(watch.refused, []);
});
