/**
 * What an import makes of the objects of ova.xml, before a single block is read.
 *
 * Source: xen-api `ocaml/xapi/import.ml` (e2ee48d6), a full import of one machine: hosts, storage, disks, metrics,
 * machine, networks, drives, cards, TPMs, in this order; each thing made pushes its undoing onto a stack. Networks are
 * found by name, else by bridge, else made. A new machine (not `restore`) gets new uuids, a new mac_seed and so new
 * MACs; a restored one keeps all of them and takes the place of a halted machine of its uuid, whose disks stay behind.
 * Not simulated: several machines in one archive, default templates, memory images, GPUs, PVS, resets of memory limits.
 */
import type { Entity } from '../../importer/inventory.ts';
import type { Value as ArchiveValue, Struct } from '../../importer/value.ts';
import { constructed } from './constructors.ts';
import { createNetwork, createVbd, createVif } from './devices.ts';
import { BACK_LINKS, EMPTY_RECORDS } from './records.ts';
import type { Sim } from './sim.ts';
import { createDisk, destroyDisk } from './storage.ts';
import {
  flag,
  float,
  int,
  list,
  map,
  NULL_REF,
  type Rec,
  tagged,
  text,
  type Value,
  XenError,
} from './values.ts';

export interface ImportConfig {
  /** Where all disks go. */
  sr: string;
  fullRestore: boolean;
  force: boolean;
  task: string;
}

/** What was made so far. */
export interface ImportState {
  config: ImportConfig;
  objects: readonly Entity[];
  /** Archive id → ref in the pool. */
  table: Map<string, string>;
  vms: string[];
  /** Undoings, the last one first to be run. */
  cleanup: (() => void)[];
}

function parseDate(written: string): Date {
  const match = /^(\d{4})-?(\d\d)-?(\d\d)T(\d\d:\d\d:\d\d)/.exec(written);
  if (match === null) return new Date(0);
  const [, year, month, day, time] = match;
  return new Date(`${year}-${month}-${day}T${time}Z`);
}

function convert(example: Value, value: ArchiveValue): Value {
  if (typeof example === 'number') return Number(value);
  if (typeof example === 'boolean') return value === true;
  if (typeof example === 'string') return String(value);
  if (example instanceof Date) return parseDate(String(value));
  if (tagged(example) !== undefined) return float(Number(value));
  if (Array.isArray(example)) return Array.isArray(value) ? value.map(String) : [];
  return { ...(value as Record<string, Value>) };
}

/** The record as the pool's own data model has it: unknown fields are left out, sets kept by links are empty. */
function recordOf(cls: string, snapshot: Struct): Rec {
  const empty = EMPTY_RECORDS[cls]?.() ?? {};
  const linked = new Set(BACK_LINKS.filter(({ to }) => to === cls).map(({ set }) => set));
  const known = Object.entries(empty).map(([field, example]): [string, Value] => {
    const value = snapshot[field];
    const given = value !== undefined && value !== null && !linked.has(field);
    return [field, given ? convert(example, value) : example];
  });
  return { ...Object.fromEntries(known), current_operations: {}, allowed_operations: [] };
}

function lookUp(state: ImportState, id: string): string {
  const ref = state.table.get(id);
  if (ref === undefined) throw new XenError('IMPORT_ERROR_FAILED_TO_FIND_OBJECT', [id]);
  return ref;
}

function undo(state: ImportState, sim: Sim, cls: string, ref: string): void {
  state.cleanup.push(() => sim.world.destroy(cls, ref));
}

type Handler = (sim: Sim, state: ImportState, object: Entity, record: Rec) => void;

const importHost: Handler = (sim, { table }, { id }, record) => {
  table.set(id, sim.world.findByUuid('host', text(record, 'uuid'))?.ref ?? NULL_REF);
};

/** All disks go to the one storage; an ISO library is not needed, its images are looked for. */
const importStorage: Handler = (_sim, { table, config }, { id }, record) => {
  if (text(record, 'content_type') !== 'iso') table.set(id, config.sr);
};

function findIso(sim: Sim, location: string): string | undefined {
  const found = sim.world.all('VDI').find(([, vdi]) => {
    const sr = sim.world.get('SR', text(vdi, 'SR'));
    const isLibrary = text(sr, 'content_type') === 'iso' && text(sr, 'type') !== 'udev';
    return isLibrary && text(vdi, 'location') === location;
  });
  return found?.[0];
}

const importDisk: Handler = (sim, state, { id }, record) => {
  const { config, objects, table } = state;
  const origin = objects.find((object) => object.id === record.SR);
  if (origin === undefined) {
    throw new XenError('IMPORT_ERROR_FAILED_TO_FIND_OBJECT', [text(record, 'SR')]);
  }
  if (origin.record.content_type === 'iso') {
    const iso = findIso(sim, text(record, 'location'));
    if (iso !== undefined) table.set(id, iso);
    return;
  }
  // sm_config travels verbatim to the storage, with the task's ref so that it can tell an import
  const ref = createDisk(sim, lookUp(state, text(record, 'SR')), {
    ...constructed('VDI', record),
    sm_config: { ...map(record, 'sm_config'), import_task: config.task },
  });
  state.cleanup.push(() => destroyDisk(sim, ref));
  table.set(id, ref);
};

const importMetrics: Handler = (sim, { table }, { id, class: cls }, record) => {
  // xapi does not undo these: its collector removes metrics that nobody points to
  table.set(id, sim.world.create(cls, { ...record, uuid: sim.newUuid() }));
};

/** Fields of the machine's record that an import sets itself. */
function machineFields(sim: Sim, state: ImportState, record: Rec): Rec {
  const { config, table } = state;
  const {
    grant_api_access: _grant,
    default_template: standard,
    ...kept
  } = map(record, 'other_config');
  const template = standard === undefined || !config.force ? {} : { default_template: standard };
  const seed = config.fullRestore ? {} : { mac_seed: sim.newUuid() };
  const known = (field: string) => table.get(text(record, field)) ?? NULL_REF;
  const suspendSr = text(record, 'suspend_SR');
  const order = /^[0-3]$/.exec(text(record, 'ha_restart_priority'))?.[0];
  return {
    uuid: config.fullRestore ? text(record, 'uuid') : sim.newUuid(),
    other_config: { ...kept, ...template, ...seed, import_task: config.task },
    version: config.fullRestore ? int(record, 'version') + 1 : 0,
    generation_id: flag(record, 'is_a_template')
      ? text(record, 'generation_id')
      : freshGenid(sim, record),
    is_default_template: config.force && flag(record, 'is_default_template'),
    power_state: 'Halted',
    domid: -1,
    suspend_VDI: NULL_REF,
    suspend_SR: sim.world.find('SR', suspendSr) === undefined ? NULL_REF : suspendSr,
    resident_on: known('resident_on'),
    scheduled_to_be_resident_on: NULL_REF,
    affinity: known('affinity'),
    metrics: known('metrics'),
    guest_metrics: known('guest_metrics'),
    parent: known('parent'),
    snapshot_of: flag(record, 'is_a_snapshot')
      ? lookUp(state, text(record, 'snapshot_of'))
      : NULL_REF,
    appliance: NULL_REF,
    protection_policy: NULL_REF,
    snapshot_schedule: NULL_REF,
    blocked_operations: {},
    consoles: [],
    crash_dumps: [],
    VGPUs: [],
    attached_PCIs: [],
    current_operations: config.force ? {} : { [config.task]: 'import' },
    ...(order === undefined ? {} : { ha_restart_priority: 'restart', order: Number(order) }),
  };
}

/** A guest that is told of copies (UEFI ones here) is told of this one. */
function freshGenid(sim: Sim, record: Rec): string {
  return text(record, 'generation_id') === '' ? '' : `genid:${sim.newUuid()}`;
}

/** The machine that a restore replaces: HALTED and older, or the import fails; undefined when there is none. */
function replaceable(sim: Sim, { config }: ImportState, record: Rec): string | 'skip' | undefined {
  const existing = config.fullRestore
    ? sim.world.findByUuid('VM', text(record, 'uuid'))
    : undefined;
  if (existing === undefined) return undefined;
  const power = text(existing.record, 'power_state');
  if (power !== 'Halted') {
    if (config.force) return 'skip';
    throw new XenError('VM_BAD_POWER_STATE', [existing.ref, 'Halted', power]);
  }
  const [has, comes] = [int(existing.record, 'version'), int(record, 'version')];
  if (has >= comes && !config.force) {
    const versions = [String(has), String(comes)];
    throw new XenError('VM_TO_IMPORT_IS_NOT_NEWER_VERSION', [existing.ref, ...versions]);
  }
  return existing.ref;
}

/** Removes a machine's record with its cards and drives; its disks stay. */
function removeMachine(sim: Sim, ref: string): void {
  const vm = sim.world.get('VM', ref);
  for (const vif of list(vm, 'VIFs')) sim.world.destroy('VIF', vif);
  for (const vbd of list(vm, 'VBDs')) sim.world.destroy('VBD', vbd);
  for (const vtpm of list(vm, 'VTPMs')) sim.world.destroy('VTPM', vtpm);
  for (const [cls, field] of [
    ['VM_metrics', 'metrics'],
    ['VM_guest_metrics', 'guest_metrics'],
  ] as const) {
    const metrics = text(vm, field);
    if (sim.world.find(cls, metrics) !== undefined) sim.world.destroy(cls, metrics);
  }
  sim.world.destroy('VM', ref);
}

const importVm: Handler = (sim, state, { id }, record) => {
  const existing = replaceable(sim, state, record);
  if (existing === 'skip') return;
  if (existing !== undefined) removeMachine(sim, existing);
  const ref = sim.world.create('VM', { ...record, ...machineFields(sim, state, record) });
  if (text(sim.world.get('VM', ref), 'metrics') === NULL_REF) {
    sim.world.set('VM', ref, { metrics: sim.world.create('VM_metrics', {}) });
  }
  state.cleanup.push(() => removeMachine(sim, ref));
  state.table.set(id, ref);
  state.vms.push(ref);
};

const importNetwork: Handler = (sim, state, { id }, record) => {
  const all = sim.world.all('network');
  const found =
    all.find(([, network]) => network.name_label === record.name_label) ??
    all.find(([, network]) => network.bridge === record.bridge);
  if (found !== undefined) {
    state.table.set(id, found[0]);
    return;
  }
  const otherConfig = { ...map(record, 'other_config'), import_task: state.config.task };
  const ref = createNetwork(sim, { ...constructed('network', record), other_config: otherConfig });
  undo(state, sim, 'network', ref);
  state.table.set(id, ref);
};

/** A restore takes a device of the same uuid as it is, wherever it hangs; new ones get its uuid. */
function existingDevice(
  sim: Sim,
  state: ImportState,
  cls: string,
  record: Rec,
): string | undefined {
  if (!state.config.fullRestore) return undefined;
  return sim.world.findByUuid(cls, text(record, 'uuid'))?.ref;
}

function keepUuid(sim: Sim, state: ImportState, cls: string, ref: string, record: Rec): void {
  if (state.config.fullRestore) sim.world.set(cls, ref, { uuid: text(record, 'uuid') });
}

const importVbd: Handler = (sim, state, { id }, record) => {
  const { table } = state;
  const existing = existingDevice(sim, state, 'VBD', record);
  if (existing !== undefined) {
    table.set(id, existing);
    return;
  }
  const vm = lookUp(state, text(record, 'VM'));
  const vdi = table.get(text(record, 'VDI'));
  const isDisk = text(record, 'type') === 'Disk';
  const attached = flag(record, 'currently_attached');
  if (attached && vdi === undefined && isDisk) {
    throw new XenError('IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND');
  }
  // a disk that is not there is left out; a CD that is not there is ejected
  if (vdi === undefined && isDisk) return;
  const medium = vdi === undefined ? { VDI: NULL_REF, empty: true } : { VDI: vdi };
  const ref = createVbd(sim, { ...constructed('VBD', record), VM: vm, ...medium });
  keepUuid(sim, state, 'VBD', ref, record);
  undo(state, sim, 'VBD', ref);
  if (attached) sim.world.set('VBD', ref, { currently_attached: true });
  table.set(id, ref);
};

const importVif: Handler = (sim, state, { id }, record) => {
  const existing = existingDevice(sim, state, 'VIF', record);
  if (existing !== undefined) {
    state.table.set(id, existing);
    return;
  }
  const ref = createVif(sim, {
    ...constructed('VIF', record),
    VM: lookUp(state, text(record, 'VM')),
    network: lookUp(state, text(record, 'network')),
    MAC: state.config.fullRestore ? text(record, 'MAC') : '',
  });
  keepUuid(sim, state, 'VIF', ref, record);
  undo(state, sim, 'VIF', ref);
  state.table.set(id, ref);
};

const importVtpm: Handler = (sim, state, { id, record: snapshot }, record) => {
  const contents = snapshot["vTPM'_content"] ?? snapshot.contents;
  const ref = sim.world.create('VTPM', {
    ...record,
    uuid: state.config.fullRestore ? text(record, 'uuid') : sim.newUuid(),
    VM: lookUp(state, text(record, 'VM')),
    backend: NULL_REF,
    contents: typeof contents === 'string' ? contents : '',
  });
  undo(state, sim, 'VTPM', ref);
  state.table.set(id, ref);
};

/** Classes in the order in which a host takes them; others are ignored. */
const HANDLERS: readonly (readonly [cls: string, handler: Handler])[] = [
  ['host', importHost],
  ['SR', importStorage],
  ['VDI', importDisk],
  ['VM_guest_metrics', importMetrics],
  ['VM_metrics', importMetrics],
  ['VM', importVm],
  ['network', importNetwork],
  ['VBD', importVbd],
  ['VIF', importVif],
  ['VTPM', importVtpm],
];

/** xapi before 23.9 neither exports nor imports TPMs. */
const VTPM_SINCE_MAJOR = 23;

/** Makes everything; what it made before an error is in `state` for the caller to undo. */
export function createObjects(sim: Sim, state: ImportState): void {
  for (const [cls, handler] of HANDLERS) {
    if (cls === 'VTPM' && sim.persona.xapi.major < VTPM_SINCE_MAJOR) continue;
    for (const object of state.objects.filter((one) => one.class === cls)) {
      handler(sim, state, object, recordOf(cls, object.record));
    }
  }
}

/** Runs the undoings, last made first; one that fails does not keep the others from running, as in xapi. */
export function undoObjects(state: ImportState): void {
  for (const action of state.cleanup.splice(0).reverse()) {
    try {
      action();
    } catch (error) {
      if (!(error instanceof XenError)) throw error;
    }
  }
}

function seedOf(record: Rec): string | undefined {
  return map(record, 'other_config').mac_seed;
}

/** uuid of the machine a snapshot was made of: in the archive or in the pool. */
function snapshotOrigin(sim: Sim, objects: readonly Entity[], snapshot: Rec): string | undefined {
  const id = text(snapshot, 'snapshot_of');
  const inArchive = objects.find((object) => object.class === 'VM' && object.id === id);
  if (inArchive !== undefined) return String(inArchive.record.uuid);
  const live = sim.world.find('VM', id);
  return live === undefined ? undefined : text(live, 'uuid');
}

function areCompatible(sim: Sim, objects: readonly Entity[], one: Rec, other: Rec): boolean {
  const uuidOf = (vm: Rec) =>
    flag(vm, 'is_a_snapshot') ? snapshotOrigin(sim, objects, vm) : text(vm, 'uuid');
  const uuid = uuidOf(one);
  return uuid !== undefined && uuid === uuidOf(other);
}

/** DUPLICATE_MAC_SEED unless every machine of the pool with the same seed is the same one, or a snapshot of it. */
export function assertCanRestore(sim: Sim, objects: readonly Entity[]): void {
  for (const { class: cls, record: snapshot } of objects) {
    if (cls !== 'VM') continue;
    const record = recordOf('VM', snapshot);
    const seed = seedOf(record);
    if (seed === undefined) continue;
    for (const [, vm] of sim.world.all('VM')) {
      if (seedOf(vm) === seed && !areCompatible(sim, objects, record, vm)) {
        throw new XenError('DUPLICATE_MAC_SEED', [seed]);
      }
    }
  }
}
