import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestLog } from '../../test/e2e/world.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { createKeys } from '../catalog/keys.ts';
import { createLeases } from '../catalog/lease.ts';
import { systemIds } from '../clock.ts';
import { BackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { createLeasedJobs } from './leased-jobs.ts';

const options = { signal: NEVER };

test('jobs of all leases are looked at again until a look went well, once after each doubt', async () => {
  const clock = createSimClock();
  const leases = createLeases(
    { store: createMemoryStore(clock), clock, ids: systemIds },
    { owner: 'a' },
  );
  const keys = createKeys('xv');
  await leases.take({ key: `${keys.leasesPrefix}x`, jobId: 'job-1' }, options);
  const doubters: (() => void)[] = [];
  const shared = { problem: undefined, onDoubt: (look: () => void) => void doubters.push(look) };
  const leasedJobs = createLeasedJobs({ leases, keys, log: createTestLog() }, { shared });
  const looked: (readonly string[])[] = [];
  const look = async (ids: readonly string[]) => void looked.push(ids);
  const away = new BackupError('store_unavailable', 'read record');
  const fail = async (ids: readonly string[]) => {
    await look(ids);
    throw away;
  };
  await assert.rejects(leasedJobs(fail, options), away);
  await leasedJobs(look, options);
  await leasedJobs(look, options);
  for (const doubt of doubters) doubt();
  await leasedJobs(look, options);
  assert.deepEqual(looked, [['job-1'], ['job-1'], [], ['job-1']]);
});
