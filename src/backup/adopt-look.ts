/**
 * What an archive says of itself before it is read: its machine, its disks, who made it, and what of it will be otherwise.
 *
 * Only ova.xml is read, which comes first. An archive made from a snapshot names the snapshot's machine and disks: who knows
 * the machine says so (`--vm`), or later backups do not find the blocks of this one.
 */
import type { Adopted } from '../catalog/adopt.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, ExportStream } from '../ports.ts';
import { parseTime } from '../time.ts';
import { type Ova, type OvaDisk, parseOva, textOf } from '../xva/ova.ts';
import { readHeader, TAR_BLOCK_BYTES } from '../xva/tar.ts';
import { MAX_OVA_BYTES, type OvaRewrite } from '../xva/types.ts';
import type { XmlStruct, XmlValue } from '../xva/xml-value.ts';
import { type AdoptSource, openAdopted } from './adopt-stream.ts';

const NULL_REF = 'OpaqueRef:NULL';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface FoundDisk {
  vdiUuid: string;
  nameLabel: string;
  userdevice: string;
  virtualSizeBytes: number;
}

/** An archive that is worth reading. */
export interface FoundArchive {
  compression: Adopted['compression'];
  vm: { uuid: string; nameLabel: string; nameDescription: string };
  isSnapshot: boolean;
  /** Of the snapshot it was made from, milliseconds since 1970. */
  snapshotMs: number | undefined;
  powerState: string;
  disks: FoundDisk[];
  host: ExportStream['host'];
  /** What the rules for ova.xml change of this one. */
  changes: string[];
}

/** The machine a backup is to be of, where that is not what the archive says. */
export interface Identity {
  uuid: string;
  nameLabel?: string | undefined;
  nameDescription?: string | undefined;
  /** Of the machine on its pool. */
  disks?: readonly FoundDisk[] | undefined;
}

const UNKNOWN_HOST = { address: '', productVersion: '', xapiVersion: '' };

/** Reads the beginning. Errors: `data_corrupt` for what is no archive, `vm_not_supported` for a suspended machine. */
export async function lookAtSource(
  source: AdoptSource,
  options: Cancellable,
): Promise<FoundArchive> {
  await using stream = await openAdopted(source, UNKNOWN_HOST, options);
  const header = Buffer.alloc(TAR_BLOCK_BYTES);
  const got = await stream.fill(header, options);
  const member = readHeader(header, 0);
  const isXva = got === header.length && member.kind === 'member' && member.name === 'ova.xml';
  if (!isXva || member.sizeBytes > MAX_OVA_BYTES) {
    throw new BackupError('data_corrupt', `read ${source.name}: this is no XVA archive`);
  }
  const xml = Buffer.alloc(member.sizeBytes);
  if ((await stream.fill(xml, options)) < xml.length) {
    throw new BackupError('data_corrupt', `read ${source.name}: it ends within ova.xml`);
  }
  return { compression: stream.compression, ...describe(parseOva(xml)) };
}

/** How ova.xml is to be rewritten, so that the archive is the machine's. */
export function rewriteOf(
  { vm, disks }: FoundArchive,
  identity: Identity | undefined,
  name: string | undefined,
): { rewrite: OvaRewrite; changes: string[] } {
  const nameLabel = name ?? identity?.nameLabel ?? vm.nameLabel;
  const vmUuid = identity?.uuid ?? vm.uuid;
  const changes: string[] = [];
  if (nameLabel !== vm.nameLabel)
    changes.push(`the machine was called ${JSON.stringify(vm.nameLabel)}`);
  if (vmUuid !== vm.uuid) changes.push(`the machine had the uuid ${vm.uuid}`);
  const live = new Map<string, { uuid: string; nameLabel: string }>();
  for (const disk of disks) {
    const now = liveDisk(disk, free(disk, disks, identity?.disks ?? []));
    live.set(disk.vdiUuid, {
      uuid: now?.vdiUuid ?? disk.vdiUuid,
      nameLabel: now?.nameLabel ?? disk.nameLabel,
    });
    if (now !== undefined && now.vdiUuid !== disk.vdiUuid) {
      changes.push(`disk ${disk.userdevice} had the uuid ${disk.vdiUuid}`);
    }
  }
  const nameDescription = identity?.nameDescription ?? vm.nameDescription;
  return { rewrite: { nameLabel, nameDescription, vmUuid, disks: live }, changes };
}

/** Those that are no other disk of the archive. */
function free(disk: FoundDisk, all: readonly FoundDisk[], live: readonly FoundDisk[]): FoundDisk[] {
  const others = new Set(all.filter((one) => one !== disk).map(({ vdiUuid }) => vdiUuid));
  return live.filter(({ vdiUuid }) => !others.has(vdiUuid));
}

/** By its uuid; else the one of its device, unless that is another one: a disk never shrinks. */
function liveDisk(disk: FoundDisk, live: readonly FoundDisk[]): FoundDisk | undefined {
  return (
    live.find(({ vdiUuid }) => vdiUuid === disk.vdiUuid) ??
    live.find(
      ({ userdevice, virtualSizeBytes }) =>
        userdevice === disk.userdevice && virtualSizeBytes >= disk.virtualSizeBytes,
    )
  );
}

function describe(ova: Ova): Omit<FoundArchive, 'compression'> {
  const { record } = ova.machine;
  const uuid = textOf(record.get('uuid'));
  const powerState = textOf(record.get('power_state'));
  if (!UUID.test(uuid)) throw new BackupError('data_corrupt', 'read ova.xml: find uuid of machine');
  if (powerState === 'Suspended') {
    throw new BackupError(
      'vm_not_supported',
      'adopt archive: the machine in it is suspended, with its memory; backups hold disks only',
    );
  }
  const isSnapshot = isOfSnapshot(ova);
  return {
    vm: {
      uuid,
      nameLabel: textOf(record.get('name_label')),
      nameDescription: textOf(record.get('name_description')),
    },
    isSnapshot,
    snapshotMs: isSnapshot ? timeOf(record.get('snapshot_time')) : undefined,
    powerState: powerState === '' ? 'Halted' : powerState,
    disks: ova.disks.map(diskOf),
    host: hostOf(ova.root.get('version')),
    changes: changesOf(record, isSnapshot),
  };
}

function diskOf({ vdi, vbd, virtualSizeBytes }: OvaDisk): FoundDisk {
  return {
    vdiUuid: textOf(vdi.record.get('uuid')),
    nameLabel: textOf(vdi.record.get('name_label')),
    userdevice: textOf(vbd.record.get('userdevice')),
    virtualSizeBytes,
  };
}

/** The version struct of ova.xml says who wrote it. */
function hostOf(version: XmlValue | undefined): ExportStream['host'] {
  const of = (key: string) => (version instanceof Map ? textOf(version.get(key)) : '');
  const major = of('xapi_major');
  return {
    address: of('hostname'),
    productVersion: of('product_version'),
    xapiVersion: major === '' ? '' : `${major}.${of('xapi_minor')}`,
  };
}

/**
 * A snapshot that is exported by itself says that it is a template and no snapshot; its disks still say what they are of (xapi
 * `export.ml`).
 */
function isOfSnapshot({ machine: { record }, disks }: Ova): boolean {
  if (isTrue(record.get('is_a_snapshot'))) return true;
  const isOfLive = ({ vdi }: OvaDisk) => {
    const of = textOf(vdi.record.get('snapshot_of'));
    return isTrue(vdi.record.get('is_a_snapshot')) || (of !== '' && of !== NULL_REF);
  };
  return isTrue(record.get('is_a_template')) && disks.some(isOfLive);
}

function changesOf(record: XmlStruct, isSnapshot: boolean): string[] {
  const otherConfig = record.get('other_config');
  const startsItself =
    otherConfig instanceof Map && textOf(otherConfig.get('auto_poweron')) === 'true';
  const startedByHa =
    isTrue(record.get('ha_always_run')) || textOf(record.get('ha_restart_priority')) !== '';
  return [
    ...(isSnapshot ? ['it was a snapshot, and is an ordinary machine'] : []),
    ...(!isSnapshot && isTrue(record.get('is_a_template'))
      ? ['it was a template, and is an ordinary machine']
      : []),
    ...(startsItself ? ['it started with its host, and does not'] : []),
    ...(startedByHa ? ['it was started by high availability, and is not'] : []),
  ];
}

function isTrue(value: XmlValue | undefined): boolean {
  return ['1', 'true'].includes(textOf(value));
}

/** XML-RPC's dateTime, with or without dashes; nothing for the epoch, which stands for none. */
function timeOf(value: XmlValue | undefined): number | undefined {
  const match = /^(\d{4})-?(\d\d)-?(\d\d)T(\d\d:\d\d:\d\d)Z?$/.exec(textOf(value));
  if (match === null) return undefined;
  const [, year, month, day, time] = match;
  const ms = parseTime(`${year}-${month}-${day}T${time}Z`);
  return ms > 0 ? ms : undefined;
}
