/**
 * Backup after backup over the real adapters: sockets, timers, sessions and memory stay where they were after the first
 * few. 8 backups by default, 400 in the long form (XVAULT_TEST_LONG=1, `npm run test:long -- test/load`).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startHttpWorld } from '../e2e/app.ts';
import { BUCKET } from '../e2e/world.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import { type Held, holding, NOISE_BYTES } from './holding.ts';

const MIB = 1_048_576;
const BACKUPS = process.env.XVAULT_TEST_LONG === '1' ? 400 : 8;
const WARM_UP = 4;
/** Records, listings and the simulated servers' own memory of one backup. */
const REMEMBERED_BYTES = 200 * 1024;

const MACHINES = [
  {
    name: 'small',
    power: 'Running' as const,
    disks: [
      {
        name: 'root',
        storage: 'nfs' as const,
        open: () => createGeneratedDisk({ sizeBytes: 6 * MIB, seed: 1, density: 0.5 }),
      },
    ],
  },
  { name: 'bare', power: 'Running' as const, disks: [] },
];

test(`${BACKUPS} backups over the wire leave no socket, timer, session or memory behind`, async (t) => {
  await using world = await startHttpWorld({ pool: { machines: MACHINES } });
  const { sim, s3 } = world;
  const once = async (number: number) => {
    // every fifth fails on its way
    if (number % 5 === 4) sim.faults.set('export-error', { afterBytes: 1000 });
    const { status, id } = await world.run(number % 2 === 0 ? 'small' : 'bare');
    sim.faults.clear();
    for (const path of [`/v1/jobs/${id}/events`, '/v1/status', '/v1/vms', '/metrics']) {
      assert.equal((await world.call('GET', path)).status, 200);
    }
    return status;
  };
  for (let number = 0; number < WARM_UP; number++) await once(number);
  const stored = () => s3?.inspect.storedBytes(BUCKET) ?? 0;
  const [early, storedEarly] = [await holding({ sleepers: 0 }), stored()];
  const ends: Record<string, number> = {};
  for (let number = 0; number < BACKUPS; number++) {
    const status = await once(number);
    ends[status] = (ends[status] ?? 0) + 1;
  }
  const late = await holding({ sleepers: 0 });
  assert.ok((ends.succeeded ?? 0) > 0 && (ends.failed ?? 0) > 0, JSON.stringify(ends));
  assert.equal(late.listeners, early.listeners);
  assertNoMore(late, early);
  const grown = late.heapBytes - early.heapBytes - (stored() - storedEarly);
  const allowed = NOISE_BYTES + BACKUPS * REMEMBERED_BYTES;
  assert.ok(grown < allowed, `${grown} bytes more, ${allowed} allowed`);
  assert.ok(sim.world.all('session').length <= 1, 'one session serves all');
  assert.deepEqual(await world.audit(), []);
  t.diagnostic(`${JSON.stringify(ends)}, ${Math.round(grown / BACKUPS / 1024)} KiB a backup`);
});

/** Kept connections come and go; what leaks grows with the backups. */
function assertNoMore({ resources: late }: Held, { resources: early }: Held): void {
  for (const [name, count] of Object.entries(late)) {
    const before = early[name] ?? 0;
    assert.ok(count <= before + 4, `${name}: ${count}, at first ${before}`);
  }
}
