/**
 * Archives as hosts write them, and a reader that follows the importer, both kept apart from
 * `src/xva/`.
 *
 * Writer and reader share no code with the codec, so that a misreading of the format is not on both
 * sides of a test. Written from the description of the format in docs/xva.md; slow and small on
 * purpose.
 */
import { createHash } from 'node:crypto';
import xxhash from 'xxhash-wasm';

export const MIB = 1_048_576;
const { h64ToString, h64Raw } = await xxhash();

export interface ForeignDisk {
  /** As the host numbers it, such as Ref:12. */
  id: string;
  uuid: string;
  name: string;
  /** userdevice of its drive; its place among the disks unless given. */
  device?: string;
  sizeBytes: number;
  /** Content by position; absent ones are zeros. */
  blocks: Map<number, Buffer>;
}

export interface ForeignOptions {
  checksum?: 'xxhash' | 'sha1';
  header?: 'v7' | 'v7-old' | 'ustar';
  /** Hosts from 26.0 on send allocated blocks without looking for zeros. */
  sendZeros?: boolean;
  /** An empty keep-alive block is written before the blocks at these positions. */
  emptyBefore?: ReadonlySet<number>;
  /** Replaces ova.xml. */
  ova?: string;
}

/** One whole export of the given disks, which must be in the order of their ids as text. */
export function writeForeignArchive(disks: ForeignDisk[], options: ForeignOptions = {}): Buffer {
  const pieces = [member('ova.xml', Buffer.from(options.ova ?? foreignOva(disks)), options)];
  for (const disk of disks) pieces.push(...diskMembers(disk, options));
  pieces.push(Buffer.alloc(1024));
  return Buffer.concat(pieces);
}

/** Blocks with their checksums as one disk's stream, numbers shifted by the empty blocks. */
export function diskMembers(disk: ForeignDisk, options: ForeignOptions = {}): Buffer[] {
  const last = Math.ceil(disk.sizeBytes / MIB) - 1;
  const positions = new Set([0, ...disk.blocks.keys(), last]);
  if (options.sendZeros) for (let i = 0; i <= last; i++) positions.add(i);
  const pieces: Buffer[] = [];
  let shift = 0;
  for (const position of [...positions].sort((a, b) => a - b)) {
    if (position > 0 && position < last && options.emptyBefore?.has(position)) {
      pieces.push(...block(disk.id, position + shift++, Buffer.alloc(0), options));
    }
    pieces.push(...block(disk.id, position + shift, contentAt(disk, position), options));
  }
  return pieces;
}

/** A disk's block as it must read back: its content or zeros. */
export function contentAt(disk: ForeignDisk, position: number): Buffer {
  const length = Math.min(MIB, disk.sizeBytes - position * MIB);
  return disk.blocks.get(position) ?? Buffer.alloc(length);
}

/** A block and its checksum member. */
export function block(
  id: string,
  number: number,
  content: Buffer,
  options: ForeignOptions = {},
): Buffer[] {
  const name = `${id}/${String(number).padStart(8, '0')}`;
  const sum =
    options.checksum === 'sha1'
      ? createHash('sha1').update(content).digest('hex')
      : h64Raw(content).toString(16).toUpperCase().padStart(16, '0');
  const suffix = options.checksum === 'sha1' ? 'checksum' : 'xxhash';
  return [member(name, content, options), member(`${name}.${suffix}`, Buffer.from(sum), options)];
}

/** Header, content, padding. */
export function member(name: string, content: Buffer, options: ForeignOptions = {}): Buffer {
  const head = Buffer.alloc(512);
  head.write(name, 0);
  head.write(options.header === 'v7-old' ? '0000000' : '0000400', 100);
  head.write('0000000', 108);
  head.write('0000000', 116);
  head.write(`0000000000${content.length.toString(8)}`.slice(-11), 124);
  head.write('00000000000', 136);
  if (options.header === 'ustar') {
    head.write('000644 ', 100);
    head.write('0', 156);
    head.write('ustar\x0000', 257);
    head.write('15000000000', 136);
  }
  setHeaderSum(head, 0);
  return Buffer.concat([head, content, Buffer.alloc(-content.length & 511)]);
}

/** Makes the header at `at` consistent again after a change. */
export function setHeaderSum(bytes: Buffer, at: number): void {
  bytes.fill(' ', at + 148, at + 156);
  let sum = 0;
  for (let i = at; i < at + 512; i++) sum += bytes[i] as number;
  bytes.write(`${`000000${sum.toString(8)}`.slice(-7)}\0`, at + 148);
}

/** ova.xml of a snapshot as a host exports it: a template by flag, named after the snapshot. */
export function foreignOva(disks: ForeignDisk[]): string {
  const vbds = disks.map((disk, i) => ({
    disk,
    id: `Ref:${900 + i}`,
    device: disk.device ?? String(i),
  }));
  const objects = [
    object('host', 'Ref:800', { uuid: 'host-1', resident_VMs: [ref('a'), ref('b')] }),
    object('VM', 'Ref:801', {
      uuid: 'snapshot-uuid',
      name_label: 'xvault:job-1',
      name_description: '',
      is_a_template: true,
      is_a_snapshot: false,
      snapshot_of: 'OpaqueRef:NULL',
      power_state: 'Halted',
      ha_always_run: true,
      ha_restart_priority: 'restart',
      metrics: 'Ref:802',
      affinity: 'Ref:800',
      resident_on: 'OpaqueRef:NULL',
      parent: ref('c'),
      VBDs: [...vbds.map(({ id }) => id), 'Ref:899'],
      allowed_operations: ['export', 'clone'],
      current_operations: { [ref('task')]: 'export' },
      other_config: { 'xvault:job': 'job-1', auto_poweron: 'true', mac_seed: 'seed' },
      memory_static_max: '4294967296',
    }),
    object('VM_metrics', 'Ref:802', { uuid: 'm', memory_actual: '1' }),
    ...vbds.map(({ disk, id, device }) =>
      object('VBD', id, {
        uuid: `vbd-${disk.uuid}`,
        VM: 'Ref:801',
        VDI: disk.id,
        userdevice: device,
        type: 'Disk',
        currently_attached: true,
      }),
    ),
    object('VBD', 'Ref:899', {
      uuid: 'vbd-cd',
      VM: 'Ref:801',
      VDI: 'Ref:898',
      userdevice: '3',
      type: 'CD',
    }),
    object('VDI', 'Ref:898', { uuid: 'iso', SR: 'Ref:897', virtual_size: '1000', location: 'x' }),
    object('SR', 'Ref:897', { uuid: 'sr-iso', content_type: 'iso', VDIs: ['Ref:898'] }),
    ...disks.map((disk) =>
      object('VDI', disk.id, {
        uuid: disk.uuid,
        name_label: disk.name,
        SR: 'Ref:896',
        virtual_size: String(disk.sizeBytes),
        physical_utilisation: '12345',
        location: disk.uuid,
        snapshot_of: ref('d'),
        is_a_snapshot: true,
        sm_config: { 'vhd-parent': 'p', 'image-format': 'vhd', 'host_OpaqueRef:9': 'RO' },
        VBDs: vbds.filter((vbd) => vbd.disk === disk).map(({ id }) => id),
      }),
    ),
    object('SR', 'Ref:896', {
      uuid: 'sr-disks',
      content_type: 'user',
      physical_size: '99',
      VDIs: [...disks.map((disk) => disk.id), ref('e')],
    }),
  ];
  const version = { hostname: 'localhost', date: '2026-01-01', export_vsn: '2', xapi_major: '1' };
  return value({ version, objects });
}

function ref(text: string): string {
  return `OpaqueRef:${h64ToString(text)}`;
}

function object(className: string, id: string, snapshot: Record<string, unknown>) {
  return { class: className, id, snapshot };
}

/** An XML-RPC value the way xapi prints it. */
export function value(of: unknown): string {
  if (typeof of === 'boolean') return `<value><boolean>${of ? 1 : 0}</boolean></value>`;
  if (Array.isArray(of)) {
    return `<value><array><data>${of.map(value).join('')}</data></array></value>`;
  }
  if (typeof of === 'object' && of !== null) {
    const members = Object.entries(of).map(
      ([name, item]) => `<member><name>${escapeXml(name)}</name>${value(item)}</member>`,
    );
    return `<value><struct>${members.join('')}</struct></value>`;
  }
  return `<value>${escapeXml(String(of))}</value>`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/**
 * What an importer makes of an archive's disks: content by position, zeros left out. Throws on
 * anything wrong.
 */
export function importDisks(
  archive: Buffer,
  disks: readonly { id: string; sizeBytes: number }[],
): Map<number, Buffer>[] {
  let at = 0;
  let unit = -1;
  const next = () => {
    const head = archive.subarray(at, at + 512);
    const copy = Buffer.from(head);
    if (head.length < 512) throw new Error('short');
    setHeaderSum(copy, 0);
    if (Number.parseInt(copy.toString('latin1', 148, 155), 8) !== octal(head, 148, 8)) {
      throw new Error('header');
    }
    const length = octal(head, 124, 12);
    const content = archive.subarray(at + 512, at + 512 + length);
    if (content.length < length) throw new Error('short');
    at += 512 + Math.ceil(length / 512) * 512;
    return { name: head.toString('latin1', 0, 100).replace(/\0.*/s, ''), content };
  };
  if (next().name !== 'ova.xml') throw new Error('no ova.xml');
  const read = disks.map(({ id, sizeBytes }) => {
    const blocks = new Map<number, Buffer>();
    let offset = 0;
    let last = -1;
    while (offset < sizeBytes) {
      const { name, content } = next();
      if (unit < 0) unit = content.length;
      const number = Number(name.slice(id.length + 1));
      if (!name.startsWith(`${id}/`) || !(number > last)) throw new Error(`name ${name}`);
      offset += (number - last - 1) * unit;
      if (content.some((byte) => byte !== 0)) blocks.set(offset / MIB, content);
      offset += content.length;
      last = number;
      const sum = next();
      const sha1 = createHash('sha1').update(content).digest('hex');
      const xxh = h64Raw(content).toString(16).toUpperCase().padStart(16, '0');
      if (
        sum.name === `${name}.xxhash` ? String(sum.content) !== xxh : String(sum.content) !== sha1
      ) {
        throw new Error(`checksum ${sum.name}`);
      }
    }
    if (offset !== sizeBytes) throw new Error('coverage');
    return blocks;
  });
  const end = archive.subarray(at);
  if (end.length !== 1024 || end.some((byte) => byte !== 0)) throw new Error('end');
  return read;
}

function octal(head: Buffer, at: number, length: number): number {
  return Number.parseInt(head.toString('latin1', at, at + length).trim(), 8);
}
