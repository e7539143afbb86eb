/**
 * What stands in the way of a restore: told before anything is begun where it can be known, else a failed job that says why;
 * and in every case nothing is left on either pool.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Backup, Job } from '../../src/catalog/record.ts';
import type { RestoreRequest } from '../../src/catalog/restore.ts';
import type { ObjectStore, Pool } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { sampleJob } from '../records.ts';
import type { FaultName, FaultParams } from '../sim/pool.ts';
import { text } from '../sim/xapi/values.ts';
import {
  ALL_NETWORKS,
  assertSameDisks,
  machineOf,
  type RestoreWorld,
  startRestoreWorld,
  TWO_DISKS,
} from './restore-world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };

let lab: RestoreWorld;
let full: Backup;
before(async () => {
  lab = await startRestoreWorld({
    target: {
      storages: [
        { name: 'nfs', nameLabel: 'NFS store', type: 'nfs', shared: true },
        { name: 'small', nameLabel: 'Small', type: 'ext', sizeBytes: 3 * MIB },
      ],
    },
  });
  full = await lab.backUp(TWO_DISKS.name, { mode: 'full' });
});
afterEach(async () => {
  assert.deepEqual(await lab.audit(), []);
});
after(async () => {
  await lab[Symbol.asyncDispose]();
});

const REFUSED: [
  string,
  Partial<RestoreRequest>,
  { code?: string; reason?: string; says: RegExp },
][] = [
  [
    'a network that is not known here',
    {},
    { reason: 'network_missing', says: /"Pool-wide network associated with eth0"/ },
  ],
  [
    'a network that is not there',
    { networks: { '*': 'DMZ' } },
    { reason: 'network_missing', says: /DMZ/ },
  ],
  [
    'a map of a network the backup does not have',
    { networks: { DMZ: 'VM network' } },
    { code: 'invalid_request', says: /DMZ/ },
  ],
  ['storage that is not there', { sr: 'SAN' }, { reason: 'sr_unsuitable', says: /SAN/ }],
  [
    'storage that is too small',
    { sr: 'Small', networks: ALL_NETWORKS },
    { reason: 'sr_full', says: /bytes are needed/ },
  ],
  [
    'a disk the backup does not have',
    { disks: ['7'], networks: ALL_NETWORKS },
    { code: 'invalid_request', says: /disk 7/ },
  ],
  [
    'a link to an archive that must be edited',
    { via: 'url', networks: ALL_NETWORKS },
    { reason: 'unsupported', says: /via stream/ },
  ],
  ['a pool that is not in the settings', { pool: 'mars' }, { code: 'not_found', says: /mars/ }],
  [
    'a machine that lives here as itself',
    { pool: 'dc1', mac: 'keep', uuid: 'keep' },
    { reason: 'machine_exists', says: /it is running; remove it first/ },
  ],
  [
    'to start a second machine of the same addresses',
    { pool: 'dc1', mac: 'keep', start: true },
    { reason: 'mac_conflict', says: /is running with the same MAC/ },
  ],
];

for (const [what, request, { code = 'restore_refused', reason, says }] of REFUSED) {
  test(`refused at once: ${what}`, async () => {
    await assert.rejects(lab.restore(full, request), (error: Error) => {
      const { code: found, details } = error as Error & { code: string; details: object };
      assert.equal(found, code, error.message);
      if (reason !== undefined) assert.equal((details as { reason: string }).reason, reason);
      assert.match(error.message, says);
      return true;
    });
  });
}

test('what could be said instead is told with a refusal', async () => {
  await assert.rejects(lab.restore(full, {}), (error: Error & { details?: object }) => {
    const { choices } = error.details as { choices: { name: string }[] };
    assert.ok(choices.some(({ name }) => name === 'VM network'));
    return true;
  });
});

test('a halted original is not replaced', async () => {
  const { sim } = lab.world;
  const { ref } = sim.machine(TWO_DISKS.name);
  const before = sim.world.get('VM', ref);
  const power = text(before, 'power_state');
  sim.world.set('VM', ref, { power_state: 'Halted' });
  try {
    const wish = { pool: 'dc1', mac: 'keep', uuid: 'keep' } as const;
    await assert.rejects(lab.restore(full, wish), {
      code: 'restore_refused',
      message: /halted and would be replaced/,
    });
  } finally {
    sim.world.set('VM', ref, { power_state: power });
  }
});

/** A pool whose list of machines is older than a machine that collides. */
function unaware(pool: Pool): Pool {
  return {
    ...pool,
    importTargets: async (to) => ({ ...(await pool.importTargets(to)), machines: [] }),
  };
}

test('a machine of the same uuid or seed that appeared meanwhile is the host’s to refuse', async () => {
  const wish = { networks: ALL_NETWORKS, mac: 'keep', uuid: 'keep' } as const;
  const first = await lab.restore(full, { ...wish });
  const { ref, record } = machineOf(lab.target, first);
  const service = lab.secondService({ target: unaware(lab.targetPool) });
  const again = await lab.restore(full, wish, service);
  assert.equal(again.error?.details?.reason, 'machine_exists', JSON.stringify(again.error));
  // another machine of the seed: a copy somebody made of it
  lab.target.world.set('VM', ref, { uuid: '0f0f0f0f-0000-4000-8000-000000000001' });
  const twin = await lab.restore(full, wish, service);
  assert.equal(twin.error?.details?.reason, 'mac_conflict', JSON.stringify(twin.error));
  assert.match(JSON.stringify(twin.error), /DUPLICATE_MAC_SEED/);
  await service.drain({ drainMs: 0 });
  assertSameDisks(lab.target, ref, lab.world.sim.machine(TWO_DISKS.name));
  lab.target.world.set('VM', ref, { uuid: text(record, 'uuid') });
  await lab.removeAgain(ref);
});

type Fault = { [N in FaultName]: [N, FaultParams[N], RegExp] }[FaultName];
const FAULTS: Fault[] = [
  [
    'import-error',
    { afterBytes: 5 * MIB, code: 'SR_BACKEND_FAILURE_44' },
    /^restore_refused .*free space/,
  ],
  ['import-reset', { afterBytes: 5 * MIB }, /^target_failed /],
  ['import-task-failure', {}, /^target_failed /],
  ['import-task-vanishes', {}, /^target_failed /],
  [
    'call-fails',
    { method: 'VIF.get_record', code: 'INTERNAL_ERROR' },
    /^pool_refused .*INTERNAL_ERROR/,
  ],
];

for (const [name, params, says] of FAULTS) {
  test(`a job that meets ${name} fails, says so and leaves nothing`, async () => {
    lab.target.faults.set(name, params as never);
    const job = await lab.restore(full, { networks: ALL_NETWORKS });
    assert.equal(lab.target.faults.fired(name), 1);
    assert.equal(job.status, 'failed', JSON.stringify(job.restored));
    assert.match(`${job.error?.code} ${job.error?.detail}`, says);
    assert.equal(job.restored, undefined);
  });
}

test('damage in the archive ends the import, and names disk and block', async () => {
  const store = rotten(lab.world.store, 6 * MIB);
  const service = lab.secondService({ store });
  const job = await lab.restore(full, { networks: ALL_NETWORKS }, service);
  await service.drain({ drainMs: 0 });
  assert.equal(job.error?.code, 'data_corrupt', JSON.stringify(job));
  assert.equal(typeof job.error?.details?.block, 'number', JSON.stringify(job.error));
  // ranges of single disks are checked the same
  const again = lab.secondService({ store: rotten(lab.world.store, 600) });
  const disk = await lab.restore(full, { disk: 'data' }, again);
  await again.drain({ drainMs: 0 });
  assert.equal(disk.error?.code, 'data_corrupt', JSON.stringify(disk));
});

test('an ova.xml that is another than was stored is not followed, of single disks either', async () => {
  const { store } = lab.world;
  const changed: ObjectStore = {
    ...store,
    fill: async (input, target, to) => {
      await store.fill(input, target, to);
      const bytes = Buffer.from(target.buffer, target.byteOffset, target.length);
      const name = bytes.indexOf('<value>data<');
      if (name >= 0) bytes.write('date', name + '<value>'.length);
    },
  };
  const service = lab.secondService({ store: changed });
  const request = { networks: ALL_NETWORKS };
  for (const over of [request, { ...request, disks: ['0'] }, { disk: '1' }]) {
    const refused = lab.restore(full, over, service);
    await assert.rejects(refused, /its ova\.xml is not the one that was stored/);
  }
  await service.drain({ drainMs: 0 });
});

/** A bucket that gives one byte of large objects otherwise than it was stored. */
function rotten(store: ObjectStore, at: number): ObjectStore {
  return {
    ...store,
    read: async function* (input, to) {
      let offset = 0;
      for await (const piece of store.read(input, to)) {
        const bytes = Buffer.from(piece);
        const place = at - offset;
        if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] as number) ^ 1;
        offset += bytes.length;
        yield bytes;
      }
    },
  };
}

test('cancelled half-way it ends cancelled, and nothing is there', async () => {
  const begun = Promise.withResolvers<void>();
  const store: ObjectStore = {
    ...lab.world.store,
    read: async function* (input, to) {
      let given = 0;
      for await (const piece of lab.world.store.read(input, to)) {
        yield piece.subarray(0, 3 * MIB);
        given += piece.length;
        begun.resolve();
        await new Promise((_, reject) =>
          to.signal.addEventListener('abort', () => reject(to.signal.reason)),
        );
      }
      assert.ok(given > 0);
    },
  };
  const service = lab.secondService({ store });
  const done = lab.restore(full, { networks: ALL_NETWORKS }, service);
  await begun.promise;
  const running = await service.listJobs({ pageSize: 1, status: 'running' }, options);
  assert.equal(running.items[0]?.kind, 'restore');
  await assert.rejects(lab.restore(full, { networks: ALL_NETWORKS }), { code: 'job_conflict' });
  await service.cancelJob(running.items[0]?.id ?? '', options);
  const job = await done;
  await service.drain({ drainMs: 0 });
  assert.equal(job.status, 'cancelled', JSON.stringify(job.error));
});

/** A job whose instance died while the host was importing. */
function leftJob(over: Partial<Job>): Job {
  return sampleJob({
    kind: 'restore',
    status: 'running',
    phase: 'importing',
    backup_id: full.id,
    vm: { ...full.vm, pool: 'dr' },
    instance: 'dead',
    ...over,
  });
}

test('what a dead instance made is removed by whoever takes its job over, and the restore is begun again', async () => {
  const made = await lab.restore(full, { networks: ALL_NETWORKS, name: 'half' });
  const { ref } = machineOf(lab.target, made);
  const left = leftJob({
    ...(made.restore === undefined ? {} : { restore: { ...made.restore, name: 'whole' } }),
    ...(made.restore_plan === undefined
      ? {}
      : { restore_plan: { ...made.restore_plan, name: 'whole' } }),
  });
  await lab.targetPool.markMachine({ vm: ref as never, mark: left.id }, options);
  await lab.world.store.put(`xv/jobs/${left.id}.json`, JSON.stringify(left), options);
  const service = lab.secondService({});
  await service.start();
  const job = await service.waitJob(left.id, { timeoutMs: 60_000 }, options);
  await service.drain({ drainMs: 0 });
  assert.ok(job);
  const machine = machineOf(lab.target, job);
  assert.equal(job.attempt, 2);
  assert.equal(text(machine.record, 'name_label'), 'whole');
  assert.equal(lab.target.world.find('VM', ref), undefined, 'the half one is gone');
  assertSameDisks(lab.target, machine.ref, lab.world.sim.machine(TWO_DISKS.name));
  await lab.removeAgain(machine.ref);
});
