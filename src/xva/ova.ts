/**
 * ova.xml: which machine an archive holds, and which disks follow it.
 *
 * One struct {version, objects[]}; an object is {class, id, snapshot}, where snapshot is the XenAPI
 * record with every reference replaced by the id of another object or `OpaqueRef:NULL`. The text
 * holds secrets (TPM contents, UEFI variables, cloud-init data): errors name places, never
 * contents. Source: xapi `export.ml`, `importexport.ml`.
 */
import { BackupError } from '../errors.ts';
import { compareDevices } from './archive-ids.ts';
import { parseXmlValue, type XmlStruct, type XmlValue } from './xml-value.ts';

export interface OvaObject {
  className: string;
  id: string;
  /** The whole {class, id, snapshot}, with whatever else the writer put there. */
  node: XmlStruct;
  /** node.snapshot. */
  record: XmlStruct;
}

export interface Ova {
  root: XmlStruct;
  objects: OvaObject[];
  machine: OvaObject;
  /** In archive order. */
  disks: OvaDisk[];
}

/** A disk whose blocks follow in the archive. */
export interface OvaDisk {
  vdi: OvaObject;
  /** The drive that names it; of several the one with the lowest device. */
  vbd: OvaObject;
  virtualSizeBytes: number;
}

/**
 * Ids hosts and other writers use. Short enough for a member name with block number and suffix (100
 * bytes), and of a form no other value has, so that references can be told from text.
 */
export const REF_PATTERN = /^(?:Opaque)?Ref:[0-9A-Za-z-]{1,48}$/;
const VDI_UUID_PATTERN = /^[0-9A-Za-z_.-]{1,40}$/;

/** Block numbers have eight digits and must sort as text. */
const MAX_VIRTUAL_SIZE_BYTES = 100_000_000 * 1_048_576;

/** All disks together: the index holds a bit for each of their blocks, in memory. */
const MAX_MACHINE_BYTES = 512 * 1024 * 1024 * 1_048_576;

/** Reads ova.xml. Errors: `data_corrupt`. */
export function parseOva(bytes: Uint8Array): Ova {
  const root = asStruct(parseText(bytes), 'root');
  const list = root.get('objects');
  if (!Array.isArray(list)) throw corrupt('find objects');
  asStruct(root.get('version'), 'version');
  const objects = list.map(parseObject);
  const byId = new Map(objects.map((object) => [object.id, object]));
  if (byId.size !== objects.length) throw corrupt('find one object per id');
  const machines = objects.filter((object) => object.className === 'VM');
  const machine = machines[0];
  if (machine === undefined || machines.length > 1) {
    throw corrupt(`find exactly one VM, found=${machines.length}`);
  }
  const disks = findDisks(objects, byId);
  if (disks.reduce((sum, disk) => sum + disk.virtualSizeBytes, 0) > MAX_MACHINE_BYTES) {
    throw corrupt('find disks of 512 TiB at most');
  }
  return { root, objects, machine, disks };
}

/** Text of a string or of any scalar; '' for what is absent or composed. */
export function textOf(value: XmlValue | undefined): string {
  if (typeof value === 'string') return value;
  return value === undefined || Array.isArray(value) || value instanceof Map ? '' : value.text;
}

function parseText(bytes: Uint8Array): XmlValue {
  try {
    return parseXmlValue(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const why = error instanceof TypeError ? 'is no UTF-8' : (error as Error).message;
    throw new BackupError('data_corrupt', `read ova.xml: it ${why}`, { cause: error });
  }
}

function parseObject(value: XmlValue): OvaObject {
  const node = asStruct(value, 'object');
  const className = textOf(node.get('class'));
  const id = textOf(node.get('id'));
  if (className === '' || !REF_PATTERN.test(id)) throw corrupt('find class and id of all objects');
  return { className, id, node, record: asStruct(node.get('snapshot'), `${className}.snapshot`) };
}

/**
 * The disks a host streams: VDIs of drives that are no CD, on no ISO storage, each once, ordered by
 * id as text. A drive whose VDI is not in the archive is skipped, as importers do.
 */
function findDisks(objects: OvaObject[], byId: Map<string, OvaObject>): OvaDisk[] {
  const disks = new Map<string, OvaDisk>();
  for (const vbd of objects) {
    if (vbd.className !== 'VBD' || textOf(vbd.record.get('type')) === 'CD') continue;
    const vdi = byId.get(textOf(vbd.record.get('VDI')));
    if (vdi?.className !== 'VDI') continue;
    const known = disks.get(vdi.id);
    if (known !== undefined) {
      if (compareDevices(deviceOf(vbd), deviceOf(known.vbd)) < 0) known.vbd = vbd;
      continue;
    }
    const sr = byId.get(textOf(vdi.record.get('SR')));
    if (sr?.className !== 'SR') throw corrupt(`find storage of disk, source_id=${vdi.id}`);
    if (textOf(sr.record.get('content_type')) === 'iso') continue;
    disks.set(vdi.id, { vdi, vbd, virtualSizeBytes: virtualSize(vdi) });
  }
  return [...disks.values()].sort((a, b) => (a.vdi.id < b.vdi.id ? -1 : 1));
}

function deviceOf(vbd: OvaObject): string {
  return textOf(vbd.record.get('userdevice'));
}

function virtualSize(vdi: OvaObject): number {
  const text = textOf(vdi.record.get('virtual_size'));
  const size = /^\d{1,16}$/.test(text) ? Number(text) : 0;
  if (size < 1 || size > MAX_VIRTUAL_SIZE_BYTES) {
    throw corrupt(`find a virtual size, source_id=${vdi.id}`);
  }
  if (!VDI_UUID_PATTERN.test(textOf(vdi.record.get('uuid')))) {
    throw corrupt(`find uuid of disk, source_id=${vdi.id}`);
  }
  return size;
}

function asStruct(value: XmlValue | undefined, what: string): XmlStruct {
  if (!(value instanceof Map)) throw corrupt(`find struct ${what}`);
  return value;
}

function corrupt(what: string): BackupError {
  return new BackupError('data_corrupt', `read ova.xml: ${what}`);
}
