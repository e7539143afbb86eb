/**
 * The machines of the simulated pool: what a real pool has, awkward ones included.
 *
 * Disks with real file systems come from the fixtures; large ones are generated, so nothing is stored. Storage names:
 * `nfs` (shared, thin), `lvm` (shared, thick), `local:0` … (one host each), `usb` (cannot snapshot).
 */
import { createGeneratedDisk, createSparseDisk, openFixtureDisk, type SimDisk } from './disk.ts';

export type StorageName = 'nfs' | 'lvm' | 'usb' | `local:${number}`;

export interface DiskSpec {
  name: string;
  storage: StorageName;
  open(): SimDisk;
  bootable?: boolean;
  sharable?: boolean;
  onBootReset?: boolean;
  raw?: boolean;
  qcow2?: boolean;
}

export interface MachineSpec {
  name: string;
  description?: string;
  power?: 'Halted' | 'Paused' | 'Running' | 'Suspended';
  disks: DiskSpec[];
  /** A CD drive: with the ISO of this name inserted, or empty (''). */
  cd?: string;
  tags?: string[];
  otherConfig?: Record<string, string>;
  blockedOperations?: Record<string, string>;
  haRestartPriority?: '' | 'restart' | 'best-effort';
  /** Number of network cards; 1 unless told. */
  networks?: number;
  uefi?: boolean;
  vtpm?: boolean;
  /** The guest has a VSS provider: it can be quiesced on a pool that still does that. */
  vss?: boolean;
  /** A USB device is passed through: a running machine then refuses snapshots. */
  usb?: boolean;
}

const GIB = 1_073_741_824;
const TIB = 1_099_511_627_776;

/** Each fixture is unpacked once a process; machines get clones. */
const pristine = new Map<string, SimDisk>();

function fixture(name: string): () => SimDisk {
  return () => {
    const disk = pristine.get(name) ?? openFixtureDisk(name);
    pristine.set(name, disk);
    return disk.clone();
  };
}

const ordinary: MachineSpec[] = [
  {
    name: 'web-01',
    description: 'Web server, ext4',
    power: 'Running',
    disks: [{ name: 'web-01 root', storage: 'nfs', open: fixture('linux-root'), bootable: true }],
    cd: '',
    tags: ['production', 'web'],
    otherConfig: { auto_poweron: 'true', 'XenCenter.CustomFields.owner': 'ops' },
    haRestartPriority: 'restart',
  },
  {
    name: 'mail-01',
    description: 'A disk whose size is no whole number of MiB',
    power: 'Running',
    disks: [
      { name: 'mail-01 root', storage: 'local:0', open: fixture('odd-size'), bootable: true },
    ],
    tags: ['production'],
  },
  {
    name: 'db-01',
    description: 'Three disks on two kinds of storage',
    power: 'Running',
    disks: [
      { name: 'db-01 root', storage: 'local:1', open: fixture('mail-store'), bootable: true },
      { name: 'db-01 data', storage: 'lvm', open: fixture('db-data') },
      { name: 'db-01 log', storage: 'nfs', open: fixture('db-log'), qcow2: true },
    ],
    tags: ['production', 'db'],
    networks: 2,
  },
  {
    name: 'win-01',
    description: 'Windows-like: partitions, NTFS, UEFI, vTPM',
    power: 'Running',
    disks: [{ name: 'win-01 C:', storage: 'nfs', open: fixture('windows'), bootable: true }],
    uefi: true,
    vtpm: true,
    cd: 'win-tools.iso',
    vss: true,
  },
  {
    name: 'archive-01',
    description: 'Two TiB with little in them',
    power: 'Running',
    disks: [
      {
        name: 'archive-01 disk',
        storage: 'nfs',
        open: () => createGeneratedDisk({ sizeBytes: 2 * TIB, seed: 7, density: 0.000_02 }),
        bootable: true,
      },
    ],
  },
];

const awkward: MachineSpec[] = [
  { name: 'pxe-kiosk', description: 'No disks at all', power: 'Running', disks: [] },
  {
    name: 'installer',
    description: 'Boots from an inserted ISO; its disk is still empty',
    disks: [{ name: 'installer disk', storage: 'nfs', open: () => createSparseDisk(8 * GIB) }],
    cd: 'debian-13.iso',
  },
  {
    name: 'usb-store',
    description: 'Its second disk lies on storage that cannot make snapshots',
    power: 'Running',
    disks: [
      { name: 'usb-store root', storage: 'nfs', open: fixture('db-log'), bootable: true },
      { name: 'usb stick', storage: 'usb', open: () => createSparseDisk(GIB) },
    ],
  },
  {
    name: 'laptop-image',
    description: 'Suspended: its memory is not part of a snapshot',
    power: 'Suspended',
    disks: [{ name: 'laptop disk', storage: 'lvm', open: fixture('db-data'), bootable: true }],
  },
  {
    name: 'büro/плюс 🗄 <"&">',
    description: 'Line one\nline two\twith a tab',
    disks: [{ name: 'диск №1', storage: 'nfs', open: () => createSparseDisk(4 * 65_536 + 512) }],
    tags: ['été'],
  },
  {
    name: '',
    description: 'A machine without a name',
    disks: [{ name: '', storage: 'nfs', open: fixture('db-log') }],
  },
  {
    name: 'twin',
    description: 'One of two with the same name',
    disks: [{ name: 'twin disk', storage: 'nfs', open: fixture('db-log') }],
  },
  {
    name: 'twin',
    description: 'The other one',
    disks: [{ name: 'twin disk', storage: 'local:0', open: fixture('db-log') }],
  },
];

/** The machines a simulated pool has unless told otherwise. */
export const DEFAULT_MACHINES: readonly MachineSpec[] = [...ordinary, ...awkward];
