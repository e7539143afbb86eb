/** The port `Pool` against the simulated pool: what a backup does there, and what may go wrong. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { Pool, SnapshotFacts, VmRef } from '../../src/ports.ts';
import { createXapiPool, type PoolSettings } from '../../src/xapi/pool.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import { type MachineSpec, type SimPool, type SimPoolOptions, startSimPool } from '../sim/pool.ts';
import { createFastClock } from './fast-clock.ts';
import { createKeptLog, everythingIn, type KeptLog, silentMeter } from './quiet.ts';

const MIB = 1_048_576;
const signal = new AbortController().signal;
const disk = (name: string, storage: MachineSpec['disks'][0]['storage'], sizeBytes = 8 * MIB) => ({
  name,
  storage,
  open: () => createGeneratedDisk({ sizeBytes, seed: 3, density: 1 }),
});
const MACHINES: MachineSpec[] = [
  {
    name: 'web',
    description: 'on shared storage, an ISO inserted',
    power: 'Running',
    disks: [{ ...disk('web root', 'nfs'), bootable: true }],
    cd: 'debian-13.iso',
    tags: ['production'],
    networks: 2,
  },
  { name: 'far', power: 'Running', disks: [disk('far root', 'local:1')] },
  { name: 'many', power: 'Running', disks: [disk('a', 'nfs'), disk('b', 'lvm'), disk('c', 'nfs')] },
  { name: 'stick', power: 'Running', disks: [disk('root', 'nfs'), disk('stick', 'usb')] },
  { name: 'twin', disks: [disk('twin', 'nfs')] },
  { name: 'twin', disks: [disk('twin', 'nfs')] },
];

interface Bench {
  sim: SimPool;
  pool: Pool;
  log: KeptLog;
  vm(name: string): VmRef;
  snapshot(name: string): Promise<SnapshotFacts>;
}

/** A simulated pool, a client for it, and the proof at the end that nothing is left on the pool. */
async function start(
  t: TestContext,
  given: { sim?: SimPoolOptions; pool?: (sim: SimPool) => Partial<PoolSettings> } = {},
): Promise<Bench> {
  const sim = await startSimPool({ machines: MACHINES, taskDelayMs: 1, ...given.sim });
  const log = createKeptLog();
  const settings: PoolSettings = {
    name: 'p',
    urls: [sim.url],
    username: sim.username,
    password: sim.password,
    trust: { kind: 'fingerprint', sha256: sim.fingerprints.slice(0, 1) },
    taskPollMs: 1_000,
    ...given.pool?.(sim),
  };
  const pool = createXapiPool(settings, { clock: createFastClock(50), log, meter: silentMeter });
  t.after(async () => {
    await pool.close();
    const left = await sim.auditWhenQuiet();
    await sim.close();
    assert.doesNotMatch(log.text(), new RegExp(sim.password));
    assert.deepEqual(left, []);
  });
  const vm = (name: string) => sim.machine(name).ref as VmRef;
  return {
    sim,
    pool,
    log,
    vm,
    snapshot: (name) =>
      pool.snapshotVm({ vm: vm(name), name: `xvault:${name}`, ignoreVdis: [] }, { signal }),
  };
}

/** Reads an export to its end and returns how much came. */
async function readAll(pool: Pool, snapshot: SnapshotFacts): Promise<number> {
  await using stream = await pool.openExport(
    { snapshot: snapshot.ref, label: 'xvault: test' },
    { signal },
  );
  const target = Buffer.alloc(MIB);
  let total = 0;
  for (;;) {
    const got = await stream.fill(target, { signal });
    total += got;
    if (got < target.length) break;
  }
  await stream.settle({ signal });
  return total;
}

for (const persona of ['8.2', '8.3'] as const) {
  test(`facts of a ${persona} pool are found by asking`, async (t) => {
    const { pool, sim } = await start(t, { sim: { persona } });
    const facts = await pool.facts({ signal });
    assert.equal(facts.features.ignoreVdis, persona === '8.3');
    assert.equal(facts.features.zstdExport, true);
    assert.equal(facts.trust, 'fingerprint');
    assert.equal(facts.hosts.length, 2);
    assert.ok(facts.hosts.every((host) => host.live && host.enabled && host.xapiVersion !== ''));
    assert.equal(`https://${facts.masterAddress}:${new URL(sim.url).port}`, sim.url);
  });
}

test('only ordinary machines are listed, by name then uuid', async (t) => {
  const { pool } = await start(t);
  const vms = await pool.listVms({ signal });
  assert.deepEqual(
    vms.map((vm) => vm.nameLabel),
    ['far', 'many', 'stick', 'twin', 'twin', 'web'],
  );
  assert.ok(vms.every((vm) => vm.kind === 'vm'));
  assert.deepEqual(vms.at(-1)?.tags, ['production']);
});

test('a machine is found by uuid, by name, twice by a doubled name, and not at all', async (t) => {
  const { pool, sim } = await start(t);
  const web = sim.machine('web');
  assert.deepEqual(
    (await pool.findVms(web.uuid, { signal })).map((vm) => vm.ref),
    [web.ref],
  );
  assert.deepEqual(
    (await pool.findVms('web', { signal })).map((vm) => vm.ref),
    [web.ref],
  );
  assert.equal((await pool.findVms('twin', { signal })).length, 2);
  assert.deepEqual(await pool.findVms('no " such', { signal }), []);
  assert.deepEqual(await pool.findVms('00000000-0000-4000-8000-000000000000', { signal }), []);
});

test('templates, snapshots and control domains are found with their kind', async (t) => {
  const { pool, snapshot } = await start(t);
  const made = await snapshot('web');
  assert.deepEqual(
    (await pool.findVms(made.uuid, { signal })).map((vm) => vm.kind),
    ['snapshot'],
  );
  await pool.removeSnapshot(made, { signal });
});

test('a machine is seen with disks, drives, networks and what its storage can', async (t) => {
  const { pool, vm } = await start(t);
  const web = await pool.inspectVm(vm('web'), { signal });
  assert.equal(web.powerState, 'Running');
  assert.deepEqual(
    web.disks.map((d) => [d.nameLabel, d.userdevice, d.virtualSizeBytes, d.bootable]),
    [['web root', '0', 8 * MIB, true]],
  );
  assert.equal(web.disks[0]?.sr.canSnapshot, true);
  assert.equal(web.disks[0]?.sr.thick, false);
  assert.equal(web.disks[0]?.chainDepth, 0);
  assert.deepEqual(
    web.removables.map((r) => [r.type, r.nameLabel]),
    [['CD', 'debian-13.iso']],
  );
  assert.equal(web.networks.length, 2);
  assert.ok(web.allowedOperations.includes('snapshot'));
  const many = await pool.inspectVm(vm('many'), { signal });
  assert.deepEqual(
    many.disks.map((d) => d.sr.thick),
    [false, true, false],
  );
  const stick = await pool.inspectVm(vm('stick'), { signal });
  assert.deepEqual(
    stick.disks.map((d) => d.sr.canSnapshot),
    [true, false],
  );
});

test('a machine that is gone is not found', async (t) => {
  const { pool } = await start(t);
  await assert.rejects(pool.inspectVm('OpaqueRef:none' as VmRef, { signal }), (error) =>
    isBackupError(error, 'not_found'),
  );
});

test('a snapshot is made, marked twice, found by its name, exported and removed', async (t) => {
  const { pool, sim, vm, snapshot } = await start(t);
  const made = await snapshot('many');
  assert.equal(made.nameLabel, 'xvault:many');
  assert.deepEqual(
    made.disks.map((d) => d.snapshotOfUuid),
    sim.machine('many').disks.map((d) => d.uuid),
  );
  await pool.markSnapshot(made.ref, { 'xvault:job': 'one' }, { signal });
  await pool.markSnapshot(made.ref, { 'xvault:job': 'two' }, { signal });
  const record = sim.world.get('VM', made.ref);
  assert.equal((record.other_config as Record<string, unknown>)['xvault:job'], 'two');
  assert.deepEqual(await pool.findSnapshots({ namePrefix: 'xvault:' }, { signal }), [made]);
  assert.deepEqual(
    await pool.findSnapshots({ vm: vm('many'), namePrefix: 'xvault:' }, { signal }),
    [made],
  );
  assert.deepEqual(await pool.findSnapshots({ vm: vm('web'), namePrefix: 'xv' }, { signal }), []);
  assert.deepEqual(await pool.findSnapshots({ namePrefix: 'other' }, { signal }), []);
  assert.ok((await readAll(pool, made)) > 24 * MIB);
  await pool.removeSnapshot(made, { signal });
  await pool.removeSnapshot(made, { signal }); // gone already is success
});

test('an ISO and live disks survive the removal', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  const made = await snapshot('web');
  assert.equal(made.disks.length, 1);
  // a base copy may have been coalesced by then, so they are not counted
  const isThere = (uuid: string) => sim.world.all('VDI').some(([, vdi]) => vdi.uuid === uuid);
  const live = sim.machines.flatMap(({ disks }) => disks.map(({ uuid }) => uuid));
  await pool.removeSnapshot(made, { signal });
  assert.ok(!made.disks.some(({ vdiUuid }) => isThere(vdiUuid)));
  assert.ok(live.every(isThere));
  assert.ok(sim.world.all('VDI').some(([, vdi]) => vdi.name_label === 'debian-13.iso'));
});

test('what is no snapshot is not removed, whoever says it is', async (t) => {
  const { pool, sim, vm, snapshot } = await start(t);
  const made = await snapshot('web');
  const live = sim.machine('web').disks[0]?.ref as never;
  const [own] = made.disks;
  assert.ok(own);
  const forged = { ...made, disks: [{ ...own, vdiRef: live }] };
  await assert.rejects(pool.removeSnapshot(forged, { signal }), (e) =>
    isBackupError(e, 'internal'),
  );
  await assert.rejects(pool.removeSnapshot({ ...made, ref: vm('web') }, { signal }), (e) =>
    isBackupError(e, 'internal'),
  );
  assert.ok(sim.world.find('VDI', live));
  assert.ok(sim.world.find('VM', vm('web')));
  await pool.removeSnapshot(made, { signal });
});

test('a disk still in use is tried again, and the record stays until all disks are gone', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  const made = await snapshot('many');
  sim.faults.set('vdi-in-use', { count: 4 });
  await pool.removeSnapshot(made, { signal });
  const again = await snapshot('many');
  sim.faults.set('vdi-in-use', { count: 16 });
  await assert.rejects(pool.removeSnapshot(again, { signal }), (error) => {
    assert.ok(isBackupError(error, 'pool_refused'));
    assert.equal(error.details.xapi_code, 'VDI_IN_USE');
    assert.equal(error.retry, 'later');
    return true;
  });
  const found = await pool.findSnapshots({ namePrefix: 'xvault:' }, { signal });
  assert.equal(found.length, 1, 'the rest can still be found by its name');
  assert.equal(found[0]?.disks.length, 1);
  await pool.removeSnapshot(found[0] as SnapshotFacts, { signal });
});

test('disks can be left out where the host knows how', async (t) => {
  const { pool, sim, vm } = await start(t);
  const stick = sim.machine('stick').disks[1]?.ref as never;
  const made = await pool.snapshotVm(
    { vm: vm('stick'), name: 'xvault:x', ignoreVdis: [stick] },
    { signal },
  );
  assert.equal(made.disks.length, 1);
  await pool.removeSnapshot(made, { signal });
});

test('disks cannot be left out on an older host, and nothing is made there', async (t) => {
  const { pool, sim, vm } = await start(t, { sim: { persona: '8.2' } });
  const stick = sim.machine('stick').disks[1]?.ref as never;
  const input = { vm: vm('stick'), name: 'xvault:x', ignoreVdis: [stick] };
  await assert.rejects(pool.snapshotVm(input, { signal }), (error) =>
    isBackupError(error, 'vm_not_supported'),
  );
});

test('a refused snapshot says why and how to mend it', async (t) => {
  const { snapshot } = await start(t);
  await assert.rejects(snapshot('stick'), (error) => {
    assert.ok(isBackupError(error, 'snapshot_refused'));
    assert.equal(error.details.xapi_code, 'SR_OPERATION_NOT_SUPPORTED');
    assert.match(error.message, /exclude_disks/);
    return true;
  });
});

test('the host that holds a local disk exports it, though its certificate is another', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  const made = await snapshot('far');
  const stream = await pool.openExport({ snapshot: made.ref, label: 'x' }, { signal });
  assert.equal(stream.host.address, new URL(sim.urls[1] ?? '').hostname);
  assert.equal(stream.host.xapiVersion, '26.1.4');
  await stream[Symbol.asyncDispose]();
  await stream[Symbol.asyncDispose]();
  await pool.removeSnapshot(made, { signal });
});

test('an export that is disposed half-way leaves no task and no connection', async (t) => {
  const { pool, snapshot } = await start(t, { sim: { progressIntervalMs: 5 } });
  const made = await snapshot('many');
  {
    await using stream = await pool.openExport({ snapshot: made.ref, label: 'x' }, { signal });
    assert.equal(await stream.fill(Buffer.alloc(1000), { signal }), 1000);
    await assert.rejects(stream.settle({ signal }), (error) => isBackupError(error, 'internal'));
  }
  await pool.removeSnapshot(made, { signal });
});

test('an aborted fill ends with the reason given', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  sim.faults.set('export-silent', { afterBytes: 4096, silentMs: 60_000 });
  const made = await snapshot('web');
  {
    await using stream = await pool.openExport({ snapshot: made.ref, label: 'x' }, { signal });
    const stop = new AbortController();
    const filling = stream.fill(Buffer.alloc(20 * MIB), { signal: stop.signal });
    setImmediate(() => stop.abort(new Error('job cancelled')));
    await assert.rejects(filling, /job cancelled/);
  }
  await pool.removeSnapshot(made, { signal });
});

test('silence without progress is a truncated source', async (t) => {
  const { pool, sim, snapshot } = await start(t, { pool: () => ({ stallTimeoutMs: 5_000 }) });
  sim.faults.set('export-silent', { afterBytes: 4096, silentMs: 60_000 });
  const made = await snapshot('web');
  await assert.rejects(readAll(pool, made), (error) => {
    assert.ok(isBackupError(error, 'source_truncated'));
    assert.match(error.message, /neither bytes nor progress/);
    return true;
  });
  await pool.removeSnapshot(made, { signal });
});

for (const [name, arm, code, words] of [
  [
    'a task that fails after a complete body',
    (sim: SimPool) => sim.faults.set('task-failure', { code: 'VDI_IO_ERROR', params: ['x'] }),
    'source_failed',
    /VDI_IO_ERROR/,
  ],
  [
    'a task that vanishes',
    (sim: SimPool) => sim.faults.set('task-vanishes', {}),
    'source_failed',
    /task is gone/,
  ],
  [
    'a task that stays pending for ever',
    (sim: SimPool) => sim.faults.set('task-pending', {}),
    'source_failed',
    /does not end/,
  ],
  [
    'a clean end in the middle',
    (sim: SimPool) => sim.faults.set('export-ends-early', { afterBytes: 3 * MIB }),
    'source_failed',
    /VDI_IO_ERROR/,
  ],
  [
    'an error after the headers',
    (sim: SimPool) => sim.faults.set('export-error', { afterBytes: 3 * MIB }),
    'source_failed',
    /VDI_IO_ERROR/,
  ],
  [
    'a refusal before the headers',
    (sim: SimPool) =>
      sim.faults.set('export-refused', { code: 'VM_BAD_POWER_STATE', params: ['r', 'h', 'x'] }),
    'pool_refused',
    /VM_BAD_POWER_STATE/,
  ],
  [
    'a host error before the headers',
    (sim: SimPool) => sim.faults.set('export-refused', { code: 'INTERNAL_ERROR', params: ['x'] }),
    'source_failed',
    /INTERNAL_ERROR/,
  ],
  [
    'no answer at all',
    (sim: SimPool) => sim.faults.set('export-no-response', {}),
    'pool_refused',
    /no live host sees all storage.*NO_HOSTS_AVAILABLE/,
  ],
  [
    'a redirect out of the pool',
    (sim: SimPool) => sim.faults.set('redirect-unreachable', {}),
    'source_failed',
    /no member of the pool/,
  ],
  [
    'a redirect in a circle',
    (sim: SimPool) => sim.faults.set('redirect-loop', { count: 9 }),
    'source_failed',
    /round in a circle/,
  ],
] as const) {
  test(`${name} is ${code}, and nothing is left`, async (t) => {
    const { pool, sim, snapshot } = await start(t);
    const made = await snapshot('web');
    arm(sim);
    await assert.rejects(readAll(pool, made), (error) => {
      assert.ok(isBackupError(error, code), everythingIn(error));
      assert.match(error.message, words);
      return true;
    });
    await pool.removeSnapshot(made, { signal });
  });
}

test('a reset in the middle never looks like success', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  sim.faults.set('export-reset', { afterBytes: 3 * MIB });
  const made = await snapshot('web');
  await assert.rejects(readAll(pool, made), (error) =>
    isBackupError(error, 'source_truncated', 'source_failed'),
  );
  await pool.removeSnapshot(made, { signal });
});

test('a session lost before the export is made anew for it', async (t) => {
  const { pool, sim, snapshot } = await start(t);
  const made = await snapshot('web');
  sim.faults.set('session-lost', { method: 'task.create' });
  assert.ok((await readAll(pool, made)) > 8 * MIB);
  await pool.removeSnapshot(made, { signal });
});

test('a session lost while a snapshot is made leaves the outcome open', async (t) => {
  const { pool, sim, snapshot } = await start(t, { sim: { taskDelayMs: 50 } });
  sim.faults.set('session-lost', { method: 'task.get_record' });
  const outcome = await snapshot('web').catch((error: unknown) => error);
  if (outcome instanceof Error) assert.ok(isBackupError(outcome, 'pool_unavailable'));
  // The task may end after its session: the sweep by name finds what was made.
  while (sim.audit().some((line) => line.startsWith('operation'))) await pool.listVms({ signal });
  for (const left of await pool.findSnapshots({ namePrefix: 'xvault:' }, { signal })) {
    await pool.removeSnapshot(left, { signal });
  }
});

test('a master that moves is followed', async (t) => {
  const { pool, sim } = await start(t, {
    pool: (s) => ({ urls: s.urls, trust: { kind: 'ca', pem: s.caPem } }),
  });
  const before = await pool.facts({ signal });
  sim.faults.set('master-moves', { method: 'VM.get_all_records_where', toHost: 1 });
  assert.equal((await pool.listVms({ signal })).length, 6);
  const after = await pool.facts({ signal });
  assert.notEqual(after.masterAddress, before.masterAddress);
});

test('a master that moves is trusted by the certificate the old one told of it', async (t) => {
  const { pool, sim } = await start(t); // one address, one pin
  await pool.facts({ signal });
  sim.faults.set('master-moves', { method: 'VM.get_all_records_where', toHost: 1 });
  assert.equal((await pool.listVms({ signal })).length, 6);
});

test('a slave as the only address leads to the master, whose certificate the CA file knows', async (t) => {
  const { pool } = await start(t, {
    pool: (sim) => ({ urls: sim.urls.slice(1), trust: { kind: 'ca', pem: sim.caPem } }),
  });
  assert.equal((await pool.listVms({ signal })).length, 6);
});

test('pins of all hosts are enough to start at a slave', async (t) => {
  const { pool } = await start(t, {
    pool: (sim) => ({
      urls: sim.urls.slice(1),
      trust: { kind: 'fingerprint', sha256: sim.fingerprints },
    }),
  });
  assert.equal((await pool.listVms({ signal })).length, 6);
});

for (const [name, trust] of [
  ['a pin that does not fit', { kind: 'fingerprint', sha256: ['ab'.repeat(32)] }],
  ['a self-signed certificate without pin or CA', { kind: 'system' }],
] as const) {
  test(`${name} stops everything before the password is sent`, async (t) => {
    const { pool, sim } = await start(t, { pool: () => ({ trust }) });
    await assert.rejects(pool.listVms({ signal }), (error) => {
      assert.ok(isBackupError(error, 'pool_certificate'));
      assert.equal(error.details.found_sha256, sim.fingerprints[0]);
      return true;
    });
    assert.deepEqual(await sim.auditWhenQuiet(), []);
  });
}

test('no check at all works only when told so, and says so', async (t) => {
  const { pool } = await start(t, { pool: () => ({ trust: { kind: 'insecure' } }) });
  assert.equal((await pool.facts({ signal })).trust, 'insecure');
});

test('a plain http pool works and is shown as insecure', async (t) => {
  const { pool } = await start(t, {
    sim: { plain: true },
    pool: () => ({ trust: { kind: 'system' } }),
  });
  assert.equal((await pool.facts({ signal })).trust, 'insecure');
});

test('a wrong password is tried once', async (t) => {
  const { pool, sim } = await start(t, { pool: () => ({ password: 'wrong password' }) });
  for (let at = 0; at < 3; at += 1) {
    await assert.rejects(pool.facts({ signal }), (error) => {
      assert.ok(isBackupError(error, 'pool_credentials'));
      assert.doesNotMatch(everythingIn(error), /wrong password/);
      return true;
    });
  }
  assert.deepEqual(
    sim.audit().filter((line) => line.startsWith('session')),
    [],
  );
});

test('a call cancelled while the pool hangs ends at once', async (t) => {
  const { pool, sim } = await start(t);
  await pool.listVms({ signal });
  sim.faults.set('call-hangs', { method: 'VM.get_all_records_where' });
  const stop = new AbortController();
  const listing = pool.listVms({ signal: stop.signal });
  setImmediate(() => stop.abort(new Error('not wanted')));
  await assert.rejects(listing, /not wanted/);
});

test('a snapshot that is cancelled leaves no task', async (t) => {
  const { pool, vm } = await start(t, { sim: { taskDelayMs: 200 } });
  const stop = new AbortController();
  const input = { vm: vm('web'), name: 'xvault:gone', ignoreVdis: [] };
  const making = pool.snapshotVm(input, { signal: stop.signal });
  await pool.listVms({ signal });
  stop.abort(new Error('job cancelled'));
  await assert.rejects(making, /job cancelled/);
  for (const left of await pool.findSnapshots({ namePrefix: 'xvault:gone' }, { signal })) {
    await pool.removeSnapshot(left, { signal });
  }
});
