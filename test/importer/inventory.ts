/**
 * What a host would make of an `ova.xml`: the machine, its disks in the order their blocks must come, its networks.
 *
 * Checked before a single block is read, as on a host: every mandatory field (those XenAPI gives no default), every
 * reference a disk, drive or network interface needs, and the version. `remarks` are things a host accepts but a
 * careful archive avoids. The objects are records as `get_record` gives them, in no particular order.
 */

import { refuse } from './refusal.ts';
import { parseValue, type Struct, type Value } from './value.ts';

/** The machine as it would stand in the pool after the import. */
export interface ImportedVm {
  id: string;
  uuid: string;
  name: string;
  description: string;
  isATemplate: boolean;
  isASnapshot: boolean;
  isControlDomain: boolean;
  snapshotOf: string;
  powerState: string;
  suspendVdi: string;
  haAlwaysRun: boolean;
  haRestartPriority: string;
  otherConfig: Readonly<Record<string, Value>>;
  /** The import ends with a template or a snapshot, which nobody sees among the machines. */
  becomesTemplate: boolean;
  /** High availability starts it as soon as it is there. */
  startedByHa: boolean;
  /** A host that boots starts it (where the pool allows auto power-on). */
  startedByAutoPoweron: boolean;
}

export interface ImportedVif {
  device: string;
  mac: string;
  networkName: string;
}

/** A disk whose blocks must follow. */
export interface ExpectedDisk {
  id: string;
  vdiUuid: string;
  name: string;
  userdevice: string;
  bootable: boolean;
  sizeBytes: number;
}

export interface Inventory {
  version: Readonly<Record<string, string>>;
  vm: ImportedVm;
  /** In the order in which their blocks must come: by id, as strings. */
  disks: ExpectedDisk[];
  /** Drives whose medium is not streamed: by user device. */
  removables: { userdevice: string; type: string; empty: boolean }[];
  vifs: ImportedVif[];
  remarks: string[];
  /** All objects as they stand in ova.xml. */
  objects: readonly Entity[];
}

/** One object of ova.xml: its class, its id in the archive, its record. */
export interface Entity {
  class: string;
  id: string;
  record: Struct;
}

const VERSION_KEYS =
  'hostname date product_version product_brand build_number xapi_major xapi_minor export_vsn';

/** Fields without a default in XenAPI's data model; a trailing `?` is a boolean, `#` a number, `{` a map or list. */
const MANDATORY: Readonly<Record<string, string>> = {
  VM:
    'uuid user_version# is_a_template? resident_on affinity memory_static_max# memory_dynamic_max# ' +
    'memory_dynamic_min# memory_static_min# VCPUs_params{ VCPUs_max# VCPUs_at_startup# actions_after_shutdown ' +
    'actions_after_reboot actions_after_crash PV_bootloader PV_kernel PV_ramdisk PV_args PV_bootloader_args ' +
    'PV_legacy_args HVM_boot_policy HVM_boot_params{ platform{ PCI_bus other_config{ domid# domarch ' +
    'is_control_domain? metrics guest_metrics recommendations',
  VDI:
    'uuid SR virtual_size# physical_utilisation# type sharable? read_only? other_config{ storage_lock? managed? ' +
    'missing? parent',
  VBD:
    'uuid VM VDI userdevice bootable? mode type storage_lock? empty? other_config{ status_code# status_detail ' +
    'runtime_properties{ qos_algorithm_type qos_algorithm_params{ qos_supported_algorithms{',
  VIF:
    'uuid device network VM MAC MTU# other_config{ status_code# status_detail runtime_properties{ ' +
    'qos_algorithm_type qos_algorithm_params{ qos_supported_algorithms{',
  SR: 'uuid virtual_allocation# physical_utilisation# physical_size# type content_type shared? other_config{',
  network: 'uuid other_config{',
};

const NULL_REF = 'OpaqueRef:NULL';

/** Reads and checks the text of an `ova.xml`. */
export function readInventory(xml: string): Inventory {
  const root = parseValue(xml);
  const version = readVersion(member(root, 'version', 'ova.xml'));
  const entities = readObjects(member(root, 'objects', 'ova.xml'));
  for (const entity of entities.values()) checkFields(entity);
  const vm = onlyVm(entities);
  const vbds = [...entities.values()].filter(({ class: kind }) => kind === 'VBD');
  for (const vbd of vbds) resolve(entities, vbd, 'VM', 'VM');
  for (const vdi of entities.values()) {
    if (vdi.class === 'VDI') resolve(entities, vdi, 'SR', 'SR');
  }
  checkUserdevices(vbds);
  const disks = expectedDisks(entities, vbds);
  return {
    version,
    vm: describeVm(vm),
    disks,
    removables: vbds.filter(isRemovable).map(({ record }) => ({
      userdevice: String(record.userdevice),
      type: String(record.type),
      empty: record.VDI === NULL_REF,
    })),
    vifs: expectedVifs(entities),
    remarks: remarksOn({ entities, disks, vbds }),
    objects: [...entities.values()],
  };
}

function readVersion(value: Value): Record<string, string> {
  const version: Record<string, string> = {};
  for (const key of VERSION_KEYS.split(' ')) version[key] = String(member(value, key, 'version'));
  if (version.export_vsn !== '2') refuse(`the export version is ${version.export_vsn}, not 2`);
  if (!/^\d+$/.test(version.xapi_major ?? '') || !/^\d+$/.test(version.xapi_minor ?? '')) {
    refuse('the version of xapi is no pair of numbers');
  }
  return version;
}

function readObjects(value: Value): Map<string, Entity> {
  if (!Array.isArray(value)) refuse('ova.xml has no list of objects');
  const entities = new Map<string, Entity>();
  for (const item of value) {
    const id = textOf(item, 'id', 'an object');
    const kind = textOf(item, 'class', `object ${id}`);
    const record = member(item, 'snapshot', `object ${id}`);
    if (!isStruct(record)) refuse(`the snapshot of ${kind} ${id} is no record`);
    if (id === '' || id === NULL_REF) refuse(`a ${kind} has no id`);
    if (entities.has(id)) refuse(`two objects have the id ${id}`);
    entities.set(id, { class: kind, id, record });
  }
  return entities;
}

function checkFields({ class: kind, id, record }: Entity): void {
  for (const field of MANDATORY[kind]?.split(' ') ?? []) {
    const name = field.replace(/[?#{]$/, '');
    const value = record[name];
    if (value === undefined) refuse(`${kind} ${id} has no field ${name}`);
    const good =
      field.endsWith('?') === (typeof value === 'boolean') &&
      field.endsWith('{') === (typeof value === 'object' && value !== null) &&
      (!field.endsWith('#') || /^-?\d+$/.test(String(value)));
    if (!good) refuse(`${kind} ${id} has a field ${name} of another type: ${describe(value)}`);
  }
}

function describe(value: Value): string {
  return JSON.stringify(value).slice(0, 60);
}

function onlyVm(entities: Map<string, Entity>): Entity {
  const vms = [...entities.values()].filter(({ class: kind }) => kind === 'VM');
  const [vm] = vms;
  if (vm === undefined || vms.length > 1)
    return refuse(`ova.xml has ${vms.length} machines, not one`);
  return vm;
}

function resolve(
  entities: Map<string, Entity>,
  from: Entity,
  field: string,
  wanted: string,
): Entity {
  const id = String(from.record[field]);
  const found = entities.get(id);
  if (found?.class !== wanted) {
    return refuse(
      `${from.class} ${from.id} names the ${wanted} ${id}, which is not in the archive`,
    );
  }
  return found;
}

function isRemovable({ record }: Entity): boolean {
  return record.type === 'CD' || record.type === 'Floppy';
}

function checkUserdevices(vbds: Entity[]): void {
  const seen = new Set<string>();
  for (const { record } of vbds) {
    const device = String(record.userdevice);
    if (seen.has(device)) refuse(`two drives have the user device ${device}`);
    seen.add(device);
  }
}

function expectedDisks(entities: Map<string, Entity>, vbds: Entity[]): ExpectedDisk[] {
  const disks = new Map<string, ExpectedDisk>();
  for (const vbd of vbds.filter((entity) => !isRemovable(entity))) {
    if (vbd.record.VDI === NULL_REF) continue;
    const vdi = resolve(entities, vbd, 'VDI', 'VDI');
    const sr = resolve(entities, vdi, 'SR', 'SR');
    if (sr.record.content_type === 'iso') continue;
    if (disks.has(vdi.id)) refuse(`two drives share the disk ${vdi.id}`);
    const sizeBytes = Number(vdi.record.virtual_size);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      refuse(`disk ${vdi.id} has the size ${vdi.record.virtual_size}`);
    }
    disks.set(vdi.id, {
      id: vdi.id,
      vdiUuid: String(vdi.record.uuid),
      name: String(vdi.record.name_label ?? ''),
      userdevice: String(vbd.record.userdevice),
      bootable: vbd.record.bootable === true,
      sizeBytes,
    });
  }
  return [...disks.values()].sort((a, b) => Buffer.compare(Buffer.from(a.id), Buffer.from(b.id)));
}

function expectedVifs(entities: Map<string, Entity>): ImportedVif[] {
  const vifs: ImportedVif[] = [];
  for (const vif of entities.values()) {
    if (vif.class !== 'VIF') continue;
    resolve(entities, vif, 'VM', 'VM');
    const network = resolve(entities, vif, 'network', 'network');
    vifs.push({
      device: String(vif.record.device),
      mac: String(vif.record.MAC),
      networkName: String(network.record.name_label ?? ''),
    });
  }
  return vifs.sort((a, b) => Number(a.device) - Number(b.device));
}

function describeVm({ id, record }: Entity): ImportedVm {
  const otherConfig = record.other_config as Struct;
  const isATemplate = record.is_a_template === true;
  const haAlwaysRun = record.ha_always_run === true;
  return {
    id,
    uuid: String(record.uuid),
    name: String(record.name_label ?? ''),
    description: String(record.name_description ?? ''),
    isATemplate,
    isASnapshot: record.is_a_snapshot === true,
    isControlDomain: record.is_control_domain === true,
    snapshotOf: String(record.snapshot_of ?? NULL_REF),
    powerState: String(record.power_state ?? 'Halted'),
    suspendVdi: String(record.suspend_VDI ?? NULL_REF),
    haAlwaysRun,
    haRestartPriority: String(record.ha_restart_priority ?? ''),
    otherConfig,
    becomesTemplate: isATemplate || record.is_a_snapshot === true,
    startedByHa: haAlwaysRun,
    startedByAutoPoweron: otherConfig.auto_poweron === 'true',
  };
}

/** Keys of a disk's `sm_config` that belong to the storage it came from and must not travel. */
const STALE_SM_KEYS = /^(vhd-parent|vhd-blocks|activating|paused|base_mirror|host_OpaqueRef:.*)$/;

function remarksOn(input: {
  entities: Map<string, Entity>;
  disks: ExpectedDisk[];
  vbds: Entity[];
}): string[] {
  const { entities, disks } = input;
  const remarks: string[] = [];
  const streamed = new Set(disks.map(({ id }) => id));
  const reached = new Set(input.vbds.map(({ record }) => String(record.VDI)));
  for (const [index, { id }] of disks.entries()) {
    const longer = disks.slice(index + 1).find((other) => other.id.startsWith(id));
    if (longer !== undefined) remarks.push(`the id ${id} begins the id ${longer.id}`);
  }
  for (const vbd of input.vbds.filter((entity) => !isRemovable(entity))) {
    if (vbd.record.VDI === NULL_REF) remarks.push(`drive ${vbd.record.userdevice} has no disk`);
  }
  for (const { class: kind, id, record } of entities.values()) {
    if (kind === 'VDI' && !reached.has(id)) remarks.push(`disk ${id} is made but never filled`);
    if (streamed.has(id)) {
      const stale = Object.keys(isStruct(record.sm_config) ? record.sm_config : {});
      for (const key of stale.filter((name) => STALE_SM_KEYS.test(name))) {
        remarks.push(`disk ${id} carries the stale sm_config key ${key}`);
      }
    }
    if ((kind === 'VBD' || kind === 'VIF') && record.currently_attached === true) {
      remarks.push(`${kind} ${id} says it is attached`);
    }
    for (const [field, target] of danglingRefs(record, entities)) {
      remarks.push(`${kind} ${id} names ${target} in ${field}, which is not in the archive`);
    }
  }
  return remarks;
}

/** References by archive id (`Ref:…`) that lead nowhere; `OpaqueRef:` ones do so on real hosts too. */
function danglingRefs(record: Struct, entities: Map<string, Entity>): [string, string][] {
  return Object.entries(record).flatMap(([field, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((item): item is string => typeof item === 'string' && /^Ref:\d+$/.test(item))
      .filter((id) => !entities.has(id))
      .map((id): [string, string] => [field, id]),
  );
}

function isStruct(value: Value | undefined): value is Struct {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function member(value: Value, name: string, what: string): Value {
  const found = isStruct(value) ? value[name] : undefined;
  return found === undefined ? refuse(`${what} has no member ${name}`) : found;
}

function textOf(value: Value, name: string, what: string): string {
  const found = member(value, name, what);
  return typeof found === 'string' ? found : refuse(`the ${name} of ${what} is no text`);
}
