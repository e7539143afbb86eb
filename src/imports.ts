/**
 * What xvault needs of a pool to bring machines and disks back: part of the port `Pool` (ports.ts).
 *
 * Three ways in: the archive's bytes through us (`openImport`), a link which the host reads itself (`importFromUrl`), one disk as
 * raw bytes into a new one (`createDisk`, `openDiskImport`, `attachDisk`). What makes them safe to give up or to die in is the mark:
 * `other_config['xvault:restore'] = <job id>` on the machine and its disks until the restore is done and checked. Whoever edits
 * ova.xml writes it there, so it is there from the moment the host makes the objects; `createDisk` writes it itself; a machine made
 * from a link has none, and is known by `import_task`, which xapi writes, until `markMachine`. Nothing without the job's mark or
 * task is ever removed through this port. Implemented in xapi/import*.ts; facts and their sources are in its heads.
 */
import type {
  Cancellable,
  PowerState,
  SrFacts,
  SrRef,
  VdiRef,
  VmFacts,
  VmRef,
  VmState,
} from './ports.ts';

/** In other_config of machines and disks of a restore that is not done: the id of its job. */
export const RESTORE_MARK = 'xvault:restore';

/** Why a pool does not take a machine in; `details.reason` of `restore_refused`. */
export type RestoreRefusal =
  /** No such SR, an ISO library, detached, or its driver makes no disks. */
  | 'sr_unsuitable'
  | 'sr_full'
  | 'network_missing'
  /** The mac_seed or a MAC is that of a machine that is there. */
  | 'mac_conflict'
  /** A machine of this uuid is there and would be replaced, or cannot be. */
  | 'machine_exists'
  /** The archive was written by a newer release than this pool. */
  | 'pool_too_old'
  /** What this pool does not have: a GPU, a vTPM, the role. */
  | 'unsupported'
  /** A rolling upgrade is under way. */
  | 'upgrading';

// ------------------------------------------------------------------------------------------------ where to

export interface ImportSr extends SrFacts {
  isDefault: boolean;
  /** Live members that hold it attached: any of them can import into it. [] means nobody can. */
  attachedHosts: { uuid: string; nameLabel: string; address: string }[];
  /** Physical; -1 where the SR does not say. On a thin SR more may be promised than is there. */
  freeBytes: number;
  /** It can take disks: no ISO library, its driver makes disks, somebody holds it attached. */
  takesDisks: boolean;
}

export interface ImportNetwork {
  uuid: string;
  nameLabel: string;
  bridge: string;
}

/** A machine or snapshot that is there, as far as an import may collide with it. */
export interface PresentMachine extends VmFacts {
  /** '' where it has none. A snapshot has the one of its machine. */
  macSeed: string;
  /** Of its NICs, in lower case. */
  macs: string[];
  /** Times it was restored with its identity; an archive must have a higher number to replace it. */
  version: number;
}

/** What a restore can choose from, and collide with, read at once. */
export interface ImportTargets {
  /** What the importer compares with `xapi_major`, `xapi_minor` of an archive: it must not be less. The lowest of all members. */
  version: { major: number; minor: number };
  /** As a person knows it: of the master. */
  productVersion: string;
  /** Importing is refused meanwhile. */
  upgrading: boolean;
  /** Every member reads archives compressed with zstd. */
  readsZstd: boolean;
  /** Every member reads .xxhash checksums (CH 8.1 and newer); older ones only SHA-1. */
  readsXxhash: boolean;
  /** All of them, the default first, then by name. */
  srs: ImportSr[];
  /** By name, then uuid. */
  networks: ImportNetwork[];
  /** Ordinary machines, templates of people's own making excluded, and snapshots. */
  machines: PresentMachine[];
}

// ------------------------------------------------------------------------------------------------ bytes in

/** What every import carries: how it shows up in the pool. */
export interface ImportLabel {
  /** The task's name, for people. */
  label: string;
  /** The task's description: begins with our prefix and names the job, so that a sweep finds it. */
  description: string;
  /** Told before a byte is sent, so that it can be remembered: by it a dead job's machine is found. */
  onTask?(task: string): Promise<void> | void;
}

/**
 * Bytes on their way into a pool, with their own XenAPI task.
 *
 * Exactly the promised number is to be written. Disposing before `settle` resolved closes the connection, cancels the
 * task and waits, in its own bounded time, until the host has removed what it made; a host that was done already is told to.
 * What a host leaves that does not answer in time carries the mark: look with `findImported`.
 */
export interface ImportStream<Result> extends AsyncDisposable {
  readonly host: { address: string; xapiVersion: string; productVersion: string };
  readonly task: string;
  /** Handed to the host. */
  readonly sentBytes: number;
  /** The task's own progress 0..1, as last seen. */
  readonly taskProgress: number;
  /**
   * Hands these bytes on; `bytes` is its owner's again afterwards. Resolves when they left for the host, so a slow host slows
   * the writer. What the host has no use for (behind the last block) is taken and dropped.
   * Errors: `restore_refused`, `target_failed` with XenAPI's error as soon as the task has failed; `target_failed` when
   * the connection broke or neither bytes nor the task move for the stall time. Cancel: the connection is closed.
   */
  write(bytes: Uint8Array, options: Cancellable): Promise<void>;
  /**
   * After the last byte: waits for the task and destroys it. Resolves only if the task says `success`.
   * Errors: as `write`; `internal` when bytes are missing.
   */
  settle(options: Cancellable): Promise<Result>;
}

export interface OpenImportInput extends ImportLabel {
  sr: SrRef;
  /** Of the whole archive as it will be written, plain or zstd. */
  sizeBytes: number;
  /** xapi's full restore: uuids, MACs and mac_seed of the archive are kept, and a halted machine of the uuid is replaced. */
  keepIdentity: boolean;
}

export interface ImportUrlInput extends ImportLabel {
  /** Gives access to an archive: never logged, never in an error. The host asks for it without our trust settings. */
  url: string;
  sr: SrRef;
  keepIdentity: boolean;
}

export interface CreateDiskInput {
  sr: SrRef;
  sizeBytes: number;
  nameLabel: string;
  nameDescription: string;
  /** The job's id, for the mark. */
  mark: string;
}

/** A disk that was just made, empty: it reads as zeros. */
export interface CreatedDisk {
  ref: VdiRef;
  uuid: string;
  /** At least what was asked; some drivers round up. */
  virtualSizeBytes: number;
}

export interface AttachDiskInput {
  vm: VmRef;
  vdi: VdiRef;
  userdevice: string;
  bootable: boolean;
  readOnly: boolean;
}

// ------------------------------------------------------------------------------------------------ what is there then

/** A machine as the check after an import looks at it. */
export interface ImportedMachine extends VmState {
  /** other_config.auto_poweron: the host would start it at its next boot. */
  autoPoweron: boolean;
  macSeed: string;
  /** The job that has not done with it; undefined when it has, or never had. */
  mark?: string;
}

/** What a restore left, or has not finished. */
export interface ImportRemains {
  kind: 'machine' | 'disk';
  ref: string;
  uuid: string;
  nameLabel: string;
  /** The job's id, from the mark; '' for a machine known by its task only. */
  mark: string;
  /** The task that made it, if xapi wrote it. */
  task?: string;
  /** Of a machine. */
  powerState?: PowerState;
  /** The host is still at it. */
  importing: boolean;
}

/** What the tools in the guest report. */
export interface GuestFacts {
  /** '' where they do not say. */
  toolsVersion: string;
  osName: string;
  addresses: string[];
}

// ------------------------------------------------------------------------------------------------ the calls

export interface PoolImports {
  importTargets(options: Cancellable): Promise<ImportTargets>;
  /**
   * Starts `/import` on a host that holds the SR, and returns when the host is ready to read.
   * Errors: `restore_refused` with the reason and what mends it, `target_failed`, `pool_*`.
   */
  openImport(input: OpenImportInput, options: Cancellable): Promise<ImportStream<VmRef[]>>;
  /**
   * Lets the host read the archive from a link, and waits. Cancel: the task is cancelled, which the host notices within
   * seconds, and what it made is removed by it. Errors: as `openImport`; `target_failed` with
   * details.fetch = true when the host could not read the link.
   */
  importFromUrl(
    input: ImportUrlInput,
    options: Cancellable & { onProgress?(progress: number): void },
  ): Promise<VmRef[]>;

  /** Makes an empty disk that carries the mark from its first moment on. Errors: `restore_refused`. */
  createDisk(input: CreateDiskInput, options: Cancellable): Promise<CreatedDisk>;
  /** Starts `/import_raw_vdi`: exactly `sizeBytes`, from the first byte of the disk on. */
  openDiskImport(
    input: ImportLabel & { vdi: VdiRef; sizeBytes: number },
    options: Cancellable,
  ): Promise<ImportStream<void>>;
  /** Adds a disk to a halted machine. */
  attachDisk(input: AttachDiskInput, options: Cancellable): Promise<void>;

  /** Errors: `not_found`. */
  describeMachine(vm: VmRef, options: Cancellable): Promise<ImportedMachine>;
  /** Writes the mark on a machine and its disks, or with undefined takes it away: the restore is done. Idempotent. */
  markMachine(input: { vm: VmRef; mark: string | undefined }, options: Cancellable): Promise<void>;
  /** The same for a disk that hangs on nothing. */
  markDisk(input: { vdi: VdiRef; mark: string | undefined }, options: Cancellable): Promise<void>;
  renameMachine(input: { vm: VmRef; nameLabel: string }, options: Cancellable): Promise<void>;
  /** Errors: `pool_refused` with XenAPI's reason: no memory, no host, HA's plan. */
  startVm(vm: VmRef, options: Cancellable): Promise<void>;
  /** Off at once, as if the plug was pulled; off already is success. */
  stopVm(vm: VmRef, options: Cancellable): Promise<void>;
  /** Waits until the tools in the guest have reported since its last start; undefined when they do not in time. */
  waitForGuest(
    input: { vm: VmRef; timeoutMs: number },
    options: Cancellable,
  ): Promise<GuestFacts | undefined>;

  /** Machines and disks with the mark of this job, or of any (`mark` undefined), or made by one of these tasks. */
  findImported(
    input: { mark?: string; tasks?: readonly string[] },
    options: Cancellable,
  ): Promise<ImportRemains[]>;
  /**
   * Removes what `findImported` gave: ends a task that still runs, stops the machine, destroys it with its disks and NICs;
   * never a CD's medium, never a snapshot, never a disk that another machine uses. Gone already is success.
   * Errors: `precondition_failed` when it does not carry the mark or task any more.
   */
  removeImported(found: ImportRemains, options: Cancellable): Promise<void>;
}
