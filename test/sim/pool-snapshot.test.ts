/** Snapshots in the simulated pool: what they hold, what refuses them, what they cost, what they leave. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { createGeneratedDisk, createSparseDisk } from './disk.ts';
import type { SimPoolOptions } from './pool.ts';
import { type DiskSpec, type MachineSpec, type SimPool, startSimPool } from './pool.ts';
import { type Caller, logIn } from './raw-client.ts';

const MIB = 1_048_576;
const TIB = 1_099_511_627_776;

function disk(spec: Partial<DiskSpec> = {}): DiskSpec {
  return { name: 'd', storage: 'nfs', open: () => createSparseDisk(4 * MIB), ...spec };
}

function machine(spec: Partial<MachineSpec> = {}): MachineSpec {
  return { name: 'm', power: 'Running', disks: [disk()], ...spec };
}

async function withPool(
  options: SimPoolOptions,
  run: (from: { pool: SimPool; caller: Caller }) => Promise<void>,
): Promise<void> {
  const pool = await startSimPool(options);
  try {
    await run({ pool, caller: await logIn(pool) });
  } finally {
    await pool.close();
  }
}

/** Snapshots `spec` alone in a pool and expects the error. */
async function expectRefusal(spec: MachineSpec, error: RegExp): Promise<void> {
  await withPool({ machines: [spec] }, async ({ pool, caller }) => {
    const { ref } = pool.machine(spec.name);
    await assert.rejects(caller.call('VM.snapshot', ref, 's'), error);
    const left = pool.audit().filter((line) => line.includes('snapshot'));
    assert.deepEqual(left, [], 'a refused snapshot leaves nothing');
  });
}

interface VmRecord {
  is_a_snapshot: boolean;
  is_a_template: boolean;
  snapshot_of: string;
  power_state: string;
  ha_always_run: boolean;
  ha_restart_priority: string;
  other_config: Record<string, string>;
  snapshot_info: Record<string, string>;
  snapshots: string[];
  VBDs: string[];
  VIFs: string[];
  parent: string;
  current_operations: Record<string, string>;
}

async function disksOf(caller: Caller, vm: string): Promise<{ type: string; VDI: string }[]> {
  const vbds = await caller.call<string[]>('VM.get_VBDs', vm);
  return await Promise.all(
    vbds.map((ref) => caller.call<{ type: string; VDI: string }>('VBD.get_record', ref)),
  );
}

test('a snapshot is a halted template that keeps MACs, tags, HA priority and the ISO', async () => {
  const spec = machine({
    cd: 'grml.iso',
    haRestartPriority: 'restart',
    otherConfig: { auto_poweron: 'true' },
    blockedOperations: { destroy: 'precious' },
  });
  await withPool({ machines: [spec] }, async ({ pool, caller }) => {
    const { ref } = pool.machine('m');
    const live = await caller.call<VmRecord>('VM.get_record', ref);
    const snapshot = await caller.call('VM.snapshot', ref, 'xvault-1');
    const record = await caller.call<VmRecord>('VM.get_record', snapshot);
    assert.equal(record.is_a_snapshot, true);
    assert.equal(record.is_a_template, true);
    assert.equal(record.snapshot_of, ref);
    assert.equal(record.power_state, 'Halted');
    assert.equal(record.ha_restart_priority, 'restart');
    assert.equal(live.ha_always_run, true);
    assert.equal(record.ha_always_run, false);
    assert.deepEqual(record.other_config, live.other_config);
    assert.equal(record.snapshot_info['power-state-at-snapshot'], 'Running');
    const after = await caller.call<VmRecord>('VM.get_record', ref);
    assert.deepEqual(after.snapshots, [snapshot]);
    assert.equal(after.parent, snapshot);
    const mac = (vifs: string[]) => caller.call('VIF.get_MAC', vifs[0]);
    assert.equal(await mac(record.VIFs), await mac(live.VIFs));
    const drives = await disksOf(caller, snapshot);
    const iso = drives.find(({ type }) => type === 'CD')?.VDI;
    assert.equal(iso, (await disksOf(caller, ref)).find(({ type }) => type === 'CD')?.VDI);
    const made = drives.find(({ type }) => type === 'Disk')?.VDI ?? '';
    assert.equal(await caller.call('VDI.get_is_a_snapshot', made), true);
    assert.equal(await caller.call('VDI.get_snapshot_of', made), pool.machine('m').disks[0]?.ref);
  });
});

test('a disk named in ignore_vdis is left out where the release knows the parameter', async () => {
  const spec = machine({ disks: [disk(), disk({ storage: 'usb', name: 'stick' })] });
  await withPool({ persona: '8.3', machines: [spec] }, async ({ pool, caller }) => {
    const { ref, disks } = pool.machine('m');
    const snapshot = await caller.call('VM.snapshot', ref, 's', [disks[1]?.ref]);
    assert.equal((await disksOf(caller, snapshot)).length, 1);
  });
});

test('storage that cannot snapshot refuses the whole machine', async () => {
  const spec = machine({ disks: [disk(), disk({ storage: 'usb' })] });
  await expectRefusal(spec, /^Error: SR_OPERATION_NOT_SUPPORTED OpaqueRef:/);
});

test('raw, sharable and reset-on-boot disks refuse, each with its code', async () => {
  await expectRefusal(machine({ disks: [disk({ raw: true })] }), /SR_OPERATION_NOT_SUPPORTED/);
  await expectRefusal(machine({ disks: [disk({ sharable: true })] }), /VDI_IS_SHARABLE/);
  await expectRefusal(
    machine({ disks: [disk({ onBootReset: true })] }),
    /VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION/,
  );
});

test('blocked operations, passed USB devices, templates and control domains refuse', async () => {
  await expectRefusal(
    machine({ blockedOperations: { snapshot: 'not now' } }),
    /OPERATION_BLOCKED OpaqueRef:\S+ not now/,
  );
  await expectRefusal(machine({ usb: true }), /VM_HAS_VUSBS/);
  await withPool({ machines: [machine()] }, async ({ pool, caller }) => {
    const template = pool.world.all('VM').find(([, vm]) => vm.is_default_template === true);
    await assert.rejects(
      caller.call('VM.snapshot', template?.[0], 's'),
      /VM_IS_TEMPLATE OpaqueRef:\S+ snapshot/,
    );
    const dom0 = await caller.call('VM.get_domain_zero');
    await assert.rejects(caller.call('VM.snapshot', dom0, 's'), /OPERATION_NOT_ALLOWED/);
    const snapshot = await caller.call('VM.snapshot', pool.machine('m').ref, 's');
    await assert.rejects(caller.call('VM.snapshot', snapshot, 's'), /VM_IS_SNAPSHOT/);
    await assert.rejects(
      caller.call('VM.assert_operation_valid', snapshot, 'snapshot'),
      /VM_IS_SNAPSHOT/,
    );
    const allowed = await caller.call<string[]>('VM.get_allowed_operations', snapshot);
    assert.deepEqual(allowed.sort(), ['destroy', 'export', 'metadata_export']);
  });
});

test('LVM takes the full size for a snapshot, and refuses when that is not there', async () => {
  const big = disk({ storage: 'lvm', open: () => createSparseDisk(12 * TIB) });
  const spec = machine({ disks: [big] });
  await withPool({ machines: [spec] }, async ({ pool, caller }) => {
    const [sr = '', record] =
      pool.world.all('SR').find(([, item]) => item.type === 'lvmoiscsi') ?? [];
    const before = Number(record?.physical_utilisation);
    pool.world.set('SR', sr, { physical_size: before + MIB });
    const { ref } = pool.machine('m');
    await assert.rejects(
      caller.call('VM.snapshot', ref, 's'),
      /SR_BACKEND_FAILURE_44 {2}There is insufficient space/,
    );
    pool.world.set('SR', sr, { physical_size: before + TIB });
    const base = await caller.call('VM.snapshot', ref, 's');
    assert.ok(base.startsWith('OpaqueRef:'));
  });
});

test('a chain of thirty is too long; deletions shorten it after a while', async () => {
  let now = Date.parse('2026-09-01T00:00:00Z');
  const clock = {
    now: () => now,
    elapsed: () => now,
    sleep: () => Promise.resolve(),
  };
  const options = { machines: [machine()], clock, coalesceMs: 60_000 };
  await withPool(options, async ({ pool, caller }) => {
    const { ref, disks } = pool.machine('m');
    const made: string[] = [];
    for (let count = 0; count < 30; count += 1) {
      made.push(await caller.call('VM.snapshot', ref, `s${count}`));
    }
    await assert.rejects(caller.call('VM.snapshot', ref, 'more'), /SR_BACKEND_FAILURE_109/);
    const [first = ''] = made;
    const [vbd] = await disksOf(caller, first);
    await caller.call('VM.destroy', first);
    await caller.call('VDI.destroy', vbd?.VDI);
    await assert.rejects(caller.call('VM.snapshot', ref, 'still'), /SR_BACKEND_FAILURE_109/);
    now += 60_000;
    await caller.call('VM.snapshot', ref, 'again');
    const parents = await caller.call<Record<string, string>>('VDI.get_sm_config', disks[0]?.ref);
    assert.ok(parents['vhd-parent']);
  });
});

test('VM.destroy leaves the disks, and the audit names what is left', async () => {
  await withPool({ machines: [machine()] }, async ({ pool, caller }) => {
    const snapshot = await caller.call('VM.snapshot', pool.machine('m').ref, 'left');
    const [drive] = await disksOf(caller, snapshot);
    await caller.call('VM.destroy', snapshot);
    const lines = pool.audit();
    assert.ok(lines.some((line) => line.startsWith('orphan snapshot disk d')));
    assert.ok(lines.some((line) => line.startsWith('session of raw test client')));
    pool.faults.set('vdi-in-use', { count: 2 });
    const destroy = () => caller.call('VDI.destroy', drive?.VDI);
    await assert.rejects(destroy(), /VDI_IN_USE/);
    await assert.rejects(destroy(), /VDI_IN_USE/);
    await destroy();
    await assert.rejects(destroy(), /HANDLE_INVALID VDI/);
    await caller.call('session.logout');
    assert.deepEqual(await pool.auditWhenQuiet(), []);
  });
});

test('an armed refusal fires for its machine only, and an answer can be lost after the deed', async () => {
  const machines = [machine(), machine({ name: 'other' })];
  await withPool({ machines }, async ({ pool, caller }) => {
    const { ref, uuid } = pool.machine('m');
    const params = ['', 'The VDI is not available', ''];
    pool.faults.set('snapshot-refused', { vm: uuid, code: 'SR_BACKEND_FAILURE_46', params });
    await caller.call('VM.snapshot', pool.machine('other').ref, 's');
    await assert.rejects(caller.call('VM.snapshot', ref, 's'), /SR_BACKEND_FAILURE_46/);
    pool.faults.set('answer-lost', { method: 'VM.snapshot' });
    await assert.rejects(caller.call('VM.snapshot', ref, 'unseen'), /socket|ECONNRESET|hang up/);
    const found = await caller.call<string[]>('VM.get_by_name_label', 'unseen');
    assert.equal(found.length, 1);
  });
});

test('an Async snapshot answers with a task whose result is the ref as an XML value', async () => {
  await withPool({ machines: [machine()] }, async ({ pool, caller }) => {
    const task = await caller.call('Async.VM.snapshot', pool.machine('m').ref, 's');
    const batch = await caller.call<{ token: string }>('event.from', [`task/${task}`], '', 1);
    await caller.call('event.from', [`task/${task}`], batch.token, 0.2);
    const result = await caller.call('task.get_result', task);
    assert.match(result, /^<value>OpaqueRef:[0-9a-f-]+<\/value>$/);
    assert.equal(await caller.call('task.get_status', task), 'success');
    const refused = await caller.call('Async.VM.destroy', 'OpaqueRef:nobody');
    await caller.call('event.from', [`task/${refused}`], '', 1);
    const info = await caller.call('task.get_error_info', refused);
    assert.deepEqual(info, ['HANDLE_INVALID', 'VM', 'OpaqueRef:nobody']);
  });
});

test('destroying a pending task only marks it', async () => {
  await withPool({ machines: [] }, async ({ caller }) => {
    const task = await caller.call('task.create', 'idle', '');
    await caller.call('task.destroy', task);
    const operations = await caller.call<object>('task.get_current_operations', task);
    assert.deepEqual(Object.values(operations), ['destroy']);
    await caller.call('task.set_status', task, 'cancelled');
    await caller.call('task.destroy', task);
    await assert.rejects(caller.call('task.get_status', task), /HANDLE_INVALID task/);
  });
});

test('a client that hangs up in the middle fails the task and frees machine and disks', async () => {
  const large = disk({
    open: () => createGeneratedDisk({ sizeBytes: 512 * MIB, seed: 5, density: 1 }),
  });
  const spec = machine({ power: 'Halted', disks: [large] });
  await withPool({ machines: [spec] }, async ({ pool, caller }) => {
    const { ref } = pool.machine('m');
    const task = await caller.call('task.create', 'export', '');
    const { hostname, port } = new URL(pool.url);
    await new Promise<void>((resolve) => {
      const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
      const cookie = `Cookie: session_id=${caller.session}`;
      socket.write(`GET /export?ref=${ref}&task_id=${task} HTTP/1.1\r\n${cookie}\r\n\r\n`);
      socket.once('data', () => socket.destroy());
      socket.once('close', () => resolve());
      socket.on('error', () => socket.destroy());
    });
    const left = await pool.auditWhenQuiet({ ignore: /^(session|task .* failure|\d+ open)/ });
    assert.deepEqual(left, []);
    const info = await caller.call<string[]>('task.get_error_info', task);
    assert.equal(info[0], 'CLIENT_ERROR');
  });
});

test('an export and a destroy of the same machine wait for each other', async () => {
  const spec = machine({ power: 'Halted' });
  const options = { machines: [spec], operationWaitMs: 1 };
  await withPool(options, async ({ pool, caller }) => {
    const { ref } = pool.machine('m');
    pool.world.set('VM', ref, { current_operations: { 'OpaqueRef:t': 'export' } });
    await assert.rejects(
      caller.call('VM.destroy', ref),
      /OTHER_OPERATION_IN_PROGRESS VM OpaqueRef:\S+ export OpaqueRef:t/,
    );
  });
});

test('a pool of version 8.0 makes quiesced snapshots of guests that can, and of no others', async () => {
  const machines = [machine({ name: 'win', vss: true }), machine({ name: 'linux' })];
  await withPool({ persona: '8.0', machines }, async ({ pool, caller }) => {
    const { ref } = pool.machine('win');
    const made = await caller.call('VM.snapshot_with_quiesce', ref, 's');
    const info = pool.world.get('VM', String(made)).snapshot_info;
    assert.equal((info as Record<string, string>)['disk-snapshot-type'], 'quiesced');
    await assert.rejects(
      caller.call('VM.snapshot_with_quiesce', pool.machine('linux').ref, 's'),
      /VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED/,
    );
    await assert.rejects(
      caller.call('VM.snapshot_with_quiesce', 'OpaqueRef:NULL', 's'),
      /HANDLE_INVALID/,
    );
  });
});

test('a quiesced snapshot that fails leaves one only if told to', async () => {
  const machines = [machine({ name: 'win', vss: true })];
  await withPool({ persona: '8.0', machines }, async ({ pool, caller }) => {
    const { ref } = pool.machine('win');
    const code = 'VM_SNAPSHOT_WITH_QUIESCE_TIMEOUT';
    for (const leavesSnapshot of [false, true]) {
      pool.faults.set('quiesce-fails', { code, leavesSnapshot });
      await assert.rejects(caller.call('VM.snapshot_with_quiesce', ref, 's'), /QUIESCE_TIMEOUT/);
      const left = pool.audit().filter((line) => line.startsWith('snapshot s'));
      assert.equal(left.length, leavesSnapshot ? 1 : 0);
    }
  });
});
