/**
 * The rules that turn a host's ova.xml into ours (docs/xva.md, "Why each rewrite").
 *
 * Three aims: it imports as a halted, ordinary machine under its own name; it does not change from
 * one export of the same snapshot to the next; nothing of the snapshot it was made from stays in
 * it. Classes and keys not named here survive untouched, as do the version numbers (an importer
 * compares them with its own).
 */
import { BackupError } from '../errors.ts';
import { nameDisks, nameOthers } from './archive-ids.ts';
import { type Ova, type OvaDisk, type OvaObject, REF_PATTERN, textOf } from './ova.ts';
import { type ArchiveDisk, type DiskOrder, MAX_OVA_BYTES, type OvaRewrite } from './types.ts';
import { formatXmlValue, type XmlStruct, type XmlValue } from './xml-value.ts';

const NULL_REF = 'OpaqueRef:NULL';
const FALSE = { tag: 'boolean', text: '0' } as const;
const EPOCH = { tag: 'dateTime.iso8601', text: '19700101T00:00:00Z' } as const;
const NO_SET = (): XmlValue => [];
const NO_MAP = (): XmlValue => new Map();

type Fixed = Readonly<Record<string, XmlValue | (() => XmlValue)>>;

/** Set in every object that has the key: they name calls that ran while the host exported. */
const FIXED_EVERYWHERE: Fixed = {
  allowed_operations: NO_SET,
  current_operations: NO_MAP,
  blobs: NO_MAP,
};

/** Set where the key is there; a key that is absent means the same to an importer. */
const FIXED: Readonly<Record<string, Fixed>> = {
  VM: {
    is_a_snapshot: FALSE,
    is_default_template: FALSE,
    snapshot_of: NULL_REF,
    snapshots: NO_SET,
    snapshot_time: EPOCH,
    snapshot_info: NO_MAP,
    snapshot_metadata: '',
    transportable_snapshot_id: '',
    parent: NULL_REF,
    children: NO_SET,
    suspend_VDI: NULL_REF,
    ha_always_run: FALSE,
    ha_restart_priority: '',
    resident_on: NULL_REF,
    scheduled_to_be_resident_on: NULL_REF,
    domid: '-1',
    appliance: NULL_REF,
    pending_guidances: NO_SET,
  },
  VBD: {
    currently_attached: FALSE,
    storage_lock: FALSE,
    status_code: '0',
    status_detail: '',
    runtime_properties: NO_MAP,
    metrics: NULL_REF,
  },
  VIF: {
    currently_attached: FALSE,
    status_code: '0',
    status_detail: '',
    runtime_properties: NO_MAP,
    metrics: NULL_REF,
  },
  VGPU: { currently_attached: FALSE, resident_on: NULL_REF },
  PVS_proxy: { currently_attached: FALSE },
  VDI: {
    is_a_snapshot: FALSE,
    snapshot_of: NULL_REF,
    snapshots: NO_SET,
    snapshot_time: EPOCH,
    parent: NULL_REF,
    physical_utilisation: '0',
    storage_lock: FALSE,
    missing: FALSE,
  },
  SR: { physical_utilisation: '0', virtual_allocation: '0', physical_size: '0' },
  network: { assigned_ips: NO_MAP },
  host: { resident_VMs: NO_SET, metrics: NULL_REF },
};

/** Optional for importers, different at every look. */
const DROPPED_CLASSES = ['VM_metrics', 'VM_guest_metrics'];

/** Text that may look like an id but is what somebody typed. */
const TEXT_KEYS = ['name_label', 'name_description', 'location', 'tags'];

/** What our archives, those of earlier versions included, call a disk. */
const OUR_ID = /^Ref:\d{3,12}$/;

/** Order of classes in our ids: disks come first, classes not named here last. */
const CLASS_ORDER = ['VM', 'VBD', 'VIF', 'VDI', 'SR', 'network', 'host'];

/** ova.xml as it goes into the archive, and the disks in the order in which they come. */
export interface RewrittenOva {
  xml: Buffer;
  disks: ArchiveDisk[];
}

/**
 * Applies the rules to `ova`, which is used up. Without `rewrite`, names and uuids stay what they
 * are.
 */
export function rewriteOva(
  ova: Ova,
  { rewrite, order }: { rewrite?: OvaRewrite | undefined; order: Exclude<DiskOrder, 'kept'> },
): RewrittenOva {
  const kept = ova.objects.filter((object) => !DROPPED_CLASSES.includes(object.className));
  for (const object of kept) fixObject(object);
  rewriteMachine(ova.machine.record, rewrite);
  const disks = nameDisks(
    ova.disks.map((disk) => rewriteDisk(disk, rewrite)),
    order,
  );
  const ids = new Map(disks.map((disk) => [disk.sourceId, disk.archiveId]));
  const others = orderOthers(kept.filter(({ id }) => !ids.has(id)));
  for (const [i, id] of nameOthers(disks, others.length).entries()) {
    ids.set((others[i] as OvaObject).id, id);
  }
  const ordered = [...ova.disks.map(({ vdi }) => vdi), ...others];
  for (const object of ordered) renameRefs(object, ids);
  ordered.sort((a, b) => ((ids.get(a.id) as string) < (ids.get(b.id) as string) ? -1 : 1));
  ova.root.set(
    'objects',
    ordered.map((object) => object.node),
  );
  const xml = Buffer.from(formatXmlValue(ova.root), 'utf8');
  if (xml.length > MAX_OVA_BYTES) {
    throw new BackupError('data_corrupt', `rewrite ova.xml: too large, size=${xml.length}`);
  }
  return { xml, disks };
}

function fixObject({ className, record }: OvaObject): void {
  const fixed = { ...FIXED_EVERYWHERE, ...FIXED[className] };
  for (const [key, value] of Object.entries(fixed)) {
    if (record.has(key)) record.set(key, typeof value === 'function' ? value() : value);
  }
  dropOurMarks(record);
  if (className === 'VDI') keepOnly(record.get('sm_config'), 'image-format');
}

function rewriteMachine(record: XmlStruct, rewrite: OvaRewrite | undefined): void {
  record.set('is_a_template', FALSE);
  record.set('power_state', 'Halted');
  const otherConfig = record.get('other_config');
  if (otherConfig instanceof Map) otherConfig.delete('auto_poweron');
  if (rewrite === undefined) return;
  record.set('name_label', rewrite.nameLabel);
  record.set('name_description', rewrite.nameDescription);
  record.set('uuid', rewrite.vmUuid);
}

/** Disks of an archive whose ova.xml stays what it is. */
export function keptDisks(ova: Ova): ArchiveDisk[] {
  const disks = ova.disks.map((disk) => rewriteDisk(disk, undefined));
  for (const [index, disk] of disks.entries()) {
    if (!OUR_ID.test(disk.sourceId)) {
      throw new BackupError('data_corrupt', 'read ova.xml: its disks have no ids of ours');
    }
    disk.index = index;
    disk.archiveId = disk.sourceId;
  }
  return disks;
}

function rewriteDisk(disk: OvaDisk, rewrite: OvaRewrite | undefined): ArchiveDisk {
  const { record } = disk.vdi;
  const vdiUuid = textOf(record.get('uuid'));
  const live = rewrite?.disks.get(vdiUuid);
  if (live !== undefined) {
    // File and LVM storage name the volume after the VDI; other drivers have names of their own.
    if (textOf(record.get('location')) === vdiUuid) record.set('location', live.uuid);
    record.set('uuid', live.uuid);
    record.set('name_label', live.nameLabel);
  }
  return {
    index: -1,
    archiveId: '',
    sourceId: disk.vdi.id,
    vdiUuid,
    liveVdiUuid: live?.uuid ?? vdiUuid,
    nameLabel: textOf(record.get('name_label')),
    userdevice: textOf(disk.vbd.record.get('userdevice')),
    virtualSizeBytes: disk.virtualSizeBytes,
  };
}

/**
 * By class, place on the machine and uuid. Never by their source id: that comes from a counter of
 * the host and differs at every export.
 */
function orderOthers(objects: OvaObject[]): OvaObject[] {
  const keyed = objects.map((object) => ({ object, key: sortKey(object) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return keyed.map(({ object }) => object);
}

function sortKey({ className, record }: OvaObject): string {
  const rank = CLASS_ORDER.indexOf(className);
  const place = textOf(record.get('userdevice')) || textOf(record.get('device'));
  return [
    String(rank === -1 ? CLASS_ORDER.length : rank),
    className,
    place.padStart(8, '0'),
    textOf(record.get('uuid')),
  ].join('\0');
}

function renameRefs({ id, node, record }: OvaObject, ids: Map<string, string>): void {
  node.set('id', ids.get(id) as string);
  for (const [key, value] of record) {
    if (TEXT_KEYS.includes(key)) continue;
    if (typeof value === 'string') record.set(key, renameRef(value, ids));
    else if (Array.isArray(value)) record.set(key, renameSet(value, ids));
  }
}

/**
 * A reference into the host's database means nothing elsewhere; importers read both forms as
 * "none".
 */
function renameRef(value: string, ids: Map<string, string>): string {
  return ids.get(value) ?? (REF_PATTERN.test(value) ? NULL_REF : value);
}

/** Sets of references keep those that lead to something in the archive, in the order of our ids. */
function renameSet(values: XmlValue[], ids: Map<string, string>): XmlValue[] {
  const isRefSet = values.every(
    (value) => typeof value === 'string' && (ids.has(value) || REF_PATTERN.test(value)),
  );
  if (!isRefSet) return values;
  return values.flatMap((value) => ids.get(value as string) ?? []).sort();
}

/** The snapshot carries our marker; a restored machine with it would be swept as a leftover. */
function dropOurMarks(record: XmlStruct): void {
  const otherConfig = record.get('other_config');
  if (!(otherConfig instanceof Map)) return;
  for (const key of [...otherConfig.keys()]) if (key.startsWith('xvault:')) otherConfig.delete(key);
}

function keepOnly(value: XmlValue | undefined, key: string): void {
  if (!(value instanceof Map)) return;
  for (const name of [...value.keys()]) if (name !== key) value.delete(name);
}
