/**
 * Constructors of disks, drives and network cards, and VM.import.
 *
 * Source: xen-api `ocaml/xapi/xapi_vdi.ml`, `xapi_vm.ml`, `server_helpers.ml`. A constructor takes one record; a mandatory
 * field that is missing is an INTERNAL_ERROR that names it.
 */
import { constructorFields, MANDATORY } from './constructors.ts';
import { createVbd, createVif } from './devices.ts';
import { coerce } from './generic-calls.ts';
import { importFromUrl } from './import-url.ts';
import { EMPTY_RECORDS } from './records.ts';
import { type CallContext, type CallTable, type Sim, seesStorage } from './sim.ts';
import { createDisk } from './storage.ts';
import { flag, list, type Rec, text, type Value, XenError } from './values.ts';

function readRecord(cls: string, given: Value | undefined): Rec {
  const source = (typeof given === 'object' ? given : {}) as Rec;
  const empty = EMPTY_RECORDS[cls]?.() ?? {};
  const mandatory = MANDATORY[cls] ?? [];
  const missing = mandatory.find((field) => source[field] === undefined);
  if (missing !== undefined) {
    const text = `Server_helpers.Dispatcher_FieldNotFound("${missing}")`;
    throw new XenError('INTERNAL_ERROR', [text]);
  }
  const fields = constructorFields(cls).filter((field) => field in source);
  const read = fields.map((field) => [field, coerce(field, empty[field], source[field])]);
  return { ...empty, ...Object.fromEntries(read) };
}

function assertPlugged(sim: Sim, sr: string): void {
  sim.world.get('SR', sr);
  if (!sim.hosts.some((host) => seesStorage(sim, host.ref, [sr]))) {
    throw new XenError('SR_HAS_NO_PBDS', [sr]);
  }
}

function createVdi({ sim }: CallContext, params: Value[]): Value {
  const record = readRecord('VDI', params[0]);
  assertPlugged(sim, text(record, 'SR'));
  return createDisk(sim, text(record, 'SR'), record);
}

/** xen-api `ocaml/xapi/xapi_network.ml`: cards that are not attached are no hindrance, interfaces of hosts are. */
function destroyNetwork({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  const network = sim.world.get('network', ref);
  const attached = list(network, 'VIFs').filter((vif) =>
    flag(sim.world.get('VIF', vif), 'currently_attached'),
  );
  if (attached.length > 0) throw new XenError('NETWORK_CONTAINS_VIF', attached);
  const interfaces = list(network, 'PIFs');
  if (interfaces.length > 0) throw new XenError('NETWORK_CONTAINS_PIF', interfaces);
  sim.world.destroy('network', ref);
  return '';
}

function destroyVif({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  if (flag(sim.world.get('VIF', ref), 'currently_attached')) {
    const text = 'VIF currently attached to a running VM';
    throw new XenError('OPERATION_NOT_ALLOWED', [text]);
  }
  sim.world.destroy('VIF', ref);
  return '';
}

/** The constructors, and what imports from a link. */
export const createCalls: CallTable = {
  'VDI.create': { params: [1, 1], asyncable: true, run: createVdi },
  'VBD.create': {
    params: [1, 1],
    asyncable: true,
    run: ({ sim }, [record]) => createVbd(sim, readRecord('VBD', record)),
  },
  'VIF.create': {
    params: [1, 1],
    asyncable: true,
    run: ({ sim }, [record]) => createVif(sim, readRecord('VIF', record)),
  },
  'VIF.destroy': { params: [1, 1], asyncable: true, run: destroyVif },
  'network.destroy': { params: [1, 1], asyncable: true, run: destroyNetwork },
  'VM.import': { params: [4, 4], asyncable: true, run: importFromUrl },
};
