/**
 * Back again: restores into another pool and into the same one, compared bit for bit; and everything that stands in the way,
 * each told clearly, with nothing left.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Backup, Job } from '../../src/catalog/record.ts';
import { NEVER } from '../../src/signals.ts';
import type { SimPool } from '../sim/pool.ts';
import { flag, list, map, text } from '../sim/xapi/values.ts';
import {
  ALL_NETWORKS,
  assertSameDisks,
  machineOf,
  openPool,
  type RestoreWorld,
  startRestoreWorld,
  type TestPool,
  TWO_DISKS,
} from './restore-world.ts';

/** The usual ones, and two of one name. */
const NETWORKS = [
  { name: 'Pool-wide network associated with eth0', bridge: 'xenbr0' },
  { name: 'VM network', bridge: 'xenbr1' },
  { name: 'Twin', bridge: 'xenbr5' },
  { name: 'Twin', bridge: 'xenbr6' },
];

let lab: RestoreWorld;
let own: TestPool;
let full: Backup;
before(async () => {
  lab = await startRestoreWorld({ target: { networks: NETWORKS } });
  own = openPool(lab.world.sim, { name: 'dc1', log: lab.world.log });
  full = await lab.backUp(TWO_DISKS.name, { mode: 'full' });
});
after(async () => {
  await own.close();
  await lab[Symbol.asyncDispose]();
});

const original = () => lab.world.sim.machine(TWO_DISKS.name);

/** MAC addresses and networks of a machine's cards, by device. */
function cardsOf(pool: SimPool, vm: string) {
  return list(pool.world.get('VM', vm), 'VIFs')
    .map((ref) => pool.world.get('VIF', ref))
    .map((vif) => ({
      device: text(vif, 'device'),
      mac: text(vif, 'MAC'),
      network: text(pool.world.get('network', text(vif, 'network')), 'name_label'),
    }))
    .sort((a, b) => (a.device < b.device ? -1 : 1));
}

/** Removes a restored machine; then both pools must be as they were. */
async function removeAgain(pool: SimPool, job: Job): Promise<void> {
  const { ref } = machineOf(pool, job);
  if (pool === lab.target) await lab.removeAgain(ref);
  else await own.removeAgain(ref);
  assert.deepEqual(await lab.audit(), []);
}

test('a restore into another pool is the machine, halted, whole, under its own name', async () => {
  const job = await lab.restore(full, { networks: ALL_NETWORKS });
  const { ref, record, restored } = machineOf(lab.target, job);
  assertSameDisks(lab.target, ref, original());
  assert.equal(text(record, 'name_label'), TWO_DISKS.name);
  assert.equal(text(record, 'power_state'), 'Halted');
  assert.equal(flag(record, 'is_a_template'), false);
  assert.equal(text(record, 'ha_restart_priority'), '');
  const otherConfig = map(record, 'other_config');
  assert.equal(otherConfig.owner, 'ops');
  for (const key of ['auto_poweron', 'xvault:restore'])
    assert.equal(key in otherConfig, false, key);
  const cards = cardsOf(lab.target, ref);
  const before = cardsOf(lab.world.sim, original().ref);
  assert.deepEqual(
    cards.map(({ network }) => network),
    ['VM network', 'VM network'],
  );
  for (const [i, { mac }] of cards.entries()) assert.notEqual(mac, before[i]?.mac);
  assert.equal(restored.via, 'stream');
  assert.match(job.restore_plan?.via_reason ?? '', /CD is ejected/);
  assert.deepEqual(restored.warnings, ['its CD is ejected']);
  assert.equal(job.progress.read_bytes, full.archive.size_bytes);
  await removeAgain(lab.target, job);
});

test('with its addresses, under another name, on storage of its own choice, started', async () => {
  const job = await lab.restore(full, {
    networks: { 'Pool-wide network associated with eth0': 'VM network' },
    mac: 'keep',
    name: 'büro 2',
    sr: 'iSCSI store',
    start: true,
  });
  const { ref, record, restored } = machineOf(lab.target, job);
  assertSameDisks(lab.target, ref, original());
  assert.equal(text(record, 'name_label'), 'büro 2');
  assert.equal(restored.started, true);
  assert.equal(text(record, 'power_state'), 'Running');
  assert.deepEqual(
    cardsOf(lab.target, ref).map(({ mac }) => mac),
    cardsOf(lab.world.sim, original().ref).map(({ mac }) => mac),
  );
  assert.deepEqual(
    restored.disks.map(({ sr }) => sr),
    ['iSCSI store', 'iSCSI store'],
  );
  assert.notEqual(text(record, 'uuid'), original().uuid);
  await removeAgain(lab.target, job);
});

test('beside the living original: a name that says so, an identity of its own, and the addresses kept', async () => {
  const job = await lab.restore(full, { pool: 'dc1', mac: 'keep' });
  const { sim } = lab.world;
  const { ref, record, restored } = machineOf(sim, job);
  assertSameDisks(sim, ref, original());
  assert.match(text(record, 'name_label'), / \(backup of \d{4}-\d\d-\d\d \d\d:\d\d\)$/);
  const there = sim.world.get('VM', original().ref);
  assert.notEqual(text(record, 'uuid'), text(there, 'uuid'));
  assert.notEqual(map(record, 'other_config').mac_seed, map(there, 'other_config').mac_seed);
  assert.deepEqual(
    cardsOf(sim, ref).map(({ mac, network }) => [mac, network]),
    cardsOf(sim, original().ref).map(({ mac, network }) => [mac, network]),
  );
  assert.equal(list(there, 'VIFs').length, 2, 'the original has its own still');
  assert.ok(restored.warnings.some((warning) => /never run both/.test(warning)));
  await removeAgain(sim, job);
});

test('the machine itself, where it is gone: uuid and addresses, and the guest can tell that time went back', async () => {
  const job = await lab.restore(full, { networks: ALL_NETWORKS, mac: 'keep', uuid: 'keep' });
  const { record } = machineOf(lab.target, job);
  assert.equal(text(record, 'uuid'), original().uuid);
  await removeAgain(lab.target, job);
});

test('a subset of its disks, and a network left out', async () => {
  const job = await lab.restore(full, {
    networks: { 'Pool-wide network associated with eth0': 'none' },
    disks: ['data'],
  });
  const { ref } = machineOf(lab.target, job);
  assertSameDisks(lab.target, ref, { disks: original().disks.slice(1) });
  assert.deepEqual(
    cardsOf(lab.target, ref).map(({ device }) => device),
    ['1'],
  );
  assert.deepEqual(
    job.restore_plan?.left_out_disks.map(({ name }) => name),
    ['root'],
  );
  await removeAgain(lab.target, job);
});

test('disks on several SRs are written apart and attached at their places; of two networks of one name the right one is taken', async () => {
  const twin = lab.target.networks().find(({ bridge }) => bridge === 'xenbr6');
  assert.ok(twin);
  const job = await lab.restore(full, {
    networks: { '*': twin.uuid },
    disk_srs: { '1': 'Local storage 1' },
  });
  const { ref, restored } = machineOf(lab.target, job);
  assertSameDisks(lab.target, ref, original());
  assert.deepEqual(
    restored.disks.map(({ userdevice, sr }) => [userdevice, sr]),
    [
      ['0', 'NFS store'],
      ['1', 'Local storage 1'],
    ],
  );
  assert.equal(job.restore_plan?.networks[0]?.to?.uuid, twin.uuid);
  assert.equal(lab.target.networks().length, NETWORKS.length, 'none was made');
  const { read_bytes: read, total_bytes: total } = job.progress;
  assert.ok(read < full.archive.size_bytes && read === total, `each disk once: ${read}`);
  await removeAgain(lab.target, job);
});

for (const kind of ['', ', compressed', ', without an index'] as const) {
  test(`one disk alone becomes a new disk${kind}`, () => restoreDisk(kind));
}

async function restoreDisk(kind: string): Promise<void> {
  const compression = kind === ', compressed' ? 'zstd' : 'none';
  const backup =
    kind === '' ? full : await lab.backUp(TWO_DISKS.name, { mode: 'full', compression });
  const isWhole = kind === ', without an index';
  if (isWhole) await lab.world.store.delete(backup.index_key, { signal: NEVER });
  const job = await lab.restore(backup, { disk: '1', sr: 'Local storage 1' });
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  const { read_bytes: read } = job.progress;
  assert.equal(read === backup.archive.size_bytes, isWhole, `${read} bytes read`);
  assert.equal(job.restored?.vm, undefined);
  const [made] = job.restored?.disks ?? [];
  const found = lab.target.world.findByUuid('VDI', made?.vdi_uuid ?? '');
  assert.ok(found);
  assertDisk(found.ref);
  assert.match(text(lab.target.world.get('VDI', found.ref), 'name_label'), /^data \(backup of /);
  await lab.targetPool.markDisk({ vdi: found.ref as never, mark: 'test' }, { signal: NEVER });
  for (const one of await lab.targetPool.findImported({ mark: 'test' }, { signal: NEVER })) {
    await lab.targetPool.removeImported(one, { signal: NEVER });
  }
  assert.deepEqual(await lab.audit(), []);
}

function assertDisk(ref: string): void {
  const disk = lab.target.disks.get(ref);
  const wanted = original().disks[1]?.disk;
  assert.ok(disk && wanted);
  const [found, expected] = [Buffer.alloc(wanted.sizeBytes), Buffer.alloc(wanted.sizeBytes)];
  disk.read(0, found);
  wanted.read(0, expected);
  assert.ok(found.equals(expected));
}

test('a dry run says what would be done, and does nothing', async () => {
  const job = await lab.restore(full, { networks: ALL_NETWORKS, dry_run: true });
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  assert.equal(job.restored, undefined);
  assert.equal(job.restore_plan?.disks.length, 2);
  assert.deepEqual(await lab.audit(), []);
});
