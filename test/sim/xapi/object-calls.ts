/**
 * The calls of VM, VDI, SR, host and pool that do more than read or write a field.
 */
import { refuseVm } from './operations.ts';
import { type CallContext, type CallTable, formatServertime } from './sim.ts';
import { destroyVm, snapshotQuiesced, snapshotVm } from './snapshot.ts';
import { destroyDisk, snapshotDisk } from './storage.ts';
import { flag, type Rec, text, type Value, XenError } from './values.ts';

function snapshot(context: CallContext, params: Value[]): Promise<Value> {
  const [vm, name, ignored] = params;
  const vmRef = String(vm);
  context.sim.world.get('VM', vmRef);
  if (ignored !== undefined && !context.sim.persona.ignoreVdis) {
    throw new XenError('MESSAGE_PARAMETER_COUNT_MISMATCH', ['VM.snapshot', '2', '3']);
  }
  return snapshotVm(context, {
    vmRef,
    name: String(name),
    ignored: new Set(Array.isArray(ignored) ? ignored.map(String) : []),
  });
}

function quiescedSnapshot(context: CallContext, params: Value[]): Promise<Value> {
  const [vm, name] = params.map(String);
  context.sim.world.get('VM', vm ?? '');
  return snapshotQuiesced(context, { vmRef: vm ?? '', name: name ?? '' });
}

function assertOperation({ sim }: CallContext, params: Value[]): Value {
  const refusal = refuseVm(sim, String(params[0]), String(params[1]));
  if (refusal !== undefined) throw refusal;
  return '';
}

function destroyVdi({ sim }: CallContext, params: Value[]): Value {
  destroyDisk(sim, String(params[0]));
  return '';
}

function snapshotVdi({ sim }: CallContext, params: Value[]): Value {
  return snapshotDisk(sim, String(params[0]));
}

function serverCertificate({ sim }: CallContext, params: Value[]): Value {
  const host = sim.hosts.find((candidate) => candidate.ref === params[0]);
  if (host === undefined) throw new XenError('HANDLE_INVALID', ['host', String(params[0])]);
  return host.certPem;
}

async function destroyMachine(context: CallContext, params: Value[]): Promise<Value> {
  await destroyVm(context, String(params[0]));
  return '';
}

function unplug({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  const vbd: Rec = sim.world.get('VBD', ref);
  if (!flag(vbd, 'currently_attached')) throw new XenError('DEVICE_ALREADY_DETACHED', [ref]);
  sim.world.set('VBD', ref, { currently_attached: false });
  return '';
}

function destroyVbd({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  if (flag(sim.world.get('VBD', ref), 'currently_attached')) {
    throw new XenError('OPERATION_NOT_ALLOWED', [`VBD '${ref}' still attached`]);
  }
  sim.world.destroy('VBD', ref);
  return '';
}

const nothing = () => '';

/** The calls of VM, VDI, VBD, SR and host. */
export const objectCalls: CallTable = {
  'VM.snapshot': { params: [2, 3], asyncable: true, run: snapshot },
  'VM.snapshot_with_quiesce': { params: [2, 2], asyncable: true, run: quiescedSnapshot },
  'VM.destroy': { params: [1, 1], asyncable: true, run: destroyMachine },
  'VM.assert_operation_valid': { params: [2, 2], asyncable: true, run: assertOperation },
  'VM.update_allowed_operations': { params: [1, 1], asyncable: true, run: nothing },
  'VDI.destroy': { params: [1, 1], asyncable: true, run: destroyVdi },
  'VDI.snapshot': { params: [1, 2], asyncable: true, run: snapshotVdi },
  'VBD.unplug': { params: [1, 1], asyncable: true, run: unplug },
  'VBD.destroy': { params: [1, 1], asyncable: true, run: destroyVbd },
  'SR.scan': { params: [1, 1], asyncable: true, run: nothing },
  'SR.update': { params: [1, 1], asyncable: true, run: nothing },
  'host.get_server_certificate': { params: [1, 1], asyncable: true, run: serverCertificate },
  'host.get_servertime': { params: [1, 1], run: ({ sim }) => formatServertime(sim) },
  'host.get_server_localtime': { params: [1, 1], run: ({ sim }) => formatServertime(sim) },
  'VM.get_domain_zero': {
    params: [0, 0],
    run: ({ sim, host }) => text(sim.world.get('host', host.ref), 'control_domain'),
  },
};
