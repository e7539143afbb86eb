/**
 * VM.snapshot, VM.snapshot_with_quiesce and VM.destroy.
 *
 * Sources: xen-api `ocaml/xapi/xapi_vm_snapshot.ml`, `xapi_vm_clone.ml`. Disks are snapshotted one after another and
 * those made are deleted when one fails; CDs keep pointing to the same ISO; the snapshot's record is a template. What
 * VM.destroy leaves behind are the disks.
 */
import { duringOperation } from './operations.ts';
import { type CallContext, nowDate, type Sim } from './sim.ts';
import { destroyDisk, snapshotDisk } from './storage.ts';
import { flag, list, map, NULL_REF, type Rec, text, XenError } from './values.ts';

/** uuid of the machine behind a VM ref, live or snapshot: faults are set by it. */
export function liveUuid(sim: Sim, vmRef: string): string | undefined {
  const vm = sim.world.find('VM', vmRef);
  if (vm === undefined) return undefined;
  const live = flag(vm, 'is_a_snapshot') ? sim.world.find('VM', text(vm, 'snapshot_of')) : vm;
  return text(live ?? vm, 'uuid');
}

function isStreamedDisk(vbd: Rec): boolean {
  return text(vbd, 'type') !== 'CD' && !flag(vbd, 'empty');
}

async function snapshotDisks(
  context: CallContext,
  vbds: Rec[],
  ignored: ReadonlySet<string>,
): Promise<Map<string, string>> {
  const { sim } = context;
  const made = new Map<string, string>();
  try {
    for (const vbd of vbds) {
      const vdi = text(vbd, 'VDI');
      if (!isStreamedDisk(vbd) || ignored.has(vdi) || made.has(vdi)) continue;
      context.signal.throwIfAborted();
      made.set(vdi, snapshotDisk(sim, vdi));
      // One storage call each: others may act between two disks, which is why snapshots are not atomic.
      await Promise.resolve();
    }
  } catch (error) {
    for (const ref of made.values()) destroyDisk(sim, ref);
    throw error;
  }
  return made;
}

function snapshotRecord(sim: Sim, vmRef: string, name: string): Rec {
  const vm = sim.world.get('VM', vmRef);
  const {
    default_template: _template,
    xensource_internal: _internal,
    ...otherConfig
  } = map(vm, 'other_config');
  return {
    ...vm,
    uuid: sim.newUuid(),
    name_label: name,
    is_a_template: true,
    is_a_snapshot: true,
    snapshot_of: vmRef,
    snapshot_time: nowDate(sim),
    snapshot_info: {
      'power-state-at-snapshot': text(vm, 'power_state'),
      'disk-snapshot-type': 'crash_consistent',
    },
    snapshot_metadata: '',
    snapshots: [],
    power_state: 'Halted',
    ha_always_run: false,
    other_config: otherConfig,
    tags: [...list(vm, 'tags')],
    blocked_operations: {},
    current_operations: {},
    appliance: NULL_REF,
    resident_on: NULL_REF,
    suspend_VDI: NULL_REF,
    parent: text(vm, 'parent'),
    children: [],
    VBDs: [],
    VIFs: [],
    VTPMs: [],
    VUSBs: [],
    consoles: [],
    domid: -1,
    generation_id: '',
    metrics: NULL_REF,
  };
}

function copyDevices(sim: Sim, from: Rec, snapshot: string, disks: Map<string, string>): void {
  const { world } = sim;
  for (const ref of list(from, 'VBDs')) {
    const vbd = world.get('VBD', ref);
    const vdi = text(vbd, 'VDI');
    const copy = isStreamedDisk(vbd) ? disks.get(vdi) : vdi;
    if (copy === undefined) continue;
    const owner: Rec = isStreamedDisk(vbd) ? { owner: '' } : {};
    world.create('VBD', {
      ...vbd,
      uuid: sim.newUuid(),
      VM: snapshot,
      VDI: copy,
      currently_attached: false,
      other_config: { ...map(vbd, 'other_config'), ...owner },
    });
  }
  for (const [cls, field] of [
    ['VIF', 'VIFs'],
    ['VTPM', 'VTPMs'],
  ] as const) {
    for (const ref of list(from, field)) {
      const device = world.get(cls, ref);
      const detached = cls === 'VIF' ? { currently_attached: false } : {};
      world.create(cls, { ...device, uuid: sim.newUuid(), VM: snapshot, ...detached });
    }
  }
}

interface SnapshotInput {
  vmRef: string;
  name: string;
  ignored: ReadonlySet<string>;
}

/** Makes a snapshot named `name` of `vmRef`, without the disks in `ignored`, and returns its ref. */
export async function snapshotVm(context: CallContext, input: SnapshotInput): Promise<string> {
  const { sim } = context;
  const { vmRef } = input;
  const taskRef = context.task ?? `OpaqueRef:${sim.newUuid()}`;
  const operation = { vm: vmRef, operation: 'snapshot', taskRef, signal: context.signal };
  return await duringOperation(sim, operation, async () => {
    const fault = sim.faults.take('snapshot-refused', { vm: liveUuid(sim, vmRef) });
    if (fault !== undefined) throw new XenError(fault.code, fault.params);
    return await makeSnapshot(context, input);
  });
}

/**
 * VM.snapshot_with_quiesce: the guest's VSS provider brings its volumes to rest and has the snapshot made; the pool
 * gives it the name asked for. What fails on the way may leave one.
 */
export async function snapshotQuiesced(
  context: CallContext,
  { vmRef, name }: { vmRef: string; name: string },
): Promise<string> {
  const { sim } = context;
  const taskRef = context.task ?? `OpaqueRef:${sim.newUuid()}`;
  const running = { operation: 'snapshot_with_quiesce', taskRef, signal: context.signal };
  return await duringOperation(sim, { vm: vmRef, ...running }, async () => {
    const fault = sim.faults.take('quiesce-fails', { vm: liveUuid(sim, vmRef) });
    const made =
      fault === undefined || fault.leavesSnapshot === true
        ? await makeSnapshot(context, { vmRef, name, ignored: new Set() })
        : '';
    if (fault !== undefined) throw new XenError(fault.code, fault.params ?? [vmRef]);
    const info = map(sim.world.get('VM', made), 'snapshot_info');
    sim.world.set('VM', made, { snapshot_info: { ...info, 'disk-snapshot-type': 'quiesced' } });
    return made;
  });
}

async function makeSnapshot(context: CallContext, input: SnapshotInput): Promise<string> {
  const { sim } = context;
  const { vmRef, name, ignored } = input;
  const vm = sim.world.get('VM', vmRef);
  const vbds = list(vm, 'VBDs').map((ref) => sim.world.get('VBD', ref));
  const disks = await snapshotDisks(context, vbds, ignored);
  const ref = sim.world.create('VM', snapshotRecord(sim, vmRef, name));
  copyDevices(sim, vm, ref, disks);
  sim.world.set('VM', vmRef, { parent: ref });
  sim.world.create('message', {
    name: 'VM_SNAPSHOTTED',
    obj_uuid: text(vm, 'uuid'),
    timestamp: nowDate(sim),
    body: `VM '${text(vm, 'name_label')}' snapshotted`,
  });
  return ref;
}

/** VM.destroy: the record and its devices go, the disks stay. */
export async function destroyVm(context: CallContext, vmRef: string): Promise<void> {
  const { sim } = context;
  const taskRef = context.task ?? `OpaqueRef:${sim.newUuid()}`;
  const operation = { vm: vmRef, operation: 'destroy', taskRef, signal: context.signal };
  await duringOperation(sim, operation, () => {
    const vm = sim.world.get('VM', vmRef);
    for (const ref of list(vm, 'VBDs')) sim.world.destroy('VBD', ref);
    for (const ref of list(vm, 'VIFs')) sim.world.destroy('VIF', ref);
    for (const ref of list(vm, 'VTPMs')) sim.world.destroy('VTPM', ref);
    for (const ref of list(vm, 'children')) sim.world.set('VM', ref, { parent: vm.parent ?? '' });
    for (const [cls, field] of [
      ['VM_metrics', 'metrics'],
      ['VM_guest_metrics', 'guest_metrics'],
    ] as const) {
      const metrics = text(vm, field);
      const shared = sim.world.all('VM').some(([ref, o]) => ref !== vmRef && o[field] === metrics);
      if (!shared && sim.world.find(cls, metrics) !== undefined) sim.world.destroy(cls, metrics);
    }
    sim.world.destroy('VM', vmRef);
    return Promise.resolve();
  });
}
