/**
 * From the ova.xml of an archive to the one a restore sends: names, identity, networks and disks as asked.
 *
 * What an importer does with it (xapi `import.ml`): networks are looked for by name, then by bridge, else made, which
 * nobody asked for; so each kept network carries the target's own name and bridge. Every VDI of the file is made,
 * attached or not; so a disk left out goes with its drive. In a full restore objects keep their uuids, and an
 * interface or drive whose uuid is there already is taken instead of made; so these get fresh ones. Media are ejected:
 * an ISO of the same name on another pool is another ISO. HA and auto power-on are off in every archive of ours, and
 * are put off again here. The version pair is compared by importers and says nothing else.
 */
import { BackupError } from '../errors.ts';
import { type Ova, type OvaObject, textOf } from './ova.ts';
import { isRemovable } from './ova-facts.ts';
import { paddedBytes, TAR_BLOCK_BYTES, writeHeader } from './tar.ts';
import { MAX_OVA_BYTES } from './types.ts';
import { formatXmlValue, type XmlStruct, type XmlValue } from './xml-value.ts';

const NULL_REF = 'OpaqueRef:NULL';
const FALSE = { tag: 'boolean', text: '0' } as const;
const TRUE = { tag: 'boolean', text: '1' } as const;

/** Objects a full restore makes with the uuid they carry. */
const OWN_UUID = ['VBD', 'VIF', 'VTPM', 'VGPU'];
/** Text that may look like an id but is what somebody typed. */
const TEXT_KEYS = ['name_label', 'name_description', 'location', 'tags', 'uuid'];
const MARK_PREFIX = 'xvault:';

/** Where the interfaces of one network of the archive go; `none`: they are left out. */
export type NetworkPlace = { nameLabel: string; bridge: string } | 'none';

export interface OvaEdit {
  nameLabel: string;
  /** Put into other_config; keys begin with `xvault:`. */
  marks: Readonly<Record<string, string>>;
  /** Archive ids of the disks that come along. */
  disks: ReadonlySet<string>;
  /** By id of the network in the archive; every one an interface is on. */
  networks: ReadonlyMap<string, NetworkPlace>;
  /** For a full restore: who the machine is. Without it the host makes uuids and addresses. */
  identity?: {
    vmUuid: string;
    /** In place of the seed in the archive. */
    macSeed?: string;
    /** The guest can tell from it that it went back in time: 128 random bits. */
    generationId: string;
    freshUuid(): string;
  };
  /** Lower numbers, for an older importer. */
  version?: { major: number; minor: number; productVersion: string };
}

/** The ova.xml to send, as its whole member: header, text, padding. `ova` is used up. */
export function editOva(ova: Ova, edit: OvaEdit): Buffer {
  const gone = new Set(ova.objects.filter((object) => isLeftOut(object, ova, edit)));
  const left = ova.objects.filter((object) => !gone.has(object));
  dropUnused(left, gone);
  const kept = left.filter((object) => !gone.has(object));
  const goneIds = new Set([...gone].map(({ id }) => id));
  for (const object of kept) {
    if (isRemovable(object)) eject(object.record);
    forget(object.record, goneIds);
    place(object, edit);
    if (edit.identity && OWN_UUID.includes(object.className)) {
      object.record.set('uuid', edit.identity.freshUuid());
    }
  }
  editMachine(ova.machine.record, edit);
  if (edit.version) lowerVersion(ova.root.get('version') as XmlStruct, edit.version, kept);
  ova.root.set(
    'objects',
    kept.map(({ node }) => node),
  );
  return memberOf(Buffer.from(formatXmlValue(ova.root), 'utf8'));
}

/** A text as the first member of an archive. */
function memberOf(xml: Buffer): Buffer {
  if (xml.length > MAX_OVA_BYTES) {
    throw new BackupError('data_corrupt', `edit ova.xml: too large, size=${xml.length}`);
  }
  const member = Buffer.alloc(TAR_BLOCK_BYTES + paddedBytes(xml.length));
  writeHeader(member, 0, 'ova.xml', xml.length);
  xml.copy(member, TAR_BLOCK_BYTES);
  return member;
}

function isLeftOut(object: OvaObject, { disks }: Ova, edit: OvaEdit): boolean {
  const { className, id, record } = object;
  if (className === 'VDI') return !edit.disks.has(id) || !disks.some(({ vdi }) => vdi.id === id);
  if (className === 'VBD') {
    return !isRemovable(object) && !edit.disks.has(textOf(record.get('VDI')));
  }
  if (className === 'VIF') return edit.networks.get(textOf(record.get('network'))) === 'none';
  return className === 'network' && edit.networks.get(id) === 'none';
}

/** Networks and storage nothing refers to any more. */
function dropUnused(left: OvaObject[], gone: Set<OvaObject>): void {
  const used = new Set<string>();
  for (const { className, record } of left) {
    if (className === 'VDI') used.add(textOf(record.get('SR')));
    if (className === 'VIF') used.add(textOf(record.get('network')));
  }
  for (const object of left) {
    const isPlace = object.className === 'SR' || object.className === 'network';
    if (isPlace && !used.has(object.id)) gone.add(object);
  }
}

function eject(record: XmlStruct): void {
  record.set('empty', TRUE);
  record.set('VDI', NULL_REF);
}

/** References to what does not come along. */
function forget(record: XmlStruct, gone: ReadonlySet<string>): void {
  for (const [key, value] of record) {
    if (TEXT_KEYS.includes(key)) continue;
    if (typeof value === 'string' && gone.has(value)) record.set(key, NULL_REF);
    if (!Array.isArray(value)) continue;
    record.set(
      key,
      value.filter((item) => typeof item !== 'string' || !gone.has(item)),
    );
  }
}

function place({ className, id, record }: OvaObject, { networks }: OvaEdit): void {
  if (className !== 'network') return;
  const target = networks.get(id);
  if (target === undefined || target === 'none') {
    throw new BackupError('internal', `edit ova.xml: no place for network ${id}`);
  }
  record.set('name_label', target.nameLabel);
  record.set('bridge', target.bridge);
}

function editMachine(record: XmlStruct, { nameLabel, marks, identity }: OvaEdit): void {
  record.set('name_label', nameLabel);
  record.set('is_a_template', FALSE);
  record.set('power_state', 'Halted');
  if (record.has('ha_always_run')) record.set('ha_always_run', FALSE);
  if (record.has('ha_restart_priority')) record.set('ha_restart_priority', '');
  const otherConfig = otherConfigOf(record);
  otherConfig.delete('auto_poweron');
  for (const key of [...otherConfig.keys()]) {
    if (key.startsWith(MARK_PREFIX)) otherConfig.delete(key);
  }
  for (const [key, value] of Object.entries(marks)) otherConfig.set(key, value);
  if (identity === undefined) return;
  record.set('uuid', identity.vmUuid);
  if (identity.macSeed !== undefined) otherConfig.set('mac_seed', identity.macSeed);
  // '' stands for a guest that has none
  if (textOf(record.get('generation_id')) !== '') {
    record.set('generation_id', identity.generationId);
  }
}

function otherConfigOf(record: XmlStruct): XmlStruct {
  const found = record.get('other_config');
  if (found instanceof Map) return found;
  const made: XmlStruct = new Map();
  record.set('other_config', made);
  return made;
}

function lowerVersion(
  version: XmlStruct,
  { major, minor, productVersion }: { major: number; minor: number; productVersion: string },
  kept: readonly OvaObject[],
): void {
  version.set('xapi_major', retext(version.get('xapi_major'), String(major)));
  version.set('xapi_minor', retext(version.get('xapi_minor'), String(minor)));
  version.set('product_version', retext(version.get('product_version'), productVersion));
  // a wish for a disk format older storage drivers do not know
  for (const { className, record } of kept) {
    const smConfig = className === 'VDI' ? record.get('sm_config') : undefined;
    if (smConfig instanceof Map) smConfig.delete('image-format');
  }
}

/** Another text under the tag that was there. */
function retext(value: XmlValue | undefined, text: string): XmlValue {
  if (value === undefined || typeof value === 'string') return text;
  return Array.isArray(value) || value instanceof Map ? text : { tag: value.tag, text };
}
