/**
 * What a pool tells about itself, its machines, disks and storage, as plain data of the ports (ports.ts).
 *
 * Sizes are bytes; an adapter fills these from XenAPI's records, the engine only reads them.
 */

export type VmRef = string & { readonly __ref: 'VM' };
export type VdiRef = string & { readonly __ref: 'VDI' };
export type SrRef = string & { readonly __ref: 'SR' };

export interface HostFacts {
  uuid: string;
  nameLabel: string;
  address: string;
  enabled: boolean;
  live: boolean;
  productBrand: string;
  productVersion: string;
  xapiVersion: string;
}

export interface PoolFacts {
  uuid: string;
  nameLabel: string;
  masterAddress: string;
  haEnabled: boolean;
  /** What the pool as a whole is at: ha_enable, ha_disable, designate_new_master … */
  currentOperations?: string[];
  /** A rolling upgrade is under way: snapshots are refused meanwhile. */
  upgrading?: boolean;
  hosts: HostFacts[];
  /** Found by looking at the API the master speaks, never assumed from a product name. */
  features: {
    /** `VM.snapshot` takes the list of disks to leave out (xapi >= 21.4). */
    ignoreVdis: boolean;
    zstdExport: boolean;
    cbt: boolean;
    /** `VM.snapshot_with_quiesce` is there (removed in CH 8.1). */
    quiesce: boolean;
  };
  /** How the pool's certificate is trusted: shown in /readyz and the log. */
  trust: 'system' | 'ca' | 'fingerprint' | 'insecure';
}

export type VmKind = 'vm' | 'template' | 'snapshot' | 'control_domain';
export type PowerState = 'Halted' | 'Paused' | 'Running' | 'Suspended';

export interface VmFacts {
  ref: VmRef;
  uuid: string;
  nameLabel: string;
  nameDescription: string;
  kind: VmKind;
  powerState: PowerState;
  tags: string[];
}

export interface SrFacts {
  ref: SrRef;
  uuid: string;
  nameLabel: string;
  type: string;
  shared: boolean;
  /** -1 where the SR does not say. */
  physicalSizeBytes: number;
  physicalUtilisationBytes: number;
  virtualAllocationBytes: number;
  /** The SR can make snapshots at all (capability VDI_SNAPSHOT). */
  canSnapshot: boolean;
  /** A snapshot of an attached disk takes the disk's full virtual size (LVM SRs). */
  thick: boolean;
}

export interface DiskFacts {
  vdiRef: VdiRef;
  vdiUuid: string;
  nameLabel: string;
  userdevice: string;
  virtualSizeBytes: number;
  physicalUtilisationBytes: number;
  bootable: boolean;
  readOnly: boolean;
  sharable: boolean;
  /** VDI.on_boot = reset: the pool refuses a snapshot of it. */
  resetsOnBoot: boolean;
  /** What the storage is at with it: mirror, copy, resize … */
  currentOperations?: string[];
  /** VDI.sm_config.type = raw: the SR's driver refuses a snapshot of it. */
  raw: boolean;
  sr: SrFacts;
  /** Ancestors of this disk on its SR (`sm_config.vhd-parent` followed); undefined where the SR does not tell. */
  chainDepth?: number;
  /** An ancestor that only this disk uses, not coalesced yet. */
  uncoalesced: boolean;
}

/** All that pre-flight looks at. */
export interface VmState extends VmFacts {
  allowedOperations: string[];
  currentOperations: string[];
  blockedOperations: Record<string, string>;
  disks: DiskFacts[];
  /** CD and floppy drives, for the report; never in the archive, never touched. */
  removables: { userdevice: string; type: 'CD' | 'Floppy'; vdiUuid?: string; nameLabel?: string }[];
  hasVusbs: boolean;
  hasSuspendImage: boolean;
  haRestartPriority: string;
  networks: { device: string; mac: string; networkUuid: string; networkName: string }[];
}

export interface SnapshotFacts {
  ref: VmRef;
  uuid: string;
  nameLabel: string;
  /** Only disks made by the snapshot (type Disk, is_a_snapshot): the ones removal may destroy. */
  disks: {
    vdiRef: VdiRef;
    vdiUuid: string;
    snapshotOfUuid?: string;
    userdevice: string;
    virtualSizeBytes: number;
  }[];
}

/** Something on a pool that carries our prefix, whether its job lives or not. */
export interface PoolLeftover {
  /**
   * `snapshot_disk`: a disk of a snapshot whose machine record is gone. `restored_machine`, `restored_disk`: what came in
   * by a restore that is not done (imports.ts).
   */
  kind: 'snapshot' | 'snapshot_disk' | 'task' | 'restored_machine' | 'restored_disk';
  ref: string;
  uuid: string;
  nameLabel: string;
  /**
   * The text that begins with the prefix: a snapshot's name, a task's description; prefix and mark of what was restored;
   * '' for a snapshot's disk.
   */
  label: string;
  /** The entries of other_config whose keys begin with the prefix. */
  marker: Readonly<Record<string, string>>;
  /** By the pool's clock; absent where the pool does not say. */
  createdAt?: number;
  /** Of a restored machine: it is not halted. */
  running?: boolean;
}
