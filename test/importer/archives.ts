/**
 * Hand-made archives for the importer's tests: a small writer, right by default and wrong on request.
 *
 * It shares nothing with the importer nor with our codec, so that what it writes is the description's format once
 * more. Records hold the mandatory fields only.
 */

import { createHash } from 'node:crypto';
import xxhash from 'xxhash-wasm';

export const MIB = 1_048_576;

export interface Piece {
  name: string;
  content: Uint8Array | string;
  /** Overrides of header bytes, by offset; the checksum is made afterwards. */
  header?: Record<number, string>;
  /** Written as they are, instead of the checksum that fits. */
  rawChecksum?: string;
}

/** A tar of these members, with its two end blocks unless `end` says otherwise. */
export function tar(pieces: Piece[], end: Uint8Array = Buffer.alloc(1024)): Buffer {
  const parts = pieces.flatMap((piece) => {
    const content = Buffer.from(piece.content as Uint8Array);
    return [header(piece, content.length), content, Buffer.alloc(-content.length & 511)];
  });
  return Buffer.concat([...parts, end]);
}

function header(piece: Piece, sizeBytes: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(piece.name, 0);
  block.write('0000400\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${sizeBytes.toString(8).padStart(11, '0')}\0`, 124);
  block.write(`${''.padStart(11, '0')}\0`, 136);
  for (const [at, text] of Object.entries(piece.header ?? {}))
    block.write(text, Number(at), 'latin1');
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(piece.rawChecksum ?? `${sum.toString(8).padStart(7, '0')}\0`, 148);
  return block;
}

const { h64Raw } = await xxhash();

/** A chunk and its checksum member, by XXH64 or SHA-1. */
export function chunk(
  id: string,
  number: number,
  content: Uint8Array,
  kind: 'xxhash' | 'checksum' = 'xxhash',
): Piece[] {
  const name = `${id}/${String(number).padStart(8, '0')}`;
  const sum =
    kind === 'xxhash'
      ? h64Raw(content).toString(16).padStart(16, '0').toUpperCase()
      : createHash('sha1').update(content).digest('hex');
  return [
    { name, content },
    { name: `${name}.${kind}`, content: sum },
  ];
}

/** A chunk's content that tells its place. */
export function block(seed: string, sizeBytes = MIB): Buffer {
  return createHash('shake256', { outputLength: sizeBytes }).update(seed).digest();
}

// ------------------------------------------------------------------------------------------------ ova.xml

type Field = string | number | boolean | Field[] | { [name: string]: Field };
export type Fields = { [name: string]: Field | undefined };
export interface Item {
  class: string;
  id: string;
  snapshot: Fields;
}

const NULL_REF = 'OpaqueRef:NULL';
const QOS = { qos_algorithm_type: '', qos_algorithm_params: {}, qos_supported_algorithms: [] };
const STATUS = { status_code: 0, status_detail: '', runtime_properties: {} };

export function vm(fields: Fields = {}, id = 'Ref:000'): Item {
  const texts = 'PV_bootloader PV_kernel PV_ramdisk PV_args PV_bootloader_args PV_legacy_args';
  const numbers =
    'user_version memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min VCPUs_max ' +
    'VCPUs_at_startup domid';
  const maps = 'VCPUs_params HVM_boot_params platform other_config';
  const refs = 'resident_on affinity metrics guest_metrics';
  const snapshot: Fields = {
    uuid: 'aaaaaaaa-0000-4000-8000-000000000001',
    name_label: 'web <1> & "two"',
    is_a_template: false,
    is_a_snapshot: false,
    power_state: 'Halted',
    is_control_domain: false,
    actions_after_shutdown: 'destroy',
    actions_after_reboot: 'restart',
    actions_after_crash: 'restart',
    HVM_boot_policy: 'BIOS order',
    PCI_bus: '',
    domarch: '',
    recommendations: '',
  };
  for (const name of texts.split(' ')) snapshot[name] = '';
  for (const name of numbers.split(' ')) snapshot[name] = 1;
  for (const name of maps.split(' ')) snapshot[name] = {};
  for (const name of refs.split(' ')) snapshot[name] = NULL_REF;
  return { class: 'VM', id, snapshot: { ...snapshot, ...fields } };
}

/** The three objects of one disk: its storage, itself, its drive. */
export function disk(
  id: string,
  sizeBytes: number,
  fields: { vbd?: Fields; vdi?: Fields; sr?: Fields } = {},
): Item[] {
  const number = id.replace(/\D/g, '');
  const uuid = (kind: string) => `${kind.repeat(8)}-0000-4000-8000-${number.padStart(12, '0')}`;
  const sr = {
    uuid: uuid('5'),
    virtual_allocation: 0,
    physical_utilisation: 0,
    physical_size: -1,
    type: 'ext',
    content_type: 'user',
    shared: false,
    other_config: {},
  };
  const vdi = {
    uuid: uuid('d'),
    SR: `SR:${number}`,
    name_label: `disk ${number}`,
    virtual_size: sizeBytes,
    physical_utilisation: 0,
    type: 'user',
    sharable: false,
    read_only: false,
    other_config: {},
    storage_lock: false,
    managed: true,
    missing: false,
    parent: NULL_REF,
  };
  const vbd = {
    uuid: uuid('b'),
    VM: 'Ref:000',
    VDI: id,
    userdevice: String(Number(number)),
    bootable: true,
    mode: 'RW',
    type: 'Disk',
    storage_lock: false,
    empty: false,
    other_config: {},
    ...STATUS,
    ...QOS,
  };
  return [
    { class: 'SR', id: `SR:${number}`, snapshot: { ...sr, ...fields.sr } },
    { class: 'VDI', id, snapshot: { ...vdi, ...fields.vdi } },
    { class: 'VBD', id: `VBD:${number}`, snapshot: { ...vbd, ...fields.vbd } },
  ];
}

/** A network interface and its network. */
export function nic(fields: Fields = {}): Item[] {
  const vif = {
    uuid: 'ffffffff-0000-4000-8000-000000000000',
    device: '0',
    network: 'NET:0',
    VM: 'Ref:000',
    MAC: '02:00:00:00:00:01',
    MTU: 1500,
    other_config: {},
    ...STATUS,
    ...QOS,
    ...fields,
  };
  const network = { uuid: 'eeeeeeee-0000-4000-8000-0', name_label: 'LAN', other_config: {} };
  return [
    { class: 'network', id: 'NET:0', snapshot: network },
    { class: 'VIF', id: 'VIF:0', snapshot: vif },
  ];
}

const VERSION: Fields = {
  hostname: 'localhost',
  date: '2026-01-01',
  product_version: '8.2.1',
  product_brand: 'XCP-ng',
  build_number: 'x',
  xapi_major: 1,
  xapi_minor: 20,
  export_vsn: 2,
};

/** The text of an `ova.xml` with these objects. */
export function ova(items: Item[], version: Fields = {}): string {
  const objects = items.map(({ class: kind, id, snapshot }) => ({ class: kind, id, snapshot }));
  const root = { version: { ...VERSION, ...version }, objects };
  return xml(root as unknown as Field);
}

/** The first member. */
export function ovaMember(items: Item[], version: Fields = {}): Piece {
  return { name: 'ova.xml', content: ova(items, version) };
}

function xml(value: Field): string {
  if (typeof value === 'boolean') return `<value><boolean>${value ? 1 : 0}</boolean></value>`;
  if (Array.isArray(value)) {
    return `<value><array><data>${value.map(xml).join('')}</data></array></value>`;
  }
  if (typeof value !== 'object') return `<value>${escapeXml(String(value))}</value>`;
  const members = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .map(
      ([name, field]) => `<member><name>${escapeXml(name)}</name>${xml(field as Field)}</member>`,
    );
  return `<value><struct>${members.join('')}</struct></value>`;
}

function escapeXml(text: string): string {
  const entities: Record<string, string> = {
    '<': '&lt;',
    '>': '&gt;',
    '&': '&amp;',
    '"': '&quot;',
  };
  return text.replace(/[<>&"]/g, (found) => entities[found] as string);
}
