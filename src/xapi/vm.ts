/**
 * Machines: who they are, and everything the pre-flight looks at.
 *
 * Real machines have is_a_template, is_a_snapshot and is_control_domain all false; all three are needed, since a
 * snapshot is a template, too, and one that somebody un-templated is still a snapshot. Names are anything at all:
 * empty, doubled, with quotes, so nothing is looked up by an expression that holds one.
 */
import type {
  Cancellable,
  DiskFacts,
  PowerState,
  SrFacts,
  VdiRef,
  VmFacts,
  VmKind,
  VmRef,
  VmState,
} from '../ports.ts';
import { readChains } from './chain.ts';
import { isXapiError } from './errors.ts';
import { readSrs } from './facts.ts';
import {
  flag,
  integer,
  ref,
  text,
  textMap,
  texts,
  toRecord,
  toRecords,
  type XapiRecord,
} from './fields.ts';
import { mapParallel } from './parallel.ts';
import type { Session } from './session.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** Cuts the answer by nine tenths: templates alone are half a megabyte. */
export const ORDINARY =
  'field "is_a_template"="false" and field "is_a_snapshot"="false" and field "is_control_domain"="false"';

/** Ordinary machines, sorted by name, then uuid. */
export async function listVms(session: Session, options: Cancellable): Promise<VmFacts[]> {
  const records = await session.call('VM.get_all_records_where', [ORDINARY], options);
  return [...toRecords(records)]
    .map(([vmRef, record]) => toVmFacts(vmRef, record))
    .filter((vm) => vm.kind === 'vm')
    .sort(byName);
}

/** What XML can carry; xapi drops every other character from a name when it is set. */
const XML_TEXT = /^[\t\n\r -\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]*$/u;

/** Everything that carries this uuid or exactly this name, of every kind. */
export async function findVms(
  session: Session,
  nameOrUuid: string,
  options: Cancellable,
): Promise<VmFacts[]> {
  if (!XML_TEXT.test(nameOrUuid)) return [];
  const named = session.call('VM.get_by_name_label', [nameOrUuid], options);
  const [refs, byUuid] = await Promise.all([
    named.then((value) => (Array.isArray(value) ? value.map(String) : [])),
    UUID.test(nameOrUuid) ? findByUuid(session, nameOrUuid, options) : [],
  ]);
  const found = await mapParallel([...new Set([...byUuid, ...refs])], (vmRef) =>
    readIfThere(session, vmRef, options),
  );
  return found.filter((vm) => vm !== undefined).sort(byName);
}

async function findByUuid(session: Session, uuid: string, options: Cancellable): Promise<string[]> {
  try {
    return [String(await session.call('VM.get_by_uuid', [uuid.toLowerCase()], options))];
  } catch (error) {
    if (isXapiError(error, 'UUID_INVALID', 'HANDLE_INVALID')) return [];
    throw error;
  }
}

async function readIfThere(
  session: Session,
  vmRef: string,
  options: Cancellable,
): Promise<VmFacts | undefined> {
  try {
    return toVmFacts(vmRef, toRecord(await session.call('VM.get_record', [vmRef], options)));
  } catch (error) {
    if (isXapiError(error, 'HANDLE_INVALID')) return undefined; // deleted meanwhile
    throw error;
  }
}

/** The facts in a machine's record. */
export function toVmFacts(vmRef: string, record: XapiRecord): VmFacts {
  return {
    ref: vmRef as VmRef,
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    nameDescription: text(record, 'name_description'),
    kind: kindOf(record),
    powerState: text(record, 'power_state') as PowerState,
    tags: texts(record, 'tags'),
  };
}

function kindOf(record: XapiRecord): VmKind {
  if (flag(record, 'is_control_domain')) return 'control_domain';
  if (flag(record, 'is_a_snapshot')) return 'snapshot';
  return flag(record, 'is_a_template') ? 'template' : 'vm';
}

/** By name, then uuid. */
export function byName(
  a: { nameLabel: string; uuid: string },
  b: { nameLabel: string; uuid: string },
): number {
  if (a.nameLabel !== b.nameLabel) return a.nameLabel < b.nameLabel ? -1 : 1;
  return a.uuid < b.uuid ? -1 : 1;
}

interface Attached {
  vbd: XapiRecord;
  vdiRef: string | undefined;
  vdi: XapiRecord | undefined;
}

/** One machine with its disks, drives and networks. HANDLE_INVALID when it is gone. */
export async function inspectVm(
  session: Session,
  vmRef: VmRef,
  options: Cancellable,
): Promise<VmState> {
  const record = toRecord(await session.call('VM.get_record', [vmRef], options));
  const [attached, networks] = await Promise.all([
    readVbds(session, texts(record, 'VBDs'), options),
    readNetworks(session, texts(record, 'VIFs'), options),
  ]);
  const onDisk = attached.filter(({ vbd, vdi }) => text(vbd, 'type') === 'Disk' && vdi);
  const srRefs = [...new Set(onDisk.map(({ vdi }) => text(vdi ?? {}, 'SR')))];
  const srs = await readSrs(session, srRefs, options);
  const chains = await readChains(
    session,
    onDisk.map(({ vdi }) => ({
      vdi: vdi ?? {},
      srType: srs.get(text(vdi ?? {}, 'SR'))?.type ?? '',
    })),
    options,
  );
  return {
    ...toVmFacts(vmRef, record),
    allowedOperations: texts(record, 'allowed_operations'),
    currentOperations: Object.values(textMap(record, 'current_operations')),
    blockedOperations: textMap(record, 'blocked_operations'),
    disks: onDisk
      .map((disk, at) => ({
        ...toDiskFacts(disk, srs),
        ...chains[at],
        uncoalesced: chains[at]?.uncoalesced ?? false,
      }))
      .sort(byDevice),
    removables: attached.flatMap(toRemovable).sort(byDevice),
    hasVusbs: texts(record, 'VUSBs').length > 0,
    hasSuspendImage: ref(record, 'suspend_VDI') !== undefined,
    haRestartPriority: text(record, 'ha_restart_priority'),
    networks,
  };
}

async function readVbds(
  session: Session,
  vbdRefs: readonly string[],
  options: Cancellable,
): Promise<Attached[]> {
  return await mapParallel(vbdRefs, async (vbdRef) => {
    const vbd = toRecord(await session.call('VBD.get_record', [vbdRef], options));
    const vdiRef = flag(vbd, 'empty') ? undefined : ref(vbd, 'VDI');
    if (vdiRef === undefined) return { vbd, vdiRef, vdi: undefined };
    return { vbd, vdiRef, vdi: toRecord(await session.call('VDI.get_record', [vdiRef], options)) };
  });
}

function toDiskFacts({ vbd, vdiRef, vdi = {} }: Attached, srs: ReadonlyMap<string, SrFacts>) {
  return {
    vdiRef: (vdiRef ?? '') as VdiRef,
    vdiUuid: text(vdi, 'uuid'),
    nameLabel: text(vdi, 'name_label'),
    userdevice: text(vbd, 'userdevice'),
    virtualSizeBytes: integer(vdi, 'virtual_size'),
    physicalUtilisationBytes: integer(vdi, 'physical_utilisation'),
    bootable: flag(vbd, 'bootable'),
    readOnly: text(vbd, 'mode') === 'RO',
    sharable: flag(vdi, 'sharable'),
    currentOperations: Object.values(textMap(vdi, 'current_operations')),
    resetsOnBoot: text(vdi, 'on_boot') === 'reset',
    raw: textMap(vdi, 'sm_config').type === 'raw',
    sr: srs.get(text(vdi, 'SR')) as SrFacts,
  } satisfies Partial<DiskFacts>;
}

function toRemovable({ vbd, vdi }: Attached): VmState['removables'] {
  const type = text(vbd, 'type');
  if (type !== 'CD' && type !== 'Floppy') return [];
  const medium =
    vdi === undefined ? {} : { vdiUuid: text(vdi, 'uuid'), nameLabel: text(vdi, 'name_label') };
  return [{ userdevice: text(vbd, 'userdevice'), type, ...medium }];
}

async function readNetworks(
  session: Session,
  vifRefs: readonly string[],
  options: Cancellable,
): Promise<VmState['networks']> {
  const networks = await mapParallel(vifRefs, async (vifRef) => {
    const vif = toRecord(await session.call('VIF.get_record', [vifRef], options));
    const networkRef = ref(vif, 'network');
    const network =
      networkRef === undefined
        ? {}
        : toRecord(await session.call('network.get_record', [networkRef], options));
    return {
      device: text(vif, 'device'),
      mac: text(vif, 'MAC'),
      networkUuid: text(network, 'uuid'),
      networkName: text(network, 'name_label'),
    };
  });
  return networks.sort((a, b) => Number(a.device) - Number(b.device));
}

/** "10" comes after "9"; a device that is no number (xvda on old hosts) after all numbers. */
function byDevice(a: { userdevice: string }, b: { userdevice: string }): number {
  const [left, right] = [Number(a.userdevice), Number(b.userdevice)];
  if (Number.isNaN(left) || Number.isNaN(right)) return a.userdevice < b.userdevice ? -1 : 1;
  return left - right;
}
