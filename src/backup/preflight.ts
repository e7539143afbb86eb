/**
 * Looks before anything is touched: can this machine be snapshotted and exported, with which disks, at what risk?
 *
 * Pure: facts in, verdict out. Each refusal names the disk or SR, the numbers, and the mend; one that passes by itself says
 * when to look again (details.retry_after_seconds). Sources of the rules: docs/xenapi.md, "Refusals" and "Space".
 */
import { BackupError } from '../errors.ts';
import type { DiskFacts, PoolFacts, SrFacts, VmState } from '../ports.ts';
import { formatTime } from '../time.ts';
import { checkPool } from './preflight-pool.ts';
import { label, nameDisk, nameSr, notNow, sum } from './preflight-words.ts';

/** XenAPI's SM driver refuses the 30th snapshot in a chain (SR_BACKEND_FAILURE_109); two are left for others. */
const CHAIN_LIMIT = 28;
const CHAIN_MAX = 30;
/**
 * Links that wait to be coalesced are normal for minutes after a snapshot was removed. A chain that has grown so long is
 * one where the storage does not get on with it: each further backup would make it longer and the machine slower.
 */
const WAITING_CHAIN_LIMIT = 8;
/** Coalescing takes minutes a link, one link of an SR at a time. */
const CHAIN_SECONDS = 900;
/** XenAPI drops a task, and with it the export, after a day. */
const EXPORT_LIMIT_SECONDS = 24 * 3600;
/** Hosts give 50–270 MB/s; what the last backup of the machine reached is used instead where it is known. */
const ASSUMED_RATE_BYTES_PER_SECOND = 100 * 1024 * 1024;
/** VHD metadata and bitmaps of one disk on an LVM SR: 2 MiB of bitmap per 4 GiB, rounded up. */
const THICK_OVERHEAD = 1.002;
/** An empty VHD as SM makes it, ready for 2 TiB: 4 MiB of block table, bitmaps, rounded up. */
const THIN_LEAF_BYTES = 8 * 1024 * 1024;
/** What a machine writes while its snapshot lives takes space twice; so much of its data is expected. */
const THIN_GROWTH_RATIO = 0.02;
/** A thin SR this full may stop its machines while the snapshot lives. */
const THIN_FULL_RATIO = 0.97;
/** Migrations and the like take minutes. */
const BUSY_SECONDS = 120;
/** Refused whatever XenAPI allows: the machine's disks or host are changing under the export. */
const MOVING = new Set(['pool_migrate', 'migrate_send', 'revert']);
/** What the storage does with a disk while no snapshot of it can be made, or should be. */
const DISK_AT_WORK = new Set(['mirror', 'copy', 'clone', 'resize', 'resize_online', 'snapshot']);

export interface PreflightInput {
  vm: VmState;
  pool: PoolFacts;
  excludeDisks: readonly string[];
  /** Bytes per second of this machine's last export. */
  lastRate?: number | undefined;
  /** When its last backup ended: by then the snapshot of it was gone, and coalescing began. */
  lastFinishedAt?: number | undefined;
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
  const poolWarnings = checkPool(input.pool, vm);
  checkMachine(vm);
  const excluded = chooseExcluded(input);
  const out = new Set(excluded.map(({ disk }) => disk.vdiRef));
  const disks = vm.disks.filter((disk) => !out.has(disk.vdiRef));
  for (const disk of disks) checkDisk(disk, input);
  const totalBytes = sum(disks.map((disk) => disk.virtualSizeBytes));
  const estimatedBytes = sum(disks.map(estimateDisk));
  const rate = input.lastRate ?? ASSUMED_RATE_BYTES_PER_SECOND;
  checkTime(sum(disks.map(leastOfDisk)), rate);
  const warnings = [...poolWarnings, ...checkSpace(disks), ...remarks(vm, disks)];
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
  const moving = vm.currentOperations.some((operation) => MOVING.has(operation));
  const held = vm.currentOperations.length > 0 && !vm.allowedOperations.includes('snapshot');
  if (!moving && !held) return;
  const busy = vm.currentOperations.join(', ');
  throw notNow(`snapshot machine: it is busy (${busy}); try again when that is over`, {
    vm: vm.uuid,
    current_operations: vm.currentOperations,
    retry_after_seconds: BUSY_SECONDS,
  });
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

function checkDisk(disk: DiskFacts, input: PreflightInput): void {
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
  const atWork = disk.currentOperations?.filter((operation) => DISK_AT_WORK.has(operation)) ?? [];
  if (atWork.length > 0) {
    throw notNow(
      `snapshot disk ${label(disk)}: the storage is at work on it (${atWork.join(', ')}); try again when that is over`,
      {
        disk: nameDisk(disk),
        sr: nameSr(disk.sr),
        current_operations: atWork,
        retry_after_seconds: BUSY_SECONDS,
      },
    );
  }
  checkChain(disk, input);
}

function checkChain(disk: DiskFacts, { lastFinishedAt }: PreflightInput): void {
  const { chainDepth: depth, uncoalesced, sr } = disk;
  if (depth === undefined) return;
  const limit = uncoalesced ? WAITING_CHAIN_LIMIT : CHAIN_LIMIT;
  if (depth < limit) return;
  const since = lastFinishedAt === undefined ? undefined : formatTime(lastFinishedAt);
  const why = uncoalesced
    ? `not coalesced yet${since === undefined ? '' : `, since ${since} at the latest`}; wait until SR ${sr.nameLabel} has coalesced it (if it never does, look for SMGC in the SMlog of its master)`
    : 'delete old snapshots of the machine, and wait until the SR has coalesced them';
  throw notNow(
    `snapshot disk ${label(disk)}: its chain has ${depth} links of at most ${CHAIN_MAX}, backups stop at ${limit}: ${why}`,
    {
      disk: nameDisk(disk),
      sr: nameSr(sr),
      chain_depth: depth,
      chain_limit: limit,
      chain_max: CHAIN_MAX,
      uncoalesced,
      ...(since === undefined || !uncoalesced ? {} : { since }),
      retry_after_seconds: CHAIN_SECONDS,
    },
  );
}

function checkSpace(disks: readonly DiskFacts[]): string[] {
  return groupBySr(disks).flatMap(([sr, onIt]) => {
    if (sr.physicalSizeBytes <= 0) return []; // some SRs do not say; the pool itself will refuse
    const freeBytes = sr.physicalSizeBytes - sr.physicalUtilisationBytes;
    const neededBytes = sr.thick
      ? Math.ceil(sum(onIt.map((d) => d.virtualSizeBytes)) * THICK_OVERHEAD)
      : onIt.length * THIN_LEAF_BYTES;
    if (neededBytes > freeBytes) throw noSpace(sr, neededBytes, freeBytes);
    if (sr.thick) return [];
    const expectedBytes = neededBytes + Math.ceil(sum(onIt.map(estimateDisk)) * THIN_GROWTH_RATIO);
    const full = sr.physicalUtilisationBytes > sr.physicalSizeBytes * THIN_FULL_RATIO;
    if (!full && expectedBytes <= freeBytes) return [];
    return `SR ${sr.nameLabel} is nearly full (${freeBytes} bytes free, about ${expectedBytes} are expected to be taken): it may fill up while the snapshot lives`;
  });
}

function noSpace(sr: SrFacts, neededBytes: number, freeBytes: number): BackupError {
  const kind = sr.thick
    ? 'thick: the whole size of its disks'
    : 'thin: one empty leaf for each disk';
  return new BackupError(
    'snapshot_refused',
    `snapshot on SR ${sr.nameLabel} (${sr.type}, ${kind}): it needs ${neededBytes} bytes and ${freeBytes} are free; free space there, or leave disks out`,
    {
      details: {
        sr: nameSr(sr),
        provisioning: sr.thick ? 'thick' : 'thin',
        needed_bytes: neededBytes,
        free_bytes: freeBytes,
      },
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
    {
      details: {
        estimated_bytes: estimatedBytes,
        estimated_seconds: Math.round(seconds),
        limit_seconds: EXPORT_LIMIT_SECONDS,
        bytes_per_second: Math.round(rate),
      },
    },
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
    if (disk.uncoalesced) {
      notes.push(
        `disk ${label(disk)}: an earlier snapshot is not coalesced yet (chain of ${disk.chainDepth}, backups stop at ${WAITING_CHAIN_LIMIT})`,
      );
    }
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
