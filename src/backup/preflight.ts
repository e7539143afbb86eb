/**
 * Looks before anything is touched: can this machine be snapshotted and exported, with which disks, at what risk?
 *
 * Pure: facts in, verdict out. Each refusal names the disk or SR, the numbers, and the mend. Sources of the rules:
 * docs/xenapi.md, "Refusals" and "Space".
 */
import { BackupError } from '../errors.ts';
import type { DiskFacts, PoolFacts, SrFacts, VmState } from '../ports.ts';

/** XenAPI's SM driver refuses the 30th snapshot in a chain (SR_BACKEND_FAILURE_109); two are left for others. */
const CHAIN_LIMIT = 28;
/** XenAPI drops a task, and with it the export, after a day. */
const EXPORT_LIMIT_SECONDS = 24 * 3600;
/** Hosts give 50–270 MB/s; what the last backup of the machine reached is used instead where it is known. */
const ASSUMED_RATE_BYTES_PER_SECOND = 100 * 1024 * 1024;
/** VHD metadata and bitmaps of one disk on an LVM SR: 2 MiB of bitmap per 4 GiB, rounded up. */
const THICK_OVERHEAD = 1.002;
/** A thin SR this full may stop its machines while the snapshot lives. */
const THIN_FULL_RATIO = 0.97;

export interface PreflightInput {
  vm: VmState;
  pool: PoolFacts;
  excludeDisks: readonly string[];
  /** Bytes per second of this machine's last export. */
  lastRate?: number | undefined;
}

export interface Excluded {
  disk: DiskFacts;
  reason: string;
}

export interface Preflight {
  disks: DiskFacts[];
  excluded: Excluded[];
  warnings: string[];
  totalBytes: number;
  estimatedBytes: number;
}

/** The disks a backup will hold, or the error that says why there can be none. */
export function preflight(input: PreflightInput): Preflight {
  const { vm } = input;
  checkKind(vm);
  checkMachine(vm);
  const excluded = chooseExcluded(input);
  const out = new Set(excluded.map(({ disk }) => disk.vdiRef));
  const disks = vm.disks.filter((disk) => !out.has(disk.vdiRef));
  for (const disk of disks) checkDisk(disk);
  const totalBytes = sum(disks.map((disk) => disk.virtualSizeBytes));
  const estimatedBytes = sum(disks.map(estimateDisk));
  const rate = input.lastRate ?? ASSUMED_RATE_BYTES_PER_SECOND;
  checkTime(sum(disks.map(leastOfDisk)), rate);
  const warnings = [...checkSpace(disks), ...remarks(vm, disks)];
  if (estimatedBytes / rate > EXPORT_LIMIT_SECONDS) {
    warnings.push(
      'the export may take more than 24 hours, where XenAPI ends it, if the disks are full',
    );
  }
  return { disks, excluded, warnings, totalBytes, estimatedBytes };
}

/** Refuses what is no ordinary machine; also asked before a job is made. */
export function checkKind(vm: Pick<VmState, 'kind' | 'uuid' | 'nameLabel'>): void {
  if (vm.kind === 'vm') return;
  const what = {
    template: 'a template',
    snapshot: 'a snapshot',
    control_domain: 'a control domain',
  };
  throw new BackupError(
    'vm_not_supported',
    `back up machine: ${vm.uuid} is ${what[vm.kind]}, only ordinary machines can be backed up`,
    { details: { vm: vm.uuid, name: vm.nameLabel, kind: vm.kind } },
  );
}

/** What stands in the way of any snapshot of this machine, whatever its disks. */
function checkMachine(vm: VmState): void {
  const blocked = vm.blockedOperations.snapshot;
  if (blocked !== undefined) {
    throw new BackupError(
      'snapshot_refused',
      `snapshot machine: snapshots of it are blocked (blocked_operations: ${blocked}); unblock them`,
      { details: { vm: vm.uuid, reason: blocked } },
    );
  }
  if (vm.hasVusbs && vm.powerState === 'Running') {
    throw new BackupError(
      'snapshot_refused',
      'snapshot machine: a USB device is passed through to it; detach the device or shut the machine down',
      { details: { vm: vm.uuid } },
    );
  }
  // advisory, so believed only together with a reason: XenAPI would wait two hours for the other operation
  if (vm.currentOperations.length > 0 && !vm.allowedOperations.includes('snapshot')) {
    const busy = vm.currentOperations.join(', ');
    throw new BackupError(
      'snapshot_refused',
      `snapshot machine: it is busy (${busy}); try again later`,
      {
        details: { vm: vm.uuid, current_operations: vm.currentOperations },
        retry: 'later',
      },
    );
  }
}

/** The disks the request leaves out. Errors: `invalid_request`, `vm_not_supported`. */
export function chooseExcluded({
  vm,
  pool,
  excludeDisks,
}: Pick<PreflightInput, 'vm' | 'pool' | 'excludeDisks'>): Excluded[] {
  const excluded = new Map<string, Excluded>();
  for (const wanted of excludeDisks) {
    const matches = vm.disks.filter(
      (d) => d.userdevice === wanted || d.vdiUuid === wanted || d.nameLabel === wanted,
    );
    if (matches.length === 0) {
      throw new BackupError('invalid_request', `find disk to exclude: no disk ${wanted}`, {
        details: { vm: vm.uuid, exclude: wanted, disks: vm.disks.map(nameDisk) },
      });
    }
    for (const disk of matches) {
      excluded.set(disk.vdiRef, { disk, reason: `excluded by the request (${wanted})` });
    }
  }
  if (excluded.size > 0 && !pool.features.ignoreVdis) {
    throw new BackupError(
      'vm_not_supported',
      'exclude disks: this pool cannot leave disks out of a snapshot (needs xapi 21.4 or newer: XCP-ng 8.3, XenServer 8); back up the whole machine or detach the disk',
      { details: { vm: vm.uuid, versions: pool.hosts.map((host) => host.xapiVersion) } },
    );
  }
  return [...excluded.values()];
}

function checkDisk(disk: DiskFacts): void {
  const mend = `leave it out (exclude_disks: ["${disk.userdevice}"], or --exclude ${disk.userdevice})`;
  const refuse = (why: string) => {
    throw new BackupError('snapshot_refused', `snapshot disk ${label(disk)}: ${why}; ${mend}`, {
      details: { disk: nameDisk(disk), sr: nameSr(disk.sr) },
      retry: 'after-fix',
    });
  };
  if (!disk.sr.canSnapshot)
    refuse(`SR ${disk.sr.nameLabel} (${disk.sr.type}) cannot make snapshots`);
  if (disk.raw) refuse('it is a raw volume');
  if (disk.sharable) refuse('it is shared between machines');
  if (disk.resetsOnBoot) refuse('it is reset at every boot (on_boot=reset)');
  if (disk.chainDepth !== undefined && disk.chainDepth >= CHAIN_LIMIT) {
    throw new BackupError(
      'snapshot_refused',
      `snapshot disk ${label(disk)}: its chain has ${disk.chainDepth} links of 30; wait until the SR has coalesced it, or delete old snapshots`,
      { details: { disk: nameDisk(disk), chain_depth: disk.chainDepth }, retry: 'later' },
    );
  }
}

function checkSpace(disks: readonly DiskFacts[]): string[] {
  const warnings: string[] = [];
  for (const [sr, onIt] of groupBySr(disks)) {
    if (sr.physicalSizeBytes <= 0) continue; // some SRs do not say; the pool itself will refuse
    const freeBytes = sr.physicalSizeBytes - sr.physicalUtilisationBytes;
    if (sr.thick) {
      const neededBytes = Math.ceil(sum(onIt.map((d) => d.virtualSizeBytes)) * THICK_OVERHEAD);
      if (neededBytes > freeBytes) throw noSpace(sr, neededBytes, freeBytes);
    } else if (sr.physicalUtilisationBytes > sr.physicalSizeBytes * THIN_FULL_RATIO) {
      warnings.push(
        `SR ${sr.nameLabel} is nearly full (${freeBytes} bytes free): it may fill up while the snapshot lives`,
      );
    }
  }
  return warnings;
}

function noSpace(sr: SrFacts, neededBytes: number, freeBytes: number): BackupError {
  return new BackupError(
    'snapshot_refused',
    `snapshot on SR ${sr.nameLabel} (${sr.type}): it needs ${neededBytes} bytes and ${freeBytes} are free; free space there, or leave disks out`,
    {
      details: { sr: nameSr(sr), needed_bytes: neededBytes, free_bytes: freeBytes },
      retry: 'after-fix',
    },
  );
}

function checkTime(estimatedBytes: number, rate: number): void {
  const seconds = estimatedBytes / rate;
  if (seconds <= EXPORT_LIMIT_SECONDS) return;
  throw new BackupError(
    'vm_not_supported',
    `export machine: about ${Math.round(seconds / 3600)} hours at ${Math.round(rate / 1048576)} MiB/s, XenAPI ends an export after 24; leave disks out, or move the machine to faster storage`,
    { details: { estimated_bytes: estimatedBytes, estimated_seconds: Math.round(seconds) } },
  );
}

function remarks(vm: VmState, disks: readonly DiskFacts[]): string[] {
  const notes: string[] = [];
  if (vm.disks.length === 0)
    notes.push('the machine has no disk: the archive holds its configuration only');
  else if (disks.length === 0)
    notes.push('every disk is excluded: the archive holds the configuration only');
  if (vm.powerState === 'Suspended')
    notes.push('the machine is suspended: its memory is not in the backup');
  for (const disk of disks) {
    if (disk.uncoalesced)
      notes.push(`disk ${label(disk)}: an earlier snapshot is not coalesced yet`);
  }
  return notes;
}

/** What must be read at the very least: a thick volume may be all zeros, a leaf tells its own part only. */
function leastOfDisk(disk: DiskFacts): number {
  if (disk.sr.thick) return 0;
  return Math.min(Math.max(0, disk.physicalUtilisationBytes), disk.virtualSizeBytes);
}

/** What is allocated if the SR tells, else everything; a leaf of a chain tells only its own part, so never too little. */
function estimateDisk(disk: DiskFacts): number {
  const used = disk.physicalUtilisationBytes;
  const chained = disk.chainDepth !== undefined && disk.chainDepth > 0;
  if (used <= 0 || chained || disk.sr.thick) return disk.virtualSizeBytes;
  return Math.min(used, disk.virtualSizeBytes);
}

function groupBySr(disks: readonly DiskFacts[]): [SrFacts, DiskFacts[]][] {
  const groups = Map.groupBy(disks, (disk) => disk.sr.ref);
  return [...groups.values()].map((group) => [(group[0] as DiskFacts).sr, group]);
}

const label = (disk: DiskFacts) => `${disk.userdevice} "${disk.nameLabel}"`;
const nameDisk = (disk: DiskFacts) => ({
  vdi_uuid: disk.vdiUuid,
  name: disk.nameLabel,
  userdevice: disk.userdevice,
});
const nameSr = (sr: SrFacts) => ({ uuid: sr.uuid, name: sr.nameLabel, type: sr.type });
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
