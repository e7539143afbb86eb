/**
 * Which operations a machine or a disk allows now, and the error xapi gives for the others.
 *
 * Source: xen-api `ocaml/xapi/xapi_vm_lifecycle.ml` and `xapi_vdi.ml`, cut down to what a backup meets. The
 * `allowed_operations` of a record are computed when it is read, so they are never stale as they can be on a real host.
 */
import { type Sim, waitFor } from './sim.ts';
import { flag, list, map, type Rec, text, XenError } from './values.ts';

const POWER_STATES: Record<string, readonly string[]> = {
  snapshot: ['Halted', 'Paused', 'Running', 'Suspended'],
  snapshot_with_quiesce: ['Running'],
  export: ['Halted', 'Suspended'],
  metadata_export: ['Halted', 'Paused', 'Running', 'Suspended'],
  destroy: ['Halted', 'Suspended'],
  start: ['Halted'],
  hard_shutdown: ['Paused', 'Running', 'Suspended'],
  clean_shutdown: ['Running'],
  suspend: ['Running'],
  resume: ['Suspended'],
};

const ON_TEMPLATES = new Set(['export', 'metadata_export', 'destroy']);

/** Operations that may run beside each other. */
const COMPANIONS: readonly ReadonlySet<string>[] = [
  new Set(['snapshot', 'snapshot_with_quiesce', 'checkpoint']),
  new Set(['export', 'clone', 'copy']),
];

function runBeside(one: string, other: string): boolean {
  if (one === 'metadata_export' || other === 'metadata_export') return true;
  return COMPANIONS.some((set) => set.has(one) && set.has(other));
}

/** The error xapi would answer `operation` on this machine with, or undefined when it is allowed. */
export function refuseVm(sim: Sim, ref: string, operation: string): XenError | undefined {
  const vm = sim.world.get('VM', ref);
  if (flag(vm, 'is_control_domain')) {
    return new XenError('OPERATION_NOT_ALLOWED', [
      `This operation is not allowed on dom0: ${operation}`,
    ]);
  }
  const reason = map(vm, 'blocked_operations')[operation];
  if (reason !== undefined) return new XenError('OPERATION_BLOCKED', [ref, reason]);
  if (!ON_TEMPLATES.has(operation)) {
    if (flag(vm, 'is_a_snapshot')) return new XenError('VM_IS_SNAPSHOT', [ref, operation]);
    if (flag(vm, 'is_a_template')) return new XenError('VM_IS_TEMPLATE', [ref, operation]);
  }
  const states = POWER_STATES[operation] ?? [];
  const state = text(vm, 'power_state');
  if (!states.includes(state)) {
    const wanted = states.map((name) => name.toLowerCase()).join(', ');
    return new XenError('VM_BAD_POWER_STATE', [ref, wanted, state.toLowerCase()]);
  }
  if (operation.startsWith('snapshot') && list(vm, 'VUSBs').length > 0 && state === 'Running') {
    return new XenError('VM_HAS_VUSBS', [ref]);
  }
  if (operation === 'snapshot_with_quiesce' && !canQuiesce(sim, vm)) {
    return new XenError('VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED', [ref, '']);
  }
  return refuseBusy(vm, ref, operation);
}

/** A guest with a VSS provider says so in xenstore; the pool shows that in its metrics. */
function canQuiesce(sim: Sim, vm: Rec): boolean {
  const metrics = sim.world.find('VM_guest_metrics', text(vm, 'guest_metrics'));
  const feature = metrics && map(metrics, 'other')['feature-quiesce'];
  return sim.persona.quiesce && feature === '1';
}

function refuseBusy(vm: Rec, ref: string, operation: string): XenError | undefined {
  for (const [task, running] of Object.entries(map(vm, 'current_operations'))) {
    if (runBeside(running, operation)) continue;
    return new XenError('OTHER_OPERATION_IN_PROGRESS', ['VM', ref, running, task]);
  }
  return undefined;
}

function refuseVdi(sim: Sim, ref: string, operation: string): XenError | undefined {
  const vdi = sim.world.get('VDI', ref);
  const attached = list(vdi, 'VBDs').some((vbd) => {
    const record = sim.world.find('VBD', vbd);
    return record !== undefined && flag(record, 'currently_attached');
  });
  if (operation === 'destroy' && attached) return new XenError('VDI_IN_USE', [ref, operation]);
  if (operation === 'snapshot' && !canSnapshot(sim, text(vdi, 'SR'))) {
    return new XenError('SR_OPERATION_NOT_SUPPORTED', [text(vdi, 'SR')]);
  }
  return undefined;
}

/** Whether the storage's driver has a capability such as VDI_CREATE. */
export function canDo(sim: Sim, srRef: string, capability: string): boolean {
  const type = text(sim.world.get('SR', srRef), 'type');
  const driver = sim.world.all('SM').find(([, record]) => record.type === type);
  return driver !== undefined && list(driver[1], 'capabilities').includes(capability);
}

/** The storage driver's capability VDI_SNAPSHOT. */
export function canSnapshot(sim: Sim, srRef: string): boolean {
  return canDo(sim, srRef, 'VDI_SNAPSHOT');
}

/** The record as a client sees it now: allowed operations worked out. */
export function viewRecord(sim: Sim, cls: string, ref: string): Rec {
  const record = sim.world.get(cls, ref);
  if (cls === 'VM') {
    const allowed = Object.keys(POWER_STATES).filter((name) => !refuseVm(sim, ref, name));
    return { ...record, allowed_operations: allowed };
  }
  if (cls === 'VDI') {
    const names = ['destroy', 'snapshot', 'clone', 'copy', 'update'];
    return { ...record, allowed_operations: names.filter((name) => !refuseVdi(sim, ref, name)) };
  }
  if (cls === 'task' && record.status === 'pending') {
    return { ...record, allowed_operations: ['cancel', 'destroy'] };
  }
  return record;
}

/**
 * Runs `work` while the machine shows `operation` as current; waits first for others to end, as xapi does.
 *
 * `taskRef` is the key in current_operations.
 */
export async function duringOperation<T>(
  sim: Sim,
  input: {
    vm: string;
    operation: string;
    taskRef: string;
    signal: AbortSignal;
    waitMs?: number | undefined;
  },
  work: () => Promise<T>,
): Promise<T> {
  const { vm, operation, taskRef, signal } = input;
  let refusal = refuseVm(sim, vm, operation);
  if (refusal?.code === 'OTHER_OPERATION_IN_PROGRESS') {
    await waitFor(
      sim,
      () => refuseVm(sim, vm, operation)?.code !== 'OTHER_OPERATION_IN_PROGRESS' || undefined,
      { signal, timeoutMs: input.waitMs ?? sim.settings.operationWaitMs },
    );
    refusal = refuseVm(sim, vm, operation);
  }
  if (refusal !== undefined) throw refusal;
  const operations = map(sim.world.get('VM', vm), 'current_operations');
  sim.world.set('VM', vm, { current_operations: { ...operations, [taskRef]: operation } });
  try {
    return await work();
  } finally {
    const now = sim.world.find('VM', vm);
    if (now !== undefined) {
      const { [taskRef]: _ended, ...rest } = map(now, 'current_operations');
      sim.world.set('VM', vm, { current_operations: rest });
    }
  }
}
