/**
 * ova.xml as a host writes it: the records of a machine and all it refers to, refs replaced by `Ref:n`.
 *
 * Source: xen-api `ocaml/xapi/export.ml`. One XML-RPC value without prolog: {version, objects: [{class, id, snapshot}]}.
 * External ids come from a counter of the whole xapi process. A snapshot exported by itself says is_a_snapshot=0 and
 * snapshot_of=NULL but keeps is_a_template=1 and its own name. Refs to what is not exported are set to NULL in most
 * fields; VDI.snapshot_of and sm_config stay as they are.
 *
 * Devices are taken in the order of the machine's set of refs, which says nothing of their numbers: objects made since
 * the toolstack started come newest first, and a start sorts them by ref (`db_cache_types.ml`). Here always by ref, so
 * that the order of a machine's disks differs from snapshot to snapshot: the worst a host can do.
 */
import { viewRecord } from './operations.ts';
import { formatServertime, type Sim, type SimHost } from './sim.ts';
import { flag, formatDate, list, NULL_REF, type Rec, text, type Value } from './values.ts';
import { formatValue } from './xml-rpc.ts';

export interface OvaOptions {
  /** Keep a suspended machine suspended, with its memory image. */
  preservePowerState: boolean;
  /** Only export_metadata can: the machine's snapshots too. */
  withSnapshots: boolean;
  excluded: ReadonlySet<string>;
}

export interface Ova {
  xml: Buffer;
  /** Disks to stream, in the order they come: by id as text. */
  disks: { id: string; vdiRef: string }[];
}

/** Order in which the classes are written. */
const CLASSES = [
  'host',
  'VM',
  'VM_metrics',
  'VM_guest_metrics',
  'VBD',
  'VIF',
  'network',
  'VDI',
  'SR',
  'VTPM',
] as const;

type Ids = Map<string, string>;

/** Everything that goes with the machines, by class. */
function collect(sim: Sim, vms: string[], options: OvaOptions): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>(CLASSES.map((cls) => [cls, new Set<string>()]));
  const add = (cls: string, ref: string): Rec | undefined => {
    const record = sim.world.find(cls, ref);
    if (record !== undefined) found.get(cls)?.add(ref);
    return record;
  };
  const addVdi = (ref: string) => {
    const vdi = add('VDI', ref);
    if (vdi !== undefined) add('SR', text(vdi, 'SR'));
  };
  const devices = (record: Rec, cls: string, field: string) =>
    options.excluded.has(cls.toLowerCase()) ? [] : list(record, field).toSorted();
  for (const ref of vms) {
    const vm = add('VM', ref);
    if (vm === undefined) continue;
    add('host', text(vm, 'resident_on'));
    add('host', text(vm, 'affinity'));
    add('VM_metrics', text(vm, 'metrics'));
    add('VM_guest_metrics', text(vm, 'guest_metrics'));
    for (const vbdRef of devices(vm, 'VBD', 'VBDs')) {
      const vbd = add('VBD', vbdRef);
      if (vbd !== undefined) addVdi(text(vbd, 'VDI'));
    }
    for (const vifRef of devices(vm, 'VIF', 'VIFs')) {
      const vif = add('VIF', vifRef);
      if (vif !== undefined) add('network', text(vif, 'network'));
    }
    for (const vtpm of devices(vm, 'VTPM', 'VTPMs')) add('VTPM', vtpm);
    if (options.preservePowerState) addVdi(text(vm, 'suspend_VDI'));
  }
  return found;
}

function createLookup(ids: Ids) {
  const one = (value: Value | undefined): string => ids.get(String(value)) ?? NULL_REF;
  const many = (value: Value | undefined): string[] =>
    (value as string[]).flatMap((ref) => ids.get(ref) ?? []);
  return { one, many };
}

type Lookup = ReturnType<typeof createLookup>;

function exportVm(vm: Rec, { one, many }: Lookup, options: OvaOptions): Rec {
  return {
    ...vm,
    ...(options.preservePowerState ? {} : { power_state: 'Halted' }),
    is_a_snapshot: options.withSnapshots ? flag(vm, 'is_a_snapshot') : false,
    snapshot_of: options.withSnapshots ? one(vm.snapshot_of) : NULL_REF,
    snapshots: options.withSnapshots ? many(vm.snapshots) : [],
    VBDs: many(vm.VBDs),
    VIFs: many(vm.VIFs),
    VTPMs: many(vm.VTPMs),
    VUSBs: [],
    consoles: [],
    crash_dumps: [],
    current_operations: {},
    allowed_operations: [],
    resident_on: one(vm.resident_on),
    affinity: one(vm.affinity),
    metrics: one(vm.metrics),
    guest_metrics: one(vm.guest_metrics),
    suspend_VDI: options.preservePowerState ? one(vm.suspend_VDI) : NULL_REF,
    parent: one(vm.parent),
    children: many(vm.children),
    appliance: NULL_REF,
  };
}

function exportRecord(cls: string, record: Rec, lookup: Lookup, options: OvaOptions): Rec {
  const { one, many } = lookup;
  const attached = options.preservePowerState ? {} : { currently_attached: false };
  const idle = { current_operations: {}, allowed_operations: [] };
  switch (cls) {
    case 'VM':
      return exportVm(record, lookup, options);
    case 'VBD':
      return { ...record, ...idle, ...attached, VM: one(record.VM), VDI: one(record.VDI) };
    case 'VIF':
      return { ...record, ...idle, ...attached, VM: one(record.VM), network: one(record.network) };
    case 'VTPM':
      return { ...record, ...idle, VM: one(record.VM) };
    case 'VDI':
      return { ...record, ...idle, SR: one(record.SR), VBDs: many(record.VBDs), crash_dumps: [] };
    case 'SR':
      return { ...record, ...idle, VDIs: many(record.VDIs), PBDs: [] };
    case 'network':
      return { ...record, ...idle, VIFs: many(record.VIFs), PIFs: [] };
    case 'host':
      return { ...record, ...idle, resident_VMs: [], PBDs: [], PIFs: [], certificates: [] };
    default:
      return record;
  }
}

function streamedDisks(sim: Sim, found: Map<string, Set<string>>, ids: Ids): Ova['disks'] {
  const disks = new Map<string, string>();
  const add = (vdiRef: string) => {
    const id = ids.get(vdiRef);
    if (id !== undefined) disks.set(id, vdiRef);
  };
  for (const ref of found.get('VBD') ?? []) {
    const vbd = sim.world.get('VBD', ref);
    const vdi = sim.world.find('VDI', text(vbd, 'VDI'));
    if (text(vbd, 'type') === 'CD' || vdi === undefined) continue;
    const sr = sim.world.get('SR', text(vdi, 'SR'));
    if (text(sr, 'content_type') !== 'iso') add(text(vbd, 'VDI'));
  }
  for (const ref of found.get('VM') ?? []) {
    add(text(sim.world.get('VM', ref), 'suspend_VDI'));
  }
  return [...disks].map(([id, vdiRef]) => ({ id, vdiRef })).sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Writes ova.xml for some machines and says which disks follow. Draws new external ids from `host`'s counter. */
export function buildOva(sim: Sim, host: SimHost, vms: string[], options: OvaOptions): Ova {
  const all = options.withSnapshots
    ? vms.flatMap((ref) => [ref, ...list(sim.world.get('VM', ref), 'snapshots')])
    : vms;
  const found = collect(sim, [...new Set(all)], options);
  const ids: Ids = new Map();
  for (const refs of found.values()) {
    for (const ref of refs) {
      ids.set(ref, `Ref:${host.nextExternalId}`);
      host.nextExternalId += 1;
    }
  }
  const lookup = createLookup(ids);
  const objects = [...found].flatMap(([cls, refs]) =>
    [...refs].map((ref) => ({
      class: cls,
      id: ids.get(ref) ?? '',
      snapshot: exportRecord(cls, viewRecord(sim, cls, ref), lookup, options),
    })),
  );
  const { persona } = sim;
  const version = {
    hostname: 'localhost',
    date: formatDate(formatServertime(sim)).slice(0, 8),
    product_version: persona.productVersion,
    product_brand: persona.productBrand,
    build_number: persona.buildNumber,
    xapi_major: persona.xapi.major,
    xapi_minor: persona.xapi.minor,
    export_vsn: 2,
  };
  const xml = Buffer.from(formatValue({ version, objects }), 'utf8');
  return { xml, disks: streamedDisks(sim, found, ids) };
}
