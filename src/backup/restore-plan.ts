/**
 * What a restore will do, decided before a byte is sent. Pure: what the backup holds, what the pool has, what was asked.
 *
 * Nothing is guessed. A network is taken without being named only where it is known to be the one: the same uuid, or the
 * only one of a name that somebody chose. Names that every pool has ("Pool-wide network associated with eth0") say
 * nothing about where a cable leads. A machine that is there is never replaced: xapi would destroy its record before the
 * first block has come. Every refusal lists what could be said instead. Networks: restore-networks.ts.
 */
import type { Backup } from '../catalog/record.ts';
import type { RestorePlan, RestoreRequest } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { ImportSr, ImportTargets, PresentMachine, RestoreRefusal } from '../ports.ts';
import type { NetworkPlace, OvaEdit } from '../xva/ova-edit.ts';
import type { OvaDiskFacts, OvaFacts } from '../xva/ova-facts.ts';
import { BLOCK_BYTES } from '../xva/types.ts';
import { planNetworks } from './restore-networks.ts';

/** Before xapi 26 every disk is a VHD, which holds no more. */
const MAX_VHD_BYTES = 2040 * 1024 ** 3;

export interface PlanInput {
  backup: Backup;
  ova: OvaFacts;
  request: RestoreRequest;
  /** Name of the pool in the settings. */
  pool: string;
  targets: ImportTargets;
}

/** A disk and where it goes. */
export interface PlannedDisk {
  facts: OvaDiskFacts;
  storedBytes: number;
  storedBlocks: number;
  sr: ImportSr;
  /** Not with the machine's own import, which puts all disks on one SR. */
  apart: boolean;
}

export interface PlannedRestore {
  /** For people. */
  plan: RestorePlan;
  /** Of the machine's own import. */
  sr: ImportSr;
  disks: PlannedDisk[];
  networks: ReadonlyMap<string, NetworkPlace>;
  /** The archive's own uuid is kept; undefined: a new one. */
  vmUuid?: string;
  /** Addresses and identity come from ova.xml: xapi's full restore. */
  keepIdentity: boolean;
  /** The seed of the archive is taken on this pool. */
  needsMacSeed: boolean;
  version?: NonNullable<OvaEdit['version']>;
  /** The importer is older than XXH64. */
  sha1: boolean;
  /** A disk without a machine. */
  alone: boolean;
}

/** Errors: `restore_refused` with details.reason, and what there is to choose from. */
export function planRestore(input: PlanInput): PlannedRestore {
  const { ova, request, pool, targets } = input;
  if (targets.upgrading) {
    throw refuse('upgrading', 'the pool is being upgraded: try again when it is done', {
      retry: 'later',
    });
  }
  const alone = request.disk !== undefined;
  const sr = chooseSr(targets, request.sr);
  const { disks, leftOut } = placeDisks(input, sr);
  checkSpace(disks);
  const warnings = alone ? [] : differences(input);
  const net = alone
    ? { networks: new Map(), shown: [] }
    : planNetworks(ova, request.networks, targets.networks);
  const identity = alone ? NO_IDENTITY : planIdentity(input, warnings);
  const version = alone ? undefined : planVersion(ova, targets, disks);
  const name = request.name ?? nameOf(input, disks, alone);
  const own = disks.filter(({ apart }) => !apart);
  if (!alone) checkGaps(own);
  const facts = { alone, disks, leftOut, version, networks: net.shown };
  const { via, reason } = chooseWay(input, facts);
  return {
    plan: {
      pool,
      name,
      ...(identity.vmUuid === undefined ? {} : { uuid: identity.vmUuid }),
      mac: request.mac,
      start: request.start,
      via,
      via_reason: reason,
      disks: disks.map(shownDisk),
      left_out_disks: leftOut.map(({ userdevice, nameLabel }) => ({ userdevice, name: nameLabel })),
      networks: net.shown,
      warnings,
    },
    sr,
    disks,
    networks: net.networks,
    ...identity,
    ...(version === undefined ? {} : { version }),
    sha1: !targets.readsXxhash,
    alone,
  };
}

/** What the machine will not have, though it had it. */
function differences({ backup, ova }: PlanInput): string[] {
  const ejected = ova.loadedDrives > 0 ? ['its CD is ejected'] : [];
  return [
    ...ejected,
    ...backup.excluded_disks.map(
      ({ userdevice, name, reason }) =>
        `disk ${userdevice} (${name}) is not in the backup: ${reason}`,
    ),
  ];
}

/** A refusal that says what is in the way, in details what there is to choose from. */
export function refuse(
  reason: RestoreRefusal,
  message: string,
  { retry, ...details }: { retry?: 'later'; [name: string]: unknown } = {},
): BackupError {
  return new BackupError('restore_refused', message, {
    details: { reason, ...details },
    ...(retry === undefined ? {} : { retry }),
  });
}

// ------------------------------------------------------------------------------------------------ disks, storage

function chooseSr({ srs }: ImportTargets, wanted: string | undefined): ImportSr {
  const choices = srs.filter(({ takesDisks }) => takesDisks);
  const details = { choices: choices.map(srChoice) };
  if (wanted === undefined) {
    const found = srs.find(({ isDefault }) => isDefault);
    if (found?.takesDisks) return found;
    throw refuse(
      'sr_unsuitable',
      'choose storage: the pool has no default that takes disks',
      details,
    );
  }
  const exact = srs.filter(({ uuid }) => uuid === wanted);
  const found = exact.length > 0 ? exact : srs.filter(({ nameLabel }) => nameLabel === wanted);
  const [only] = found;
  if (only === undefined) {
    throw refuse(
      'sr_unsuitable',
      `find storage ${wanted}: there is none of that uuid or name`,
      details,
    );
  }
  if (found.length > 1) {
    const what = `find storage ${wanted}: ${found.length} carry this name, use a uuid`;
    throw refuse('sr_unsuitable', what, { choices: found.map(srChoice) });
  }
  if (only.takesDisks) return only;
  const why =
    only.attachedHosts.length === 0 ? 'no live host holds it attached' : 'it takes no disks';
  throw refuse('sr_unsuitable', `use storage ${only.nameLabel}: ${why}`, details);
}

function srChoice({ uuid, nameLabel, freeBytes, type }: ImportSr) {
  return { uuid, name: nameLabel, type, free_bytes: freeBytes };
}

function placeDisks(
  { backup, ova, request, targets }: PlanInput,
  sr: ImportSr,
): { disks: PlannedDisk[]; leftOut: OvaDiskFacts[] } {
  const { disk, disks: subset, disk_srs: srs } = request;
  const one = disk === undefined ? undefined : [disk];
  const chosen = (one ?? subset)?.map((name) => findDisk(ova, name));
  const places = new Map(
    Object.entries(srs).map(([name, place]) => [findDisk(ova, name), chooseSr(targets, place)]),
  );
  const wanted = ova.disks.filter((facts) => chosen === undefined || chosen.includes(facts));
  for (const facts of places.keys()) {
    if (wanted.includes(facts)) continue;
    throw new BackupError('invalid_request', `place disk ${facts.userdevice}: it is left out`);
  }
  const disks = wanted.map((facts) => {
    const place = places.get(facts) ?? sr;
    const stored = backup.disks.find(({ archive_id: id }) => id === facts.archiveId);
    if (stored === undefined) {
      throw new BackupError('data_corrupt', `find disk ${facts.archiveId} in backup ${backup.id}`);
    }
    const { stored_bytes: storedBytes, stored_blocks: storedBlocks } = stored;
    const apart = disk !== undefined || place.uuid !== sr.uuid;
    return { facts, storedBytes, storedBlocks, sr: place, apart };
  });
  return { disks, leftOut: ova.disks.filter((facts) => !wanted.includes(facts)) };
}

/** By userdevice, uuid or name, as a backup leaves disks out. Errors: `invalid_request` with the choices. */
function findDisk({ disks }: OvaFacts, wanted: string): OvaDiskFacts {
  const by = [
    disks.filter(({ userdevice }) => userdevice === wanted),
    disks.filter(({ vdiUuid }) => vdiUuid === wanted),
    disks.filter(({ nameLabel }) => nameLabel === wanted),
  ].find((found) => found.length > 0);
  if (by?.length === 1) return by[0] as OvaDiskFacts;
  const what = by === undefined ? 'the backup has none of that device, uuid or name' : 'ambiguous';
  throw new BackupError('invalid_request', `find disk ${wanted}: ${what}`, {
    details: {
      disks: disks.map(({ userdevice, vdiUuid, nameLabel }) => ({
        userdevice,
        vdi_uuid: vdiUuid,
        name: nameLabel,
      })),
    },
  });
}

function checkSpace(disks: readonly PlannedDisk[]): void {
  for (const sr of new Set(disks.map((disk) => disk.sr))) {
    if (sr.freeBytes < 0) continue;
    const needed = disks
      .filter((disk) => disk.sr === sr)
      .reduce((sum, disk) => sum + (sr.thick ? disk.facts.virtualSizeBytes : disk.storedBytes), 0);
    if (needed <= sr.freeBytes) continue;
    const what = `use storage ${sr.nameLabel}: ${needed} bytes are needed, ${sr.freeBytes} are free`;
    throw refuse('sr_full', what, { needed_bytes: needed, ...srChoice(sr) });
  }
}

/** Importers count blocks left out in lengths of the very first block of an archive. */
function checkGaps(disks: readonly PlannedDisk[]): void {
  const [first, ...others] = disks;
  if (first === undefined || first.facts.virtualSizeBytes >= BLOCK_BYTES) return;
  const gap = others.find(
    ({ facts, storedBlocks }) => storedBlocks < Math.ceil(facts.virtualSizeBytes / BLOCK_BYTES),
  );
  if (gap === undefined) return;
  const what = `restore disk ${first.facts.userdevice} as the first: it is smaller than 1 MiB, so importers would misplace the blocks of disk ${gap.facts.userdevice}; leave it out, or restore it alone`;
  throw refuse('unsupported', what);
}

function shownDisk({ facts, sr }: PlannedDisk): RestorePlan['disks'][number] {
  const { userdevice, nameLabel, virtualSizeBytes } = facts;
  return {
    userdevice,
    name: nameLabel,
    virtual_size_bytes: virtualSizeBytes,
    sr: { uuid: sr.uuid, name: sr.nameLabel },
  };
}

// ------------------------------------------------------------------------------------------------ who it will be

type Identity = Pick<PlannedRestore, 'vmUuid' | 'keepIdentity' | 'needsMacSeed'>;
const NO_IDENTITY: Identity = { keepIdentity: false, needsMacSeed: false };

function planIdentity({ ova, request, targets }: PlanInput, warnings: string[]): Identity {
  if (request.mac === 'new') return NO_IDENTITY;
  const { machines } = targets;
  if (request.uuid === 'keep') refuseReplacement(ova, machines);
  warnOfTwins({ ova, request, machines }, warnings);
  const isSeedTaken = machines.some(({ macSeed }) => macSeed !== '' && macSeed === ova.macSeed);
  return {
    keepIdentity: true,
    // a copy never shares its seed: the original may come back beside it
    needsMacSeed: request.uuid === 'new' || isSeedTaken,
    ...(request.uuid === 'keep' ? { vmUuid: ova.uuid } : {}),
  };
}

/** A full restore over a machine that is there destroys its record, drives and interfaces first, and leaves its disks behind. */
function refuseReplacement(ova: OvaFacts, machines: readonly PresentMachine[]): void {
  const there = machines.find(({ uuid }) => uuid === ova.uuid);
  if (there === undefined) return;
  const { nameLabel, powerState } = there;
  const why =
    powerState === 'Halted'
      ? 'it is halted and would be replaced before the first block has come'
      : `it is ${powerState.toLowerCase()}`;
  throw refuse(
    'machine_exists',
    `bring machine ${ova.uuid} back as itself: ${nameLabel} is there, ${why}; remove it first, or restore a copy beside it (uuid new)`,
    { vm: { uuid: there.uuid, name: nameLabel, power_state: powerState } },
  );
}

/** Two machines of one address on one network answer for each other. */
function warnOfTwins(
  {
    ova,
    request,
    machines,
  }: { ova: OvaFacts; request: RestoreRequest; machines: readonly PresentMachine[] },
  warnings: string[],
): void {
  const macs = new Set(ova.interfaces.map(({ mac }) => mac.toLowerCase()));
  const twins = machines.filter(
    ({ kind, macs: theirs }) => kind === 'vm' && theirs.some((mac) => macs.has(mac)),
  );
  const running = twins.find(({ powerState }) => powerState === 'Running');
  if (running && request.start) {
    throw refuse(
      'mac_conflict',
      `start the restored machine: ${running.nameLabel} is running with the same MAC addresses; stop it first, or restore with new ones`,
      { vm: { uuid: running.uuid, name: running.nameLabel } },
    );
  }
  for (const { nameLabel, uuid } of twins) {
    warnings.push(
      `it will have the MAC addresses of ${nameLabel} (${uuid}): never run both on one network`,
    );
  }
}

/** A name that is taken would make every later question by name ambiguous. */
function nameOf(
  { backup, ova, targets }: PlanInput,
  disks: readonly PlannedDisk[],
  alone: boolean,
): string {
  const date = backup.created_at.slice(0, 16).replace('T', ' ');
  if (alone) return `${disks[0]?.facts.nameLabel ?? 'disk'} (backup of ${date})`;
  const isTaken = targets.machines.some(
    ({ kind, nameLabel }) => kind === 'vm' && nameLabel === ova.nameLabel,
  );
  return isTaken ? `${ova.nameLabel} (backup of ${date})` : ova.nameLabel;
}

// ------------------------------------------------------------------------------------------------ versions, ways

function planVersion(
  ova: OvaFacts,
  { version, productVersion }: ImportTargets,
  disks: readonly PlannedDisk[],
): PlannedRestore['version'] {
  const { major, minor } = ova.xapi;
  const isOlder = version.major < major || (version.major === major && version.minor < minor);
  if (!isOlder) return undefined;
  const large = disks.find(({ facts }) => facts.virtualSizeBytes > MAX_VHD_BYTES);
  const why = ova.hasTpm
    ? 'the machine has a vTPM, whose keys it would lose there'
    : large && `disk ${large.facts.userdevice} is larger than the 2040 GiB it takes`;
  if (why === undefined) return { ...version, productVersion };
  throw refuse(
    'pool_too_old',
    `restore to a pool of version ${productVersion}: the backup is of ${ova.productVersion}, and ${why}`,
    { backup_version: ova.productVersion, pool_version: productVersion },
  );
}

/** A host that reads the archive by itself takes it as it is. */
function chooseWay(
  { backup, ova, request, targets }: PlanInput,
  plan: {
    alone: boolean;
    disks: readonly PlannedDisk[];
    leftOut: readonly OvaDiskFacts[];
    version: PlannedRestore['version'];
    networks: RestorePlan['networks'];
  },
): { via: 'stream' | 'url'; reason: string } {
  const edits: [boolean, string][] = [
    [plan.alone, 'a disk alone is written as raw bytes'],
    [plan.leftOut.length > 0, 'disks are left out'],
    [plan.disks.some(({ apart }) => apart), 'disks go to several SRs'],
    [request.mac === 'keep', 'a machine that keeps its addresses gets an identity of its own'],
    [plan.version !== undefined, 'the pool is older than the backup'],
    [!targets.readsXxhash, 'the pool is too old for the checksums of the archive'],
    [backup.compression === 'zstd' && !targets.readsZstd, 'the pool is too old for zstd'],
    [ova.loadedDrives > 0, 'its CD is ejected'],
    [plan.networks.some((one) => !isFoundByName(one, targets)), 'its networks are mapped'],
  ];
  const edit = edits.find(([is]) => is)?.[1];
  if (request.via === 'stream') return { via: 'stream', reason: 'asked for' };
  if (edit === undefined) {
    return request.via === 'url'
      ? { via: 'url', reason: 'asked for' }
      : { via: 'url', reason: 'the archive needs no change, so the host reads it by itself' };
  }
  if (request.via === 'auto') return { via: 'stream', reason: `${edit}, so the archive is edited` };
  throw refuse('unsupported', `let the host read the archive from a link: ${edit}; use via stream`);
}

/** The importer takes the first network of the name in the archive. */
function isFoundByName(
  { from, to }: RestorePlan['networks'][number],
  { networks }: ImportTargets,
): boolean {
  if (to === undefined || to.name !== from) return false;
  return networks.filter(({ nameLabel }) => nameLabel === from).length === 1;
}
